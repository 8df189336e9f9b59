import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.beam import Beam
from transformer.decoding.demand import Demand
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Wu
from transformer.decoding.phrase import contains
from transformer.decoding.rule import NoRepeat
from transformer.decoding.search import NoTranslationError
from transformer.error import UserError
from transformer.special import EOS, UNK

EYE = torch.eye(8)
seeds = st.integers(0, 10**6)
phrases = st.lists(st.integers(4, 7), min_size=1, max_size=3).map(tuple)


def of_five_tokens(script):
    """Return a script whose likely translations have five tokens, none unknown."""
    return lambda sentence, prefix: (
        script(sentence, prefix) + ((40.0 if len(prefix) == 5 else -40.0) * EYE[EOS] - 40.0 * EYE[UNK])
    )


@given(seeds, st.lists(phrases, min_size=2, max_size=2), st.sampled_from([1, 3]))
@settings(max_examples=25, deadline=None)
def test_a_prefix_begins_every_translation(scripted_model, make_script, run_search, seed, prefixes, width):
    model = scripted_model(make_script(8, seed))
    demands = [Demand(prefix=prefixes[0]), Demand(prefix=prefixes[1]), Demand()]
    search = Beam(width, width, Wu(1.0), early_stopping=True)
    found = run_search(search, model, [0, 1, 2], [8, 6, 7], demands)
    for hypotheses, demand in zip(found, demands, strict=True):
        for hypothesis in hypotheses:
            assert tuple(hypothesis.ids[: len(demand.prefix)]) == demand.prefix
    assert found[2] == run_search(search, model, [2], [7])[0]
    assert found[0][0].log_prob == pytest.approx(model.log_prob(0, found[0][0].ids), abs=1e-4)


def test_the_best_translation_forced_is_found_again(scripted_model, make_script, run_search):
    model = scripted_model(of_five_tokens(make_script(8, 1)))
    search = Beam(4, 1, Wu(0.0), early_stopping=False)
    [[best]] = run_search(search, model, [0], [8])
    assert len(best.ids) == 5
    [[again]] = run_search(search, model, [0], [8], [Demand(prefix=tuple(best.ids[:3]))])
    assert again == best
    [[all_of_it]] = run_search(Greedy(), model, [0], [len(best.ids) + 1], [Demand(prefix=tuple(best.ids))])
    assert all_of_it.log_prob == pytest.approx(best.log_prob)


@given(seeds, st.lists(phrases, min_size=1, max_size=3), st.sampled_from([1, 2, 4]))
@settings(max_examples=40, deadline=None)
def test_forbidden_phrases_never_appear(scripted_model, make_script, run_search, seed, forbidden, width):
    model = scripted_model(make_script(8, seed, eos_bonus=-3.0))
    search = Beam(width, width, Wu(1.0), early_stopping=True)
    demands = [Demand(forbidden=tuple(forbidden)), Demand()]
    found = run_search(search, model, [0, 1], [9, 6], demands)
    assert not any(contains(h.ids, phrase) for h in found[0] for phrase in forbidden)
    assert found[1] == run_search(search, model, [1], [6])[0]
    [[greedy]] = run_search(Greedy(), model, [0], [9], demands[:1])
    assert not any(contains(greedy.ids, phrase) for phrase in forbidden)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_forbidding_is_what_leaving_out_is(scripted_model, make_script, run_search, seed):
    # A beam wide enough: the best of all translations without the phrase.
    model = scripted_model(make_script(6, seed))
    forbidden = (4, 5)
    [found] = run_search(Beam(81, 3, Wu(0.0), False), model, [1], [4], [Demand(forbidden=(forbidden,))])
    allowed = [(ids, lp) for ids, lp in model.all_translations(1, 6, 4) if not contains(ids, forbidden)]
    allowed.sort(key=lambda entry: -entry[1])
    assert [h.ids for h in found] == [ids for ids, _ in allowed[:3]]


def test_the_prefix_overrides_rules(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 1))
    [[found]] = run_search(Greedy([NoRepeat(1)]), model, [0], [8], [Demand(prefix=(5, 5, 5))])
    assert found.ids[:3] == [5, 5, 5]


def test_what_nothing_can_meet_is_told(scripted_model, run_search):
    # Never ends by itself and knows but three tokens, none of which may come twice.
    def script(sentence, prefix):
        logits = torch.full((7,), float("-inf"))
        logits[EOS if sentence == 0 else slice(4, 7)] = 0.0
        return logits

    for search in (Beam(3, 1, Wu(1.0), True, [NoRepeat(1)]), Greedy([NoRepeat(1)])):
        with pytest.raises(NoTranslationError, match="at most 6 tokens") as raised:
            run_search(search, scripted_model(script), [0, 0, 1, 0], [9, 9, 6, 9])
        assert raised.value.sentence == 2


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        (Demand(prefix=(4, 5), required=((6,),)), "need 4 tokens with EOS, but the translation may have 3"),
        (Demand(required=((),)), "empty"),
        (Demand(required=((4, UNK),)), "cannot write"),
        (Demand(prefix=(4, 5), forbidden=((5,),)), "holds a forbidden phrase"),
        (Demand(required=((4, 5),), forbidden=((4, 5),)), "holds a forbidden phrase"),
    ],
)
def test_demands_that_contradict_themselves_are_refused(scripted_model, make_script, run_search, demand, said):
    model = scripted_model(make_script(8, 1))
    with pytest.raises(UserError, match=f"sentence 2 of the batch: .*{said}"):
        run_search(Beam(2, 1, Wu(1.0), True), model, [0, 1], [9, 3], [Demand(), demand])


def test_greedy_search_refuses_required_phrases(scripted_model, make_script, run_search):
    with pytest.raises(UserError, match="need a beam search"):
        run_search(Greedy(), scripted_model(make_script(8, 1)), [0], [9], [Demand(required=((4,),))])
