"""Sentences that wait for a place get the translations that they get in a batch, or alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.batch import Batch, Flow, fitting
from transformer.decoding.beam import Beam
from transformer.decoding.demand import Demand
from transformer.decoding.diverse import DiverseBeam
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Wu
from transformer.decoding.rows import Rows, Turn, worth_leaving
from transformer.decoding.rule import NoRepeat, NoUnknown
from transformer.decoding.sample import Sample
from transformer.decoding.search import NoTranslationError
from transformer.special import EOS

SEARCHES = [
    Greedy(),
    Beam(3, 2, Wu(1.0), early_stopping=True),
    Beam(3, 1, Wu(0.6), early_stopping=False),
    DiverseBeam(4, 2, 0.5, 2, Wu(1.0), early_stopping=True),
    Sample(1.0, 0, 1.0, seed=7, n_best=2),
    Greedy([NoUnknown()]),
    Beam(2, 1, Wu(1.0), early_stopping=True, rules=[NoRepeat(2)]),
]


@pytest.mark.parametrize("search", SEARCHES)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_those_that_wait_get_what_they_get_at_once(
    scripted_model, make_script, run_search, search, seed, max_lengths, n_rows
):
    model = scripted_model(make_script(9, seed, eos_bonus=1.5))
    sentences = list(range(len(max_lengths)))
    at_once = run_search(search, model, sentences, max_lengths)
    model.rows_stepped.clear()
    assert run_search(search, model, sentences, max_lengths, flow=Flow(lambda src_len: n_rows)) == at_once
    assert max(model.rows_stepped) <= n_rows


def test_places_do_not_stay_empty(scripted_model, make_script, run_search):
    model = scripted_model(make_script(9, 3, eos_bonus=1.0))
    sentences, max_lengths = list(range(40)), [12] * 40
    found = run_search(Greedy(), model, sentences, max_lengths, flow=Flow(lambda src_len: 8))
    n_tokens = sum(len(best[0].ids) + 1 for best in found)
    refilled = sum(model.rows_stepped)
    model.rows_stepped.clear()
    for first in range(0, 40, 8):
        run_search(Greedy(), model, sentences[first : first + 8], max_lengths[first : first + 8])
    assert n_tokens <= refilled
    assert len(model.rows_stepped) > refilled / 8  # steps in batches, and steps with places refilled


def test_rows_grow_when_shorter_sentences_leave_room_for_more(scripted_model, make_script):
    model = scripted_model(make_script(9, 1, eos_bonus=2.0))
    src = torch.full((12, 6), 5)
    src[:, 0] = torch.arange(12)
    mask = torch.zeros_like(src, dtype=torch.bool)
    mask[2:, 2:] = True
    found = Greedy().search(model, src, mask, torch.full((12,), 5), None, Flow(lambda src_len: 12 // src_len))
    assert model.rows_stepped[0] == 2
    assert max(model.rows_stepped) == 6
    assert found == Greedy().search(model, src, mask, torch.full((12,), 5))


def test_an_impossible_sentence_that_waited_is_named(scripted_model, run_search):
    def script(sentence, prefix):
        logits = torch.full((6,), float("-inf"))
        logits[5 if sentence == 3 else EOS] = 0.0  # sentence 3 never ends
        return logits

    for search in (Greedy(), Beam(2, 1, Wu(1.0), early_stopping=True), Greedy([NoUnknown()])):
        with pytest.raises(NoTranslationError) as caught:
            run_search(search, scripted_model(script), [0, 1, 2, 3, 4], [3] * 5, flow=Flow(lambda src_len: 2))
        assert caught.value.sentence == 3


def test_demands_are_met_batch_after_batch(scripted_model, make_script, run_search):
    model = scripted_model(make_script(9, 5, eos_bonus=1.0))
    demands = [Demand(prefix=(4 + i,)) for i in range(5)]
    found = run_search(Greedy(), model, list(range(5)), [6] * 5, demands, flow=Flow(lambda src_len: 2))
    assert [best[0].ids[0] for best in found] == [4, 5, 6, 7, 8]


def test_fitting():
    assert fitting([5, 4, 3], lambda src_len: 10 // src_len) == 2
    assert fitting([20], lambda src_len: 10 // src_len) == 1  # alone, whatever its length
    assert fitting([20], lambda src_len: 10 // src_len, n_there=1) == 0
    assert fitting([2, 2, 2], lambda src_len: 10 // src_len, n_there=2, longest=3) == 1
    assert fitting([], lambda src_len: 3) == 0


def test_a_part_of_a_batch_has_no_needless_padding():
    src = torch.tensor([[5, 6, 2], [7, 2, 0], [2, 0, 0]])
    batch = Batch(src, src == 0, torch.tensor([3, 2, 1]), [Demand(), Demand(prefix=(4,)), Demand()])
    part = batch.part(1, 3)
    assert part.src.tolist() == [[7, 2], [2, 0]]
    assert part.src_key_padding_mask.tolist() == [[False, False], [False, True]]
    assert (part.max_lengths.tolist(), [demand.prefix for demand in part.demands]) == ([2, 1], [(4,), ()])
    assert (len(batch), len(part), batch.lengths()) == (3, 2, [3, 2, 1])


def test_a_turn_carries_what_stays_and_begins_what_is_fresh():
    values = torch.tensor([[1, 2], [3, 4], [5, 6]])
    assert Turn(3).carry(values, 0) is values
    assert Turn(2, kept=torch.tensor([2, 0])).carry(values, 0).tolist() == [[5, 6], [1, 2]]
    assert Turn(4, fresh=torch.tensor([1, 3])).carry(values, 9).tolist() == [[1, 2], [9, 9], [5, 6], [9, 9]]


def test_a_row_whose_sentence_has_ended_stays_until_a_change_pays(scripted_model, make_script):
    batch = Batch(torch.arange(32).unsqueeze(1), torch.zeros(32, 1, dtype=torch.bool), torch.full((32,), 9))
    rows = Rows(scripted_model(make_script(9, 1)), batch, 1, Flow())
    going = torch.ones(32, dtype=torch.bool)
    going[3] = False
    assert rows.turn(going).kept is None
    assert (rows.alive.tolist(), rows.ages.tolist()) == (going.tolist(), going.long().tolist())
    going[3], going[31] = True, False  # what is said of a row that has ended does not matter
    assert rows.turn(going).kept.tolist() == [0, 1, 2, 30, *range(4, 30)]  # the last take the places of the others
    assert rows.sentences.tolist() == [0, 1, 2, 30, *range(4, 30)]
    assert rows.all_alive
    assert rows.turn(torch.zeros(30, dtype=torch.bool)) is None
    assert worth_leaving(15, 16)
    assert not worth_leaving(31, 32)
