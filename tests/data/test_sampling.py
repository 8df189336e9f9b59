from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.batching import padding_efficiency
from transformer.data.corpus import FilesCorpus
from transformer.data.sampling import expected_lengths, regroup, resample
from transformer.data.store import PairStore, prepare_store
from transformer.data.tokenizer.base import TokenizerPair

sizes = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def store(corpus: FilesCorpus, sampling_bpe: TokenizerPair, tmp_path_factory: pytest.TempPathFactory) -> PairStore:
    return prepare_store(corpus, "train", sampling_bpe, 256, tmp_path_factory.mktemp("store"))


def test_resampled_pairs_are_the_same_texts_in_other_pieces(store: PairStore, sampling_bpe: TokenizerPair) -> None:
    indices = np.array([3, 140, 7, 3])
    pairs = resample(store, indices, sampling_bpe, 1)
    assert any(src.tolist() != store[i][0].tolist() for i, (src, _) in zip(indices, pairs, strict=True))
    for i, (src, tgt) in zip(indices.tolist(), pairs, strict=True):
        assert src.dtype == tgt.dtype == np.int32
        assert sampling_bpe.src.decode(src.tolist()) == sampling_bpe.src.decode(store[i][0].tolist())
        assert sampling_bpe.tgt.decode(tgt.tolist()) == sampling_bpe.tgt.decode(store[i][1].tolist())


def test_no_sampled_sentence_is_over_max_len(corpus: FilesCorpus, sampling_bpe: TokenizerPair, tmp_path: Path) -> None:
    free = prepare_store(corpus, "train", sampling_bpe, 256, tmp_path)
    most = int(np.quantile(np.maximum(free.src_lengths, free.tgt_lengths), 0.9))
    tight = prepare_store(corpus, "train", sampling_bpe, most, tmp_path)
    pairs = resample(tight, np.arange(len(tight)), sampling_bpe, 1)
    assert max(max(len(src), len(tgt)) for src, tgt in pairs) <= most
    assert any(len(src) > tight.src_lengths[i] for i, (src, _) in enumerate(pairs))
    same = [src.tolist() == tight[i][0].tolist() for i, (src, _) in enumerate(pairs)]
    assert 0 < sum(same) < len(same)


def test_expected_lengths_are_those_of_sampled_text(store: PairStore, sampling_bpe: TokenizerPair) -> None:
    expected = expected_lengths(store, sampling_bpe)
    pairs = resample(store, np.arange(len(store)), sampling_bpe, 99)
    for side, lengths in enumerate(expected):
        drawn = sum(len(pair[side]) for pair in pairs)
        assert drawn == pytest.approx(lengths.sum(), rel=0.1)
        assert drawn > 1.1 * (store.src_lengths, store.tgt_lengths)[side].sum()


@settings(deadline=None)
@given(sizes=sizes, n_batches=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_regroup_gives_exactly_so_many_batches(sizes: list[tuple[int, int]], n_batches: int, seed: int) -> None:
    src, tgt = (np.asarray(side) for side in zip(*sizes, strict=True))
    batches = regroup(src, tgt, n_batches, seed)
    assert len(batches) == n_batches
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(sizes)))
    assert sum(len(batch) == 0 for batch in batches) == max(0, n_batches - len(sizes))
    again = regroup(src, tgt, n_batches, seed)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


def test_regroup_pads_little_and_shares_evenly() -> None:
    rng = np.random.default_rng(0)
    src = rng.integers(1, 40, 4000)
    tgt = np.clip(src + rng.integers(-4, 5, 4000), 1, 60)
    batches = regroup(src, tgt, 32, 1)
    assert padding_efficiency(batches, src, tgt) > 85
    tokens = [len(batch) * (max(src[batch].max(), tgt[batch].max()) + 1) for batch in batches]
    assert max(tokens) < 1.1 * np.mean(tokens)
    longest = [int(np.maximum(src, tgt)[batch].max()) for batch in batches]
    assert longest != sorted(longest)
