"""How a run ended: outcome.json has its config and final scores, or failure.json the sentence that says why not."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformer.error import UserError
from transformer.evaluation.report import Row
from transformer.evaluation.sweep import FINISHED, UNFINISHED, Trial
from transformer.monitoring.record import finite, read_epochs
from transformer.monitoring.replace import replace
from transformer.training.checkpoint import read_manifest

OUTCOME_FILE, FAILURE_FILE = "outcome.json", "failure.json"


@dataclass(frozen=True)
class Outcome:
    """A run that was trained and evaluated to its end.

    Attributes:
        config: as it was asked for, plain dicts and lists.
        checkpoint: the best one.
        step: its updates.
        monitored: its value of training.monitor, or None.
        validation: its scores on the validation split: "bleu", "loss", "accuracy", and others by name.
        tests: test split -> metric -> value.
    """

    config: dict[str, Any]
    checkpoint: str
    step: int
    monitored: float | None
    validation: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[str, float]] = field(default_factory=dict)

    def scores(self) -> dict[str, float]:
        """All of them under one name each: those of tests behind their split, "test BLEU"."""
        tests = {f"{split} {name}": value for split, row in self.tests.items() for name, value in row.items()}
        return {**self.validation, **tests}


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end by itself. state: failed, or pruned (given up because others were better)."""

    state: str
    sentence: str


def outcome_of(folder: Path, best: Path, config: Mapping[str, Any], rows: Sequence[Row]) -> Outcome:
    """What there is to say of a run that has just ended.

    Args:
        folder: results/NAME, whose metrics.jsonl has the scores of the validation split.
        best: the best checkpoint.
        config: as it was asked for.
        rows: scores on test splits.
    """
    manifest = read_manifest(best)
    step, monitored = int(manifest["step"]), manifest.get("monitored")
    validation: dict[str, float] = {}
    for end in read_epochs(folder):
        if end.step == step:
            bleu = {} if end.bleu is None else {"bleu": end.bleu}
            validation = {**bleu, **end.scores, "loss": end.valid_loss, "accuracy": end.valid_accuracy}
    if not validation and monitored is not None:  # nobody kept a record
        validation = {score_name(str(manifest["monitor"])): float(monitored)}
    tests = {row.split: {score.name: score.value for score in row.scores} for row in rows}
    return Outcome(dict(config), str(best), step, monitored, validation, tests)


def score_name(monitor: str) -> str:
    """What training.monitor calls valid_loss is the score "loss", and so on."""
    return monitor.removeprefix("valid_")


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Keeps it with the results, in place of any failure."""
    replace(folder / OUTCOME_FILE, f"{json.dumps(finite(asdict(outcome)), indent=1, ensure_ascii=False)}\n".encode())
    forget_failure(folder)


def write_failure(folder: Path, failure: Failure) -> None:
    """Keeps it with the results; an outcome that is there stays."""
    replace(folder / FAILURE_FILE, f"{json.dumps(asdict(failure), indent=1, ensure_ascii=False)}\n".encode())


def forget(folder: Path) -> None:
    """Removes both: the run goes on."""
    (folder / OUTCOME_FILE).unlink(missing_ok=True)
    forget_failure(folder)


def forget_failure(folder: Path) -> None:
    """Removes the failure: the run is being done again, or was refused and is asked for again."""
    (folder / FAILURE_FILE).unlink(missing_ok=True)


def read_outcome(folder: Path) -> Outcome | None:
    """None where the run has not come to its end.

    Raises:
        UserError: the file is damaged.
    """
    values = _read(folder / OUTCOME_FILE)
    if values is None:
        return None
    try:
        outcome = Outcome(**values)
        tests = {split: _numbers(scores) for split, scores in outcome.tests.items()}
        return Outcome(**{**asdict(outcome), "validation": _numbers(outcome.validation), "tests": tests})
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / OUTCOME_FILE} is no outcome of a run ({error}); remove it") from error


def read_failure(folder: Path) -> Failure | None:
    """None where the run has not failed.

    Raises:
        UserError: the file is damaged.
    """
    values = _read(folder / FAILURE_FILE)
    try:
        return None if values is None else Failure(**values)
    except TypeError as error:
        raise UserError(f"{folder / FAILURE_FILE} is no record of a failure ({error}); remove it") from error


def read_trial(folder: Path, name: str, overrides: Mapping[str, str]) -> Trial:
    """One trial of a sweep as its folder in results tells it.

    Raises:
        UserError: a file there is damaged.
    """
    if failure := read_failure(folder):
        return Trial(name, overrides, failure.state, sentence=failure.sentence)
    if outcome := read_outcome(folder):
        return Trial(name, overrides, FINISHED, outcome.scores())
    return Trial(name, overrides, UNFINISHED)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged (it holds a {type(values).__name__}); remove it")
    return values


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """What was written as null was no number that JSON knows."""
    return {name: math.nan if value is None else float(value) for name, value in scores.items()}
