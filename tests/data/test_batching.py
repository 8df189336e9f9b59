import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.batching import (
    Batching,
    Bucket,
    Pool,
    Sorted,
    by_length,
    cut,
    divide,
    padding_efficiency,
    shapes,
    shard,
)
from transformer.data.corpus import Multi30kCorpus
from transformer.data.store import prepare_store
from transformer.data.tokenizer.base import train_tokenizers
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.error import UserError

KINDS = [Bucket, Sorted, Pool]
every_kind = pytest.mark.parametrize("kind", KINDS)
lengths = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=80).map(
    lambda rows: tuple(np.asarray(side, dtype=np.int32) for side in (zip(*rows, strict=True) if rows else ([], [])))
)
quick = settings(deadline=None)


def pairs_of(batches: list[np.ndarray]) -> list[int]:
    return sorted(i for batch in batches for i in batch.tolist())


def as_lists(batches: list[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


def some_lengths(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    src = rng.integers(1, 40, n).astype(np.int32)
    return src, np.clip(src + rng.integers(-4, 5, n), 1, 60).astype(np.int32)


@every_kind
@quick
@given(lengths=lengths, max_tokens=st.integers(2, 200), seed=st.integers(0, 2**40), epoch=st.integers(0, 5))
def test_every_pair_once_and_the_budget_kept(
    kind: type[Batching], lengths: tuple[np.ndarray, np.ndarray], max_tokens: int, seed: int, epoch: int
) -> None:
    src, tgt = lengths
    batches = kind(max_tokens).plan(src, tgt, seed, epoch)
    assert pairs_of(batches) == list(range(len(src)))
    for batch in batches:
        assert batch.dtype == np.int64
        assert len(batch)
        longest = max(src[batch].max(), tgt[batch].max()) + 1
        assert len(batch) * longest <= max_tokens or len(batch) == 1


@every_kind
def test_the_same_arguments_give_the_same_plan(kind: type[Batching]) -> None:
    src, tgt = some_lengths(500)
    assert as_lists(kind(200).plan(src, tgt, 3, 4)) == as_lists(kind(200).plan(src.copy(), tgt.copy(), 3, 4))


@pytest.mark.parametrize("kind", [Bucket, Pool])
def test_epochs_and_seeds_differ_in_order_and_in_company(kind: type[Batching]) -> None:
    src, tgt = some_lengths(5000)
    plans = [kind(400).plan(src, tgt, seed, epoch) for seed, epoch in ((1, 1), (1, 2), (2, 1))]
    assert len({str(as_lists(plan)) for plan in plans}) == 3
    companies = [{frozenset(batch.tolist()) for batch in plan} for plan in plans]
    for other in companies[1:]:
        assert len(companies[0] & other) < len(companies[0]) / 2


def test_sorted_is_the_same_in_every_epoch_and_goes_from_short_to_long() -> None:
    src, tgt = some_lengths(500)
    plan = Sorted(200).plan(src, tgt, 1, 1)
    assert as_lists(plan) == as_lists(Sorted(200).plan(src, tgt, 2, 2))
    longest = [int(np.maximum(src, tgt)[batch].max()) for batch in plan]
    assert longest == sorted(longest)


@every_kind
def test_the_global_random_states_are_left_alone(kind: type[Batching]) -> None:
    src, tgt = some_lengths(300)
    random.seed(5)
    np.random.seed(5)  # the very state that must not move
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    kind(200).plan(src, tgt, 1, 1)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@every_kind
def test_a_pair_over_the_budget_goes_alone(kind: type[Batching]) -> None:
    src, tgt = np.array([3, 50, 3, 2]), np.array([3, 3, 60, 2])
    batches = as_lists(kind(20).plan(src, tgt, 0, 0))
    assert [1] in batches
    assert [2] in batches
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3]


@every_kind
def test_no_pairs_no_batches(kind: type[Batching]) -> None:
    assert kind(20).plan(np.zeros(0, np.int32), np.zeros(0, np.int32), 0, 0) == []


@every_kind
def test_a_budget_that_holds_nothing_is_refused(kind: type[Batching]) -> None:
    with pytest.raises(UserError, match=r"batching\.max_tokens=1 must be at least 2"):
        kind(1)


@every_kind
def test_the_batches_do_not_come_in_the_order_of_length(kind: type[Batching]) -> None:
    src, tgt = some_lengths(2000)
    longest = [int(src[batch].max()) for batch in kind(200).plan(src, tgt, 1, 1)]
    rises = sum(a <= b for a, b in pairwise(longest)) / len(longest)
    assert (rises > 0.7) is (kind is Sorted)


@quick
@given(lengths)
def test_by_length_is_a_sorted_permutation(lengths: tuple[np.ndarray, np.ndarray]) -> None:
    order, longest = by_length(*lengths, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(len(order)))
    assert longest.tolist() == sorted(np.maximum(*lengths)[order] + 1)


@quick
@given(longest=st.lists(st.integers(1, 30), min_size=1).map(sorted), max_tokens=st.integers(1, 100))
def test_cut_takes_as_many_as_fit(longest: list[int], max_tokens: int) -> None:
    ends = cut(np.asarray(longest), max_tokens)
    assert ends[-1] == len(longest)
    for start, end in zip([0, *ends], ends, strict=False):
        n = end - start
        assert n == 1 or n * longest[end - 1] <= max_tokens
        assert end == len(longest) or (n + 1) * longest[end] > max_tokens
    assert cut(np.asarray(longest), max_tokens, first=1)[0] == 1


batches_of_any_size = st.lists(st.integers(1, 9), max_size=12).map(
    lambda sizes: np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1].astype(int)) if sizes else []
)


