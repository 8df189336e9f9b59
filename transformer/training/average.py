"""Averages of checkpoints: new weights that often translate better than each of those they are made of."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer.error import UserError
from transformer.training.checkpoint import (
    CONFIG,
    MODEL,
    TOKENIZER,
    best_first,
    complete,
    load_tensors,
    read_manifest,
    sha256,
    verify,
    write_checkpoint,
)


def newest(run: Path, n: int) -> list[Path]:
    """The n newest checkpoints of a run's folder, oldest first.

    Raises:
        UserError: there are fewer.
    """
    return _enough(complete(run)[-n:], run, n)


def best(run: Path, n: int) -> list[Path]:
    """The n best checkpoints of a run's folder by what it monitored, best first.

    Raises:
        UserError: there are fewer with a monitored value.
    """
    found = complete(run)
    lower = [_lower_is_better(read_manifest(path)) for path in found]
    return _enough(best_first(found, all(lower))[:n], run, n)


def _lower_is_better(manifest: dict[str, Any]) -> bool:
    return bool(manifest.get("lower_is_better", manifest.get("monitor") == "valid_loss"))


def _enough(found: list[Path], run: Path, n: int) -> list[Path]:
    if len(found) < n:
        raise UserError(
            f"{run} has {len(found)} such checkpoints, not {n}; ask for fewer, or train with a higher "
            "training.keep_last or training.keep_best"
        )
    return found


def mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, summed in float64, in the type of the first; what is no float must be equal in all.

    Args:
        states: state dicts with the same names and shapes.

    Raises:
        ValueError: they differ in a name, a shape, or a tensor that cannot be averaged.
    """
    first, total = states[0], {}
    for name, tensor in first.items():
        total[name] = tensor.double() if tensor.is_floating_point() else tensor
    for state in states[1:]:
        if differing := sorted({*first} ^ {*state}):
            raise ValueError(f"{differing[0]} is in one of them only")
        for name, tensor in state.items():
            if tensor.shape != first[name].shape:
                raise ValueError(f"{name} is {tuple(first[name].shape)} in one and {tuple(tensor.shape)} in another")
            if tensor.is_floating_point():
                total[name] = total[name] + tensor.double()
            elif not torch.equal(tensor, first[name]):
                raise ValueError(f"{name} differs and is no float")
    n = len(states)
    return {
        name: (value / n).to(first[name].dtype) if value.is_floating_point() else value for name, value in total.items()
    }


def average(checkpoints: Sequence[Path], output: Path) -> None:
    """Writes a checkpoint with the mean of the others' weights, config and tokenizer those of the first.

    It can be used like any other, but training cannot go on from it: it has no optimizer.

    Args:
        checkpoints: at least one, each compared with its SHA-256 first.
        output: the new folder.

    Raises:
        UserError: a checkpoint is damaged or does not go with the first; the output exists, is named like
            a step of a run, or cannot be written.
    """
    if output.name.startswith("step_"):
        raise UserError(
            f"{output} would be taken for a step to go on from, but an average is none; choose another output"
        )
    if output.exists():
        raise UserError(f"{output} exists; choose another output, or remove it first")
    manifests = [verify(path) for path in checkpoints]
    states = [load_tensors(path / MODEL) for path in checkpoints]
    first = checkpoints[0]
    for path in checkpoints[1:]:
        if _vocabulary(path) != _vocabulary(first):
            raise UserError(f"{path} has another vocabulary than {first}; average checkpoints of one run")
    try:
        averaged = mean(states)
    except ValueError as error:
        named = ", ".join(map(str, checkpoints))
        raise UserError(f"these cannot be averaged: {named}: {error}; average checkpoints of one run") from error
    facts = {
        "epoch": manifests[0].get("epoch"),
        "monitored": None,
        "average_of": [{"folder": str(p), "step": m["step"], "sha256": m["files"][MODEL]}
                       for p, m in zip(checkpoints, manifests, strict=True)],
    }  # fmt: skip

    def copy_static(folder: Path) -> None:
        shutil.copyfile(first / CONFIG, folder / CONFIG)
        shutil.copytree(first / TOKENIZER, folder / TOKENIZER)

    write_checkpoint(output, max(manifest["step"] for manifest in manifests), {MODEL: averaged}, facts, copy_static)


def _vocabulary(checkpoint: Path) -> str:
    """What names a checkpoint's vocabularies: equal for equal ones."""
    folder = checkpoint / TOKENIZER
    return json.dumps({path.name: sha256(path) for path in sorted(folder.iterdir())})
