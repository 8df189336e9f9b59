"""Updates that are told while the next one is under way: nobody waits, and every bit and figure is the same."""

import contextlib
import importlib
import math
from collections import Counter
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from transformer.data.batching import Bucket
from transformer.data.loader import BatchLoader
from transformer.error import UserError
from transformer.training import update as update_module
from transformer.training.checkpoint import newest_intact
from transformer.training.distributed import World
from transformer.training.optimizer import can_step_unless, step_unless
from transformer.training.signals import Interrupted

FUSED = partial(torch.optim.Adam, lr=0.01, betas=(0.9, 0.98), fused=True)
FUSED_W = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, fused=True)


def spoil(trainer, passes):
    """Makes the gradient infinite in these backward passes, counted from 1 over the process's life."""
    calls = Counter()

    def hook(gradient):
        calls["n"] += 1
        return gradient * math.inf if calls["n"] in passes else gradient

    trainer.objective.model.output.weight.register_hook(hook)


def run(toy, folder, deferred, spoiled=(), stop_after=None, resume=False, **choices):
    """A run, and what it told; its updates of these numbers are not finite."""
    recorder = toy.Recorder(stop_after)
    batches = BatchLoader(toy.store(100), Bucket(40), 3, 0, 1, None)
    choices = {"optimizer": FUSED, "dropout": 0.2, "ema_decay": 0.9, "observers": [recorder]} | choices
    trainer = toy.trainer(folder, batches=batches, deferred=deferred, **choices)
    spoil(trainer, spoiled)
    if resume:
        trainer.load(newest_intact(folder)[0])
    with contextlib.suppress(Interrupted):
        trainer.fit("run", {})
    return trainer, recorder


def assert_same(toy, one, other):
    """The same weights, optimizer state and averages, bit for bit, and everything told in the same order."""
    (trainer, told), (expected, wanted) = one, other
    found, right = toy.tensors(trainer), toy.tensors(expected)
    assert found.keys() == right.keys()
    assert [name for name in found if not torch.equal(found[name], right[name])] == []
    assert list(map(toy.without_clock, told.steps)) == list(map(toy.without_clock, wanted.steps))
    assert list(map(toy.without_clock, told.epochs)) == list(map(toy.without_clock, wanted.epochs))
    assert [step for _, step in told.checkpoints] == [step for _, step in wanted.checkpoints]
    assert [m.split(" back to ")[0] for m in told.messages] == [m.split(" back to ")[0] for m in wanted.messages]


@pytest.mark.parametrize(
    ("spoiled", "choices"),
    [
        ((3, 8, 12), {"accumulate": 2, "optimizer": FUSED_W}),
        ((2, 5), {"ema_decay": None, "clip_norm": None, "every": 6, "max_epochs": 1}),
        ((9,), {"max_epochs": None, "max_steps": 9}),  # the last of all
        (range(6, 16), {"every": 4, "max_epochs": 1}),  # ten in a row: the run goes back
    ],
)
def test_deferred_is_immediate(toy, tmp_path, spoiled, choices):
    runs = [run(toy, tmp_path / str(deferred), deferred, spoiled, **choices) for deferred in (True, False)]
    assert [trainer.deferred for trainer, _ in runs] == [True, False]
    assert sum("the update is left out" in message for message in runs[0][1].messages) == len(spoiled)
    assert_same(toy, *runs)


def test_a_run_that_stays_bad_ends_with_the_same_sentence_and_weights(toy, tmp_path):
    ends = []
    for deferred in (True, False):
        batches = BatchLoader(toy.store(100), Bucket(40), 3, 0, 1, None)
        trainer = toy.trainer(tmp_path / str(deferred), optimizer=FUSED, deferred=deferred, batches=batches)
        spoil(trainer, range(3, 99))
        with pytest.raises(UserError, match="10 times in a row, last at step 12") as caught:
            trainer.fit("run", {})
        ends.append((str(caught.value), toy.tensors(trainer)))
    assert ends[0][0] == ends[1][0]
    assert all(torch.equal(value, ends[1][1][name]) for name, value in ends[0][1].items())


def test_a_deferred_run_that_is_stopped_and_goes_on_is_one_that_never_stopped(toy, tmp_path):
    straight = run(toy, tmp_path / "straight", True)
    stopped, told = run(toy, tmp_path / "stopped", True, stop_after=7)
    assert stopped.pending is None
    assert told.steps[-1].step == stopped.progress.step == told.checkpoints[-1][1]  # the one under way is told too
    resumed, more = run(toy, tmp_path / "stopped", True, resume=True)
    found, right = toy.tensors(resumed), toy.tensors(straight[0])
    assert all(torch.equal(found[name], right[name]) for name in right)
    steps = [*told.steps, *more.steps]
    assert list(map(toy.without_clock, steps)) == list(map(toy.without_clock, straight[1].steps))
    assert list(map(toy.without_clock, more.epochs)) == list(map(toy.without_clock, straight[1].epochs))


def noting(tolist, asked):
    """A method that notes that it was called."""
    return lambda self: (asked.append("tolist"), tolist(self))[1]


