import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.beam import Beam, choose
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Average, Wu
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD

seeds = st.integers(0, 10**6)
limits = st.lists(st.integers(1, 8), min_size=1, max_size=5)
penalties = st.sampled_from([Wu(0.0), Wu(1.0), Wu(2.5), Average(1.0), Wu(-1.0)])
roundings = st.sampled_from([0.0, 0.5])


def beam(width, penalty, early_stopping):
    return Beam(width, width, penalty, early_stopping)


def ids_of(found):
    return [[hypothesis.ids for hypothesis in hypotheses] for hypotheses in found]


@given(seeds, limits, penalties, roundings)
@settings(max_examples=30, deadline=None)
def test_a_beam_of_one_is_greedy(scripted_model, make_script, run_search, seed, max_lengths, penalty, rounding):
    model = scripted_model(make_script(8, seed, eos_bonus=1.0, step=rounding))
    sentences = list(range(len(max_lengths)))
    beam = run_search(Beam(1, 1, penalty, early_stopping=True), model, sentences, max_lengths)
    greedy = run_search(Greedy(), model, sentences, max_lengths)
    assert ids_of(beam) == ids_of(greedy)
    assert [h[0].log_prob for h in beam] == [h[0].log_prob for h in greedy]


@given(seeds, st.integers(1, 4), st.sampled_from([Wu(0.0), Wu(1.0), Average(1.0), Wu(-1.0)]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_beam_wide_enough_finds_what_brute_force_finds(
    scripted_model, make_script, run_search, seed, max_length, penalty, early_stopping
):
    vocab_size, width = 6, 3**4
    model = scripted_model(make_script(vocab_size, seed))
    [found] = run_search(Beam(width, 5, penalty, early_stopping), model, [1], [max_length])
    everything = [
        (ids, log_prob, float(penalty.score(torch.tensor(log_prob), torch.tensor(len(ids) + 1))))
        for ids, log_prob in model.all_translations(1, vocab_size, max_length)
    ]
    everything.sort(key=lambda entry: -entry[2])
    assert [h.score for h in found] == pytest.approx([score for _, _, score in everything[:5]], abs=1e-4)
    assert [h.log_prob for h in found] == pytest.approx([log_prob for _, log_prob, _ in everything[:5]], abs=1e-4)
    assert [h.ids for h in found] == [ids for ids, _, _ in everything[:5]]


@given(seeds, limits, st.builds(beam, st.integers(1, 4), penalties, st.booleans()), roundings)
@settings(max_examples=40, deadline=None)
def test_a_batch_gives_what_each_sentence_gives_alone(
    scripted_model, make_script, run_search, seed, max_lengths, search, rounding
):
    model = scripted_model(make_script(9, seed, eos_bonus=1.0, step=rounding))
    sentences = list(range(len(max_lengths)))
    together = run_search(search, model, sentences, max_lengths)
    alone = [run_search(search, model, [i], [n])[0] for i, n in zip(sentences, max_lengths, strict=True)]
    assert together == alone


@given(seeds, st.integers(1, 8), st.integers(1, 5), penalties, st.booleans())
@settings(max_examples=40, deadline=None)
def test_hypotheses_are_sorted_distinct_legal_and_truthful(
    scripted_model, make_script, run_search, seed, max_length, width, penalty, early_stopping
):
    model = scripted_model(make_script(8, seed))
    [found] = run_search(Beam(width, width, penalty, early_stopping), model, [4], [max_length])
    assert 1 <= len(found) <= width
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert len({tuple(h.ids) for h in found}) == len(found)
    for hypothesis in found:
        assert len(hypothesis.ids) <= max_length - 1
        assert not set(hypothesis.ids) & {PAD, BOS, EOS}
        assert hypothesis.log_prob == pytest.approx(model.log_prob(4, hypothesis.ids), abs=1e-4)
        score = penalty.score(torch.tensor(hypothesis.log_prob), torch.tensor(len(hypothesis.ids) + 1))
        assert hypothesis.score == pytest.approx(float(score), abs=1e-5)


class NeverStopping(Beam):
    def _going(self, log_probs, rows, finished):
        return (log_probs > float("-inf")).any(1) & (rows.limits > rows.ages + 1)


either_way = st.one_of(penalties, st.floats(-4.0, 4.0).map(Wu), st.floats(-2.0, 2.0).map(Average))


@given(seeds, limits, st.tuples(st.integers(1, 4), st.integers(1, 4)), either_way, roundings)
@settings(max_examples=80, deadline=None)
def test_exact_stopping_changes_nothing(
    scripted_model, make_script, run_search, seed, max_lengths, sizes, penalty, rounding
):
    script = make_script(8, seed, eos_bonus=float(seed % 4), step=rounding)
    sentences = list(range(len(max_lengths)))
    width, n_best = max(sizes), min(sizes)
    exact, never = scripted_model(script), scripted_model(script)
    found = run_search(Beam(width, n_best, penalty, early_stopping=False), exact, sentences, max_lengths)
    expected = run_search(NeverStopping(width, n_best, penalty, early_stopping=False), never, sentences, max_lengths)
    assert found == expected
    assert sum(exact.rows_stepped) <= sum(never.rows_stepped)


def test_exact_stopping_reckons_with_the_next_token_where_short_is_good(scripted_model, make_script, run_search):
    # Rare: of these, a bound that forgets endings at the next step gets one in twenty wrong.
    exact, never = (family(4, 4, Wu(-1.0), early_stopping=False) for family in (Beam, NeverStopping))
    for seed in range(60):
        model = scripted_model(make_script(8, seed, eos_bonus=3.0))
        assert run_search(exact, model, [0], [8]) == run_search(never, model, [0], [8])


def test_exact_stopping_stops(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 3, eos_bonus=6.0))
    run_search(Beam(3, 1, Wu(0.0), early_stopping=False), model, [0, 1], [60, 60])
    assert len(model.rows_stepped) < 20


def test_the_heuristic_may_miss_what_exact_stopping_finds(scripted_model, run_search):
    # Ending at once is likeliest, but behind token 4 everything is certain, and the mean log-probability is better.
    def script(sentence, prefix):
        probabilities = torch.full((6,), 1e-6)
        if not prefix:
            probabilities[[EOS, 4]] = torch.tensor([0.6, 0.4])
        else:
            probabilities[EOS if len(prefix) == 4 else 4] = 1.0
        return probabilities.log()

    heuristic = Beam(1, 1, Average(1.0), early_stopping=True)
    exact = Beam(1, 1, Average(1.0), early_stopping=False)
    assert ids_of(run_search(heuristic, scripted_model(script), [0], [9])) == [[[]]]
    assert ids_of(run_search(exact, scripted_model(script), [0], [9])) == [[[4, 4, 4, 4]]]


def test_of_equal_hypotheses_the_earlier_slot_and_the_lower_token_come_first(scripted_model, run_search):
    def script(sentence, prefix):
        logits = torch.zeros(8)
        if len(prefix) == 2:
            logits[EOS] = 30.0
        return logits

    [found] = run_search(Beam(4, 4, Wu(0.0), early_stopping=False), scripted_model(script), [0], [4])
    # Of all that is equally likely, EOS (3) comes behind UNK (1) and before the rest.
    assert ids_of([found]) == [[[], [1], [1, 1], [1, 4]]]


def test_ended_hypotheses_count_only_among_the_best_of_all_continuations(scripted_model, run_search):
    # EOS is the third best first token: a beam of two never takes it, a beam of three does.
    def script(sentence, prefix):
        probabilities = torch.tensor([1e-9, 1e-9, 1e-9, 0.2, 0.5, 0.3])
        return (probabilities if not prefix else torch.tensor([1e-9, 1e-9, 1e-9, 1.0, 1e-9, 1e-9])).log()

    search = Beam(2, 2, Wu(0.0), early_stopping=True)
    assert ids_of(run_search(search, scripted_model(script), [0], [5])) == [[[4], [5]]]
    search = Beam(3, 3, Wu(0.0), early_stopping=True)
    assert ids_of(run_search(search, scripted_model(script), [0], [5])) == [[[4], [5], []]]


def test_a_long_sentence_does_not_hold_up_the_others(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 2, eos_bonus=-60))
    run_search(Beam(3, 1, Wu(1.0), early_stopping=True), model, [0, 1, 2], [2, 5, 3])
    assert model.rows_stepped == [3, 3, 2, 1, 1]


