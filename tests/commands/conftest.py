"""What the tests of the training command look at: the record of a run, and its weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from transformer.training.checkpoint import load_tensors

TIMES = ("seconds", "train_seconds", "tokens_per_second", "peak_memory_mib")


def read_epochs(folder: Path, name: str = "run") -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what the clock decides."""
    lines = (folder / "results" / name / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in lines]


def read_weights(folder: Path, name: str = "run", which: str = "last") -> dict[str, torch.Tensor]:
    return load_tensors(folder / "saved" / name / which / "model.pt")


def read_snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_same_run(one: Path, other: Path, name: str = "run") -> None:
    """Bit by bit the same weights in the end, and the same figures on the way."""
    assert read_epochs(one, name) == read_epochs(other, name)
    for which in ("last", "best"):
        expected, got = read_weights(one, name, which), read_weights(other, name, which)
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.fixture(scope="session")
def epochs() -> Callable[..., Any]:
    """Return a function: folder, name of the run -> its epochs."""
    return read_epochs


@pytest.fixture(scope="session")
def weights() -> Callable[..., Any]:
    """Return a function: folder, name of the run, checkpoint -> its weights."""
    return read_weights


@pytest.fixture(scope="session")
def snapshot() -> Callable[..., Any]:
    """Return a function: folder -> every file's bytes."""
    return read_snapshot


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[..., Any]:
    """Return a function: two folders, name of the run; see check_same_run."""
    return check_same_run


@pytest.fixture(scope="session")
def unseal_config() -> Callable[[Path], None]:
    """Return a function: checkpoint -> its manifest says nothing of config.yaml any more, which may then be changed."""

    def unseal(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["files"]["config.yaml"]
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return unseal
