"""The study on disk: several at once never work on the same trial; what is chosen does not depend on who asks."""

import json
from pathlib import Path

import pytest

from transformer.commands.study import Plan, Study
from transformer.error import UserError
from transformer.training.space import Choice, Real

pytest.importorskip("optuna")

SPACE = [Real("lr", 1e-4, 1e-1, log=True), Choice("kind", ["a", "b", "c"])]


def study(folder: Path, n_trials: int = 4) -> Study:
    return Study(folder, SPACE, Plan(n_trials, 2, 1, False, True, 1), {"seed": 1}, lambda name: 0)


def test_two_workers_share_the_trials(tmp_path: Path) -> None:
    one, other = study(tmp_path), study(tmp_path)
    first, second = one.take(), other.take()
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("trial-0000", "trial-0001")
    assert not first.resumed
    assert not second.resumed
    one.finish(first, 1.0)
    third = other.take()  # the second is being worked on, so it is not taken up again
    assert third is not None
    assert third.name == "trial-0002"
    second.claim.close()  # as when its process dies
    taken = one.take()
    assert taken is not None
    assert (taken.name, taken.resumed, taken.values) == ("trial-0001", True, second.values)


def test_a_last_line_that_was_cut_off_is_no_reason_to_fail(tmp_path: Path) -> None:
    taken = study(tmp_path).take()
    assert taken is not None
    journal = tmp_path / "study.journal"
    whole = journal.read_bytes()
    study(tmp_path).finish(taken, 1.0)
    longer = journal.read_bytes()
    journal.write_bytes(longer[: len(whole) + 20])  # the disk was full
    following = study(tmp_path).take()
    assert following is not None
    assert (following.name, following.resumed) == ("trial-0000", True)  # that it had ended was not written
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_no_more_trials_than_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        taken = study(tmp_path, 2).take()
        assert (taken is None) == (number == 2)
        if taken is not None:
            study(tmp_path, 2).finish(taken, float(number))
    assert [name for name, _, _ in study(tmp_path, 2).chosen()] == ["trial-0000", "trial-0001"]


def test_what_is_chosen_is_the_same_whoever_asks(tmp_path: Path) -> None:
    together = study(tmp_path / "together")
    for number in range(4):
        taken = together.take()
        alone = study(tmp_path / "apart")  # a process for each trial
        other = alone.take()
        assert taken is not None
        assert other is not None
        assert taken.values == other.values
        together.finish(taken, float(number))
        alone.finish(other, float(number))
    values = [tuple(values.values()) for _, values, _ in together.chosen()]
    assert len(set(values)) == 4
    assert values == [tuple(values.values()) for _, values, _ in study(tmp_path / "apart").chosen()]


def test_a_study_is_for_one_setup(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(UserError, match="seed was 1 and is now 2"):
        Study(tmp_path, SPACE, Plan(4, 2, 1, False, True, 1), {"seed": 2}, lambda name: 0)


def test_a_failure_is_kept(tmp_path: Path) -> None:
    mine = study(tmp_path)
    taken = mine.take()
    assert taken is not None
    mine.fail(taken, "it was too large")
    assert [failure for _, _, failure in study(tmp_path).chosen()] == ["it was too large"]
    left = mine.take()
    assert left is not None
    mine.leave(left)
    again = mine.take()
    assert again is not None
    assert again.name == left.name
    assert again.resumed
