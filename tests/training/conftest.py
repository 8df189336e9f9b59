"""Small runs for the tests of training; test_distributed.py's processes read this file too."""

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from transformer.data.batching import Bucket, Sorted, divide
from transformer.data.loader import BatchLoader
from transformer.data.store import PairStore
from transformer.model.layers import LayerShape
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.transformer import Transformer, Vocabulary
from transformer.training.checkpoint import CheckpointFolder, Retention
from transformer.training.distributed import World
from transformer.training.loss import Objective
from transformer.training.moving_average import MovingAverage
from transformer.training.muon import Muon
from transformer.training.observer import EpochEnd, Observer, RunStart, StepEnd
from transformer.training.optimizer import optimizer_of
from transformer.training.precision import Precision
from transformer.training.schedule import Constant
from transformer.training.schedule_free import ScheduleFreeAdamW
from transformer.training.shard import whole
from transformer.training.sharding import shard
from transformer.training.trainer import Decoded, Limits, Trainer

VOCAB_SIZE = 20
ADAM = partial(torch.optim.Adam, lr=0.01, betas=(0.9, 0.98))
# In proportion to the gradient: Adam would turn rounding into steps where a gradient is zero (a key's bias has none).
MOMENTUM = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
MUON = partial(
    Muon,
    lr=0.01,
    momentum=0.95,
    weight_decay=0.1,
    adamw_lr=0.02,
    adamw_betas=(0.9, 0.98),
    adamw_eps=1e-8,
    adamw_weight_decay=0.1,
)
SCHEDULE_FREE = partial(ScheduleFreeAdamW, lr=0.02, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1)
CLOCK = {"seconds", "train_seconds", "tokens_per_second", "peak_memory_mib"}


