"""Word tokenizers: a regular expression, a torchtext vocabulary, and pretrained word vectors if wanted."""

import contextlib
import hashlib
import io
import json
import logging
import re
import ssl
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from transformer.data.corpus import Corpus
from transformer.data.reader import open_file
from transformer.data.tokenizer.base import Pretrained, Tokenizer, TokenizerPair, TokenizerTrainer
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD, TOKENS, UNK

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchtext 0.6 is older than some of what it imports
    import torchtext.vocab

logging.getLogger("torchtext.vocab").setLevel(logging.WARNING)  # it tells of the temporary file that it is given

# Punctuation and symbols of ASCII, Latin-1 and the general, currency, arrow, CJK and full-width blocks. Everything else
# that is not white space belongs to words: also combining marks, so that no script is taken to pieces.
_PUNCTUATION = "!-/:-@\\[-\\^`{-~¡-©«-±´¶-¸»¿×÷‐-‧‰-⁞₠-⃏←-⯿、-〿！-／：-＠［-｀｛-･"  # noqa: RUF001
_WORD = f"[^\\s{_PUNCTUATION}]+"
_TOKEN = re.compile(rf"{_WORD}(?:[-'’]{_WORD}|(?<=\d)[.,:](?=\d){_WORD})*(?:-(?!{_WORD}))?|[{_PUNCTUATION}]")  # noqa: RUF001

_NO_SPACE_BEFORE = frozenset(".,!?;:)]}%…”、。！？，：；）")  # noqa: RUF001
_NO_SPACE_AFTER = frozenset("([{„‚#@$£¿¡（")  # noqa: RUF001
_NO_SPACE_AROUND = frozenset("/")
_QUOTES = {'"': '"', "'": "'", "’": "’", "“": "“", "‘": "‘", "«": "»", "»": "»"}  # noqa: RUF001  # mark -> its family
_LOW_QUOTES = {"„": "“", "‚": "‘"}  # noqa: RUF001  # German opening mark -> the family of the mark that closes it


def split(line: str) -> list[str]:
    """Words and single punctuation marks.

    Hyphens and apostrophes inside a word, a hyphen at its end, and dots, commas and colons between digits stay in the
    word: T-Shirt, don't, Kinder- und, 1,000.50, 12:30.
    """
    return _TOKEN.findall(line)


def join(words: Sequence[str]) -> str:
    """Words and marks as ordinary text: the inverse of `split` for ordinary punctuation.

    Marks are attached to the side where English and German put them. Marks that look the same opening and closing open
    and close by turns; one without a partner closes. What cannot be known (a spaced slash, "z.B." without a space) gets
    the usual form.
    """
    left = Counter(_QUOTES[word] for word in words if word in _QUOTES)
    opened: set[str] = set()
    text, glue = "", True
    for word in words:
        before, after = word in _NO_SPACE_BEFORE or word in _NO_SPACE_AROUND, word in _NO_SPACE_AFTER | _NO_SPACE_AROUND
        if word in _LOW_QUOTES:
            opened.add(_LOW_QUOTES[word])
        elif family := _QUOTES.get(word):
            left[family] -= 1
            closes = family in opened or (left[family] == 0 and family not in "“‘")  # noqa: RUF001  # “ may end with ”
            before, after = closes, not closes
            (opened.discard if closes else opened.add)(family)
        text += word if glue or before else f" {word}"
        glue = after
    return text


