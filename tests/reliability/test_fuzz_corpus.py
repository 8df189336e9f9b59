"""Whatever the files hold: every pair stays with its own line, or one sentence says what is wrong."""

import codecs
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.batching import Bucket
from transformer.data.corpus import FilesCorpus, Pair
from transformer.data.loader import BatchLoader
from transformer.data.store import EMPTY, TOO_LONG, PairStore, prepare_store
from transformer.data.tokenizer.base import TokenizerPair, TokenizerTrainer
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.data.tokenizer.word import WordTrainer, join, split
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD, UNK

N = int(os.environ.get("TRANSFORMER_FUZZ_EXAMPLES", "40"))
fuzz = settings(settings.get_profile("fuzz"), max_examples=N)

# Line separators of Python and Unicode that are none of ours, control characters, what looks like a special token,
# joiners, directions, what normalisation takes apart or leaves nothing of.
ODD = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x00", "\ufeff", "\r", "a\rb", "\x7f"]
ODD += ["\x1b[2J", "<s>", "</s>", "<pad>", "<unk>", "▁", "▁▁ ▁", "<0x0A>", "\u200b", "\u200d", "\u202e", "\u00a0"]
ODD += [
    "\u3000",
    "\u00ad",
    "ﬁ",
    "Å",
    "A\u030a",
    "İ",
    "ß",
    "\U0001f468\u200d\U0001f469",
    "\ufffd",
    "\uffff",
    "\U0010ffff",
]
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\n")
odd = st.lists(st.sampled_from([*ODD, " ", "  ", "word", "."]), max_size=6).map("".join)
plain = st.lists(st.sampled_from(["the", "dog", "runs", "home", "Haus", "grün", ",", "."]), max_size=8).map(" ".join)
lines = st.one_of(
    plain, plain, odd, st.text(characters, max_size=12), st.sampled_from(["", " ", "one", "x" * 3000, "word " * 10_000])
)


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The bytes of two files that may or may not be text, or of equal length."""
    n = draw(st.sampled_from([8, 5, 3, 2, 1, 0]))
    sides = []
    for _ in range(2):
        count = max(0, n + (draw(st.sampled_from([1, -1])) if draw(st.integers(0, 15)) == 15 else 0))
        ends = draw(st.sampled_from([[b"\n"], [b"\r\n"], [b"\n", b"\r\n"]]))
        content = b"".join(draw(lines).encode() + draw(st.sampled_from(ends)) for _ in range(count))
        content = draw(st.sampled_from([b"", b"", codecs.BOM_UTF8])) + content
        if draw(st.integers(0, 5)) == 5:
            content = content[:-1]
        if draw(st.integers(0, 15)) == 15:
            at = draw(st.integers(0, len(content)))
            content = content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:]
        sides.append(content)
    return sides[0], sides[1]


def lines_of(content: bytes) -> list[str] | None:
    """The lines by their definition; None when they are not UTF-8."""
    raw = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if raw[-1] == b"":
        raw.pop()
    try:
        return [line.removesuffix(b"\r").decode() for line in raw]
    except UnicodeDecodeError:
        return None


def expected(contents: tuple[bytes, bytes]) -> list[Pair] | None:
    """The pairs, or None where there can be none."""
    src, tgt = (lines_of(content) for content in contents)
    return None if not src or not tgt or len(src) != len(tgt) else [Pair(*pair) for pair in zip(src, tgt, strict=True)]


def corpus_in(folder: Path, contents: tuple[bytes, bytes]) -> FilesCorpus:
    names = [str(folder / name) for name in ("text.src", "text.tgt")]
    for name, content in zip(names, contents, strict=True):
        Path(name).write_bytes(content)
    files = {"src": names[0], "tgt": names[1], "tsv": None}
    return FilesCorpus("src", "tgt", files, files, {})


def check_store(store: PairStore, pairs: list[Pair], tokenizers: TokenizerPair, max_len: int) -> None:
    """Every pair of the corpus is there under its line number, or left out and counted."""
    assert store.n_read == len(pairs) == len(store) + sum(store.left_out.values())
    encoded = [(tokenizers.src.encode(pair.src), tokenizers.tgt.encode(pair.tgt)) for pair in pairs]
    blank = [not (p.src.strip() and p.tgt.strip() and all(ids)) for p, ids in zip(pairs, encoded, strict=True)]
    long = [not b and max(map(len, ids)) > max_len for b, ids in zip(blank, encoded, strict=True)]
    assert store.left_out == {EMPTY: sum(blank), TOO_LONG: sum(long)}
    assert store.lines.tolist() == [n for n, (b, o) in enumerate(zip(blank, long, strict=True), 1) if not b and not o]
    for i, line in enumerate(store.lines.tolist()):
        assert tuple(side.tolist() for side in store[i]) == encoded[line - 1]


def check_batches(store: PairStore, max_tokens: int) -> None:
    """Every pair is in one batch, and whole in it."""
    seen: list[int] = []
    for batch in BatchLoader(store, Bucket(max_tokens), 1, 0, 1, None):
        for row, i in enumerate(batch.indices.tolist()):
            src, tgt = (side.tolist() for side in store[i])
            assert batch.src[row][~batch.src_key_padding_mask[row]].tolist() == [*src, EOS]
            assert [t for t in batch.tgt_in[row].tolist() if t != PAD] == [BOS, *tgt]
            assert [t for t in batch.tgt_out[row].tolist() if t != PAD] == [*tgt, EOS]
            seen.append(i)
    assert sorted(seen) == list(range(len(store)))


def through(corpus: FilesCorpus, pairs: list[Pair], tokenizers: TokenizerPair, folder: Path, max_len: int) -> None:
    """From text to batches and, by way of the disk, back."""
    store = prepare_store(corpus, "train", tokenizers, max_len, folder / "cache")
    check_store(store, pairs, tokenizers, max_len)
    check_store(prepare_store(corpus, "train", tokenizers, max_len, folder / "cache"), pairs, tokenizers, max_len)
    check_batches(store, 4 * max_len)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenizerPair]:
    """Tokenizers trained on plain text: what they have never seen goes through them too."""
    corpus = corpus_in(
        tmp_path_factory.mktemp("plain"), (b"the dog runs home .\n" * 9, "das grüne Haus , ja .\n".encode() * 9)
    )
    subword = [SubwordTrainer("bpe", 290, True, False, rule, 1.0, True, 0.0) for rule in ("identity", "nmt_nfkc")]
    trained = {f"subword {trainer.normalization}": trainer.train(corpus) for trainer in subword}
    return trained | {"word": WordTrainer(False, False, 1, None, None, None).train(corpus)}


@fuzz
@given(contents=files(), max_len=st.sampled_from([3, 40, 100_000]), kind=st.sampled_from(["subword nmt_nfkc", "word"]))
def test_pairs_stay_with_their_lines_or_one_sentence_says_why(
    contents: tuple[bytes, bytes],
    max_len: int,
    kind: str,
    tokenizers: dict[str, TokenizerPair],
    tried: Callable[[str, str], None],
    sentence: Callable[[BaseException], str],
) -> None:
    pairs = expected(contents)
    with tempfile.TemporaryDirectory() as name:
        corpus = corpus_in(Path(name), contents)
        try:
            read = list(corpus.pairs("train"))
        except UserError as error:
            assert pairs is None
            sentence(error)
            tried("corpora through tokenizers", "refused in one sentence")
            return
        assert read == pairs
        try:
            through(corpus, read, tokenizers[kind], Path(name), max_len)
            tried("corpora through tokenizers", "right, every pair with its line")
        except UserError as error:
            told = sentence(error)
            tried("corpora through tokenizers", "refused in one sentence")
            assert re.search(rf"of {len(read)} pairs \d+ have an empty side", told)  # it may also succeed


def advised(told: str) -> int | None:
    """The vocabulary size that a refusal advises."""
    found = re.search(r"say at (?:most|least) (\d+)", told)
    return int(found[1]) if found else None


def trained(trainer: TokenizerTrainer, corpus: FilesCorpus, sentence: Callable[[BaseException], str]) -> TokenizerPair:
    """Trains; where another vocabulary size is advised, takes the advice, which must be good.

    With a vocabulary each, one size for both, the languages may have to contradict each other.
    """
    told = ""
    for _ in range(4):
        try:
            return trainer.train(corpus)
        except UserError as error:
            told = sentence(error)
            if not isinstance(trainer, SubwordTrainer) or (size := advised(told)) is None:
                raise
            trainer.vocab_size = size
            refusal = error
    if isinstance(trainer, SubwordTrainer) and not trainer.joint:
        raise refusal
    raise AssertionError(f"the advice does not help: {told}")


@st.composite
def trainers(draw: st.DrawFn) -> TokenizerTrainer:
    """Word and subword trainers of every kind."""
    joint, lowercase = draw(st.booleans()), draw(st.booleans())
    if draw(st.integers(0, 2)) == 0:
        return WordTrainer(
            joint, lowercase, draw(st.sampled_from([1, 2])), draw(st.sampled_from([None, 3])), None, None
        )
    rule, algorithm = (
        draw(st.sampled_from(["identity", "nmt_nfkc", "nfkc"])),
        draw(st.sampled_from(["bpe", "bpe", "unigram"])),
    )
    fallback, size = draw(st.sampled_from([True, True, False])), draw(st.sampled_from([5, 270, 400, 5000]))
    return SubwordTrainer(algorithm, size, joint, lowercase, rule, 1.0, fallback, 0.0)


@fuzz
@given(contents=files(), trainer=trainers())
def test_tokenizers_are_trained_on_any_text_or_one_sentence_says_why(
    contents: tuple[bytes, bytes],
    trainer: TokenizerTrainer,
    tried: Callable[[str, str], None],
    sentence: Callable[[BaseException], str],
) -> None:
    pairs = expected(contents)
    with tempfile.TemporaryDirectory() as name:
        corpus = corpus_in(Path(name), contents)
        try:
            found = trained(trainer, corpus, sentence)
            found.save(Path(name) / "tokenizer")
            found = TokenizerPair.load(Path(name) / "tokenizer")
            assert pairs is not None
            through(corpus, pairs, found, Path(name), 60)
            tried("corpora that tokenizers are trained on", "right, every pair with its line")
        except UserError as error:
            sentence(error)
            tried("corpora that tokenizers are trained on", "refused in one sentence")


@fuzz
@given(line=lines)
def test_text_comes_back_from_its_ids(
    line: str, tokenizers: dict[str, TokenizerPair], tried: Callable[[str, str], None]
) -> None:
    subword = tokenizers["subword identity"].src
    ids = subword.encode(line)
    assert UNK not in ids
    assert not {PAD, BOS, EOS} & set(ids)
    # SentencePiece writes a space as U+2581 and puts one before the text: those two alone cannot be told apart.
    assert subword.decode(ids) == line.replace("▁", " ")
    nfkc = tokenizers["subword nmt_nfkc"].src
    normal = nfkc.decode(nfkc.encode(line))
    assert nfkc.decode(nfkc.encode(normal)) == normal
    word = tokenizers["word"].src
    known = [w for w in split(line) if word.encode(w) != [UNK]]
    assert word.decode([i for i in word.encode(line) if i != UNK]) == join(known)
    tried("lines to ids and back", "right")
