"""Subword tokenizers: SentencePiece, byte-pair encoding or unigram. The only module that imports sentencepiece."""

import hashlib
import io
import json
import os
import random
import re
import threading
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import sentencepiece

from transformer.data.corpus import Corpus, Pair
from transformer.data.tokenizer.base import Tokenizer, TokenizerPair, TokenizerTrainer
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD, TOKENS, UNK

MAX_TRAINING_PAIRS = 2_000_000
"""A longer training split is represented by this many pairs drawn evenly from it, which bounds memory."""

_SAMPLING = threading.Lock()  # SentencePiece has one seed for the whole process
_NORMALIZATIONS = ("nmt_nfkc", "nfkc", "identity")
_LONGEST = 3000  # characters; SentencePiece ends the process over a stretch of 65,536, to which NFKC may lengthen it


def _broken(line: str) -> str:
    """The line, with a space in every stretch without one that is too long to train on (other blanks may not count)."""
    return line if len(line) <= _LONGEST else re.sub(rf"([^ ]{{{_LONGEST}}})(?=[^ ])", r"\1 ", line)


class SubwordTokenizer(Tokenizer):
    """A SentencePiece model, lower-casing in front of it if asked for, sampling behind it if asked for.

    Attributes:
        sampling: BPE: the probability that a merge is left out (BPE-dropout, Provilkov et al., 2020). Unigram: alpha,
            the smoothing with which segmentations are drawn (Kudo, 2018; smaller = more varied). 0 = off.
    """

    kind = "subword"

    def __init__(self, model: bytes, lowercase: bool, sampling: float) -> None:
        """Wraps a serialized SentencePiece model.

        Raises:
            ValueError: it is empty, or its special tokens are not ours.
            RuntimeError: it is no such model.
        """
        if not model:  # SentencePiece would take that for no model yet
            raise ValueError("the SentencePiece model is empty")
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.vocab_size = self._processor.get_piece_size()
        first = [self._processor.id_to_piece(i) for i in range(min(self.vocab_size, len(TOKENS)))]
        if first != list(TOKENS):
            raise ValueError(f"the SentencePiece model begins with {first} where {list(TOKENS)} must stand")
        self.lowercase = lowercase
        self.sampling = sampling
        self.samples = sampling > 0

    def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of each line, without BOS and EOS."""
        texts = [line.lower() for line in lines] if self.lowercase else list(lines)
        threads = min(8, os.cpu_count() or 1) if len(texts) > 1000 else 1
        return self._processor.encode(texts, out_type=int, num_threads=threads)

    def decode(self, ids: Sequence[int]) -> str:
        """Plain text; byte pieces that form no valid UTF-8 become U+FFFD."""
        return self._processor.decode([int(i) for i in ids if i not in (PAD, BOS, EOS)])

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The pieces; "▁" marks the start of a word, <0xNN> is one byte."""
        return [self._processor.id_to_piece(int(i)) for i in ids]

    def sample(self, lines: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Segments the same texts anew at random. Lines with UNK keep their ids: their text is not known.

        SentencePiece draws from a generator per thread, which takes the process-wide seed when the thread first uses it
        (in some versions also later). A thread of its own makes the result a function of ids and seed alone.
        """
        if not self.samples:
            return super().sample(lines, seed)
        known = [i for i, ids in enumerate(lines) if UNK not in ids]
        texts = self._processor.decode([[int(i) for i in lines[k]] for k in known])
        result = [[int(i) for i in ids] for ids in lines]

        def draw() -> None:
            sentencepiece.set_random_generator_seed(seed % (2**32 - 1))  # 2**32 - 1 would mean: any seed
            for k, text in zip(known, texts, strict=True):
                drawn = self._processor.encode(
                    text, out_type=int, enable_sampling=True, alpha=self.sampling, nbest_size=-1
                )
                if drawn:
                    result[k] = drawn

        with _SAMPLING:
            thread = threading.Thread(target=draw, name="subword-sampling")
            thread.start()
            thread.join()
        return result

    def language_id(self, token: str) -> int | None:
        """The id of a control symbol, which SentencePiece makes of no text."""
        id_ = self._processor.piece_to_id(token)
        return id_ if id_ >= len(TOKENS) and self._processor.is_control(id_) else None

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the model and the lower-casing."""
        return hashlib.sha256(self._model + bytes([self.lowercase])).hexdigest()

    def save(self, folder: Path, stem: str) -> list[Path]:
        """Writes STEM.model (SentencePiece) and STEM.json (lower-casing, sampling)."""
        model, settings = folder / f"{stem}.model", folder / f"{stem}.json"
        model.write_bytes(self._model)
        settings.write_text(
            json.dumps({"lowercase": self.lowercase, "sampling": self.sampling}) + "\n", encoding="utf-8"
        )
        return [model, settings]

    @classmethod
    def load(cls, folder: Path, stem: str) -> "SubwordTokenizer":
        """Reads what `save` wrote."""
        settings = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
        model = (folder / f"{stem}.model").read_bytes()
        return cls(model, bool(settings["lowercase"]), float(settings["sampling"]))


class SubwordTrainer(TokenizerTrainer):
    """Trains SentencePiece on the training split."""

    def __init__(
        self,
        algorithm: str,
        vocab_size: int,
        joint: bool,
        lowercase: bool,
        normalization: str,
        character_coverage: float,
        byte_fallback: bool,
        sampling: float,
    ) -> None:
        """See configs/tokenizer/subword.yaml for the meaning of the arguments.

        Raises:
            UserError: a value is out of range.
        """
        if algorithm not in ("bpe", "unigram"):
            raise UserError(f"tokenizer.algorithm={algorithm} is not known; say bpe or unigram")
        if normalization not in _NORMALIZATIONS:
            raise UserError(
                f"tokenizer.normalization={normalization} is not known; say one of {', '.join(_NORMALIZATIONS)}"
            )
        if not 0.98 <= character_coverage <= 1.0:
            raise UserError(f"tokenizer.character_coverage={character_coverage} must lie from 0.98 up to 1")
        if not 0.0 <= sampling < 1.0:
            raise UserError(f"tokenizer.sampling={sampling} must lie from 0 (off) up to but not including 1")
        if vocab_size <= len(TOKENS):
            raise UserError(f"tokenizer.vocab_size={vocab_size} must be above {len(TOKENS)}, the special tokens")
        self.algorithm = algorithm
        self.vocab_size = vocab_size
        self.joint = joint
        self.lowercase = lowercase
        self.normalization = normalization
        self.character_coverage = character_coverage
        self.byte_fallback = byte_fallback
        self.sampling = sampling

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the settings."""
        return hashlib.sha256(json.dumps(["subword", *sorted(vars(self).items())]).encode()).hexdigest()

    def train(self, corpus: Corpus) -> TokenizerPair:
        """Trains one model on both sides (joint) or one on each.

        Raises:
            UserError: the vocabulary is too large or too small for the corpus (with the bound), or there is no text.
        """
        if self.joint:
            lines = chain.from_iterable(_drawn(corpus))
            both = self._tokenizer(lines, "both languages", corpus.language_tokens)
            return TokenizerPair(both, both)
        src = self._tokenizer((pair.src for pair in _drawn(corpus)), corpus.src_language)
        return TokenizerPair(src, self._tokenizer((pair.tgt for pair in _drawn(corpus)), corpus.tgt_language))

    def _tokenizer(self, lines: Iterator[str], language: str, language_tokens: Sequence[str] = ()) -> SubwordTokenizer:
        failure: list[Exception] = []

        def text() -> Iterator[str]:
            try:
                for line in lines:
                    if line.strip():
                        yield _broken(line.lower() if self.lowercase else line)
            except Exception as error:  # SentencePiece would turn it into a sentence of its own
                failure.append(error)
                raise

        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=text(),
                model_writer=model,
                model_type=self.algorithm,
                vocab_size=self.vocab_size,
                character_coverage=self.character_coverage,
                byte_fallback=self.byte_fallback,
                normalization_rule_name=self.normalization,
                remove_extra_whitespaces=self.normalization != "identity",
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                pad_piece=TOKENS[PAD],
                unk_piece=TOKENS[UNK],
                bos_piece=TOKENS[BOS],
                eos_piece=TOKENS[EOS],
                unk_surface=TOKENS[UNK],
                control_symbols=list(language_tokens),
                max_sentence_length=1 << 24,  # bytes; SentencePiece leaves out longer lines
                num_threads=2,  # a number that never changes: the sums of unigram training depend on it
                minloglevel=2,
            )
        except RuntimeError as error:
            if failure:
                raise failure[0] from None
            raise UserError(_explain(str(error), self.vocab_size, language)) from error
        return SubwordTokenizer(model.getvalue(), self.lowercase, self.sampling)


def _drawn(corpus: Corpus) -> Iterator[Pair]:
    """The training pairs, or of a longer split an even draw (reservoir sampling, always the same)."""
    rng = random.Random(0)
    reservoir: list[Pair] = []
    for n, pair in enumerate(corpus.pairs("train")):
        if n < MAX_TRAINING_PAIRS:
            reservoir.append(pair)
        elif (place := rng.randrange(n + 1)) < MAX_TRAINING_PAIRS:
            reservoir[place] = pair
    yield from reservoir


def _explain(message: str, vocab_size: int, language: str) -> str:
    """SentencePiece's complaint as one sentence of ours."""
    if bound := re.search(r"too high \(\d+\).*<= (\d+)", message):
        return (
            f"tokenizer.vocab_size={vocab_size} is too high for the training text ({language}); "
            f"say at most {bound.group(1)}"
        )
    if bound := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return (
            f"tokenizer.vocab_size={vocab_size} is too low for the characters of the training text ({language}); "
            f"say at least {bound.group(1)} or lower tokenizer.character_coverage"
        )
    if "sentences_.empty()" in message:
        return f"the training split has no text to train a tokenizer on ({language}); put text into its files"
    return f"SentencePiece cannot train on the training text ({language}): {message}"
