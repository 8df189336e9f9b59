import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.decoding.beam import Beam
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Wu
from transformer.decoding.rule import Bounds, MinLength, NoRepeat, NoUnknown, RuleStates
from transformer.error import UserError
from transformer.special import EOS, UNK

BOUNDS = Bounds(torch.tensor([4, 6]), torch.tensor([9, 9]), width=2)


def n_grams(ids, n):
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


def hidden(state, vocab_size=8):
    logits = torch.zeros(2, 2, vocab_size)
    visible = logits.clone()
    state.apply(visible, logits)
    assert (logits == 0).all()
    return [[[i for i in range(vocab_size) if visible[s, w, i] < 0] for w in range(2)] for s in range(2)]


def test_no_repeat_hides_what_would_end_a_known_sequence():
    state = NoRepeat(2).start(BOUNDS)
    assert hidden(state) == [[[], []], [[], []]]
    for tokens in ([[4, 4], [5, 6]], [[5, 4], [6, 6]], [[4, 5], [5, 7]]):
        state.advance(torch.tensor([[0, 1], [0, 1]]), torch.tensor(tokens))
    # 4 5 4: not 5 again. 4 4 5: nothing followed 5. 5 6 5: not 6 again. 6 6 7: nothing followed 7.
    assert hidden(state) == [[[5], []], [[6], []]]
    state.advance(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[4, 6], [6, 4]]))
    # 4 4 5 4: neither 4 nor 5. 4 5 4 6. 6 6 7 6: neither 6 nor 7. 6 6 7 4.
    assert hidden(state) == [[[4, 5], []], [[6, 7], []]]
    state.keep(torch.tensor([1]))
    assert state._prefixes.tolist() == [[[6, 6, 7, 6], [6, 6, 7, 4]]]


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_no_sequence_occurs_twice(scripted_model, make_script, run_search, seed, n_tokens, width):
    model = scripted_model(make_script(7, seed, eos_bonus=-2.0))
    search = Beam(width, width, Wu(1.0), early_stopping=True, rules=[NoRepeat(n_tokens)])
    for hypotheses in run_search(search, model, [0, 1], [12, 7]):
        for hypothesis in hypotheses:
            found = n_grams(hypothesis.ids, n_tokens)
            assert len(found) == len(set(found))
    [[hypothesis]] = run_search(Greedy([NoRepeat(n_tokens)]), model, [0], [12])
    found = n_grams(hypothesis.ids, n_tokens)
    assert len(found) == len(set(found))


def test_a_rule_that_nothing_breaks_changes_nothing(scripted_model, make_script, run_search):
    model = scripted_model(make_script(8, 4))
    plain = run_search(Beam(3, 3, Wu(1.0), early_stopping=True), model, [0, 1, 2], [8, 8, 5])
    ruled = run_search(Beam(3, 3, Wu(1.0), early_stopping=True, rules=[NoRepeat(9)]), model, [0, 1, 2], [8, 8, 5])
    assert plain == ruled


def test_log_probs_stay_those_of_the_model(scripted_model, make_script, run_search):
    model = scripted_model(make_script(7, 5, eos_bonus=-2.0))
    for hypothesis in run_search(Beam(3, 3, Wu(1.0), True, [NoRepeat(1), MinLength(0.0, 4)]), model, [0], [9])[0]:
        assert hypothesis.log_prob == pytest.approx(model.log_prob(0, hypothesis.ids), abs=1e-4)


def test_minimum_length_follows_the_source_but_not_beyond_the_maximum():
    bounds = Bounds(torch.tensor([4, 6]), torch.tensor([9, 3]), width=2)
    state = MinLength(ratio=0.5, offset=1).start(bounds)
    # At least 3 and 4 tokens with EOS, the second at most 3: EOS is hidden for two steps.
    for _ in range(2):
        assert hidden(state) == [[[EOS], [EOS]], [[EOS], [EOS]]]
        state.advance(torch.zeros(2, 2), torch.zeros(2, 2))
    assert hidden(state) == [[[], []], [[], []]]


@pytest.mark.parametrize(("ratio", "offset"), [(1e300, 0), (1e30, 10**30), (0.0, 10**30)])
def test_a_minimum_beyond_all_numbers_is_the_maximum(ratio, offset):
    state = MinLength(ratio, offset).start(Bounds(torch.tensor([4, 1]), torch.tensor([2, 2]), width=2))
    assert hidden(state) == [[[EOS], [EOS]], [[EOS], [EOS]]]
    state.advance(torch.zeros(2, 2), torch.zeros(2, 2))
    assert hidden(state) == [[[], []], [[], []]]


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_translations_are_long_enough(scripted_model, make_script, run_search, seed, offset, max_length):
    model = scripted_model(make_script(7, seed, eos_bonus=3.0))
    search = Beam(3, 3, Wu(0.0), early_stopping=False, rules=[MinLength(0.0, offset)])
    for hypothesis in run_search(search, model, [0], [max_length])[0]:
        assert min(offset, max_length) <= len(hypothesis.ids) + 1 <= max_length


def test_no_unknown(scripted_model, make_script, run_search):
    script = make_script(7, 3)
    biased = scripted_model(lambda sentence, prefix: script(sentence, prefix) + 9.0 * torch.eye(7)[UNK])
    [[with_unknown]] = run_search(Greedy(), biased, [0], [6])
    [[without]] = run_search(Greedy([NoUnknown()]), biased, [0], [6])
    assert UNK in with_unknown.ids
    assert UNK not in without.ids


def test_without_rules_the_logits_are_not_copied():
    logits = torch.zeros(1, 1, 5)
    assert RuleStates([]).visible(logits) is logits
    assert RuleStates([NoUnknown().start(BOUNDS)]).visible(logits) is not logits


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="not 0"):
        NoRepeat(0)
    with pytest.raises(UserError, match=r"-0\.5 and 1"):
        MinLength(-0.5, 1)
    for ratio in (float("nan"), float("inf")):
        with pytest.raises(UserError, match=f"must be finite and not negative, but are {ratio} and 1"):
            MinLength(ratio, 1)
