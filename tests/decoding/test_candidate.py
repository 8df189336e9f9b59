import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.candidate import (
    _lacking,
    _top_positions,
    best_candidates,
    best_continuations,
    log_probs_at,
    top_tokens,
)
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD


def by_full_sort(logits, k):
    values, ids = logits.sort(dim=1, descending=True, stable=True)
    return values[:, :k], ids[:, :k]


@given(st.integers(1, 5), st.sampled_from([3, 64, 65, 400, 1000, 1024]), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=60)
def test_top_tokens_of_distinct_logits(n_rows, vocab_size, k, seed):
    logits = torch.randn(n_rows, vocab_size, generator=torch.Generator().manual_seed(seed))
    values, ids = top_tokens(logits, k)
    expected_values, expected_ids = by_full_sort(logits, k)
    assert torch.equal(values, expected_values)
    assert torch.equal(ids, expected_ids)
    assert ids.shape == (n_rows, min(k, vocab_size))


@given(st.sampled_from([5, 400, 1000, 1003]), st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=60)
def test_of_equal_logits_the_lower_id_comes_first(vocab_size, k, n_levels, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(n_levels, (4, vocab_size), generator=generator).float()
    logits[torch.rand(logits.shape, generator=generator) < 0.3] = float("-inf")
    values, ids = top_tokens(logits, k)
    expected_values, expected_ids = by_full_sort(logits, k)
    assert torch.equal(values, expected_values)
    possible = values > float("-inf")
    assert torch.equal(ids[possible], expected_ids[possible])


@given(
    st.sampled_from([1, 20, 150, 400, 700]),
    st.integers(1, 11),
    st.integers(1, 999),
    st.floats(0, 1),
    st.integers(0, 99),
)
@settings(max_examples=100)
def test_top_positions_are_those_of_a_full_sort(n, k, n_levels, hidden, seed):
    """Whether torch is given more values than there are or not, and where fewer than k are possible."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(n_levels, (9, n), generator=generator).float()
    values[torch.rand(9, n, generator=generator) < hidden] = float("-inf")
    values[0] = float("-inf")
    positions = _top_positions(values, k)
    expected, of = by_full_sort(values, min(k, n))
    assert positions.shape == (9, min(k, n))
    assert all(len(set(row)) == len(row) and row == sorted(row) and row[-1] < n for row in positions.tolist())
    for found, best, where in zip(positions, expected, of, strict=True):
        possible = best > float("-inf")
        assert set(where[possible].tolist()) <= set(found.tolist())


def test_torch_is_given_more_values_only_for_few_of_many():
    assert _lacking(625, 11) == 79
    assert [_lacking(n, 11) for n in (263, 264, 703, 704, 10_000)] == [0, 440, 1, 0, 0]
    assert _lacking(125, 2) == 3


@pytest.mark.parametrize("vocab_size", [7, 1000, 2**18 + 1])
def test_log_probs_are_those_of_log_softmax(vocab_size):
    generator = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(3, vocab_size, generator=generator)
    ids = torch.randint(vocab_size, (3, 4), generator=generator)
    torch.testing.assert_close(log_probs_at(logits, ids), logits.log_softmax(-1).gather(1, ids))


def test_log_probs_of_many_rows_in_chunks():
    logits = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(2))
    ids = torch.arange(1000).unsqueeze(1)
    torch.testing.assert_close(log_probs_at(logits, ids), logits.log_softmax(-1).gather(1, ids))


def test_half_precision_logits_are_normalised_in_single_precision():
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(3)).bfloat16()
    ids = torch.tensor([[4], [5]])
    got = log_probs_at(logits, ids)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, logits.float().log_softmax(-1).gather(1, ids))


def test_candidates_subtract_the_whole_vocabulary_and_leave_the_logits_alone():
    logits = torch.randn(2, 3, 700, generator=torch.Generator().manual_seed(4))
    logits[:, :, PAD] = 9.0
    logits[:, :, BOS] = 10.0
    before = logits.clone()
    tokens, log_probs = best_candidates(logits, logits, 4, torch.tensor([False, False]))
    assert torch.equal(logits, before)
    assert tokens.shape == log_probs.shape == (2, 3, 4)
    assert not ((tokens == PAD) | (tokens == BOS)).any()
    torch.testing.assert_close(log_probs, before.log_softmax(-1).gather(2, tokens))
    allowed = before.clone()
    allowed[:, :, [PAD, BOS]] = float("-inf")
    assert torch.equal(tokens, allowed.topk(4).indices)


def test_a_sentence_that_must_end_has_only_eos():
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(5))
    tokens, log_probs = best_candidates(logits, logits, 4, torch.tensor([False, True]))
    assert (tokens[1, :, 0] == EOS).all()
    torch.testing.assert_close(log_probs[1, :, 0], logits.log_softmax(-1)[1, :, EOS])
    assert (log_probs[1, :, 1:] == float("-inf")).all()
    assert (log_probs[0] > float("-inf")).all()


def test_impossible_tokens_stay_impossible():
    logits = torch.full((1, 1, 8), float("-inf"))
    logits[0, 0, 5] = 1.0
    tokens, log_probs = best_candidates(logits, logits, 3, torch.tensor([False]))
    assert tokens[0, 0, 0] == 5
    assert log_probs[0, 0].tolist() == [0.0, float("-inf"), float("-inf")]


def test_not_a_number_is_refused():
    logits = torch.zeros(1, 2, 8)
    logits[0, 1, 3] = float("nan")
    with pytest.raises(UserError, match="NaN"):
        best_candidates(logits, logits, 3, torch.tensor([False]))


def by_sorting_all(logits, visible, log_probs, k, must_end):
    """The k best continuations by a stable sort of all: lists of (slot, token), and totals."""
    vocab_size = logits.size(2)
    allowed = visible.clone()
    allowed[:, :, [PAD, BOS]] = float("-inf")
    allowed.masked_fill_(must_end.view(-1, 1, 1) & (torch.arange(vocab_size) != EOS), float("-inf"))
    totals = log_probs.unsqueeze(2) + logits.double().log_softmax(2)
    totals = totals.masked_fill(allowed == float("-inf"), float("-inf")).flatten(1)
    totals, order = totals.sort(dim=1, descending=True, stable=True)
    return order[:, :k] // vocab_size, order[:, :k] % vocab_size, totals[:, :k]


@given(
    st.sampled_from([5, 63, 64, 65, 130, 700]),
    st.integers(1, 4),
    st.integers(1, 9),
    st.sampled_from(["nothing", "some", "most"]),
    st.integers(0, 10**6),
)
@settings(max_examples=80, deadline=None)
def test_the_best_continuations_are_those_of_sorting_all(vocab_size, width, k, hidden, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, width, vocab_size, generator=generator)
    log_probs = -5 * torch.rand(3, width, generator=generator)
    log_probs[0, 1:] = float("-inf")
    visible = logits
    if hidden != "nothing":
        share = {"some": 0.3, "most": 0.99}[hidden]
        visible = logits.masked_fill(torch.rand(logits.shape, generator=generator) < share, float("-inf"))
    must_end = torch.tensor([False, seed % 2 == 0, False])
    before, shown_before = logits.clone(), visible.clone()
    slots, tokens, totals = best_continuations(logits, visible, log_probs, k, must_end)
    assert torch.equal(logits, before)
    assert torch.equal(visible, shown_before)
    expected_slots, expected_tokens, expected = by_sorting_all(logits, visible, log_probs, k, must_end)
    torch.testing.assert_close(totals.double(), expected, atol=1e-5, rtol=1e-5)
    alive = expected > float("-inf")
    assert torch.equal(slots[alive], expected_slots[alive])
    assert torch.equal(tokens[alive], expected_tokens[alive])


def test_of_equal_continuations_the_lower_slot_and_then_the_lower_token_comes_first():
    logits = torch.zeros(1, 2, 200)
    logits[:, :, 150:153] = 2.0
    logits[:, :, 20] = 2.0
    slots, tokens, totals = best_continuations(logits, logits, torch.zeros(1, 2), 6, torch.tensor([False]))
    assert list(zip(slots[0].tolist(), tokens[0].tolist(), strict=True)) == [
        (0, 20), (0, 150), (0, 151), (0, 152), (1, 20), (1, 150),
    ]  # fmt: skip
    assert totals.unique().numel() == 1


def test_continuations_that_are_not_a_number_are_refused():
    logits = torch.zeros(1, 2, 8)
    logits[0, 1, 3] = float("nan")
    with pytest.raises(UserError, match="NaN"):
        best_continuations(logits, logits, torch.zeros(1, 2), 3, torch.tensor([False]))
