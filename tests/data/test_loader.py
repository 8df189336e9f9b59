import gc
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.batch import Batch
from transformer.data.batching import Batching, Bucket, Pool, Sorted, padding_efficiency
from transformer.data.corpus import FilesCorpus
from transformer.data.loader import BatchLoader
from transformer.data.store import PairStore, prepare_store
from transformer.data.tokenizer.base import TokenizerPair
from transformer.error import UserError
from transformer.special import EOS, PAD


@pytest.fixture(scope="module")
def store(corpus: FilesCorpus, bpe: TokenizerPair, tmp_path_factory: pytest.TempPathFactory) -> PairStore:
    return prepare_store(corpus, "train", bpe, 256, tmp_path_factory.mktemp("store"))


Make = Callable[..., BatchLoader]


@pytest.fixture(scope="module", params=["stored", "sampled"])
def make(request: pytest.FixtureRequest, store: PairStore, sampling_bpe: TokenizerPair) -> Make:
    """Makes loaders over the same store, with and without sampling."""
    tokenizers = sampling_bpe if request.param == "sampled" else None

    def loader(
        batching: Batching | None = None, seed: int = 1, rank: int = 0, world_size: int = 1, epoch: int = 1
    ) -> BatchLoader:
        loader = BatchLoader(store, batching or Bucket(60), seed, rank, world_size, tokenizers)
        loader.set_epoch(epoch)
        return loader

    return loader


def content(batch: Batch) -> tuple:
    return batch.indices.tolist(), batch.src.tolist(), batch.tgt_in.tolist(), batch.tgt_out.tolist()


def contents(loader: BatchLoader) -> list[tuple]:
    return [content(batch) for batch in loader]


def test_every_pair_once_an_epoch(make: Make, store: PairStore) -> None:
    loader = make()
    batches = list(loader)
    assert len(batches) == len(loader) > 40
    assert sorted(i for batch in batches for i in batch.indices.tolist()) == list(range(len(store)))


def test_pairs_beyond_the_budget_are_told(store: PairStore) -> None:
    longest = np.maximum(store.src_lengths, store.tgt_lengths) + 1
    budget = int(np.sort(longest)[-4])
    beyond = BatchLoader(store, Bucket(budget), 1, 0, 1, None)
    n_beyond = int((longest > budget).sum())
    assert 0 < n_beyond < 4
    assert beyond.told == [
        f"pairs with more tokens than batching.max_tokens={budget}, each a batch by itself: {n_beyond}, of up to "
        f"{longest.max()} tokens"
    ]
    assert sum(len(batch.indices) == 1 for batch in beyond) >= n_beyond
    assert BatchLoader(store, Bucket(int(longest.max())), 1, 0, 1, None).told == []


def test_ids_are_those_of_the_store(store: PairStore) -> None:
    for batch in BatchLoader(store, Bucket(100), 1, 0, 1, None):
        for row, i in enumerate(batch.indices.tolist()):
            src, tgt = store[i]
            assert [x for x in batch.src[row].tolist() if x != PAD] == [*src, EOS]
            assert [x for x in batch.tgt_out[row].tolist() if x != PAD] == [*tgt, EOS]


def test_sampled_ids_spell_the_pairs_of_the_store(store: PairStore, sampling_bpe: TokenizerPair) -> None:
    n_changed = 0
    for batch in BatchLoader(store, Bucket(100), 1, 0, 1, sampling_bpe):
        for row, i in enumerate(batch.indices.tolist()):
            src, tgt = store[i]
            assert sampling_bpe.src.decode(batch.src[row].tolist()) == sampling_bpe.src.decode(src.tolist())
            assert sampling_bpe.tgt.decode(batch.tgt_out[row].tolist()) == sampling_bpe.tgt.decode(tgt.tolist())
            n_changed += [x for x in batch.src[row].tolist() if x != PAD] != [*src, EOS]
    assert n_changed > len(store) / 2


def test_tokenizers_that_do_not_sample_change_nothing(store: PairStore, bpe: TokenizerPair) -> None:
    assert contents(BatchLoader(store, Bucket(60), 1, 0, 1, bpe)) == contents(
        BatchLoader(store, Bucket(60), 1, 0, 1, None)
    )