class Waits(TorchDispatchMode):
    """Counts what an accelerator's host would wait for."""

    SUSPECTS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "_assert_async", "equal")

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.SUSPECTS:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_nothing_is_waited_for_in_a_deferred_step(toy, tmp_path, monkeypatch, clip_norm):
    """Nor are tensors turned into lists; but the objective picks rows on a CPU, and only there."""
    found = {}
    for deferred in (True, False):
        recorder = toy.Recorder()
        trainer = toy.trainer(
            tmp_path / str(deferred), optimizer=FUSED, deferred=deferred, observers=[recorder], clip_norm=clip_norm
        )
        groups, asked = list(trainer._updates())[:3], []
        trainer._step(groups[0])
        with monkeypatch.context() as patch, Waits() as waits:
            patch.setattr(torch.Tensor, "tolist", noting(torch.Tensor.tolist, asked))
            gradients = trainer.update.gradients(groups[1])
            trainer.update.apply(gradients, 1.0)
        found[deferred] = waits.found["nonzero"], sum(waits.found.values()) - waits.found["nonzero"] + len(asked)
    assert found == {True: (1, 0), False: (1, 1)}


@pytest.mark.parametrize("chunked", [True, False])
def test_a_step_runs_on_a_device_that_tells_nothing(toy, tmp_path, monkeypatch, chunked):
    """A meta tensor has no values at all, so whatever asked for one would fail; the path is that of an accelerator."""
    meta = torch.device("meta")
    adam = importlib.import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda p, cuda_unsupported=False: None)
    monkeypatch.setattr("torch.is_autocast_enabled", lambda device: False)
    monkeypatch.setattr("torch.autocast", lambda device, enabled: contextlib.nullcontext())
    monkeypatch.setattr(update_module, "Arriving", lambda values: values)
    world = World("cpu")
    model = toy.model(0.3).to(meta)
    trainer = toy.trainer(tmp_path, model=model, optimizer=torch.optim.Adam, world=world, chunked=chunked)
    for group in trainer.optimizer.param_groups:
        group["fused"] = True
    world.device = trainer.precision.device = meta
    trainer = type(trainer)(
        **{name: getattr(trainer, name) for name in trainer.__dataclass_fields__ if name != "deferred"}
    )
    assert trainer.deferred  # of itself: the device is no CPU
    (group, *_) = trainer._updates()
    trainer.update.apply(trainer.update.gradients([batch.to(meta) for batch in group]), 1.0)
    assert all(p.grad is None for p in trainer.update.parameters)
    with pytest.raises((RuntimeError, NotImplementedError)):  # which of the two, torch's versions do not agree on
        trainer.update.parameters[0].sum().item()


@pytest.mark.parametrize("optimizer", [FUSED, FUSED_W, partial(FUSED, amsgrad=True)])
def test_a_step_that_is_left_out_keeps_every_bit_of_the_state(optimizer):
    torch.manual_seed(1)
    weights = [torch.randn(3, 4, requires_grad=True), torch.randn(5, requires_grad=True)]
    made = optimizer(weights)
    for left_out in (False, True, False):
        for weight in weights:
            weight.grad = torch.randn_like(weight) * (math.nan if left_out else 1.0)
        before = [w.detach().clone() for w in weights]
        state = [{k: v.clone() for k, v in made.state[w].items()} for w in weights]
        step_unless(made, torch.tensor(left_out))
        assert all(torch.equal(a, b) == left_out for a, b in zip(before, weights, strict=True))
        for then, weight in zip(state, weights, strict=True):
            assert all(torch.equal(value, made.state[weight][name]) == left_out for name, value in then.items())
    assert not hasattr(made, "found_inf")


def test_other_optimizers_are_asked_at_once(toy, tmp_path):
    class Own(torch.optim.Adam):
        """What a subclass does in its step nobody knows."""

    others = [toy.MOMENTUM, partial(torch.optim.SGD, lr=0.1, fused=True), partial(Own, fused=True), torch.optim.Adam]
    for optimizer in others:
        assert not can_step_unless(optimizer([torch.zeros(1, requires_grad=True)]))
        world = World("cpu")
        trainer = toy.trainer(tmp_path, optimizer=optimizer, world=world)
        assert trainer.deferred is False
        with pytest.raises(UserError, match="deferred is true, but the optimizer is not Adam or AdamW with fused=true"):
            toy.trainer(tmp_path, optimizer=optimizer, deferred=True)


def test_loss_scaling_is_deferred_too(toy, tmp_path):
    """The scale comes down after an overflow and goes up after good updates, as if it had been asked."""
    runs = []
    for deferred in (True, False):
        recorder = toy.Recorder()
        trainer = toy.trainer(tmp_path / str(deferred), optimizer=FUSED, deferred=deferred, observers=[recorder])
        trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
        spoil(trainer, {4})
        trainer.fit("run", {})
        runs.append((trainer, recorder))
    assert len(runs[0][1].messages) == 1
    assert runs[0][0].precision.scaler.state_dict() == runs[1][0].precision.scaler.state_dict()
    assert_same(toy, *runs)
