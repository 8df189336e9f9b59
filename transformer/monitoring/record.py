"""The run's numbers as plain files: metrics.jsonl, and one number per line for train loss, validation loss and BLEU."""

import dataclasses
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformer.error import UserError
from transformer.monitoring.replace import replace
from transformer.training.observer import EpochEnd, Observer, RunStart

METRICS_FILE = "metrics.jsonl"
NUMBER_FILES = {"train_loss.txt": "train_loss", "valid_loss.txt": "valid_loss", "bleu.txt": "bleu"}
FIELDS = tuple(f.name for f in dataclasses.fields(EpochEnd) if f.name not in ("samples", "looks"))
OPTIONAL_FIELDS = ("bleu", "bleu_signature")
NEWER_FIELDS = ("peak_memory_mib", "scores")  # than the first files


class Record(Observer):
    """Writes `metrics.jsonl`, `train_loss.txt`, `valid_loss.txt` and `bleu.txt` into the run's folder.

    metrics.jsonl holds one JSON object per epoch, the fields of `EpochEnd` but samples and looks, in order. JSON knows
    no NaN and no infinity: a number that is not finite is written as null. The text files hold one number per line and
    line n belongs to epoch n; an epoch without the number (BLEU not computed) is the line `nan`.

    Every epoch is forced to disk before `on_epoch` returns. On resume, lines of later steps and a line torn by a crash
    are cut away, and the text files are written anew from the lines that stay, so all four tell the same story.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.epochs: list[EpochEnd] = []

    def on_start(self, start: RunStart) -> None:
        """Keep the epochs up to `start.resumed_step`, drop the rest. UserError: a damaged line in the middle."""
        self.epochs = [e for e in read_epochs(self.folder) if e.step <= start.resumed_step]
        self._rewrite()

    def on_rollback(self, step: int) -> None:
        """Drop the epochs after `step`."""
        self.epochs = [e for e in self.epochs if e.step <= step]
        self._rewrite()

    def on_epoch(self, end: EpochEnd) -> None:
        """Append the epoch to all four files; an epoch told a second time takes the place of the first."""
        told_before = any(e.epoch >= end.epoch for e in self.epochs)
        self.epochs = [e for e in self.epochs if e.epoch < end.epoch]
        gap = end.epoch != (self.epochs[-1].epoch if self.epochs else 0) + 1
        self.epochs.append(end)
        if told_before or gap:
            self._rewrite()
            return
        _append(self.folder / METRICS_FILE, to_line(end))
        for name, field in NUMBER_FILES.items():
            _append(self.folder / name, _number(getattr(end, field)))

    def _rewrite(self) -> None:
        replace(self.folder / METRICS_FILE, "".join(map(to_line, self.epochs)).encode())
        for name, field in NUMBER_FILES.items():
            by_epoch = {e.epoch: getattr(e, field) for e in self.epochs}
            last = max(by_epoch, default=0)
            lines = (_number(by_epoch.get(epoch)) for epoch in range(1, last + 1))
            replace(self.folder / name, "".join(lines).encode())


def read_epochs(folder: Path) -> list[EpochEnd]:
    """Return the epochs of `folder/metrics.jsonl` in file order, without samples; none when there is no file.

    null reads as NaN where a number must be. A last line without its line break was torn by a crash and is dropped.

    Raises:
        UserError: a line that is no JSON object or lacks a field.
    """
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_parse(line, path, number) for number, line in enumerate(lines, start=1)]


def to_line(end: EpochEnd) -> str:
    """Return the epoch as one line of strict JSON with its line break."""
    values = {name: finite(getattr(end, name)) for name in FIELDS}
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def _parse(line: bytes, path: Path, number: int) -> EpochEnd:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number} is not JSON ({error}); mend or remove the line") from error
    missing = _missing(values)
    if missing:
        raise UserError(f"{path}, line {number} lacks {', '.join(missing)}; it was not written by this version")
    known: dict[str, Any] = {name: values[name] for name in FIELDS if name in values}
    for name, value in known.items():
        if value is None and name not in OPTIONAL_FIELDS:
            known[name] = math.nan
    return EpochEnd(**known)


def _missing(values: Any) -> Iterable[str]:
    if not isinstance(values, dict):
        return ["every field"]
    return [name for name in FIELDS if name not in values and name not in NEWER_FIELDS]


def finite(value: Any) -> Any:
    """The same with null for each number that JSON does not know."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> str:
    return f"{math.nan if value is None else value!r}\n"


def _append(path: Path, line: str) -> None:
    with path.open("ab") as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
