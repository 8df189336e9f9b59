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
from transformer.data.corpus import Corpus
from transformer.error import UserError

_MANIFEST = "tokenizers.json"
_FORMAT = 1


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

    def encode(self, line: str) -> list[int]:
        """The ids of one line, without BOS and EOS."""
        return self.encode_lines([line])[0]

    def sample(self, lines: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Other segmentations of the same texts, drawn at random; a pure function of the ids and the seed.

        Here, where there is nothing to draw, the ids themselves.
        """
        return [list(ids) for ids in lines]


class TokenizerPair:
    """The source and the target tokenizer of a model.

    Attributes:
        src: encodes source text.
        tgt: encodes target text; the same object as `src` when `joint`.
        joint: one vocabulary for both languages, so that embeddings can be shared.
        samples: whether `sample` varies the segmentation on either side.
    """

    def __init__(self, src: Tokenizer, tgt: Tokenizer) -> None:
        self.src = src
        self.tgt = tgt
        self.joint = src is tgt
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

    def save(self, folder: Path) -> None:
        """Writes the pair as plain data files into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        sides = {"src": self.src} if self.joint else {"src": self.src, "tgt": self.tgt}
        files = [file for stem, tokenizer in sides.items() for file in tokenizer.save(folder, stem)]
        manifest = {
            "format": _FORMAT,
            "kinds": {stem: tokenizer.kind for stem, tokenizer in sides.items()},
            "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "TokenizerPair":
        """Reads what `save` wrote; plain data only, nothing in the folder is ever executed or unpickled.

        Raises:
            UserError: a file is missing, damaged, or written by a later version.
        """
        manifest = folder / _MANIFEST
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            version, kinds, digests = content["format"], dict(content["kinds"]), dict(content["sha256"])
        except FileNotFoundError as error:
            raise UserError(f"{folder} holds no tokenizers: {_MANIFEST} is missing") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{manifest} is damaged ({error!r}); copy or train the tokenizers again") from error
        if version != _FORMAT:
            raise UserError(
                f"{manifest} has format {version} where {_FORMAT} is expected; use the version that wrote it"
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
        return TokenizerPair(sides["src"], sides.get("tgt", sides["src"]))


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


class TokenizerTrainer(ABC):
    """Trains the tokenizers of a corpus; the configured choice."""

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

    The cache is keyed by the training split's content, the languages and the settings, and appears only when complete.

    Raises:
        UserError: the corpus or the settings are at fault.
    """
    key = hashlib.sha256(f"{_FORMAT} {corpus.fingerprint('train')} {trainer.fingerprint()}".encode()).hexdigest()
    folder = Path(cache_dir) / f"tokenizers-{key[:20]}"
    if folder.exists():
        try:
            return TokenizerPair.load(folder)
        except UserError:  # damaged: what can be computed again is not the user's business
            shutil.rmtree(folder)
    tokenizers = trainer.train(corpus)
    with written_aside(folder) as scratch:
        tokenizers.save(scratch)
    return tokenizers
