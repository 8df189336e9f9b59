"""Compiled layers. torch.compile traces them here for all shapes, but runs the operations as they are: that needs no
C++ compiler, and a tenth of the time.
"""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from transformer.data.batch import collate
from transformer.training import compiled as module
from transformer.training.compiled import compile_layers, compiler_missing, repays, updates_to_come
from transformer.training.limits import Limits

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's tracer

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


@pytest.fixture(autouse=True)
def forget():
    """Let no test use what another one has compiled."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pairs(toy, n):
    store = toy.store(40, seed=2)
    return collate([store[i] for i in range(n)], np.arange(n))


def test_compiled_layers_train_alike_and_leave_no_trace(toy, tmp_path):
    """Without dropout: the same figures up to rounding, from a start with the same weights and random states."""
    runs = []
    for name in ("plain", "compiled"):
        recorder = toy.Recorder()
        trainer = toy.trainer(tmp_path / name, observers=[recorder], max_epochs=1, optimizer=toy.MOMENTUM)
        before, states = toy.tensors(trainer), torch.get_rng_state()
        names = list(trainer.objective.state_dict())
        if name == "compiled":
            done, told = compile_layers(trainer, pairs(toy, 5), backend="eager")
            assert done
            assert told.startswith("layers compiled in ")
        assert torch.equal(torch.get_rng_state(), states)
        assert list(trainer.objective.state_dict()) == names
        assert all(torch.equal(value, before[key]) for key, value in toy.tensors(trainer).items())
        assert trainer.batches.state_dict()["position"] == 0
        trainer.fit("run", {})
        runs.append((trainer, recorder))
    (_, told), (_, wanted) = runs
    assert len({end.n_tgt_tokens for end in told.steps}) > 1  # batches of several shapes
    for one, other in zip(told.steps, wanted.steps, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-3)
    assert told.epochs[0].valid_loss == pytest.approx(wanted.epochs[0].valid_loss, rel=1e-4)


def test_dropout_is_drawn_by_the_compiled_code_and_in_training_alone(toy, tmp_path):
    trainer = toy.trainer(tmp_path, dropout=0.5)
    assert compile_layers(trainer, pairs(toy, 5), backend="eager")[0]
    b = pairs(toy, 6)
    found = []
    for mode in (True, True, False, False):
        torch.manual_seed(len(found) % 2)
        trainer.objective.train(mode)
        with torch.no_grad():
            found.append(trainer.objective(b.src, b.src_key_padding_mask, b.tgt_in, b.tgt_out))
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])


def test_what_cannot_be_compiled_is_left_as_it_was(toy, tmp_path):
    def broken(graph, inputs):
        raise RuntimeError("the compiler is out of order")

    trainer = toy.trainer(tmp_path, dropout=0.1)
    before = [getattr(part, "bulk", None) for part in trainer.objective.modules()]
    trainer.update.divided = divided = lambda batch, n_tokens: torch.ones(3)
    done, told = compile_layers(trainer, pairs(toy, 5), backend=broken)
    assert not done
    assert told.startswith("layers are left uncompiled: ")
    assert "the compiler is out of order" in told
    assert "\n" not in told
    assert trainer.objective.model.compiled == {}
    assert trainer.update.divided is divided
    assert [getattr(part, "bulk", None) for part in trainer.objective.modules()] == before
    assert (
        trainer.objective(*(getattr(pairs(toy, 3), n) for n in ("src", "src_key_padding_mask", "tgt_in", "tgt_out")))[0]
        > 0
    )


def test_a_failure_in_another_process_counts(toy, tmp_path, monkeypatch):
    trainer = toy.trainer(tmp_path)
    monkeypatch.setattr(trainer.world, "any", lambda flag: True)
    done, told = compile_layers(trainer, pairs(toy, 5), backend="eager")
    assert (done, told) == (False, "layers are left uncompiled: compiling failed in another process")
    assert trainer.objective.model.compiled == {}


def test_when_it_repays():
    assert repays(CUDA, 2000)
    assert not repays(CUDA, 1999)
    assert not repays(CPU, 10**9)


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "step", "expected"),
    [(2, None, 0, 2), (5, 100, 3, 2), (None, 100, 10, 90), (50, 30, 0, 30)],
)
def test_updates_to_come(max_epochs, max_steps, step, expected):
    limits = Limits(max_epochs, max_steps, 8, None, "valid_loss", None, 0, None, None, True)
    trainer = SimpleNamespace(limits=limits, progress=SimpleNamespace(step=step), batches=range(7))
    assert updates_to_come(trainer) == expected


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert compiler_missing(CPU) == "there is no C++ compiler (g++, clang++)"
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/g++")
    assert compiler_missing(CPU) is None
    monkeypatch.setitem(sys.modules, "triton", None)
    assert compiler_missing(CUDA).startswith("Triton cannot be imported (")
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())
    assert compiler_missing(CUDA) is None


def test_which_finds_this_machines_compiler():
    assert (compiler_missing(CPU) is None) == any(shutil.which(name) for name in ("g++", "clang++", "cl"))
