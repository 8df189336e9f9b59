"""How a run ended, on disk: what is written is read again; what is damaged is said."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from transformer.error import UserError
from transformer.evaluation.metrics import Score
from transformer.evaluation.report import Row
from transformer.monitoring.outcome import (
    FAILURE_FILE,
    OUTCOME_FILE,
    Failure,
    Outcome,
    forget,
    outcome_of,
    read_failure,
    read_outcome,
    read_trial,
    write_failure,
    write_outcome,
)
from transformer.monitoring.record import Record
from transformer.training.observer import EpochEnd, RunStart

ROWS = [Row("best", "test", 3, (Score("BLEU", 12.5, "sig", None, None),))]


def checkpoint(folder: Path, step: int, monitored: float | None = 1.5) -> Path:
    folder.mkdir(parents=True)
    manifest = {"format_version": 1, "step": step, "files": {}, "monitor": "valid_loss", "monitored": monitored}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_scores_are_those_of_the_best_checkpoint_s_epoch(
    tmp_path: Path, make_start: Callable[[int], RunStart], make_epoch: Callable[[int], EpochEnd]
) -> None:
    record = Record(str(tmp_path))
    record.on_start(make_start(0))
    for epoch in (1, 2, 3):
        record.on_epoch(make_epoch(epoch))
    outcome = outcome_of(tmp_path, checkpoint(tmp_path / "best", 20), {"seed": 1}, ROWS)
    assert outcome.step == 20
    assert outcome.scores() == {"bleu": 20.0, "loss": make_epoch(2).valid_loss, "accuracy": 41.0, "test BLEU": 12.5}
    write_outcome(tmp_path, outcome)
    assert read_outcome(tmp_path) == outcome


def test_without_a_record_there_is_what_was_monitored(tmp_path: Path) -> None:
    assert outcome_of(tmp_path, checkpoint(tmp_path / "a", 20), {}, []).scores() == {"loss": 1.5}
    assert outcome_of(tmp_path, checkpoint(tmp_path / "b", 20, None), {}, []).scores() == {}


def test_what_is_not_a_number_stays_that(tmp_path: Path) -> None:
    write_outcome(tmp_path, Outcome({}, "best", 1, None, {"loss": math.inf}, {"test": {"perplexity": math.inf}}))
    assert "Infinity" not in "".join(path.read_text() for path in tmp_path.iterdir())
    outcome = read_outcome(tmp_path)
    assert outcome is not None
    assert math.isnan(outcome.validation["loss"])
    assert math.isnan(outcome.tests["test"]["perplexity"])


def test_a_failure_does_not_remove_an_outcome_but_the_other_way_round(tmp_path: Path) -> None:
    assert read_trial(tmp_path, "t", {}).state == "unfinished"
    write_outcome(tmp_path, Outcome({}, "best", 1, None, {"loss": 2.0}))
    write_failure(tmp_path, Failure("failed", "it was there already"))
    assert read_trial(tmp_path, "t", {}).sentence == "it was there already"
    outcome = read_outcome(tmp_path)
    assert outcome is not None
    write_outcome(tmp_path, outcome)
    assert read_failure(tmp_path) is None
    assert read_trial(tmp_path, "t", {"seed": "1"}).scores == {"loss": 2.0}
    forget(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [OUTCOME_FILE, FAILURE_FILE])
@pytest.mark.parametrize("content", ["{", "[]", '{"nonsense": 1}'])
def test_a_damaged_file_is_named(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name):
        read_trial(tmp_path, "t", {})
