"""Schedule-Free AdamW against its formula; what is validated and saved is the average."""

from typing import Any

import pytest
import torch

from transformer.error import UserError
from transformer.training.checkpoint import MODEL, TRAINING, load_tensors
from transformer.training.schedule_free import ScheduleFreeAdamW

PACKAGE = "schedulefree"


def test_it_is_the_formula() -> None:
    """z <- z - r (g / (sqrt(v) + eps) + w y), x <- (1 - c) x + c z, y = (1 - b) z + b x; c by rates squared."""
    pytest.importorskip(PACKAGE)
    torch.manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = ScheduleFreeAdamW([weight], lr=0.1, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)
    z = x = y = weight.detach().double()
    v, total = torch.zeros(3, 2).double(), 0.0
    for step, rate in enumerate((0.05, 0.1, 0.1, 0.02), start=1):
        g = torch.randn(3, 2)
        weight.grad, optimizer.param_groups[0]["lr"] = g.clone(), rate
        optimizer.step()
        v = 0.98 * v + 0.02 * g.double() ** 2
        z = z - rate * (g.double() / ((v / (1 - 0.98**step)).sqrt() + 1e-8) + 0.1 * y)
        highest = min(0.1, 0.05 * step)
        total += highest**2
        x = x + (z - x) * highest**2 / total
        y = 0.1 * z + 0.9 * x
        torch.testing.assert_close(weight.detach().double(), y, atol=1e-6, rtol=1e-5)
        with optimizer.in_place():
            torch.testing.assert_close(weight.detach().double(), x, atol=1e-6, rtol=1e-5)


def test_the_schedule_s_warm_up_is_the_package_s_own() -> None:
    theirs = pytest.importorskip(PACKAGE).AdamWScheduleFree
    torch.manual_seed(1)
    one, other = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    ours = ScheduleFreeAdamW([one], lr=0.1, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)
    package = theirs([other], lr=0.1, betas=(0.9, 0.98), eps=1e-8, warmup_steps=4)
    package.train()
    for step in range(1, 8):
        one.grad = torch.randn(4)
        other.grad = one.grad.clone()
        ours.param_groups[0]["lr"] = 0.1 * min(1.0, step / 4)
        ours.step()
        package.step()
        torch.testing.assert_close(one, other)


def test_looking_changes_nothing_and_gradients_stay_as_they_were(toy: Any) -> None:
    pytest.importorskip(PACKAGE)
    torch.manual_seed(1)
    weight = torch.nn.Parameter(torch.randn(50))
    optimizer = ScheduleFreeAdamW([weight], lr=0.1, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)
    for _ in range(3):
        weight.grad = gradient = torch.randn(50)
        as_it_was = gradient.clone()
        optimizer.step()
        assert torch.equal(gradient, as_it_was)
    trained = weight.detach().clone()
    with optimizer.in_place() as state:
        assert not torch.equal(weight, trained)
        assert torch.equal(state["weights"][0], trained)
    assert torch.equal(weight, trained)
    with pytest.raises(KeyError), optimizer.in_place():
        raise KeyError  # a run that is stopped while it validates
    assert torch.equal(weight, trained)
    weight.grad = torch.randn(50)
    optimizer.step()


def test_the_average_is_what_is_validated_and_saved(toy: Any, tmp_path: Any) -> None:
    pytest.importorskip(PACKAGE)
    told = toy.Recorder()
    trainer = toy.trainer(tmp_path, optimizer=toy.SCHEDULE_FREE, observers=[told])
    trainer.fit("run", {})
    model = trainer.objective.model
    saved, training = (load_tensors(tmp_path / "last" / name) for name in (MODEL, TRAINING))
    trained = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert not any(torch.equal(saved[name], weight) for name, weight in trained.items() if "tokens" in name)
    assert {"weights"} == set(training["average"])
    with trainer.average.in_place():
        assert all(torch.equal(saved[name], weight) for name, weight in model.state_dict().items())
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in trained.items())


def test_a_second_average_is_refused(toy: Any, tmp_path: Any) -> None:
    pytest.importorskip(PACKAGE)
    with pytest.raises(UserError, match="averages the weights by itself"):
        toy.trainer(tmp_path, optimizer=toy.SCHEDULE_FREE, ema_decay=0.9)


@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("betas", (0.0, 0.9)), ("weight_decay", float("nan"))])
def test_an_impossible_value_is_refused(toy: Any, name: str, value: Any) -> None:
    pytest.importorskip(PACKAGE)
    with pytest.raises(ValueError, match=f"{name} must"):
        toy.SCHEDULE_FREE([torch.nn.Parameter(torch.ones(1))], **{name: value})


def test_without_the_package_one_sentence_says_what_to_install(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package schedulefree: pip install 'transformer\[schedulefree\]'"):
        toy.SCHEDULE_FREE([torch.nn.Parameter(torch.ones(1))])