@quick
@given(batches=batches_of_any_size, world_size=st.integers(1, 9))
def test_ranks_get_equally_many_batches_and_every_pair_goes_to_one(batches: list[np.ndarray], world_size: int) -> None:
    shares = [shard(batches, rank, world_size) for rank in range(world_size)]
    n_steps = {len(share) for share in shares}
    assert n_steps == {-(-len(batches) // world_size)}
    assert sorted(i for share in shares for i in pairs_of(share)) == pairs_of(batches)
    n_pairs = sum(len(batch) for batch in batches)
    n_empty = sum(len(batch) == 0 for share in shares for batch in share)
    assert n_empty == max(0, sum(len(share) for share in shares) - n_pairs)  # only when there are too few pairs


@quick
@given(batches=batches_of_any_size, world_size=st.integers(1, 9))
def test_a_shard_is_never_larger_than_the_plan(batches: list[np.ndarray], world_size: int) -> None:
    largest = max((len(batch) for batch in batches), default=0)
    assert all(len(batch) <= largest for rank in range(world_size) for batch in shard(batches, rank, world_size))


def test_one_rank_gets_the_plan_itself() -> None:
    plan = Bucket(50).plan(*some_lengths(100), 1, 1)
    assert as_lists(shard(plan, 0, 1)) == as_lists(plan)


def test_divide_halves_the_largest_where_it_stands() -> None:
    batches = [np.arange(2), np.arange(2, 9), np.arange(9, 10)]
    assert as_lists(divide(batches, 4)) == [[0, 1], [2, 3, 4, 5], [6, 7, 8], [9]]
    assert as_lists(divide([np.arange(1)], 3)) == [[0], [], []]
    assert as_lists(divide([], 2)) == [[], []]


def test_padding_efficiency_counts_both_sides_with_end_of_sentence() -> None:
    src, tgt = np.array([1, 3, 4]), np.array([2, 2, 1])
    batches = [np.array([0, 1]), np.zeros(0, np.int64), np.array([2])]
    real = (2 + 4) + (3 + 3) + 5 + 2
    padded = 2 * 4 + 2 * 3 + 5 + 2
    assert padding_efficiency(batches, src, tgt) == pytest.approx(100 * real / padded)
    assert padding_efficiency([], src, tgt) == 100.0


def test_bucket_pads_little_and_pool_more() -> None:
    src, tgt = some_lengths(20_000)
    efficiency = {kind: padding_efficiency(kind(4096).plan(src, tgt, 1, 1), src, tgt) for kind in KINDS}
    assert efficiency[Bucket] > 95.7
    assert efficiency[Sorted] > 95.7
    assert 70 < efficiency[Pool] < efficiency[Bucket]


def test_padding_efficiency_on_multi30k(multi30k_root: Path, tmp_path: Path) -> None:
    corpus = Multi30kCorpus(str(multi30k_root), "en", "de")
    trainer = SubwordTrainer("bpe", 10_000, True, False, "nmt_nfkc", 1.0, True, 0.0)
    store = prepare_store(corpus, "train", train_tokenizers(corpus, trainer, tmp_path), 256, tmp_path)
    plan = Bucket(4096).plan(store.src_lengths, store.tgt_lengths, 1, 1)
    assert padding_efficiency(plan, store.src_lengths, store.tgt_lengths) > 95
    filled = (len(store) + store.src_lengths.sum()) / (4096 * len(plan))
    assert filled > 0.9


@pytest.mark.parametrize("family", [Bucket, Sorted, Pool])
def test_rounded_lengths_keep_the_budget_and_come_in_few_shapes(family: type[Batching]) -> None:
    rng = np.random.default_rng(4)
    src = np.minimum(rng.geometric(0.07, 4000), 60)
    tgt = np.clip(src + rng.integers(-3, 6, 4000), 1, 63)
    plain, batches = (family(1024, n).plan(src, tgt, 1, 2) for n in (None, 8))
    assert sorted(np.concatenate(batches).tolist()) == list(range(4000))
    found = shapes(batches, src, tgt, 8)
    assert (found[:, 1:] % 8 == 0).all()
    assert (found[:, :1] * found[:, 1:] <= 1024).all()
    many, few = (len(np.unique(f, axis=0)) for f in (shapes(plain, src, tgt), found))
    assert few < many / 2
    if family is not Pool:  # pairs come in eights too, but for the first batches and the last
        assert sum(n % 8 > 0 and n > 8 for n in found[:, 0].tolist()) <= 2
    longest = [max(src[batch].max(), tgt[batch].max()) for batch in batches]
    assert found[:, 1:].max(axis=1).tolist() == [-(-(n + 1) // 8) * 8 for n in longest]


def test_padding_of_rounded_lengths_is_padding() -> None:
    src, tgt = np.asarray([3, 5, 9]), np.asarray([4, 4, 7])
    batches = [np.asarray([0, 1]), np.asarray([2]), np.zeros(0, dtype=np.int64)]
    assert shapes(batches[:2], src, tgt, 4).tolist() == [[2, 8, 8], [1, 12, 8]]
    assert padding_efficiency(batches, src, tgt, 4) == pytest.approx(100 * (32 + 6) / (2 * 16 + 20))


@pytest.mark.parametrize("round_to", [0, -8, 101])
def test_lengths_that_cannot_be_rounded_so_are_refused(round_to: int) -> None:
    with pytest.raises(
        UserError, match=f"batching.round_to={round_to} must be at least 1 and at most batching.max_tok"
    ):
        Bucket(100, round_to)
