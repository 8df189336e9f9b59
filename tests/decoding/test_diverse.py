import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.beam import Beam
from transformer.decoding.demand import Demand
from transformer.decoding.diverse import DiverseBeam
from transformer.decoding.penalty import Wu
from transformer.decoding.rule import NoRepeat
from transformer.error import UserError

seeds = st.integers(0, 10**6)
limits = st.lists(st.integers(1, 8), min_size=1, max_size=4)
penalties = st.sampled_from([Wu(0.0), Wu(1.0)])


@given(seeds, limits, penalties, st.booleans(), st.sampled_from([0.0, 0.7]))
@settings(max_examples=25, deadline=None)
def test_one_group_is_an_ordinary_beam(
    scripted_model, make_script, run_search, seed, max_lengths, penalty, early, strength
):
    model = scripted_model(make_script(8, seed))
    sentences = list(range(len(max_lengths)))
    diverse = run_search(DiverseBeam(4, 1, strength, 3, penalty, early), model, sentences, max_lengths)
    assert diverse == run_search(Beam(4, 3, penalty, early), model, sentences, max_lengths)


@given(seeds, limits, penalties)
@settings(max_examples=25, deadline=None)
def test_the_first_group_is_a_beam_of_its_size(scripted_model, make_script, run_search, seed, max_lengths, penalty):
    model = scripted_model(make_script(8, seed))
    sentences = list(range(len(max_lengths)))
    small = run_search(Beam(2, 1, penalty, False), model, sentences, max_lengths)
    diverse = run_search(DiverseBeam(6, 3, 0.8, 6, penalty, False), model, sentences, max_lengths)
    for [best], found in zip(small, diverse, strict=True):
        assert best in found


def test_without_strength_all_groups_agree(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 3))
    diverse = run_search(DiverseBeam(6, 3, 0.0, 2, Wu(1.0), True), model, [0, 1], [8, 6])
    assert diverse == run_search(Beam(2, 2, Wu(1.0), True), model, [0, 1], [8, 6])


def test_strength_keeps_the_groups_apart(scripted_model, make_script, run_search):
    model = scripted_model(make_script(9, 3, eos_bonus=-9.0))
    found = run_search(DiverseBeam(5, 5, 1000.0, 5, Wu(1.0), True), model, [0, 1, 2], [6, 6, 4])
    for hypotheses in found:
        for position in range(3):
            assert len({hypothesis.ids[position] for hypothesis in hypotheses}) == 5


def test_more_strength_more_different_words(scripted_model, make_script, run_search):
    model = scripted_model(make_script(30, 5, eos_bonus=-3.0))
    sentences = list(range(12))

    def n_bigrams(search):
        found = run_search(search, model, sentences, [8] * 12)
        return sum(
            len({pair for h in hypotheses for pair in zip(h.ids, h.ids[1:], strict=False)}) for hypotheses in found
        )

    plain = n_bigrams(Beam(6, 6, Wu(1.0), True))
    assert n_bigrams(DiverseBeam(6, 3, 2.0, 6, Wu(1.0), True)) > 1.2 * plain


@given(seeds, limits, penalties, st.booleans(), st.sampled_from([(4, 2), (3, 3), (6, 2)]))
@settings(max_examples=30, deadline=None)
def test_hypotheses_are_sorted_distinct_truthful_and_the_same_alone(
    scripted_model, make_script, run_search, seed, max_lengths, penalty, early, sizes
):
    model = scripted_model(make_script(8, seed))
    search = DiverseBeam(*sizes, 0.5, sizes[0], penalty, early)
    sentences = list(range(len(max_lengths)))
    found = run_search(search, model, sentences, max_lengths)
    assert found == [run_search(search, model, [i], [n])[0] for i, n in zip(sentences, max_lengths, strict=True)]
    for sentence, hypotheses in enumerate(found):
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        assert len({tuple(h.ids) for h in hypotheses}) == len(hypotheses) >= 1
        for hypothesis in hypotheses:
            assert hypothesis.log_prob == pytest.approx(model.log_prob(sentence, hypothesis.ids), abs=1e-4)


def test_rules_and_demands_hold_in_every_group(scripted_model, make_script, run_search):
    model = scripted_model(make_script(9, 2, eos_bonus=-2.0))
    search = DiverseBeam(4, 2, 0.5, 4, Wu(1.0), True, [NoRepeat(1)])
    [found] = run_search(search, model, [0], [7], [Demand(prefix=(8, 5), forbidden=((4,),))])
    for hypothesis in found:
        assert hypothesis.ids[:2] == [8, 5]
        assert 4 not in hypothesis.ids
        assert len(set(hypothesis.ids)) == len(hypothesis.ids)
    with pytest.raises(UserError, match="ordinary beam"):
        run_search(search, model, [0], [7], [Demand(required=((5,),))])


@pytest.mark.parametrize(
    ("beam_size", "n_groups", "strength", "said"),
    [(5, 2, 0.5, r"beam_size \(5\) must be divisible by n_groups \(2\)"), (4, 0, 0.5, r"\(0\)"), (4, 2, -1.0, "-1")],
)
def test_impossible_settings_are_refused(beam_size, n_groups, strength, said):
    with pytest.raises(UserError, match=said):
        DiverseBeam(beam_size, n_groups, strength, 1, Wu(1.0), True)
