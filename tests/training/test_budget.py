"""The largest budget that fits: the search by itself, what is tried, and the memory that is asked about."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.data.batch import collate
from transformer.data.batching import Sorted
from transformer.error import UserError
from transformer.training import budget
from transformer.training.budget import LEAST_UPDATES, Probe, find, heaviest, largest


@given(least=st.integers(1, 200), span=st.integers(0, 10**6), limit=st.integers(0, 10**6))
def test_what_is_found_fits_and_a_sixteenth_more_does_not(least: int, span: int, limit: int) -> None:
    most, asked = least + span, []

    def fits(n: int) -> bool:
        asked.append(n)
        return n <= limit

    found = largest(fits, least, most)
    assert all(least <= n <= most for n in asked)
    if limit < least:
        assert found == 0
        assert asked == [least]
    else:
        assert found <= min(limit, most)
        assert found == most or found + found // 16 + 1 > limit
        too_much = [n for n in asked if n > limit]
        assert too_much == sorted(too_much, reverse=True)  # never beyond what has failed
        assert len(asked) < 30


@given(max_tokens=st.integers(2, 100), seed=st.integers(0, 9))
def test_no_batch_under_the_budget_is_heavier(toy, max_tokens: int, seed: int) -> None:
    store = toy.store(50, seed=seed)
    batches = heaviest(store, max_tokens)
    assert 1 <= len(batches) <= 2
    longest = max(store.src_lengths.max(), store.tgt_lengths.max()) + 1
    assert max(max(batch.src.size(1), batch.tgt_in.size(1)) for batch in batches) == longest
    for order in (np.arange(50), np.argsort(store.src_lengths)):
        for start in range(0, 50, 7):
            rows = order[start : start + 7]
            n, src, tgt = len(rows), store.src_lengths[rows].max() + 1, store.tgt_lengths[rows].max() + 1
            if n * max(src, tgt) <= min(max_tokens, 49):
                assert n * (src + tgt) <= 2 * max_tokens


@given(max_tokens=st.integers(16, 100), seed=st.integers(0, 9), round_to=st.sampled_from([1, 4, 8]))
def test_padding_to_multiples_counts(toy, max_tokens: int, seed: int, round_to: int) -> None:
    store = toy.store(50, seed=seed)
    batches = heaviest(store, max_tokens, round_to)
    sides = [side for batch in batches for side in (batch.src, batch.tgt_in)]
    assert all(side.size(1) % round_to == 0 and side.numel() <= max_tokens for side in sides)
    positions = max(batch.src.numel() + batch.tgt_in.numel() for batch in batches)
    planned = Sorted(max_tokens, round_to).plan(store.src_lengths, store.tgt_lengths, 0, 0)
    all_of_them = [collate([store[i] for i in rows.tolist()], rows, round_to) for rows in planned]
    assert positions == max(batch.src.numel() + batch.tgt_in.numel() for batch in all_of_them)


def test_the_budget_found_holds_the_longest_pair_padded(toy, tmp_path, monkeypatch) -> None:
    store = toy.store(3000)
    memory = Memory(toy, tmp_path, monkeypatch, 10**12)
    lengths = -(-(np.maximum(store.src_lengths, store.tgt_lengths) + 1) // 16) * 16
    found = find(memory.update, store, memory.trainer.world, 1, round_to=16)
    assert found.max_tokens == int(lengths.sum()) // LEAST_UPDATES
    with_one_pair = find(memory.update, store, memory.trainer.world, 10**6, round_to=16)
    assert with_one_pair.max_tokens == int(lengths.max())


class Memory:
    """A machine on which a batch takes 1,000 bytes a position; `free` of them are there."""

    def __init__(self, toy, tmp_path, monkeypatch, free: int | None, spoil=None) -> None:
        self.trainer = toy.trainer(tmp_path)
        self.held, self.tried = 0, []
        inner = self.trainer.update

        def update(batches, factor):
            assert factor == 0.0
            positions = batches[0].src.numel() + batches[0].tgt_in.numel()
            self.tried.append(positions)
            self.held = max(self.held, 1000 * positions)
            return inner(batches, factor)

        self.update = update
        monkeypatch.setattr(budget, "free_memory", lambda: free)
        monkeypatch.setattr(budget, "peak_memory", lambda: self.held)


def test_on_a_cpu_more_than_there_is_is_never_tried(toy, tmp_path, monkeypatch) -> None:
    store, free = toy.store(3000), 100_000
    memory = Memory(toy, tmp_path, monkeypatch, free)
    found = find(memory.update, store, memory.trainer.world, 1)
    assert "fits into" in found.reason
    assert max(memory.tried) * 1000 <= free
    assert 0.8 * free * 0.85 < max(memory.tried) * 1000 <= 0.8 * free


def test_an_epoch_keeps_enough_updates(toy, tmp_path, monkeypatch) -> None:
    store = toy.store(3000)
    memory = Memory(toy, tmp_path, monkeypatch, 10**12)
    total = int(np.maximum(store.src_lengths, store.tgt_lengths).sum()) + len(store)
    for share in (1, 4):
        found = find(memory.update, store, memory.trainer.world, share)
        assert found.max_tokens == total // (LEAST_UPDATES * share)
        assert found.reason == "an epoch of 100 updates; memory would hold more"


def test_the_weights_stay_as_they_are(toy, tmp_path) -> None:
    trainer = toy.trainer(tmp_path)
    before = [p.detach().clone() for p in trainer.update.parameters]
    assert Probe(trainer.update, toy.store(), 1 << 40)(30)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.update.parameters, strict=True))


def test_where_memory_runs_out_the_budget_does_not_fit(toy, tmp_path, monkeypatch) -> None:
    """As on an accelerator: the update says that it had to be split, or that a pair does not fit."""
    trainer = toy.trainer(tmp_path)
    inner = trainer.objective.forward

    def forward(src, *others):
        if src.numel() > 60:
            raise torch.OutOfMemoryError("no")
        return inner(src, *others)

    monkeypatch.setattr(trainer.objective, "forward", forward)
    probe = Probe(trainer.update, toy.store(300), None)
    assert largest(probe, 8, 300) in range(56, 61)
    monkeypatch.setattr(trainer.objective, "forward", lambda *_: forward(torch.zeros(100)))
    assert not probe(8)


def test_no_memory_at_all_and_no_knowledge_of_it_are_told(toy, tmp_path, monkeypatch) -> None:
    memory = Memory(toy, tmp_path, monkeypatch, 0)
    with pytest.raises(UserError, match="not even a batch of one pair of 8 tokens fits into memory"):
        find(memory.update, toy.store(), memory.trainer.world, 1)
    monkeypatch.setattr(budget, "free_memory", lambda: None)
    with pytest.raises(UserError, match="does not tell its free memory; give a number"):
        find(memory.update, toy.store(), memory.trainer.world, 1)


def test_this_system_tells_its_memory() -> None:
    free = budget.free_memory()
    assert free is not None
    assert 1 << 20 < free < 1 << 50
    assert 1 << 20 < budget.peak_memory() < 1 << 50