def make_store(n_pairs: int = 60, seed: int = 0, longest: int = 7, turned: bool = True) -> PairStore:
    """Random pairs of 1 to `longest` tokens; the target is the source, turned round if so told."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, n_pairs)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = rng.integers(4, VOCAB_SIZE, int(offsets[-1]))
    tgt = np.concatenate([ids[a:b][:: -1 if turned else 1] for a, b in itertools.pairwise(offsets)])
    return PairStore((ids, offsets), (tgt, offsets), np.arange(1, n_pairs + 1), {}, n_pairs, longest)


class Even(Bucket):
    """An even number of batches, so that two processes share them without cutting any up."""

    def plan(self, src_lengths, tgt_lengths, seed, epoch):
        batches = super().plan(src_lengths, tgt_lengths, seed, epoch)
        return divide(batches, len(batches) + len(batches) % 2)


def make_model(
    dropout: float = 0.0, vocab_size: int = VOCAB_SIZE, position: Any = Sinusoidal, n_layers: int = 1
) -> Transformer:
    """A model of one layer a side, or more."""
    shape = LayerShape(8, 2, 12, "post", "relu", dropout, dropout, dropout)
    return Transformer(Vocabulary(vocab_size, vocab_size, "three"), shape, n_layers, n_layers, position, 16)


def write_config(folder: Path) -> None:
    (folder / "config.yaml").write_text("name: toy\n")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "words.txt").write_text("one\ntwo\n")


# As many parameters as tests vary; each call names a few of them.
def make_trainer(
    folder: Path,
    model: Transformer | None = None,
    dropout=0.0,
    accumulate=1,
    schedule=None,
    max_epochs: int | None = 2,
    max_steps=None,
    clip_norm=1.0,
    monitor="valid_loss",
    patience=None,
    bleu_every_epochs=0,
    every=None,
    minutes=None,
    observers=(),
    decode: Callable[[], Decoded] | None = None,
    batches: BatchLoader | None = None,
    validation: BatchLoader | None = None,
    world: World | None = None,
    optimizer=ADAM,
    precision="fp32",
    retention=(2, 1),
    ema_decay=None,
    chunked=True,
    seed=7,
    deferred=None,
    sharded=False,
) -> Trainer:
    """A trainer at the start of a run of about 8 batches an epoch."""
    torch.manual_seed(seed)
    world = world or World("cpu")
    model = model or make_model(dropout)
    batches = batches or BatchLoader(make_store(), Bucket(40), 3, world.rank, world.size, None)
    objective = Objective(model, label_smoothing=0.1, chunked=chunked)
    unsharded = shard(objective, world) if sharded else None
    return Trainer(
        objective=objective,
        optimizer=optimizer_of(model, optimizer),
        schedule=schedule or Constant(warmup_steps=3),
        batches=batches,
        validation=validation or BatchLoader(make_store(13, seed=1), Sorted(40), 0, world.rank, world.size, None),
        decode=decode or (lambda: Decoded(0.0, "none", [])),
        world=world,
        precision=Precision(precision, world.device),
        limits=Limits(
            *(max_epochs, max_steps, accumulate, clip_norm, monitor, patience, bleu_every_epochs, every, minutes),
            lower_is_better=monitor == "valid_loss",
            ema_decay=ema_decay,
        ),
        checkpoints=CheckpointFolder(folder, Retention(*retention, monitor == "valid_loss"), write_config),
        observers=observers,
        deferred=deferred,
        whole=unsharded,
    )


class Recorder(Observer):
    """Writes down what it is told; sends this process a signal after a step if asked to."""

    def __init__(self, stop_after: int | None = None, number: int = signal.SIGTERM) -> None:
        self.stop_after, self.number = stop_after, number
        self.starts: list[RunStart] = []
        self.steps: list[StepEnd] = []
        self.epochs: list[EpochEnd] = []
        self.checkpoints: list[tuple[str, int]] = []
        self.messages: list[str] = []
        self.n_ends = 0

    def on_start(self, start):
        self.starts.append(start)

    def on_step(self, end):
        self.steps.append(end)
        if end.step == self.stop_after:
            os.kill(os.getpid(), self.number)

    def on_epoch(self, end):
        self.epochs.append(end)

    def on_checkpoint(self, path, step):
        self.checkpoints.append((path, step))

    def on_message(self, text):
        self.messages.append(text)

    def on_end(self):
        self.n_ends += 1


def without_clock(told: Any) -> dict[str, Any]:
    """A StepEnd or EpochEnd as a dict, less what the clock says."""
    return {key: value for key, value in asdict(told).items() if key not in CLOCK}


def tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every tensor and number of model and optimizer, whole and copied."""
    found = {f"model {name}": whole(value).clone() for name, value in trainer.objective.model.state_dict().items()}
    state = trainer.optimizer.state_dict()
    for place, values in state["state"].items():
        found |= {f"optimizer {place} {name}": whole(torch.as_tensor(value)).clone() for name, value in values.items()}
    if isinstance(trainer.average, MovingAverage):
        found |= {f"average {place}": whole(value).clone() for place, value in enumerate(trainer.average.averages)}
    for place, group in enumerate(state["param_groups"]):
        numbers = {name: value for name, value in group.items() if isinstance(value, (int, float))}
        found |= {f"{name} {place}": torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}
    return found


def two_processes(worker: str, folder: Path) -> Path:
    """Runs a program in two processes that are one world; sys.argv has this file and the folder, which is returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        ended = f"{worker}\nfrom transformer.commands.launch import leave\nleave(0)\n"  # as the commands end
        command = [sys.executable, "-c", ended, __file__, str(folder)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep to one thread: the tensors here are so small that several only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch) -> None:
    """What a power cut would lose cannot be tested here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session", params=["muon", "schedule_free_adamw"])
def own_optimizer(request) -> Callable[..., torch.optim.Optimizer]:
    """Each optimizer that this package defines, as a config makes it."""
    if request.param == "muon":
        return MUON
    pytest.importorskip("schedulefree")
    return SCHEDULE_FREE


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The functions and classes of this file."""
    return SimpleNamespace(
        vocab_size=VOCAB_SIZE,
        MOMENTUM=MOMENTUM,
        MUON=MUON,
        SCHEDULE_FREE=SCHEDULE_FREE,
        Even=Even,
        store=make_store,
        model=make_model,
        trainer=make_trainer,
        write_config=write_config,
        Recorder=Recorder,
        without_clock=without_clock,
        tensors=tensors,
        two_processes=two_processes,
    )