class WordTokenizer(Tokenizer):
    """A list of words; what is not in it becomes UNK."""

    kind = "word"

    def __init__(self, words: Sequence[str], lowercase: bool) -> None:
        """Takes every id's spelling, the special ones first.

        Raises:
            ValueError: the special tokens do not come first, or a word is there twice.
        """
        if tuple(words[: len(TOKENS)]) != TOKENS:
            raise ValueError(f"the vocabulary begins with {list(words[: len(TOKENS)])} where {list(TOKENS)} must stand")
        self._words = list(words)
        self._ids = {word: i for i, word in enumerate(words)}
        if len(self._ids) != len(self._words):
            raise ValueError("the vocabulary holds a word twice")
        self.vocab_size = len(self._words)
        self.lowercase = lowercase

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without BOS and EOS."""
        ids = self._ids
        return [[ids.get(word, UNK) for word in split(line.lower() if self.lowercase else line)] for line in lines]

    def decode(self, ids: Sequence[int]) -> str:
        """The words as ordinary text, see `join`."""
        return join([self._words[i] for i in ids if i not in (PAD, BOS, EOS)])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The words."""
        return [self._words[i] for i in ids]

    def language_id(self, token: str) -> int | None:
        """The id of a token that is no word: `split` would take it to pieces."""
        return self._ids.get(token) if split(token) != [token] and token not in TOKENS else None

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the words and the lower-casing."""
        return hashlib.sha256(json.dumps([self._words, self.lowercase]).encode()).hexdigest()

    def save(self, folder: Path, stem: str) -> list[Path]:
        """Writes STEM.json: the lower-casing and all words in the order of their ids."""
        path = folder / f"{stem}.json"
        content = {"lowercase": self.lowercase, "words": self._words}
        path.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        return [path]

    @classmethod
    def load(cls, folder: Path, stem: str) -> "WordTokenizer":
        """Reads what `save` wrote."""
        content = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
        return cls([str(word) for word in content["words"]], bool(content["lowercase"]))

    def pretrained(self, path: Path) -> Pretrained:
        """The vectors of this vocabulary out of a text file (word, space, numbers; GloVe, word2vec and fastText text).

        A word that the file lacks is looked up in lower case too.

        Raises:
            UserError: the file is missing or damaged, or has a vector for none of the words.
        """
        vectors = _load_vectors(path, {*self._words, *(word.lower() for word in self._words)})
        weights = torch.zeros(self.vocab_size, vectors.dim)
        found = torch.zeros(self.vocab_size, dtype=torch.bool)
        for i, word in enumerate(self._words[len(TOKENS) :], start=len(TOKENS)):
            known = word if word in vectors.stoi else word.lower()
            if known in vectors.stoi:
                weights[i], found[i] = vectors[known], True
        if not found.any():
            raise UserError(
                f"{path} has a vector for none of the {self.vocab_size} words; name the vectors of this language"
            )
        if not weights.isfinite().all():
            word = self._words[int(weights.isfinite().all(1).logical_not().nonzero()[0])]
            raise UserError(f"{path} is damaged: the vector of {word!r} has numbers that are not finite")
        return Pretrained(weights, found)


class WordTrainer(TokenizerTrainer):
    """Builds torchtext vocabularies from the training split."""

    def __init__(
        self,
        joint: bool,
        lowercase: bool,
        min_freq: int,
        max_size: int | None,
        src_vectors: str | None,
        tgt_vectors: str | None,
    ) -> None:
        """See configs/tokenizer/word.yaml for the meaning of the arguments.

        Raises:
            UserError: a value is out of range.
        """
        if min_freq < 1:
            raise UserError(f"tokenizer.min_freq={min_freq} must be at least 1")
        if max_size is not None and max_size < 1:
            raise UserError(f"tokenizer.max_size={max_size} must be at least 1, or null for no limit")
        if joint and tgt_vectors:
            raise UserError("tokenizer.tgt_vectors does not go with tokenizer.joint=true; give src_vectors for both")
        self.joint = joint
        self.lowercase = lowercase
        self.min_freq = min_freq
        self.max_size = max_size
        self.src_vectors = src_vectors
        self.tgt_vectors = tgt_vectors

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the settings that decide the vocabulary; the vectors do not."""
        settings = [self.joint, self.lowercase, self.min_freq, self.max_size]
        return hashlib.sha256(json.dumps(["word", *settings]).encode()).hexdigest()

    def train(self, corpus: Corpus) -> TokenizerPair:
        """Counts the words of the training split; ids are in the order of frequency, then of the alphabet.

        Raises:
            UserError: no word is frequent enough.
        """
        src: Counter[str] = Counter()
        tgt: Counter[str] = src if self.joint else Counter()
        for pair in corpus.pairs("train"):
            src.update(split(pair.src.lower() if self.lowercase else pair.src))
            tgt.update(split(pair.tgt.lower() if self.lowercase else pair.tgt))
        if self.joint:
            both = self._tokenizer(src, "both languages", corpus.language_tokens)
            return TokenizerPair(both, both)
        return TokenizerPair(self._tokenizer(src, corpus.src_language), self._tokenizer(tgt, corpus.tgt_language))

    def pretrained(self, tokenizers: TokenizerPair) -> tuple[Pretrained | None, Pretrained | None]:
        """The configured vectors for source and target; of a joint vocabulary, the source's for both."""
        both = tokenizers.tgt if tokenizers.joint else tokenizers.src, tokenizers.tgt
        sides = zip(both, (self.src_vectors, self.tgt_vectors), strict=True)
        src, tgt = (
            side.pretrained(Path(path)) if path and isinstance(side, WordTokenizer) else None for side, path in sides
        )
        return src, src if self.joint else tgt

    def _tokenizer(self, counts: Counter[str], language: str, language_tokens: Sequence[str] = ()) -> WordTokenizer:
        specials = [*TOKENS, *language_tokens]
        vocab = torchtext.vocab.Vocab(counts, self.max_size, self.min_freq, specials=specials)
        if len(vocab) == len(specials):
            raise UserError(
                f"no word of the training text ({language}) occurs tokenizer.min_freq={self.min_freq} times; lower it"
            )
        return WordTokenizer(vocab.itos, self.lowercase)


def _load_vectors(path: Path, wanted: set[str]) -> Any:
    """A torchtext.vocab.Vectors with the wanted words only, so that memory is bounded by the vocabulary."""
    keys = {word.encode() for word in wanted}
    context = ssl._create_default_https_context
    with tempfile.TemporaryDirectory() as cache:  # fresh: torchtext unpickles what it finds in its cache
        chosen = Path(cache) / "vectors.txt"
        with chosen.open("wb") as out:
            out.writelines(_chosen(path, keys))
        if not chosen.stat().st_size:
            raise UserError(
                f"{path} has a vector for none of the vocabulary's words; name the vectors of this language"
            )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                return torchtext.vocab.Vectors(chosen.name, cache=cache)
        except (RuntimeError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); every line must be a word and equally many numbers"
            ) from error
        finally:
            ssl._create_default_https_context = context  # torchtext switches certificate checks off for the process


def _chosen(path: Path, keys: set[bytes]) -> Iterator[bytes]:
    """The first line of each wanted word; a line of two columns is a header."""
    missing = set(keys)
    with open_file(path) as file:
        for raw in file:
            word = raw.split(b" ", 1)[0]
            if word in missing and raw.rstrip().count(b" ") > 1:
                missing.discard(word)
                yield raw.rstrip() + b"\n"
