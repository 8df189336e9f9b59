import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.candidate import DEAD
from transformer.decoding.demand import Demand
from transformer.decoding.greedy import Greedy
from transformer.decoding.rule import MinLength, NoRepeat
from transformer.decoding.sample import Sample, _keys, _mixed, _uniform, draw
from transformer.decoding.search import NoTranslationError
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD

PROBABILITIES = torch.tensor([0.0, 0.05, 0.0, 0.1, 0.4, 0.15, 0.3, 0.0])
GRID = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000


def shares(temperature=1.0, top_k=0, top_p=1.0, probabilities=PROBABILITIES):
    rows = probabilities.log().expand(len(GRID), -1)
    tokens = draw(rows, GRID, temperature, top_k, top_p)
    return torch.bincount(tokens, minlength=len(probabilities)) / len(GRID)


def normalised(*probabilities):
    weights = torch.tensor(probabilities)
    return weights / weights.sum()


def test_draws_follow_the_probabilities():
    assert torch.allclose(shares(), PROBABILITIES, atol=2e-4)


def test_temperature_sharpens_and_flattens():
    assert torch.allclose(shares(temperature=0.5), PROBABILITIES**2 / (PROBABILITIES**2).sum(), atol=2e-4)
    flat = torch.where(PROBABILITIES > 0, PROBABILITIES.sqrt(), 0.0)
    assert torch.allclose(shares(temperature=2.0), flat / flat.sum(), atol=2e-4)


def test_top_k_leaves_the_likeliest():
    assert torch.allclose(shares(top_k=2), normalised(0, 0, 0, 0, 0.4, 0, 0.3, 0), atol=2e-4)
    assert shares(top_k=1)[4] == 1.0


@pytest.mark.parametrize(
    ("top_p", "left"),
    [(0.1, (0.4, 0, 0)), (0.4, (0.4, 0, 0)), (0.41, (0.4, 0, 0.3)), (0.69, (0.4, 0, 0.3)), (0.8, (0.4, 0.15, 0.3))],
)
def test_top_p_leaves_the_smallest_set_that_is_likely_enough(top_p, left):
    assert torch.allclose(shares(top_p=top_p), normalised(0, 0, 0, 0, *left, 0), atol=2e-4)


def test_top_p_counts_what_top_k_leaves():
    assert torch.allclose(shares(top_k=3, top_p=0.8), normalised(0, 0, 0, 0, 0.4, 0, 0.3, 0), atol=2e-4)


@given(st.integers(0, 2**53 - 1), st.integers(0, 10**6), st.sampled_from([(0, 1.0), (3, 1.0), (0, 0.7)]))
def test_what_is_impossible_is_never_drawn(number, seed, restriction):
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(seed))
    logits[0, ::3] = DEAD
    token = draw(logits, torch.tensor([number / 2**53], dtype=torch.float64), 1.0, *restriction)
    assert logits[0, token] > DEAD


