"""A real run that goes back to its last good checkpoint: no record of it tells a step twice, or one that is void."""

import json
import math
import shutil
import sys
from collections import Counter

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from transformer.monitoring.console import Console
from transformer.monitoring.curves import Curves
from transformer.monitoring.record import Record, read_epochs
from transformer.monitoring.report import Report
from transformer.monitoring.tensorboard import TensorBoard
from transformer.monitoring.terminal import open_terminal
from transformer.training import update
from transformer.training.trainer import MAX_SKIPPED_IN_A_ROW, RATE_CUT

CHOICES = [
    "training.max_epochs=2",
    "batching.max_tokens=40",
    "training.checkpoint_every_steps=7",
    "training.keep_last=9",
    "monitor.tensorboard.every_steps=2",
]
CHOICES += ["monitor.tensorboard.histograms_every_epochs=1", "schedule=constant", "final.splits=[]"]


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0}).Reload()


def steps_by_tag(events):
    tags = events.Tags()
    return {
        **{tag: [p.step for p in events.Scalars(tag)] for tag in tags["scalars"]},
        **{tag: [p.step for p in events.Histograms(tag)] for tag in tags["histograms"]},
        **{tag: [p.step for p in events.Images(tag)] for tag in tags["images"]},
        **{tag: [p.step for p in events.Tensors(tag)] for tag in tags["tensors"] if tag.startswith("samples")},
    }


@pytest.fixture(scope="module")
def spoiled(tiny, call, tmp_path_factory):
    """A run that ends an epoch at step 24 and goes on to 33, then goes back to 14: what is newer has been damaged."""
    folder = tmp_path_factory.mktemp("spoiled")
    n_updates, clip = 0, update.clip_gradients

    def clip_gradients(parameters, clip_norm):
        nonlocal n_updates
        n_updates += 1
        if n_updates == 34:
            for path in (folder / "saved" / "run").glob("step_*"):
                if path.name > "step_000000014":
                    shutil.rmtree(path)
        norm = clip(parameters, clip_norm)
        return torch.tensor(math.inf) if 34 <= n_updates < 34 + MAX_SKIPPED_IN_A_ROW else norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "clip_gradients", clip_gradients)
        ended = call("train", [*tiny, *CHOICES], folder)
    assert ended.code == 0, ended.err
    results = folder / "results" / "run"
    told = (results / "messages.txt").read_text()
    assert told.count("step 43: back to saved/run/step_000000014 with 0.5 of the learning rate") == 1, told
    return results


def epochs(results):
    return [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]


def test_no_step_stands_twice_in_the_event_files(spoiled):
    points = steps_by_tag(read(spoiled))
    assert {tag: steps for tag, steps in points.items() if steps != sorted(set(steps))} == {}
    ends = [epoch["step"] for epoch in epochs(spoiled)]
    assert 14 < ends[0] < 34  # an epoch that had been told before
    assert points["train/loss"] == [n for n in range(1, ends[-1] + 1) if n % 2 == 0 or n % 7 == 0 or n in ends]
    for tag in (
        "valid/loss",
        "samples/translations/text_summary",
        "weights/decoder_norm/bias",
        "gradients/decoder_norm/bias",
    ):
        assert points[tag] == ends


def test_what_stands_there_is_what_counts(spoiled):
    events, told = read(spoiled), epochs(spoiled)
    assert [epoch["epoch"] for epoch in told] == [1, 2]
    for tag, name in (("valid/loss", "valid_loss"), ("valid/bleu", "bleu"), ("optim/clipped", "clipped")):
        assert [p.value for p in events.Scalars(tag)] == pytest.approx([epoch[name] for epoch in told])
    rates = {p.step: p.value for p in events.Scalars("optim/learning_rate")}
    assert rates[16] == pytest.approx(RATE_CUT * rates[14])


def test_one_page_of_settings_and_one_layout_are_left(spoiled):
    events = read(spoiled)
    found = Counter(tag for tag in events.Tags()["tensors"] if not tag.startswith("samples"))
    assert found == {"run/config/text_summary": 1, "custom_scalars__config__": 1}
    assert len(events.Tensors("run/config/text_summary")) == 1


def test_a_tensorboard_that_was_open_all_the_time_forgets_too(tell, tmp_path):
    board = TensorBoard(str(tmp_path / "open"), 2, 0, False, False)
    tell([board], 0, 25)
    board.writer.flush()
    events = read(tmp_path / "open")
    assert events.Scalars("train/loss")[-1].step == 24
    board.on_rollback(12)
    assert steps_by_tag(events.Reload())["train/loss"][-1] == 12
    for observed in (events, read(tmp_path / "open")):
        assert steps_by_tag(observed)["valid/loss"] == [10]
    board.on_end()


def test_epochs_that_are_void_are_gone_before_they_are_told_anew(tell, tmp_path, capsys):
    watching = [Record(str(tmp_path)), Curves(str(tmp_path)), Report(str(tmp_path)), Console(open_terminal(sys.stdout))]
    tell(watching, 0, 30)
    for observer in watching:
        observer.on_rollback(15)
    assert [end.epoch for end in read_epochs(tmp_path)] == [1]
    assert (tmp_path / "bleu.txt").read_text() == "nan\n"
    for observer in watching[:3]:
        assert [end.epoch for end in observer.epochs] == [1]
    watching[3].on_end()
    assert "best: " not in capsys.readouterr().out
