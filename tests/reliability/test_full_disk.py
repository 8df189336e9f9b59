"""A full disk and two trainers on one folder, with real processes: nothing that was saved is lost."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from transformer.training.checkpoint import complete, newest_intact, read_manifest, verify

TRAIN = [sys.executable, "-W", "error::ResourceWarning", "-m", "transformer.commands.train"]
ROOT = Path(__file__).resolve().parents[2]


def start(overrides: list[str], folder: Path, limit: int | None = None) -> "subprocess.Popen[str]":
    """The training command in a process of its own, which may write no file larger than `limit` bytes."""

    def limited() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*TRAIN, *overrides],
        cwd=folder,
        env=environment,
        preexec_fn=limited,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_checkpoint(process: "subprocess.Popen[str]", saved: Path) -> None:
    until = time.monotonic() + 60
    while not complete(saved):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def begun(run: Any, tmp_path: Path) -> Path:
    """The folder of a run that has ended with two checkpoints, and would go on if told so."""
    shutil.copytree(run.folder / "saved", tmp_path / "saved", symlinks=True)
    shutil.copytree(run.folder / "data", tmp_path / "data")
    return tmp_path


def test_a_full_disk_spares_what_is_saved_and_the_run_goes_on_later(begun: Path, tiny: list[str], call: Any) -> None:
    saved = begun / "saved" / "run"
    before = complete(saved)
    weights = [(path / "model.pt").read_bytes() for path in before]
    largest = max(path.stat().st_size for path in before[-1].rglob("*") if path.is_file())
    more = [*tiny, "resume=true", "training.max_epochs=3", "monitor=none", "final.splits=[]"]

    process = start(more, begun, limit=largest - 1000)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    (line,) = err.splitlines()
    assert line.startswith("transformer-train: checkpoint saved/run/step_")
    assert "is the disk full? Earlier ones are intact: make room, then go on with resume=true" in line

    assert complete(saved) == before
    assert [(path / "model.pt").read_bytes() for path in before] == weights
    assert not list(saved.glob(".step_*"))
    for path in before:
        verify(path)
    ended = call("train", more, begun)
    assert ended.code == 0, ended.err
    newest, complaints = newest_intact(saved)
    assert newest is not None
    assert newest > before[-1]
    assert not complaints


def test_a_second_trainer_is_refused_and_takes_over_when_the_first_is_killed(tmp_path: Path, quick: list[str]) -> None:
    endless = [*quick, "training.max_epochs=100000", "training.bleu_every_epochs=0"]
    saved = tmp_path / "saved" / "run"
    first = start(endless, tmp_path)
    try:
        wait_for_checkpoint(first, saved)
        second = start([*endless, "resume=true"], tmp_path)
        _, err = second.communicate(timeout=120)
        assert second.returncode == 2, err
        (line,) = err.splitlines()
        assert f"in use by process {first.pid} on host {os.uname().nodename}" in line
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()

    newest, _ = newest_intact(saved)
    assert newest is not None
    step = read_manifest(newest)["step"]
    third = start([*endless, "resume=true", f"training.max_steps={step + 2}"], tmp_path)
    out, err = third.communicate(timeout=120)
    assert third.returncode == 0, err
    assert f"resumed from saved/run/{newest.name}, step {step}\n" in out
    assert read_manifest(saved / "last")["step"] == step + 2
