"""What every tokenizer can do, the pair of them that a model speaks, and how that pair is trained once and kept."""

import hashlib
import importlib
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from transformer.data.aside import written_aside
from transformer.data.corpus import Corpus, language_token
from transformer.error import UserError

MANIFEST = "tokenizers.json"
_FORMAT = 1
_DIRECTED_FORMAT = 2  # with language tokens; a version that knows none of them must not take it for the other


class Tokenizer(ABC):
    """Turns a line of text into token ids and back. Ids 0..3 are those of transformer.special.

    Attributes:
        kind: the module in transformer.data.tokenizer that holds the class; written into saved tokenizers.
        vocab_size: number of ids.
        lowercase: whether text is lower-cased before it is encoded.
        samples: whether `sample` varies the segmentation.
    """

    kind: ClassVar[str]
    vocab_size: int
    lowercase: bool
    samples: bool = False

    @abstractmethod
    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without BOS and EOS."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Plain detokenised text. PAD, BOS and EOS are dropped; UNK becomes its spelling."""

    @abstractmethod
    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The readable piece of each id, special ids by their spelling."""

    @abstractmethod
    def save(self, folder: Path, stem: str) -> list[Path]:
        """Writes plain data files named STEM.* into `folder` and returns them."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, stem: str) -> "Tokenizer":
        """Reads what `save` wrote."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides which ids a line gets (sampling is not part of it)."""

    def language_id(self, token: str) -> int | None:
        """The id that is reserved for a language token, which no text ever gets; None where there is none."""
        return None

    def encode(self, line: str) -> list[int]:
        """The ids of one line, without BOS and EOS."""
        return self.encode_lines([line])[0]

    def sample(self, lines: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Other segmentations of the same texts, drawn at random; a pure function of the ids and the seed.

        Here, where there is nothing to draw, the ids themselves.
        """
        return [list(ids) for ids in lines]


class Directed(Tokenizer):
    """A tokenizer of source text that tells the model what to translate into, by a language token before each line.

    The token is one id of the vocabulary. A line that begins with one of the tokens as a word, such as "<2en> Gut.",
    has that one; all others have the first. A line without any other token has none either.

    Attributes:
        tokenizer: encodes what is behind the token.
        language_tokens: the tokens, that of lines that name none first.
    """

    def __init__(self, tokenizer: Tokenizer, language_tokens: Sequence[str]) -> None:
        """Takes a tokenizer whose vocabulary has the tokens.

        Raises:
            UserError: it lacks one.
        """
        self.tokenizer = tokenizer
        self.language_tokens = tuple(language_tokens)
        self._ids: dict[str, int] = {}
        for token in self.language_tokens:
            id_ = tokenizer.language_id(token)
            if id_ is None:
                raise UserError(
                    f"this vocabulary has no token {token}; use one that was trained with data=bidirectional and the "
                    "same languages"
                )
            self._ids[token] = id_
        self.vocab_size, self.lowercase, self.samples = tokenizer.vocab_size, tokenizer.lowercase, tokenizer.samples

    @property
    def kind(self) -> str:  # type: ignore[override]
        """That of the tokenizer inside."""
        return self.tokenizer.kind

    def divided(self, line: str) -> tuple[str, str]:
        """The language token of a line, and what is behind it."""
        first = line.split(maxsplit=1)
        if first and first[0] in self._ids:
            return first[0], first[1] if len(first) > 1 else ""
        return self.language_tokens[0], line

    def misspelt(self, line: str) -> str | None:
        """The first word of a line where it looks like a language token and is none of these, such as <2EN>."""
        first = line.split(maxsplit=1)[:1]
        return first[0] if first and re.fullmatch(r"<2[^\s<>]+>", first[0]) and first[0] not in self._ids else None

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, that of its language token first."""
        divided = [self.divided(line) for line in lines]
        encoded = self.tokenizer.encode_lines([text for _, text in divided])
        return [[self._ids[token], *ids] if ids else [] for (token, _), ids in zip(divided, encoded, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """Plain text, without language tokens."""
        reserved = self._ids.values()
        return self.tokenizer.decode([i for i in ids if i not in reserved])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The readable piece of each id."""
        return self.tokenizer.tokens(ids)

    def sample(self, lines: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Other segmentations behind the language token, which stays."""
        drawn = self.tokenizer.sample([ids[1:] for ids in lines], seed)
        return [[*ids[:1], *rest] for ids, rest in zip(lines, drawn, strict=True)]

    def save(self, folder: Path, stem: str) -> list[Path]:
        """Writes the tokenizer inside; the tokens are kept by the pair."""
        return self.tokenizer.save(folder, stem)

    @classmethod
    def load(cls, folder: Path, stem: str) -> "Tokenizer":
        """Not how it is made: the pair wraps what it loads."""
        raise TypeError("a Directed is made around a tokenizer that is loaded")

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the tokenizer inside and the tokens in order."""
        return hashlib.sha256(f"{self.tokenizer.fingerprint()} {self.language_tokens}".encode()).hexdigest()


class TokenizerPair:
    """The source and the target tokenizer of a model.

    Attributes:
        src: encodes source text, with a language token before it where there are any.
        tgt: encodes target text; the same object as `src` when `joint`.
        joint: one vocabulary for both languages, so that embeddings can be shared.
        samples: whether `sample` varies the segmentation on either side.
        language_tokens: of a model for several directions, that of source lines that name none first.
    """

    def __init__(self, src: Tokenizer, tgt: Tokenizer, language_tokens: Sequence[str] = ()) -> None:
        """Takes a tokenizer for each side.

        Raises:
            UserError: there are language tokens, and the vocabulary is not joint, or lacks one.
        """
        self.language_tokens = tuple(language_tokens)
        self.joint = src is tgt
        _check_joint(self.language_tokens, self.joint)
        self._vocabularies = src, tgt
        self.src = Directed(src, self.language_tokens) if self.language_tokens else src
        self.tgt = tgt
        self.samples = src.samples or tgt.samples

    def sample(
        self, src_ids: Sequence[Sequence[int]], tgt_ids: Sequence[Sequence[int]], seed: int
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Segments the same texts anew at random (BPE-dropout, subword regularisation), for training only.

        Args:
            src_ids: ids of each source sentence, without BOS and EOS.
            tgt_ids: ids of each target sentence.
            seed: decides the result together with the ids; nothing else does. 0 to 2**32 - 1.

        Returns:
            The new source ids and target ids; the same ids when no sampling is configured.
        """
        return self.src.sample(src_ids, seed), self.tgt.sample(tgt_ids, seed ^ 1)

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides which ids a pair gets."""
        return hashlib.sha256(f"{self.src.fingerprint()} {self.tgt.fingerprint()}".encode()).hexdigest()

    def for_corpus(self, corpus: Corpus) -> "TokenizerPair":
        """The same vocabularies; where there are language tokens, source text has that of the corpus's target.

        Raises:
            UserError: the vocabulary was trained for other languages, or lacks the tokens that the corpus asks for.
        """
        tokens = corpus.language_tokens or self.language_tokens
        return self.into(corpus.tgt_language, tokens) if tokens else self

    def into(self, language: str, tokens: Sequence[str] | None = None) -> "TokenizerPair":
        """The same vocabularies, with source text translated into this language where it does not say another.

        Args:
            language: a name, such as "de".
            tokens: the tokens that source text may begin with; None = those there are.

        Raises:
            UserError: there is no token for it.
        """
        tokens, own = self.language_tokens if tokens is None else tokens, language_token(language)
        if own not in tokens:
            told = f"only {', '.join(tokens)}" if tokens else "and none at all, for it knows one direction only"
            raise UserError(f"this vocabulary has no token {own}, {told}; choose another language or checkpoint")
        return TokenizerPair(*self._vocabularies, (own, *(token for token in tokens if token != own)))

    def save(self, folder: Path) -> None:
        """Writes the pair as plain data files into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        sides = {"src": self.src} if self.joint else {"src": self.src, "tgt": self.tgt}
        files = [file for stem, tokenizer in sides.items() for file in tokenizer.save(folder, stem)]
        manifest: dict[str, object] = {
            "format": _DIRECTED_FORMAT if self.language_tokens else _FORMAT,
            "kinds": {stem: tokenizer.kind for stem, tokenizer in sides.items()},
            "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        }
        if self.language_tokens:
            manifest["language_tokens"] = list(self.language_tokens)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "TokenizerPair":
        """Reads what `save` wrote; plain data only, nothing in the folder is ever executed or unpickled.

        Raises:
            UserError: a file is missing, damaged, or written by a later version.
        """
        manifest = folder / MANIFEST
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            version, kinds, digests = content["format"], dict(content["kinds"]), dict(content["sha256"])
            language_tokens = [str(token) for token in content.get("language_tokens", [])]
        except FileNotFoundError as error:
            raise UserError(f"{folder} holds no tokenizers: {MANIFEST} is missing") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{manifest} is damaged ({error!r}); copy or train the tokenizers again") from error
        if version not in (_FORMAT, _DIRECTED_FORMAT):
            raise UserError(
                f"{manifest} has format {version} where {_FORMAT} or {_DIRECTED_FORMAT} is expected; "
                "use the version that wrote it"
            )
        if set(kinds) not in ({"src"}, {"src", "tgt"}):
            raise UserError(f"{manifest} is damaged (sides {sorted(kinds)}); copy or train the tokenizers again")
        for name, expected in digests.items():
            try:
                actual = hashlib.sha256((folder / Path(name).name).read_bytes()).hexdigest()
            except OSError as error:
                raise UserError(f"{folder / name} cannot be read: {error.strerror or error}") from error
            if actual != expected:
                raise UserError(
                    f"{folder / name} is damaged: SHA-256 {actual} where {expected} was written; copy it again"
                )
        try:
            sides = {stem: _tokenizer_class(kind).load(folder, stem) for stem, kind in kinds.items()}
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise UserError(f"{folder} is damaged ({error!r}); copy or train the tokenizers again") from error
        return TokenizerPair(sides["src"], sides.get("tgt", sides["src"]), language_tokens)


def _tokenizer_class(kind: str) -> type[Tokenizer]:
    """The Tokenizer of the module `kind` next to this one: a new kind needs no entry anywhere."""
    if isinstance(kind, str) and re.fullmatch(r"[a-z][a-z0-9_]*", kind):
        try:
            module = importlib.import_module(f"transformer.data.tokenizer.{kind}")
        except ModuleNotFoundError:
            module = None
        for value in vars(module).values() if module else ():
            if isinstance(value, type) and issubclass(value, Tokenizer) and getattr(value, "kind", None) == kind:
                return value
    raise UserError(f"there is no tokenizer of kind {kind!r} in this version")


@dataclass(frozen=True)
class Pretrained:
    """Word vectors for the rows of an embedding.

    Attributes:
        weights: (vocab_size, dimension) float; zero where `found` is False.
        found: (vocab_size,) bool; True = the file has a vector for this id.
    """

    weights: torch.Tensor
    found: torch.Tensor


def _check_joint(language_tokens: Sequence[str], joint: bool) -> None:
    if language_tokens and not joint:
        raise UserError(
            "data=bidirectional has both languages on both sides, which needs one vocabulary; say tokenizer.joint=true"
        )


class TokenizerTrainer(ABC):
    """Trains the tokenizers of a corpus; the configured choice.

    Attributes:
        joint: whether both languages get one vocabulary.
    """

    joint: bool

    @abstractmethod
    def train(self, corpus: Corpus) -> TokenizerPair:
        """Trains on the training split.

        Raises:
            UserError: the settings do not fit the corpus.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the settings that decide what `train` gives."""

    def pretrained(self, tokenizers: TokenizerPair) -> tuple[Pretrained | None, Pretrained | None]:
        """Pretrained vectors for source and target; None where none are configured.

        Raises:
            UserError: the file is missing or damaged.
        """
        return None, None


def train_tokenizers(corpus: Corpus, trainer: TokenizerTrainer, cache_dir: Path) -> TokenizerPair:
    """The corpus's tokenizers: trained at first use, read from `cache_dir` ever after.

    The cache is keyed by the training split's content, the languages, their tokens and the settings, and appears only
    when complete.

    Raises:
        UserError: the corpus or the settings are at fault.
    """
    text = corpus.for_vocabulary()
    _check_joint(text.language_tokens, trainer.joint)  # before anything is trained
    parts = [str(_FORMAT), text.fingerprint("train"), trainer.fingerprint(), *text.language_tokens]
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    folder = Path(cache_dir) / f"tokenizers-{key[:20]}"
    if folder.exists():
        try:
            return TokenizerPair.load(folder)
        except UserError:  # damaged: what can be computed again is not the user's business
            shutil.rmtree(folder)
    tokenizers = trainer.train(text)
    with written_aside(folder) as scratch:
        tokenizers.save(scratch)
    return tokenizers
