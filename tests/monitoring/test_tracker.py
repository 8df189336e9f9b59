import json
import signal

import pytest

from transformer.error import UserError
from transformer.evaluation.metrics import Score
from transformer.evaluation.report import Row
from transformer.monitoring.tracker import Tracker
from transformer.training.signals import Interrupted


class Noted(Tracker):
    """Notes what a tracker would be told."""

    package = "numpy"
    takes_scores_late = False

    def __init__(self, folder):
        super().__init__(str(folder))
        self.calls, self.scalars = [], {}

    def begin(self, run_id, again, name, settings):
        self.calls.append(("again" if again else "begin", name))
        self.settings = settings
        return run_id

    def log(self, scalars, step):
        self.calls.append(("log", step))
        self.scalars[step] = scalars

    def conclude(self, scores, signatures, step):
        self.calls.append(("conclude", scores, signatures, step))

    def end(self, status):
        self.calls.append(("end", status))


class Late(Noted):
    takes_scores_late = True


def told(tracker):
    return [call[1] for call in tracker.calls if call[0] == "log"]


def test_settings_and_every_epoch_are_told_at_its_step(tmp_path, tell, make_epoch):
    tracker = Noted(tmp_path)
    tell([tracker], 0, 30)
    tracker.on_end()
    assert tracker.calls == [("begin", "small"), ("log", 10), ("log", 20), ("log", 30), ("end", "finished")]
    assert tracker.settings["model.d_model"] == 128
    assert tracker.settings["n_parameters"] == 2_613_248
    assert not any(key.startswith("monitor") for key in tracker.settings)
    assert tracker.scalars[20]["valid/bleu"] == 20.0
    assert tracker.scalars[20]["train/loss"] == make_epoch(2).train_loss


def test_a_resumed_run_goes_on_in_the_same_and_tells_no_epoch_twice(tmp_path, tell):
    first, second = Noted(tmp_path), Noted(tmp_path)
    tell([first], 0, 35)
    tell([second], 25, 50)  # killed between the end of epoch 3 and its checkpoint
    assert second.calls == [("again", "small"), ("log", 40), ("log", 50)]
    assert second.run_id == first.run_id
    assert json.loads((tmp_path / "numpy_run.json").read_text()) == {"id": first.run_id, "step": 50}


def test_a_new_run_in_an_old_folder_is_a_new_one(tmp_path, tell):
    first, second = Noted(tmp_path), Noted(tmp_path)
    tell([first], 0, 20)
    tell([second], 0, 20)
    assert second.run_id != first.run_id
    assert told(second) == [10, 20]


def test_after_going_back_past_an_epoch_its_new_numbers_are_told(tmp_path, tell, make_epoch):
    tracker = Noted(tmp_path)
    tell([tracker], 0, 30)
    tracker.on_rollback(25)
    tracker.on_epoch(make_epoch(2))
    tracker.on_epoch(make_epoch(3))
    tracker.on_epoch(make_epoch(3))
    assert told(tracker) == [10, 20, 30, 30]


@pytest.mark.parametrize(
    ("error", "status"), [(Interrupted(signal.SIGTERM), "stopped"), (UserError("bad"), "failed"), (None, "finished")]
)
def test_how_a_run_ended_is_told(tmp_path, make_start, error, status):
    tracker = Noted(tmp_path)
    tracker.on_end()  # failed before it began
    assert tracker.calls == []
    try:
        try:
            tracker.on_start(make_start(0))
            if error:
                raise error
        finally:
            tracker.on_end()
    except (Interrupted, UserError):
        assert error
    assert tracker.calls[1:] == [("end", status)]


@pytest.mark.parametrize("kind", [Noted, Late])
def test_final_scores_come_before_the_end_where_they_must(tmp_path, make_start, make_epoch, kind):
    tracker = kind(tmp_path)
    start = make_start(0)
    start.config["final"] = {"splits": ["test"]}
    tracker.on_start(start)
    tracker.on_epoch(make_epoch(1))
    tracker.on_end()
    tracker.on_scores([Row("best", "test", 3, (Score("BLEU", 41.0, "tok:13a", 40.0, 42.0),))], [])
    conclude = ("conclude", {"test/BLEU": 41.0}, {"test/BLEU": "tok:13a"}, 10)
    end = ("end", "finished")
    assert tracker.calls[2:] == ([end, conclude, end] if kind is Late else [conclude, end])


@pytest.mark.parametrize("kind", [Noted, Late])
def test_without_a_test_split_the_run_ends_all_the_same(tmp_path, make_start, kind):
    tracker = kind(tmp_path)
    start = make_start(0)
    start.config["final"] = {"splits": ["test"]}
    tracker.on_start(start)
    tracker.on_end()
    tracker.on_scores([], [])
    assert [call for call in tracker.calls if call[0] == "end"] == [("end", "finished")]


def test_a_missing_package_is_named_even_where_a_folder_has_its_name(tmp_path, monkeypatch):
    class Missing(Noted):
        package = "nosuchpackage"

    (tmp_path / "nosuchpackage").mkdir()
    for _ in range(2):
        with pytest.raises(UserError) as refused:
            Missing(tmp_path)
        assert str(refused.value) == (
            "monitor.nosuchpackage needs the package nosuchpackage: pip install 'transformer[nosuchpackage]'"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
