from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transformer.data import store as module
from transformer.data.corpus import Corpus, FilesCorpus, Pair
from transformer.data.store import EMPTY, TOO_LONG, PairStore, prepare_store
from transformer.data.tokenizer.base import TokenizerPair
from transformer.data.tokenizer.subword import SubwordTokenizer, SubwordTrainer
from transformer.data.tokenizer.word import WordTokenizer
from transformer.error import UserError
from transformer.special import EOS, TOKENS

LETTERS = WordTokenizer([*TOKENS, *"abcdefgh"], lowercase=False)
TOKENIZERS = TokenizerPair(LETTERS, LETTERS)


class Listed(Corpus):
    """A corpus of pairs in memory."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        super().__init__("x", "y")
        self.listed = pairs
        self.n_read = 0

    def prepare(self, splits: Sequence[str] | None = None) -> None:
        """Nothing to do."""

    def splits(self) -> list[str]:
        return ["train", "validation"]

    def parts(self, split: str) -> list:
        return []

    def pairs(self, split: str) -> Iterator[Pair]:
        self.n_read += 1
        return (Pair(*pair) for pair in self.listed)

    def fingerprint(self, split: str) -> str:
        return f"{split} {self.listed}"


def test_ids_are_those_of_the_tokenizers(corpus: FilesCorpus, bpe: TokenizerPair, tmp_path: Path) -> None:
    store = prepare_store(corpus, "train", bpe, 256, tmp_path)
    pairs = list(corpus.pairs("train"))
    assert len(store) == len(pairs) == 150
    for i, pair in enumerate(pairs):
        src, tgt = store[i]
        assert (src.dtype, tgt.dtype) == (np.int32, np.int32)
        assert src.tolist() == bpe.src.encode(pair.src)
        assert tgt.tolist() == bpe.tgt.encode(pair.tgt)
        assert (store.src_lengths[i], store.tgt_lengths[i]) == (len(src), len(tgt))
    assert (store.src_lengths.dtype, store.tgt_lengths.dtype, store.lines.dtype) == (np.int32, np.int32, np.int64)
    assert store.left_out == {EMPTY: 0, TOO_LONG: 0}
    assert (store.n_read, store.max_len) == (150, 256)


def test_targets_and_their_ends_are_counted(
    corpus: FilesCorpus, bpe: TokenizerPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer.data.store._COUNTED_AT_ONCE", 100)
    store = prepare_store(corpus, "train", bpe, 256, tmp_path)
    counted = Counter(token for i in range(len(store)) for token in [*store[i][1].tolist(), EOS])
    assert store.tgt_counts(bpe.tgt.vocab_size).tolist() == [counted[i] for i in range(bpe.tgt.vocab_size)]


sides = st.text("ab \u2028\x85", max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pairs=st.lists(st.tuples(sides, sides)), max_len=st.integers(1, 3), chunk=st.integers(1, 4))
def test_nothing_shifts(
    pairs: list[tuple[str, str]], max_len: int, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    counts = [tuple(len(LETTERS.encode(side)) for side in pair) for pair in pairs]
    usable = [i for i, both in enumerate(counts) if min(both) > 0 and max(both) <= max_len]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        if not usable:
            with pytest.raises(UserError, match=rf"no pair of the split 'train' can be used: of {len(pairs)} pairs"):
                prepare_store(Listed(pairs), "train", TOKENIZERS, max_len, tmp_path_factory.mktemp("s"))
            return
        store = prepare_store(Listed(pairs), "train", TOKENIZERS, max_len, tmp_path_factory.mktemp("s"))
    assert store.lines.tolist() == [i + 1 for i in usable]
    for row, i in enumerate(usable):
        assert tuple(side.tolist() for side in store[row]) == tuple(LETTERS.encode(side) for side in pairs[i])
    empty = sum(min(both) == 0 for both in counts)
    assert store.left_out == {EMPTY: empty, TOO_LONG: len(pairs) - empty - len(usable)}
    assert store.n_read == len(pairs)


def test_pairs_that_are_left_out_are_counted_by_reason(tmp_path: Path) -> None:
    pairs = [("a", "b"), ("", "b"), ("a", " \u2028"), ("", ""), ("a b c d", "e"), ("a", "b c d e"), ("c", "d")]
    store = prepare_store(Listed(pairs), "train", TOKENIZERS, 3, tmp_path)
    assert store.left_out == {EMPTY: 3, TOO_LONG: 2}
    assert store.lines.tolist() == [1, 7]
    assert store[1][0].tolist() == LETTERS.encode("c")


def test_max_len_itself_is_not_too_long(tmp_path: Path) -> None:
    store = prepare_store(Listed([("a b c", "a b c")]), "train", TOKENIZERS, 3, tmp_path)
    assert len(store) == 1


def test_text_of_which_the_tokenizer_leaves_nothing_is_empty(bpe: TokenizerPair, tmp_path: Path) -> None:
    nothing = "\u200b"  # a zero-width space: not blank to Python, white space to SentencePiece
    assert nothing.strip()
    assert bpe.src.encode(nothing) == []
    store = prepare_store(Listed([("a", nothing), ("a", "b")]), "train", bpe, 9, tmp_path)
    assert store.left_out == {EMPTY: 1, TOO_LONG: 0}


def test_blank_is_empty_also_to_a_tokenizer_that_keeps_spaces(corpus: FilesCorpus, tmp_path: Path) -> None:
    exact = SubwordTrainer("bpe", 340, True, False, "identity", 1.0, True, 0.0).train(corpus)
    assert exact.src.encode(" \t") != []
    store = prepare_store(Listed([("a", " \t"), (" \t", "b"), ("a", "b")]), "train", exact, 9, tmp_path)
    assert store.left_out == {EMPTY: 2, TOO_LONG: 0}


def test_no_usable_pair_is_told_with_the_counts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"of 3 pairs 2 have an empty side and 1 are over max_len=2 tokens"):
        prepare_store(Listed([("", "a"), ("a", ""), ("a b c", "a")]), "validation", TOKENIZERS, 2, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_index_out_of_range(tmp_path: Path) -> None:
    store = prepare_store(Listed([("a", "b")]), "train", TOKENIZERS, 2, tmp_path)
    for i in (1, -1):
        with pytest.raises(IndexError):
            store[i]


def test_written_once(tmp_path: Path) -> None:
    corpus = Listed([("a", "b")])
    first = prepare_store(corpus, "train", TOKENIZERS, 2, tmp_path)
    second = prepare_store(corpus, "train", TOKENIZERS, 2, tmp_path)
    assert corpus.n_read == 1
    assert first[0][0].tolist() == second[0][0].tolist()
    assert len(list(tmp_path.iterdir())) == 1


def test_keyed_by_text_split_tokenizer_and_max_len(tmp_path: Path) -> None:
    corpus = Listed([("a", "b")])
    other = WordTokenizer([*TOKENS, *"hgfedcba"], lowercase=False)
    prepare_store(corpus, "train", TOKENIZERS, 2, tmp_path)
    prepare_store(corpus, "validation", TOKENIZERS, 2, tmp_path)
    prepare_store(corpus, "train", TOKENIZERS, 3, tmp_path)
    prepare_store(corpus, "train", TokenizerPair(LETTERS, other), 2, tmp_path)
    prepare_store(corpus, "train", TokenizerPair(other, LETTERS), 2, tmp_path)
    prepare_store(Listed([("a", "c")]), "train", TOKENIZERS, 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_sampling_does_not_change_the_store(
    corpus: FilesCorpus, bpe: TokenizerPair, sampling_bpe: TokenizerPair, tmp_path: Path
) -> None:
    prepare_store(corpus, "train", bpe, 256, tmp_path)
    prepare_store(corpus, "train", sampling_bpe, 256, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["src.bin", "tgt_offsets.bin", "lines.bin", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "longer", "gone"])
def test_damaged_store_is_refused_and_made_again(tmp_path: Path, name: str, damage: str) -> None:
    corpus = Listed([("a", "b"), ("c d", "e")])
    prepare_store(corpus, "train", TOKENIZERS, 2, tmp_path)
    folder = next(tmp_path.iterdir())
    content = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[:-1] if damage == "cut" else content + b"x")
    if not (name == "manifest.json" and damage == "cut"):  # its last byte is a line break
        with pytest.raises(UserError, match=r"store-\w+ is damaged \(.*\); delete it"):
            PairStore.open(folder)
    store = prepare_store(corpus, "train", TOKENIZERS, 2, tmp_path)
    assert store[1][0].tolist() == LETTERS.encode("c d")


def test_large_vocabularies_are_stored_whole(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(70_000)]
    tokenizer = WordTokenizer([*TOKENS, *words], lowercase=False)
    store = prepare_store(Listed([("w1 w69999", "w0")]), "train", TokenizerPair(tokenizer, tokenizer), 2, tmp_path)
    assert store[0][0].tolist() == [5, 70_003]


def test_small_vocabularies_are_stored_in_two_bytes_a_token(tmp_path: Path) -> None:
    prepare_store(Listed([("a b c", "d")]), "train", TOKENIZERS, 3, tmp_path)
    folder = next(tmp_path.iterdir())
    assert (folder / "src.bin").stat().st_size == 6


def test_memory_is_for_a_chunk_not_for_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 10)
    largest = 0

    class Watched(WordTokenizer):
        def encode_lines(self, lines: Sequence[str]) -> list[list[int]]:
            nonlocal largest
            largest = max(largest, len(lines))
            return super().encode_lines(lines)

    watched = Watched([*TOKENS, "a"], lowercase=False)
    store = prepare_store(Listed([("a", "a")] * 105), "train", TokenizerPair(watched, watched), 3, tmp_path)
    assert (len(store), largest) == (105, 10)


def test_kind_of_tokenizer_makes_no_difference(bpe: TokenizerPair) -> None:
    assert isinstance(bpe.src, SubwordTokenizer)
    assert bpe.fingerprint() != TOKENIZERS.fingerprint()
