import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.beam import Beam
from transformer.decoding.demand import Demand
from transformer.decoding.penalty import Wu
from transformer.decoding.phrase import contains
from transformer.decoding.required import Required, in_turn
from transformer.decoding.rule import Bounds, NoRepeat
from transformer.special import EOS, UNK

EYE = torch.eye(8)
seeds = st.integers(0, 10**6)
phrases = st.lists(st.integers(4, 7), min_size=1, max_size=4).map(tuple)


def of_five_tokens(script):
    """Return a script whose likely translations have five tokens, none unknown."""
    return lambda sentence, prefix: (
        script(sentence, prefix) + ((40.0 if len(prefix) == 5 else -40.0) * EYE[EOS] - 40.0 * EYE[UNK])
    )


@given(seeds, st.lists(phrases, min_size=1, max_size=3), st.integers(1, 5), st.integers(0, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_required_phrases_are_always_there(
    scripted_model, make_script, run_search, seed, required, width, room, early_stopping
):
    model = scripted_model(make_script(9, seed, eos_bonus=2.0, scale=4.0))
    demand = Demand(required=tuple(required))
    search = Beam(width, width, Wu(1.0), early_stopping)
    found = run_search(search, model, [0, 1], [demand.n_tokens + room, 6], [demand, Demand()])
    for hypothesis in found[0]:
        assert all(contains(hypothesis.ids, phrase) for phrase in required)
        assert len(hypothesis.ids) + 1 <= demand.n_tokens + room
        assert hypothesis.log_prob == pytest.approx(model.log_prob(0, hypothesis.ids), abs=1e-3)
    assert len({tuple(h.ids) for h in found[0]}) == len(found[0])
    assert found[1] == run_search(search, model, [1], [6])[0]


@given(seeds, phrases, phrases, phrases, st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_with_a_prefix_rules_and_forbidden_phrases_as_well(
    scripted_model, make_script, run_search, seed, required, prefix, forbidden, width
):
    demand = Demand(prefix=prefix, required=(required,), forbidden=((*forbidden, 8),))
    model = scripted_model(make_script(9, seed))
    search = Beam(width, width, Wu(1.0), True, [NoRepeat(2)])
    for hypothesis in run_search(search, model, [0], [demand.n_tokens + 2], [demand])[0]:
        assert tuple(hypothesis.ids[: len(prefix)]) == prefix
        assert contains(hypothesis.ids, required)
        assert not contains(hypothesis.ids, (*forbidden, 8))


one_phrase = st.lists(st.integers(4, 5), min_size=1, max_size=3).map(lambda ids: (tuple(ids),))
two_apart = st.tuples(st.sampled_from([(4,), (4, 4)]), st.sampled_from([(5,), (5, 5)]))
one_inside = st.sampled_from([((4,), (4, 4)), ((5, 4), (4,), (5, 4)), ((4, 5, 4), (5, 4))])


@given(seeds, st.one_of(one_phrase, two_apart, one_inside))
@settings(max_examples=30, deadline=None)
def test_a_beam_wide_enough_finds_the_best_that_meets_the_demand(
    scripted_model, make_script, run_search, seed, required
):
    model = scripted_model(make_script(6, seed))
    max_length = 5
    [found] = run_search(Beam(400, 3, Wu(0.0), False), model, [1], [max_length], [Demand(required=required)])
    meeting = [
        (ids, log_prob)
        for ids, log_prob in model.all_translations(1, 6, max_length)
        if all(contains(ids, phrase) for phrase in required)
    ]
    meeting.sort(key=lambda entry: -entry[1])
    assert [h.ids for h in found] == [ids for ids, _ in meeting[:3]]


def test_a_phrase_that_stands_there_anyway_changes_nothing(scripted_model, make_script, run_search):
    model = scripted_model(of_five_tokens(make_script(8, 2)))
    search = Beam(60, 1, Wu(0.0), early_stopping=False)
    [[best]] = run_search(search, model, [0], [6])
    assert len(best.ids) == 5
    [[again]] = run_search(search, model, [0], [6], [Demand(required=(tuple(best.ids[1:3]),))])
    assert again.ids == best.ids


def test_phrases_with_a_common_beginning_come_in_the_order_the_model_likes(scripted_model, run_search):
    # The script wants 4 6 first, then 4 5.
    wish = [4, 6, 8, 4, 5, 3]

    def script(sentence, prefix):
        logits = torch.zeros(9)
        if list(prefix) == wish[: len(prefix)] and len(prefix) < len(wish):
            logits[wish[len(prefix)]] = 8.0
        return logits

    demand = Demand(required=((4, 5), (4, 6)))
    [[found]] = run_search(Beam(6, 1, Wu(0.0), False), scripted_model(script), [0], [8], [demand])
    assert found.ids == wish[:-1]


def test_just_when_room_runs_out_only_what_leads_on_is_visible():
    bounds = Bounds(torch.tensor([3]), torch.tensor([5]), width=1)
    state = Required([[(4, 5), (6,)]], bounds)

    def visible():
        logits = torch.zeros(1, 1, 9)
        shown = logits.clone()
        state.apply(shown, logits)
        return [token for token in range(9) if shown[0, 0, token] == 0]

    everything_but_eos = [token for token in range(9) if token != EOS]
    # Five tokens, of which three are demanded and one is EOS: one is free.
    assert visible() == everything_but_eos
    state.advance(torch.tensor([[0]]), torch.tensor([[8]]))
    assert visible() == [4, 6]
    state.advance(torch.tensor([[0]]), torch.tensor([[4]]))
    assert visible() == [5]
    state.advance(torch.tensor([[0]]), torch.tensor([[5]]))
    assert visible() == [6]
    state.advance(torch.tensor([[0]]), torch.tensor([[6]]))
    assert EOS in visible()


def test_every_bank_gets_its_share_and_passes_on_what_it_does_not_use():
    banks = torch.tensor([[0, 0, 2, 0, 1, 0, 2, 0]])
    alive = torch.tensor([[True, True, True, True, True, True, True, False]])
    assert in_turn(banks, alive).tolist() == [[2, 4, 0, 6, 1, 3, 5, 7]]


def test_a_single_bank_keeps_the_order():
    order = in_turn(torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool))
    assert order.tolist() == [[0, 1, 2, 3, 4]] * 2