def test_fewer_translations_than_asked_for_where_there_are_no_more(scripted_model, make_script, run_search):
    model = scripted_model(make_script(5, 1))
    [found] = run_search(Beam(9, 9, Wu(0.0), early_stopping=True), model, [0], [2])
    assert sorted(ids_of([found])[0]) == [[], [1], [4]]


def test_impossible_tokens_never_appear(scripted_model, run_search):
    def script(sentence, prefix):
        logits = torch.full((9,), float("-inf"))
        logits[5] = logits[EOS] = 0.0
        return logits

    [found] = run_search(Beam(4, 4, Wu(1.0), early_stopping=False), scripted_model(script), [0], [4])
    assert all(set(h.ids) <= {5} for h in found)
    assert len(found) == 4


@pytest.mark.parametrize(("beam_size", "n_best"), [(0, 1), (3, 0), (3, 4)])
def test_impossible_sizes_are_refused(beam_size, n_best):
    with pytest.raises(UserError, match=r"must be at least 1"):
        Beam(beam_size, n_best, Wu(1.0), early_stopping=True)


def test_slots_are_numbered_in_16_bits():
    assert Beam(2**15 - 1, 1, Wu(1.0), early_stopping=True).width == 2**15 - 1
    with pytest.raises(UserError, match="beam_size must be at most 32767, not 32768"):
        Beam(2**15, 1, Wu(1.0), early_stopping=True)


@given(st.integers(1, 5), st.sampled_from([9, 70, 300]), seeds)
@settings(max_examples=40, deadline=None)
def test_a_discount_of_nothing_chooses_the_same(width, vocab_size, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(4, width, vocab_size, generator=generator)
    logits[:, :, EOS] += 3.0
    log_probs = -3 * torch.rand(4, width, generator=generator)
    must_end = torch.tensor([False, True, False, False])
    plain = choose(logits, logits, log_probs, must_end, width)
    other = choose(logits, logits, log_probs, must_end, width, None, torch.zeros(4, vocab_size))
    torch.testing.assert_close(plain.log_probs, other.log_probs)
    torch.testing.assert_close(plain.ended_log_probs, other.ended_log_probs)
    alive, ended = plain.log_probs > -torch.inf, plain.ended_log_probs > -torch.inf
    assert torch.equal(plain.tokens[alive], other.tokens[alive])
    assert torch.equal(plain.parents[alive], other.parents[alive])
    assert torch.equal(plain.ended_parents[ended], other.ended_parents[ended])
