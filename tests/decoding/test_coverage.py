import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.beam import Beam
from transformer.decoding.coverage import LEAST_ATTENTION, coverage_penalty
from transformer.decoding.penalty import Average, Wu
from transformer.error import UserError
from transformer.special import EOS, PAD

seeds = st.integers(0, 10**6)
betas = st.sampled_from([0.2, 1.0, 5.0])
VOCAB_SIZE = 6


def attention(sentence, prefix, src_len, n_tokens):
    """Weights over the n_tokens of a source, EOS counted, and none on padding."""
    generator = torch.Generator().manual_seed(hash((sentence, prefix)) % 2**62)
    weights = (2 * torch.randn(n_tokens, generator=generator)).softmax(0)
    return torch.cat([weights, torch.zeros(src_len - n_tokens)])


@pytest.fixture(scope="module")
def attending_model(scripted_model):
    """Return the scripted model, with attention of its own to sources made by `sources`."""

    class AttendingModel(scripted_model):
        def start(self, src, src_key_padding_mask, width, capacity):
            state = super().start(src, src_key_padding_mask, width, capacity)
            state.attending, state.attention = False, None
            self.sizes = dict(zip(src[:, 0].tolist(), (~src_key_padding_mask).sum(1).tolist(), strict=True))
            self.src_len = src.size(1)
            return state

        def step(self, ids, state):
            logits = super().step(ids, state)
            assert state.attending
            rows = zip(state.sentences, state.prefixes, strict=True)
            state.attention = torch.stack(
                [torch.stack([attention(s, p, self.src_len, self.sizes[s]) for p in row]) for s, row in rows]
            )
            return logits

    return AttendingModel


def sources(sentences, n_tokens):
    """Sources whose first id is the sentence's number, EOS last."""
    src = torch.full((len(sentences), max(n_tokens)), PAD)
    for row, sentence, n in zip(src, sentences, n_tokens, strict=True):
        row[:n] = torch.tensor([sentence, *range(4, 4 + n - 2), EOS])
    return src, src == PAD


class NeverStopping(Beam):
    def _going(self, log_probs, rows, finished):
        return (log_probs > float("-inf")).any(1) & (rows.limits > rows.ages + 1)


@given(seeds, st.integers(1, 4), st.integers(2, 4), betas, st.sampled_from([Wu(1.0), Average(1.0), Wu(-1.0)]))
@settings(max_examples=25, deadline=None)
def test_a_beam_wide_enough_finds_what_brute_force_finds(
    attending_model, make_script, seed, max_length, n_tokens, beta, penalty
):
    model = attending_model(make_script(VOCAB_SIZE, seed))
    search = Beam(3**4, 5, penalty, early_stopping=False, coverage=beta)
    [found] = search.search(model, *sources([9], [n_tokens]), torch.tensor([max_length]))
    everything = []
    for ids, log_prob in model.all_translations(9, VOCAB_SIZE, max_length):
        sums = sum(attention(9, tuple(ids[:i]), n_tokens, n_tokens) for i in range(len(ids) + 1))
        covered = sum(math.log(min(float(total), 1.0)) for total in sums[:-1])  # EOS does not count
        score = float(penalty.score(torch.tensor(log_prob), torch.tensor(len(ids) + 1))) + beta * covered
        everything.append((score, ids, log_prob))
    everything.sort(key=lambda entry: -entry[0])
    assert [h.ids for h in found] == [ids for _, ids, _ in everything[:5]]
    assert [h.score for h in found] == pytest.approx([score for score, _, _ in everything[:5]], abs=1e-4)
    assert [h.log_prob for h in found] == pytest.approx([log_prob for _, _, log_prob in everything[:5]], abs=1e-4)


@given(seeds, st.lists(st.tuples(st.integers(1, 8), st.integers(2, 4)), min_size=1, max_size=5), betas, st.booleans())
@settings(max_examples=30, deadline=None)
def test_exact_stopping_and_batches_change_nothing(attending_model, make_script, seed, sizes, beta, early_stopping):
    model = attending_model(make_script(8, seed, eos_bonus=float(seed % 4)))
    limits, n_tokens = zip(*sizes, strict=True)
    sentences = list(range(4, 4 + len(limits)))
    search = Beam(3, 2, Wu(1.0), early_stopping, coverage=beta)
    together = search.search(model, *sources(sentences, n_tokens), torch.tensor(limits))
    for i, sentence in enumerate(sentences):
        given = (*sources([sentence], [n_tokens[i]]), torch.tensor([limits[i]]))
        [alone] = search.search(model, *given)
        assert [h.ids for h in together[i]] == [h.ids for h in alone]
        assert [h.score for h in together[i]] == pytest.approx([h.score for h in alone], abs=1e-5)
        if not early_stopping:
            assert [alone] == NeverStopping(3, 2, Wu(1.0), False, coverage=beta).search(model, *given)


def test_the_penalty_is_zero_where_all_is_covered_and_finite_where_nothing_is():
    counts = torch.tensor([True, True, False])
    assert coverage_penalty(torch.tensor([[1.0, 3.0, 0.1], [0.5, 2.0, 0.0]]), counts).tolist() == pytest.approx(
        [0.0, math.log(0.5)]
    )
    assert float(coverage_penalty(torch.zeros(3), counts)) == pytest.approx(2 * math.log(LEAST_ATTENTION))


def test_a_model_that_does_not_tell_is_refused(scripted_model, make_script, run_search):
    with pytest.raises(UserError, match="set coverage=0"):
        run_search(Beam(2, 1, Wu(1.0), True, coverage=0.1), scripted_model(make_script(6, 1)), [0], [3])


@pytest.mark.parametrize("coverage", [-0.1, math.inf, math.nan])
def test_an_impossible_coverage_is_refused(coverage):
    with pytest.raises(UserError, match="coverage must be"):
        Beam(2, 1, Wu(1.0), early_stopping=True, coverage=coverage)