def test_epochs_and_seeds_differ_and_repeat(make: Make) -> None:
    plans = [contents(make(seed=seed, epoch=epoch)) for seed, epoch in ((1, 1), (1, 2), (2, 1))]
    assert plans[0] != plans[1]
    assert plans[0] != plans[2]
    assert contents(make(seed=1, epoch=2)) == plans[1]


@settings(deadline=None, max_examples=10)
@given(st.data())
def test_resumed_is_never_stopped(make: Make, data: st.DataObject) -> None:
    batching = data.draw(st.sampled_from([Bucket(60), Pool(60), Sorted(60)]))
    rank, world_size = data.draw(st.sampled_from([(0, 1), (1, 2), (2, 3)]))
    whole = make(batching, rank=rank, world_size=world_size, epoch=3)
    expected = contents(whole)
    stop = data.draw(st.integers(0, len(expected)))
    stopped = make(batching, rank=rank, world_size=world_size, epoch=3)
    iterator = iter(stopped)
    assert [content(next(iterator)) for _ in range(stop)] == expected[:stop]
    state = stopped.state_dict()
    assert state == {"epoch": 3, "position": stop}
    resumed = make(batching, rank=rank, world_size=world_size, epoch=0)
    resumed.load_state_dict(state)
    resumed.set_epoch(3)  # as the trainer will say
    assert contents(resumed) == expected[stop:]
    resumed.set_epoch(4)
    whole.set_epoch(4)
    assert contents(resumed) == contents(whole)


def test_an_interrupted_iteration_goes_on_where_it_stood(make: Make) -> None:
    expected = contents(make())
    loader = make()
    seen = []
    for batch in loader:
        seen.append(content(batch))
        if len(seen) == 7:
            break
    assert seen + contents(loader) == expected


def test_another_epoch_starts_at_its_first_batch(make: Make) -> None:
    loader = make()
    next(iter(loader))
    loader.set_epoch(2)
    assert loader.state_dict() == {"epoch": 2, "position": 0}
    assert contents(loader) == contents(make(epoch=2))


def test_the_batches_of_another_epoch_are_counted_where_it_stands(make: Make) -> None:
    loader = make(seed=3)
    counted = [loader.n_batches(epoch) for epoch in range(5)]
    found = []
    for epoch in range(5):
        loader.set_epoch(epoch)
        found.append(len(loader))
    assert counted == found == [loader.n_batches(epoch) for epoch in range(5)]
    assert loader.state_dict() == {"epoch": 4, "position": 0}


def test_every_epoch_samples_anew(store: PairStore, sampling_bpe: TokenizerPair) -> None:
    loader = BatchLoader(store, Sorted(60), 1, 0, 1, sampling_bpe)  # the same plan in every epoch
    drawn = []
    for epoch in (1, 2):
        loader.set_epoch(epoch)
        drawn.append({i: row.tolist() for batch in loader for i, row in zip(batch.indices, batch.src, strict=True)})
    assert drawn[0].keys() == drawn[1].keys()
    n_changed = sum([x for x in drawn[0][i] if x != PAD] != [x for x in drawn[1][i] if x != PAD] for i in drawn[0])
    assert n_changed > len(store) / 2


def test_a_finished_epoch_starts_again(make: Make) -> None:
    loader = make()
    first = contents(loader)
    assert loader.state_dict() == {"epoch": 1, "position": len(loader)}
    assert contents(loader) == first


def test_a_finished_epoch_that_was_saved_is_not_repeated(make: Make) -> None:
    loader = make()
    contents(loader)
    resumed = make(epoch=0)
    resumed.load_state_dict(loader.state_dict())
    assert contents(resumed) == []
    resumed.set_epoch(2)
    assert contents(resumed) == contents(make(epoch=2))


