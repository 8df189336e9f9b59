import json
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from transformer.data.batching import Bucket
from transformer.data.loader import BatchLoader
from transformer.error import UserError
from transformer.model.position.relative import Relative
from transformer.training.checkpoint import load_tensors, verify
from transformer.training.distributed import World

# What each of two processes does; what it finds is compared with one process's here.
WORKER = """
import json, math, os, runpy, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
toy = runpy.run_path(sys.argv[1])
from transformer.data.batching import Bucket
from transformer.data.loader import BatchLoader
from transformer.model.position.relative import Relative
from transformer.training.distributed import World
from transformer.training.signals import Interrupted

out, world = Path(sys.argv[2]), World("cpu")
rank = world.rank
found = {
    "sum": world.sum(torch.tensor([1.0, rank + 1.0])).tolist(),
    "any": [world.any(rank == 1), world.any(False), world.any(True)],
    "gather": world.gather({"rank": rank}),
    "from_main": world.from_main(f"told by {rank}"),
    "is_main": world.is_main,
}

def run(name, prepare=None, load=None, **choices):
    recorder = toy["Recorder"]()
    trainer = toy["make_trainer"](out / name, world=world, observers=[recorder], **choices)
    if load:
        trainer.load(out / load)
    if prepare:
        prepare(trainer)
    code = 0
    try:
        trainer.fit(name, {})
    except Interrupted as stop:
        code = stop.exit_code
    found[name] = {
        "code": code,
        "step": trainer.progress.step,
        "steps": [toy["without_clock"](end) for end in recorder.steps],
        "epochs": [toy["without_clock"](end) for end in recorder.epochs],
        "n_messages": len(recorder.messages),
    }
    torch.save(toy["tensors"](trainer), out / f"{name}.{rank}.pt")

def even():
    return BatchLoader(toy["make_store"](), toy["Even"](40), 3, rank, 2, None)

run("plain", batches=even(), optimizer=toy["MOMENTUM"])
run("accumulated", batches=even(), accumulate=2, optimizer=toy["MOMENTUM"])

torch.manual_seed(5)
few = BatchLoader(toy["make_store"](3), Bucket(2), 3, rank, 2, None)  # three batches of one pair
run("idle", batches=few, model=toy["make_model"](position=Relative), max_epochs=3, optimizer=toy["MOMENTUM"])

run("straight", dropout=0.3)

def stop_at_the_third_update(trainer):
    update, numbers = trainer.update, iter(range(1, 99))
    def counted(*args):
        if next(numbers) == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)  # rank 0 hears nothing
        return update(*args)
    counted.parameters = update.parameters
    trainer.update = counted

run("stopped", dropout=0.3, prepare=stop_at_the_third_update)
run("resumed", dropout=0.3, load="stopped/last", seed=99)

def spoil_the_third_gradient(trainer):
    numbers = iter(range(1, 99))
    trainer.objective.model.output.weight.register_hook(
        lambda g: g * math.nan if next(numbers) == 3 and rank == 1 else g
    )

run("spoiled", prepare=spoil_the_third_gradient, max_steps=5)

(out / f"found.{rank}.json").write_text(json.dumps(found))
world.close()
"""


@pytest.fixture(scope="module")
def out(toy, tmp_path_factory) -> Path:
    """The folder into which two processes have written."""
    return toy.two_processes(WORKER, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def found(out):
    """What each of the two processes found."""
    return [json.loads((out / f"found.{rank}.json").read_text()) for rank in range(2)]


def assert_close(toy, trainer, recorder, out, found, name):
    """One process's run is that of two: weights, optimizer, and what the main process told."""
    ours = toy.tensors(trainer)
    for rank in range(2):
        theirs = load_tensors(out / f"{name}.{rank}.pt")
        assert theirs.keys() == ours.keys()
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, atol=1e-6, rtol=1e-5, msg=f"{key} of rank {rank}")
    for ends, told in ((recorder.steps, found[0][name]["steps"]), (recorder.epochs, found[0][name]["epochs"])):
        assert len(ends) == len(told) > 0
        for end, theirs in zip(map(toy.without_clock, ends), told, strict=True):
            numbers = {key: value for key, value in end.items() if isinstance(value, (int, float))}
            assert {key: theirs[key] for key in numbers} == pytest.approx(numbers, rel=1e-4)
    assert found[1][name]["steps"] == found[1][name]["epochs"] == []  # heard on the main process alone