@pytest.mark.parametrize("vocab_size", [5, 64, 200, 1000])
def test_blocks_of_tokens_give_what_one_long_sum_gives(vocab_size):
    generator = torch.Generator().manual_seed(vocab_size)
    logits = 3 * torch.randn(3000, vocab_size, generator=generator)
    logits[:, vocab_size // 2 :: 3] = DEAD
    numbers = torch.rand(3000, generator=generator, dtype=torch.float64)
    found = draw(logits, numbers, 0.7, 0, 1.0)
    sums = (logits.double() / 0.7).softmax(1).cumsum(1)
    assert (sums.gather(1, found[:, None])[:, 0] > numbers - 1e-6).all()
    below = sums.gather(1, (found - 1).clamp_min(0)[:, None])[:, 0]
    assert (torch.where(found > 0, below, 0.0) <= numbers + 1e-6).all()


@pytest.mark.parametrize("alive", [0, 63, 64, 130, 199])
def test_the_greatest_number_draws_what_is_possible(alive):
    logits = torch.full((1, 200), DEAD)
    logits[0, alive] = -300.0
    for number in (0.0, 0.5, 1 - 2**-53):
        assert draw(logits, torch.tensor([number], dtype=torch.float64), 1.0, 0, 1.0).tolist() == [alive]


def test_numbers_are_uniform_and_independent():
    keys = _keys(torch.arange(2000).unsqueeze(1), torch.zeros(2000, 1, dtype=torch.bool), 5, seed=1)
    numbers = torch.stack([_uniform(keys, step) for step in range(4)]).flatten()
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    counts = torch.histc(numbers.float(), bins=20, min=0, max=1)
    expected = len(numbers) / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 45  # chi-square, 19 degrees, one in a thousand: 43.8
    assert len(numbers.unique()) == len(numbers)
    assert abs(float(torch.corrcoef(torch.stack([numbers[:-1], numbers[1:]]))[0, 1])) < 0.02


def test_mixing_is_splitmix64():
    # The first outputs of the reference implementation from state 0 and 1234567.
    assert int(_mixed(torch.tensor(0))) & (2**64 - 1) == 0xE220A8397B1DCDAF
    assert int(_mixed(torch.tensor(1234567))) & (2**64 - 1) == 6457827717110365317


@given(st.integers(0, 10**6), st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_batch_gives_what_each_sentence_gives_alone(
    scripted_model, make_script, run_search, seed, max_lengths, n_best
):
    model = scripted_model(make_script(9, seed))
    search = Sample(1.0, 0, 1.0, seed, n_best)
    sentences = list(range(len(max_lengths)))
    together = run_search(search, model, sentences, max_lengths)
    alone = [run_search(search, model, [i], [n])[0] for i, n in zip(sentences, max_lengths, strict=True)]
    assert together == alone
    assert together == run_search(search, model, sentences, max_lengths)


def test_padding_does_not_change_the_draws():
    short = _keys(torch.tensor([[7, 8, EOS]]), torch.tensor([[False] * 3]), 2, seed=5)
    padding = torch.tensor([[False] * 3 + [True] * 2])
    assert torch.equal(_keys(torch.tensor([[7, 8, EOS, PAD, PAD]]), padding, 2, seed=5), short)
    assert not torch.equal(_keys(torch.tensor([[8, 7, EOS]]), torch.tensor([[False] * 3]), 2, seed=5), short)


def test_another_seed_gives_other_translations(scripted_model, make_script, run_search):
    model = scripted_model(make_script(9, 1, eos_bonus=-3.0))
    sentences, limits = list(range(10)), [9] * 10
    first, second = [run_search(Sample(1.0, 0, 1.0, seed, 1), model, sentences, limits) for seed in (1, 2)]
    assert sum(a != b for a, b in zip(first, second, strict=True)) >= 8


@given(st.integers(0, 10**6), st.integers(1, 8), st.sampled_from([(0, 1.0), (2, 1.0), (0, 0.5), (3, 0.9)]))
@settings(max_examples=40, deadline=None)
def test_draws_are_legal_sorted_and_truthful(scripted_model, make_script, run_search, seed, max_length, restriction):
    model = scripted_model(make_script(8, seed))
    [found] = run_search(Sample(1.3, *restriction, seed, 4), model, [3], [max_length])
    assert len(found) == 4
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    for hypothesis in found:
        assert len(hypothesis.ids) < max_length
        assert not set(hypothesis.ids) & {PAD, BOS, EOS}
        assert hypothesis.log_prob == pytest.approx(model.log_prob(3, hypothesis.ids), abs=1e-4)


@pytest.mark.parametrize("search", [Sample(1.0, 1, 1.0, 3, 2), Sample(1.0, 0, 1e-6, 3, 2), Sample(1e-3, 0, 1.0, 3, 2)])
def test_the_likeliest_token_alone_is_greedy_search(scripted_model, make_script, run_search, search):
    model = scripted_model(make_script(8, 6))
    expected = run_search(Greedy(), model, [0, 1, 2], [8, 8, 5])
    found = run_search(search, model, [0, 1, 2], [8, 8, 5])
    assert [[h.ids for h in best] for best in found] == [[h.ids for h in best] * 2 for best in expected]


def test_whole_translations_follow_the_model(scripted_model, make_script, run_search):
    model = scripted_model(make_script(6, 4, scale=1.0))
    # One source for all that the script says, another for each sentence that is drawn.
    model.script = (lambda script: lambda sentence, prefix: script(0, prefix))(model.script)
    n_sentences = 4000
    found = run_search(Sample(1.0, 0, 1.0, 9, 1), model, list(range(n_sentences)), [3] * n_sentences)
    counts: dict[tuple[int, ...], int] = {}
    for [hypothesis] in found:
        counts[tuple(hypothesis.ids)] = counts.get(tuple(hypothesis.ids), 0) + 1
    steps = {prefix: model.script(0, prefix).softmax(-1).double() for prefix in [(), (1,), (4,), (5,)]}
    for step in steps.values():
        step[[PAD, BOS]] = 0.0
        step /= step.sum()
    expected = {(): float(steps[()][EOS])}
    for first in (1, 4, 5):
        expected[(first,)] = float(steps[()][first] * steps[(first,)][EOS])
        for second in (1, 4, 5):
            expected[(first, second)] = float(steps[()][first] * steps[(first,)][second])
    assert sum(expected.values()) == pytest.approx(1.0)
    chi_square = sum((counts.get(ids, 0) - n_sentences * p) ** 2 / (n_sentences * p) for ids, p in expected.items())
    assert chi_square < 33  # 12 degrees of freedom, one in a thousand: 32.9


def test_rules_and_demands_hold(scripted_model, make_script, run_search):
    model = scripted_model(make_script(9, 2))
    search = Sample(1.5, 0, 1.0, 1, 5, [NoRepeat(1), MinLength(0.0, 4)])
    [found] = run_search(search, model, [0], [7], [Demand(prefix=(8, 5), forbidden=((4,),))])
    for hypothesis in found:
        assert hypothesis.ids[:2] == [8, 5]
        assert 4 not in hypothesis.ids
        assert len(set(hypothesis.ids)) == len(hypothesis.ids) >= 3


def test_what_nothing_can_meet_is_told(scripted_model, make_script, run_search):
    model = scripted_model(make_script(5, 2))
    with pytest.raises(NoTranslationError) as raised:
        run_search(Sample(1.0, 0, 1.0, 1, 2, [NoRepeat(1), MinLength(0.0, 9)]), model, [0, 1], [3, 9])
    assert raised.value.sentence == 1
    with pytest.raises(UserError, match="need a beam search"):
        run_search(Sample(1.0, 0, 1.0, 1, 2), model, [0], [3], [Demand(required=((4,),))])


def test_draws_that_have_ended_leave_the_batch(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 2, eos_bonus=-50))
    run_search(Sample(1.0, 0, 1.0, 1, 2), model, [0, 1, 2], [2, 4, 3])
    assert model.rows_stepped == [3, 3, 2, 1]


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ((0.0, 0, 1.0, 1, 1), "temperature must be at least 1e-06 and finite, not 0.0"),
        ((math.inf, 0, 1.0, 1, 1), "temperature must be at least 1e-06 and finite, not inf"),
        ((1e-50, 0, 1.0, 1, 1), "temperature must be at least 1e-06 and finite, not 1e-50"),
        ((1.0, -1, 1.0, 1, 1), "top_k"),
        ((1.0, 0, 0.0, 1, 1), "top_p"),
        ((1.0, 0, 1.1, 1, 1), "top_p"),
        ((1.0, 0, 1.0, 1, 0), "n_best"),
    ],
)
def test_impossible_settings_are_refused(settings_, said):
    with pytest.raises(UserError, match=said):
        Sample(*settings_)
