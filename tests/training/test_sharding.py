import json

import pytest
import torch

from transformer.error import UserError
from transformer.training.checkpoint import load_tensors
from transformer.training.distributed import World
from transformer.training.loss import Objective
from transformer.training.sharding import shard

# Each run is made twice by two processes, with all weights on both and with a part on each; both find the same.
WORKER = """
import json, os, runpy, signal, sys
from functools import partial
from pathlib import Path
import torch
torch.set_num_threads(1)
toy = runpy.run_path(sys.argv[1])
from transformer.data.loader import BatchLoader
from transformer.model.position.learned import Learned
from transformer.model.position.relative import Relative
from transformer.training.distributed import World
from transformer.training.optimizer import can_step_unless
from transformer.training.shard import own_part
from transformer.training.signals import Interrupted
from transformer.training.validate import Decoded

out, world = Path(sys.argv[2]), World("cpu")
rank, found = world.rank, {}

def run(name, load=None, freeze=False, stop_after=None, **choices):
    torch.manual_seed(7)
    shape = {key: choices.pop(key) for key in ("position", "n_layers") if key in choices}
    model = toy["make_model"](choices.pop("dropout", 0.0), **shape)
    recorder = toy["Recorder"](stop_after, signal.SIGUSR1)
    for parameter in model.encoder_layers.parameters():
        parameter.requires_grad_(not freeze)
    decoded = []
    def decode():
        searched = (trainer.whole.objective if trainer.whole else trainer.objective).model
        decoded.append(sum(p.double().sum().item() for p in searched.parameters()))
        return Decoded(1.0, "none", [])
    trainer = toy["make_trainer"](
        out / name, world=world, model=model, observers=[recorder], decode=decode, bleu_every_epochs=1, **choices
    )
    if load:
        trainer.load(out / load / "last")
    try:
        trainer.fit(name, {})
    except Interrupted:
        pass
    state = [own_part(v).numel() for values in trainer.optimizer.state.values() for v in values.values() if v.dim()]
    found[name] = {
        "steps": [toy["without_clock"](end) for end in recorder.steps],
        "epochs": [toy["without_clock"](end) for end in recorder.epochs],
        "n_parameters": [start.n_parameters for start in recorder.starts],
        "decoded": decoded,
        "weights": sum(own_part(p).numel() for p in trainer.objective.parameters()),
        "state": sum(state),
        "can_defer": can_step_unless(trainer.optimizer),
    }
    torch.save(toy["tensors"](trainer), out / f"{name}.{rank}.pt")

def even():
    return BatchLoader(toy["make_store"](24), toy["Even"](40), 3, rank, 2, None)

for kind, choices in {
    "momentum": {"optimizer": toy["MOMENTUM"]},
    "accumulated": {"optimizer": toy["MOMENTUM"], "accumulate": 2},
    "unclipped": {"optimizer": toy["MOMENTUM"], "clip_norm": None},
    "frozen": {"optimizer": toy["MOMENTUM"], "freeze": True},
    "dropped": {"optimizer": toy["MOMENTUM"], "dropout": 0.3},
    "averaged": {"optimizer": toy["MOMENTUM"], "ema_decay": 0.9},
    "relative": {"optimizer": toy["MOMENTUM"], "position": Relative, "n_layers": 2},
    "learned": {"optimizer": toy["MOMENTUM"], "position": Learned, "n_layers": 2},
    # A key's bias has no gradient; with a small epsilon, rounding would move it, more on some processors than others.
    "muon": {"optimizer": partial(toy["MUON"], adamw_eps=1e-2)},
    "schedule_free": {"optimizer": partial(toy["SCHEDULE_FREE"], eps=1e-2)},
}.items():
    for sharded in (False, True):
        run(f"{kind}_{sharded}", sharded=sharded, batches=even(), **choices)

for sharded in (False, True):
    run(f"fused_{sharded}", sharded=sharded, optimizer=partial(torch.optim.Adam, fused=True))

resumable = {"sharded": True, "dropout": 0.3, "ema_decay": 0.9}
run("straight", **resumable)
run("stopped", stop_after=6 if rank == 0 else None, **resumable)
run("resumed", load="stopped", seed=99, **resumable)
(out / f"found.{rank}.json").write_text(json.dumps(found))
world.close()
"""
KINDS = [
    "momentum",
    "accumulated",
    "unclipped",
    "frozen",
    "dropped",
    "averaged",
    "relative",
    "learned",
    "muon",
    "schedule_free",
]