def test_a_state_that_does_not_fit_is_refused(make: Make) -> None:
    loader = make()
    with pytest.raises(UserError, match=rf"batch 9999 of epoch 1, which has {len(loader)} batches; resume with"):
        loader.load_state_dict({"epoch": 1, "position": 9999})


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_the_epoch(make: Make, store: PairStore, world_size: int) -> None:
    loaders = [make(rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len({len(loader) for loader in loaders}) == 1
    seen = [i for loader in loaders for batch in loader for i in batch.indices.tolist()]
    assert sorted(seen) == list(range(len(store)))


def test_more_ranks_than_pairs(make: Make, store: PairStore) -> None:
    world_size = 2 * len(store)
    batches = [list(make(rank=rank, world_size=world_size)) for rank in (0, world_size - 1)]
    assert [len(share) for share in batches] == [1, 1]
    assert [len(share[0].indices) for share in batches] == [1, 0]
    assert batches[1][0].n_tgt_tokens == 0


def test_padding_efficiency_is_that_of_the_plan(store: PairStore) -> None:
    loader = BatchLoader(store, Bucket(200), 1, 0, 1, None)
    batches = [batch.indices for batch in loader]
    assert loader.padding_efficiency == pytest.approx(padding_efficiency(batches, store.src_lengths, store.tgt_lengths))


def test_padding_efficiency_of_sampled_batches_is_measured(store: PairStore, sampling_bpe: TokenizerPair) -> None:
    loader = BatchLoader(store, Bucket(400), 1, 0, 1, sampling_bpe)
    batches = list(loader)
    assert len(batches) < 32  # within one group, so that all are measured
    real = sum(int((side != PAD).sum()) for batch in batches for side in (batch.src, batch.tgt_out))
    padded = sum(side.numel() for batch in batches for side in (batch.src, batch.tgt_out))
    assert loader.padding_efficiency == pytest.approx(100 * real / padded)


def test_sampled_batches_keep_the_budget_on_average(store: PairStore, sampling_bpe: TokenizerPair) -> None:
    batches = list(BatchLoader(store, Bucket(400), 1, 0, 1, sampling_bpe))
    tokens = [max(batch.src.numel(), batch.tgt_out.numel()) for batch in batches]
    assert np.mean(tokens) < 420
    assert max(tokens) < 550


def threads() -> int:
    return sum(thread.name.startswith("batches") for thread in threading.enumerate())


def test_an_abandoned_iteration_leaves_no_thread(make: Make) -> None:
    iterator = iter(make())
    next(iterator)
    assert threads() == 1
    del iterator
    gc.collect()
    assert threads() == 0


def test_a_finished_iteration_leaves_no_thread(make: Make) -> None:
    contents(make())
    assert threads() == 0


class Broken(PairStore):
    """Cannot read one pair."""

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        if i == 17:
            raise OSError("the disk is gone")
        return super().__getitem__(i)


def test_an_error_in_the_background_surfaces(corpus: FilesCorpus, bpe: TokenizerPair, tmp_path: Path) -> None:
    store = prepare_store(corpus, "train", bpe, 256, tmp_path)
    store.__class__ = Broken
    loader = BatchLoader(store, Sorted(60), 1, 0, 1, None)
    n_good = next(
        k for k, batch in enumerate(Sorted(60).plan(store.src_lengths, store.tgt_lengths, 1, 0)) if 17 in batch
    )
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(loader)
    assert loader.state_dict()["position"] == n_good
    assert threads() == 0


def test_rounded_batches_are_told_by_shape(store: PairStore) -> None:
    plain, rounded = (BatchLoader(store, Bucket(200, n), 1, 0, 1, None) for n in (None, 4))
    for loader in (plain, rounded):
        batches = list(loader)
        assert loader.n_shapes == len({(*batch.src.shape, batch.tgt_in.size(1)) for batch in batches})
        real = sum(int((side != PAD).sum()) for batch in batches for side in (batch.src, batch.tgt_out))
        padded = sum(side.numel() for batch in batches for side in (batch.src, batch.tgt_out))
        assert loader.padding_efficiency == pytest.approx(100 * real / padded)
    assert rounded.n_shapes < plain.n_shapes
    assert all(batch.src.size(1) % 4 == batch.tgt_in.size(1) % 4 == 0 for batch in rounded)


def test_sampled_batches_have_rounded_lengths_too(store: PairStore, sampling_bpe: TokenizerPair) -> None:
    loader = BatchLoader(store, Bucket(200, 8), 1, 0, 1, sampling_bpe)
    assert loader.n_shapes is None
    assert all(batch.src.size(1) % 8 == batch.tgt_in.size(1) % 8 == 0 for batch in loader)
