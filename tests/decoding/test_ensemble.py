import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.decoding.beam import Beam
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.greedy import Greedy
from transformer.decoding.penalty import Wu
from transformer.decoding.translator import evaluating
from transformer.error import UserError
from transformer.special import PAD


class Module(nn.Module):
    """A scripted model as a module."""

    def __init__(self, scripted, max_len=None):
        super().__init__()
        self.scripted = scripted
        self.start, self.step = scripted.start, scripted.step
        self.max_len = max_len


def log_mean(script, other):
    return lambda sentence, prefix: (
        (script(sentence, prefix).softmax(-1) + other(sentence, prefix).softmax(-1)) / 2
    ).log()


@given(st.integers(0, 10**6), st.sampled_from([Greedy(), Beam(3, 3, Wu(1.0), True), Beam(2, 2, Wu(0.0), False)]))
@settings(max_examples=20, deadline=None)
def test_an_ensemble_is_the_model_of_mean_probabilities(scripted_model, make_script, run_search, seed, search):
    first, second = make_script(8, seed), make_script(8, seed + 1)
    ensemble = Ensemble([Module(scripted_model(first)), Module(scripted_model(second))])
    found = run_search(search, ensemble, [0, 1, 2], [8, 3, 5])
    expected = run_search(search, scripted_model(log_mean(first, second)), [0, 1, 2], [8, 3, 5])
    assert [[h.ids for h in best] for best in found] == [[h.ids for h in best] for best in expected]
    for best, other in zip(found, expected, strict=True):
        assert [h.log_prob for h in best] == pytest.approx([h.log_prob for h in other], abs=1e-4)


@pytest.mark.parametrize("n_models", [1, 2, 5])
def test_a_model_with_itself_changes_nothing(scripted_model, make_script, run_search, n_models):
    script = make_script(9, 4)
    search = Beam(4, 4, Wu(1.0), True)
    alone = run_search(search, scripted_model(script), [0, 1, 2], [8, 3, 6])
    together = run_search(search, Ensemble([Module(scripted_model(script))] * n_models), [0, 1, 2], [8, 3, 6])
    assert [[h.ids for h in best] for best in together] == [[h.ids for h in best] for best in alone]
    for best, other in zip(together, alone, strict=True):
        assert [h.score for h in best] == pytest.approx([h.score for h in other], abs=1e-5)


def test_improbable_tokens_do_not_vanish(scripted_model):
    far = torch.tensor([0.0, 0.0, 0.0, 0.0, 500.0, 0.0])
    ensemble = Ensemble([Module(scripted_model(lambda s, p: far)), Module(scripted_model(lambda s, p: far))])
    state = ensemble.start(torch.tensor([[5]]), torch.tensor([[False]]), width=1, capacity=1)
    log_probs = ensemble.step(torch.tensor([[2]]), state)
    assert log_probs[0, 0].tolist() == pytest.approx((far - 500.0).tolist(), abs=1e-3)


def test_the_smallest_model_sets_the_maximum_length(scripted_model, make_script):
    models = [Module(scripted_model(make_script(8, 1)), max_len) for max_len in (None, 30, 20)]
    assert Ensemble(models).max_len == 20
    assert Ensemble(models[:1]).max_len is None


def test_all_models_change_mode(scripted_model, make_script):
    ensemble = Ensemble([Module(scripted_model(make_script(8, 1))), Module(scripted_model(make_script(8, 2)))])
    with evaluating(ensemble):
        assert not any(model.training for model in ensemble.models)
    assert all(model.training for model in ensemble.models)


def test_vocabularies_of_different_size_are_refused(scripted_model, make_script, run_search):
    ensemble = Ensemble([Module(scripted_model(make_script(size, 1))) for size in (8, 9)])
    with pytest.raises(UserError, match="model 2 of the ensemble has 9 target tokens, but the first has 8"):
        run_search(Greedy(), ensemble, [0], [5])


def test_no_model_is_refused():
    with pytest.raises(UserError, match="at least one"):
        Ensemble([])


def test_state_tells_what_the_parts_tell(scripted_model, make_script):
    ensemble = Ensemble([Module(scripted_model(make_script(8, 1)))] * 2)
    state = ensemble.start(torch.tensor([[5], [6], [7]]), torch.full((3, 1), PAD, dtype=torch.bool), 2, 4)
    ensemble.step(torch.full((3, 2), 2), state)
    state.keep(torch.tensor([0, 2]))
    assert (state.n_sentences, state.width) == (2, 2)
    assert [part.n_sentences for part in state.states] == [2, 2]