@pytest.fixture(scope="module")
def out(toy, tmp_path_factory):
    """The folder into which two processes have written."""
    pytest.importorskip("schedulefree")
    return toy.two_processes(WORKER, tmp_path_factory.mktemp("sharded"))


@pytest.fixture(scope="module")
def found(out):
    """What each of the two processes found."""
    return [json.loads((out / f"found.{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_sharded_training_is_unsharded_training(kind, out, found):
    atol = 1e-3 if kind == "muon" else 2e-5  # Muon iterates in bfloat16 where the processor knows it
    for rank in range(2):
        ours, theirs = (load_tensors(out / f"{kind}_{sharded}.{rank}.pt") for sharded in (False, True))
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, atol=atol, rtol=1e-4, msg=key)
    plain, sharded = (found[0][f"{kind}_{sharded}"] for sharded in (False, True))
    assert sharded["n_parameters"] == plain["n_parameters"]
    for what in ("steps", "epochs"):
        assert len(plain[what]) == len(sharded[what]) > 0
        for end, theirs in zip(plain[what], sharded[what], strict=True):
            numbers = {key: value for key, value in end.items() if isinstance(value, (int, float))}
            assert {key: theirs[key] for key in numbers} == pytest.approx(numbers, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_decoded_with_is_what_is_saved(kind, out, found):
    saved = load_tensors(out / f"{kind}_True" / "last" / "model.pt")
    unique = {value.data_ptr(): value for value in saved.values()}
    total = sum(value.double().sum().item() for value in unique.values())
    for rank in range(2):
        at_first, at_last = found[rank][f"{kind}_True"]["decoded"]  # at each epoch's end
        assert at_first != at_last == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_are_those_of_unsharded_training(kind, out):
    for name in ("model.pt", "training.pt"):
        plain, sharded = (load_tensors(out / f"{kind}_{sharded}" / "last" / name) for sharded in (False, True))
        assert shapes(sharded) == shapes(plain)
    sizes = [(out / f"{kind}_{sharded}" / "last" / "model.pt").stat().st_size for sharded in (False, True)]
    assert sizes[1] <= sizes[0]  # what is shared is written once


def shapes(state):
    """Nested state with shapes and types in place of values."""
    if isinstance(state, dict):
        return {key: shapes(value) for key, value in state.items()}
    if isinstance(state, list):
        return [shapes(value) for value in state]
    return (type(state), state.shape, state.dtype) if isinstance(state, torch.Tensor) else type(state)


def test_each_process_has_half_of_weights_and_state(found):
    for kind in ("momentum", "averaged", "muon"):
        whole, *parts = (found[rank][f"{kind}_{sharded}"] for rank, sharded in ((0, False), (0, True), (1, True)))
        for what in ("weights", "state"):
            assert sum(part[what] for part in parts) == whole[what]
            assert max(part[what] for part in parts) < 0.55 * whole[what]


def test_a_stopped_and_resumed_run_is_bit_by_bit_the_straight_one(out, found):
    for rank in range(2):
        straight, resumed = (load_tensors(out / f"{name}.{rank}.pt") for name in ("straight", "resumed"))
        assert [key for key in straight if not torch.equal(straight[key], resumed[key])] == []
    told = {name: found[0][name]["steps"] for name in ("straight", "stopped", "resumed")}
    assert 0 < len(told["stopped"]) < len(told["straight"])
    assert told["stopped"] + told["resumed"] == told["straight"]


def test_a_device_cannot_leave_out_updates_of_shards_by_itself(found):
    assert [found[0][f"fused_{sharded}"]["can_defer"] for sharded in (False, True)] == [True, False]


def test_one_process_has_nobody_to_divide_with(toy):
    with pytest.raises(UserError, match=r"runtime\.sharded is true, but there is only one process"):
        shard(Objective(toy.model(), 0.1, chunked=True), World("cpu"))
