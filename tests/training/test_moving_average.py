"""The moving average against its formula, and a run with one against a run without."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.error import UserError
from transformer.training.checkpoint import MODEL, load_tensors
from transformer.training.moving_average import MovingAverage, stand_in


@given(decay=st.floats(0, 0.9999), n=st.integers(1, 30))
def test_it_is_the_formula(decay: float, n: int) -> None:
    torch.manual_seed(n)
    weight = torch.randn(3, 2, requires_grad=True)
    average, expected = MovingAverage([weight], decay), weight.detach().double().clone()
    for step in range(1, n + 1):
        with torch.no_grad():
            weight.add_(torch.randn(3, 2))
        average.update()
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * weight.detach().double()
    torch.testing.assert_close(average.averages[0].double(), expected, rtol=1e-5, atol=1e-5)


def test_in_place_exchanges_and_gives_back() -> None:
    weight = torch.ones(2, requires_grad=True)
    average = MovingAverage([weight], 0.9)
    with torch.no_grad():
        weight.fill_(3.0)
    with average.in_place() as state:
        assert weight.tolist() == [1.0, 1.0]
        assert state["weights"][0].tolist() == [3.0, 3.0]
    assert weight.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_an_impossible_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        MovingAverage([torch.ones(1)], decay)


def test_it_does_not_touch_the_weights_that_are_trained(toy, tmp_path) -> None:
    plain, averaged = toy.trainer(tmp_path / "a"), toy.trainer(tmp_path / "b", ema_decay=0.9)
    plain.fit("run", {})
    averaged.fit("run", {})
    a, b = toy.tensors(plain), toy.tensors(averaged)
    assert a.keys() < b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_average_is_what_is_validated_and_saved(toy, tmp_path) -> None:
    plain_told, told = toy.Recorder(), toy.Recorder()
    toy.trainer(tmp_path / "a", observers=[plain_told]).fit("run", {})
    trainer = toy.trainer(tmp_path / "b", ema_decay=0.9, observers=[told])
    trainer.fit("run", {})
    assert told.epochs[-1].train_loss == plain_told.epochs[-1].train_loss
    assert told.epochs[-1].valid_loss != plain_told.epochs[-1].valid_loss
    saved = load_tensors(tmp_path / "b" / "last" / MODEL)
    assert trainer.average is not None
    with trainer.average.in_place():
        here = trainer.objective.model.state_dict()
        assert all(torch.equal(saved[name], here[name]) for name in here)


def test_what_stands_in_for_the_weights(toy) -> None:
    model = toy.model()
    parameters = list(model.parameters())
    adam = torch.optim.Adam(parameters)
    assert stand_in(adam, parameters, None) is None
    average = stand_in(adam, parameters, 0.9)
    assert isinstance(average, MovingAverage)
    assert average.decay == 0.9


def test_an_optimizer_that_averages_is_its_own_stand_in_and_the_only_one(toy) -> None:
    pytest.importorskip("schedulefree")
    parameters = list(toy.model().parameters())
    optimizer = toy.SCHEDULE_FREE(parameters)
    assert stand_in(optimizer, parameters, None) is optimizer
    with pytest.raises(UserError, match=r"ema_decay is 0\.9, but ScheduleFreeAdamW averages .* set .*=null or choose"):
        stand_in(optimizer, parameters, 0.9)