@pytest.mark.parametrize(("name", "accumulate"), [("plain", 2), ("accumulated", 4)])
def test_two_processes_are_one_with_the_same_batches(toy, tmp_path, out, found, name, accumulate):
    recorder = toy.Recorder()
    batches = BatchLoader(toy.store(), toy.Even(40), 3, 0, 1, None)
    trainer = toy.trainer(
        tmp_path, observers=[recorder], batches=batches, accumulate=accumulate, optimizer=toy.MOMENTUM
    )
    trainer.fit(name, {})
    assert_close(toy, trainer, recorder, out, found, name)


def test_a_process_without_work_takes_part(toy, tmp_path, out, found):
    torch.manual_seed(5)
    recorder = toy.Recorder()
    batches = BatchLoader(toy.store(3), Bucket(2), 3, 0, 1, None)
    model = toy.model(position=Relative)
    trainer = toy.trainer(
        tmp_path, observers=[recorder], batches=batches, model=model, max_epochs=3, accumulate=2, optimizer=toy.MOMENTUM
    )
    assert len(batches) == 3
    trainer.fit("idle", {})
    assert_close(toy, trainer, recorder, out, found, "idle")


def test_a_signal_to_one_stops_both_together(out, found):
    assert [f["stopped"]["code"] for f in found] == [128 + signal.SIGUSR1] * 2
    assert [f["stopped"]["step"] for f in found] == [3, 3]
    assert verify(out / "stopped" / "last")["step"] == 3
    assert len(load_tensors(out / "stopped" / "last" / "training.pt")["random"]) == 2


def test_a_stopped_and_resumed_run_of_two_is_bit_by_bit_the_straight_one(out, found):
    for rank in range(2):
        straight, resumed = (load_tensors(out / f"{name}.{rank}.pt") for name in ("straight", "resumed"))
        assert [key for key in straight if not torch.equal(straight[key], resumed[key])] == []
    told = {name: found[0][name] for name in ("straight", "stopped", "resumed")}
    assert told["stopped"]["steps"] + told["resumed"]["steps"] == told["straight"]["steps"]
    assert told["stopped"]["epochs"] + told["resumed"]["epochs"] == told["straight"]["epochs"]


def test_a_bad_gradient_of_one_is_left_out_by_both(out, found):
    assert [end["step"] for end in found[0]["spoiled"]["steps"]] == [1, 2, 4, 5]
    assert found[0]["spoiled"]["n_messages"] == 1
    one, other = (load_tensors(out / f"spoiled.{rank}.pt") for rank in range(2))
    for key in one:
        assert torch.equal(one[key], other[key])
        assert torch.isfinite(one[key]).all()


def test_collectives(found):
    for rank in range(2):
        assert found[rank]["sum"] == [2.0, 3.0]
        assert found[rank]["any"] == [True, False, True]
        assert found[rank]["gather"] == [{"rank": 0}, {"rank": 1}]
        assert found[rank]["from_main"] == "told by 0"
        assert found[rank]["is_main"] == (rank == 0)


def test_one_process_needs_no_others():
    world, module, values = World("auto"), nn.Linear(2, 3), torch.tensor([1.0, 2.0])
    assert (world.size, world.rank, world.is_main) == (1, 0, True)
    assert world.wrap(module) is module
    assert world.sum(values) is values
    assert (world.any(True), world.any(False)) == (True, False)
    assert world.gather("x") == ["x"]
    assert world.from_main("x") == "x"
    with world.no_sync(module, wanted=True):
        pass
    world.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(ValueError, match="cuda, but torch sees no CUDA device"):
        World("cuda")
    assert World("auto").device == torch.device("cpu")


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"process 2 .* torch sees 2; start at most 2 \(--nproc-per-node\)"):
        World("auto")


def test_a_lost_process_is_told_and_any_other_error_is_not_hidden(monkeypatch):
    world = World("cpu")
    world.size = 2
    for told, expected in (
        (RuntimeError("gloo/pair.cc:553] Connection closed by peer [::1]:5"), UserError),
        (torch.distributed.DistBackendError("NCCL"), UserError),
        (RuntimeError("shapes differ"), RuntimeError),
    ):

        def fails(*_, told=told):
            raise told

        monkeypatch.setattr(torch.distributed, "all_reduce", fails)
        with pytest.raises(expected, match=r"process 0 of 2 has lost the others|shapes differ"):
            world.any(True)
