import math
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from transformer.error import UserError
from transformer.monitoring.tensorboard import (
    TensorBoard,
    cut_events,
    flatten,
    sample_table,
    step_scalars,
    write_histograms,
)

STEP_TAGS = {
    "train/loss",
    "train/perplexity",
    "train/accuracy",
    "train/gradient_norm",
    "optim/learning_rate",
    "speed/tokens_per_second",
}
EPOCH_TAGS = {"valid/loss", "valid/perplexity", "valid/accuracy", "optim/clipped", "speed/padding_efficiency"}
BEST_TAGS = {"best/bleu", "best/valid_loss"}


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0})
    events.Reload()
    return events


def points(folder):
    """By step: files of one process and second are read in the order of their names, the tenth before the second."""
    events = read(folder)
    return {tag: sorted((p.step, p.value) for p in events.Scalars(tag)) for tag in events.Tags()["scalars"]}


def texts(folder, tag):
    return [(t.step, t.tensor_proto.string_val[0].decode()) for t in read(folder).Tensors(f"{tag}/text_summary")]


def finish(folder, tell, resumed_step, last_step):
    board = TensorBoard(str(folder), 4)
    tell([board], resumed_step, last_step)
    board.on_end()


def kill(folder, tell, resumed_step, last_step):
    """Tell a run and stop without an end; what was written reaches the disk, as it does twice a minute."""
    board = TensorBoard(str(folder), 4)
    tell([board], resumed_step, last_step)
    board.writer.flush()
    return board


def test_tags_are_the_promised_ones(tmp_path, tell):
    finish(tmp_path, tell, 0, 30)
    assert set(points(tmp_path)) == STEP_TAGS | EPOCH_TAGS | BEST_TAGS | {"valid/bleu"}


def test_points_stand_every_n_steps_and_at_the_end(tmp_path, tell):
    finish(tmp_path, tell, 0, 22)
    scalars = points(tmp_path)
    assert [step for step, _ in scalars["train/loss"]] == [4, 8, 12, 16, 20, 22]
    assert scalars["valid/loss"] == [(10, pytest.approx(5.1)), (20, pytest.approx(3.1))]
    assert scalars["valid/bleu"] == [(20, 20.0)]
    assert scalars["best/bleu"] == [(20, 20.0)]


def test_a_point_is_the_mean_over_tokens(make_step):
    scalars = step_scalars([make_step(1), make_step(4)])
    assert scalars["train/loss"] == pytest.approx((6.5 * 101 + 3.5 * 104) / 205)
    assert scalars["speed/tokens_per_second"] == pytest.approx(205)
    assert scalars["optim/learning_rate"] == pytest.approx(4e-3)


def test_killed_and_resumed_has_the_points_of_a_run_never_stopped(tmp_path, tell):
    finish(tmp_path / "whole", tell, 0, 50)
    kill(tmp_path / "killed", tell, 0, 46)
    (file,) = (tmp_path / "killed").glob("events*")
    file.write_bytes(file.read_bytes()[:-7])
    finish(tmp_path / "killed", tell, 20, 50)
    assert points(tmp_path / "killed") == points(tmp_path / "whole")
    assert texts(tmp_path / "killed", "samples/translations") == texts(tmp_path / "whole", "samples/translations")


def test_an_epoch_told_again_after_a_stop_before_its_checkpoint_does_not_double(tmp_path, tell, make_epoch, make_start):
    finish(tmp_path / "whole", tell, 0, 30)
    kill(tmp_path / "killed", tell, 0, 20)
    board = TensorBoard(str(tmp_path / "killed"), 4)
    board.on_start(make_start(20))
    board.on_epoch(make_epoch(2))
    board.on_end()
    finish(tmp_path / "killed", tell, 20, 30)
    assert points(tmp_path / "killed") == points(tmp_path / "whole")


def test_an_epoch_told_for_the_first_time_after_a_stop_is_written(tmp_path, make_step, make_epoch, make_start):
    board = TensorBoard(str(tmp_path), 4)
    board.on_start(make_start(0))
    for step in range(1, 11):
        board.on_step(make_step(step))
    board.on_end()
    board = TensorBoard(str(tmp_path), 4)
    board.on_start(make_start(10))
    board.on_epoch(make_epoch(1))
    board.on_end()
    assert points(tmp_path)["valid/loss"] == [(10, pytest.approx(5.1))]


def test_void_points_are_gone_from_the_files_before_a_new_one_is_written(tmp_path, tell):
    kill(tmp_path, tell, 0, 46)
    cut_events(tmp_path, 20)
    steps = {tag: max(step for step, _ in values) for tag, values in points(tmp_path).items()}
    assert set(steps.values()) == {20}
    before = points(tmp_path)
    cut_events(tmp_path, 20)
    assert points(tmp_path) == before


def test_a_new_run_in_an_old_folder_leaves_nothing_of_the_old(tmp_path, tell):
    finish(tmp_path, tell, 0, 30)
    finish(tmp_path, tell, 0, 10)
    assert points(tmp_path)["valid/loss"] == [(10, pytest.approx(5.1))]
    assert len(list(tmp_path.iterdir())) == 1


def test_samples_are_a_table_whose_cells_cannot_break_it(tmp_path, tell):
    finish(tmp_path, tell, 0, 20)
    (step, table), (last, _) = texts(tmp_path, "samples/translations")
    assert (step, last) == (10, 20)
    lines = table.splitlines()
    assert lines[0] == "| source | hypothesis | reference |"
    assert [line.count("|") for line in lines] == [4, 4, 4]
    assert "*" not in lines[2]
    assert "<" not in lines[2]


@settings(deadline=None)
@given(st.tuples(st.text(), st.text(), st.text()))
def test_any_text_is_one_row_of_three_cells(sample):
    lines = sample_table([sample]).split("\n")
    assert len(lines) == 3
    assert len(lines[2].splitlines()) == 1
    cells = lines[2].split("|")[1:-1]
    assert len(cells) == 3
    decoded = [re.sub(r"&#(\d+);", lambda m: chr(int(m[1])), cell[1:-1]) for cell in cells]
    assert decoded == [" ".join(text.splitlines()) for text in sample]


def test_config_is_shown_as_text(tmp_path, tell):
    finish(tmp_path, tell, 0, 10)
    ((_, text),) = texts(tmp_path, "run/config")
    assert '    "d_model": 128' in text
    assert all(line.startswith("    ") for line in text.splitlines())


def hparams(folder):
    content = {}
    for tag in ("experiment", "session_start_info", "session_end_info"):
        try:
            data = read(folder).SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
        except KeyError:
            continue
        content[tag] = getattr(HParamsPluginData.FromString(data), tag)
    return content


def test_hparams_hold_the_flat_config_and_leave_the_columns_to_tensorboard(tmp_path, tell):
    finish(tmp_path, tell, 0, 20)
    found = hparams(tmp_path)
    start = found["session_start_info"].hparams
    assert start["model.d_model"].number_value == 128
    assert start["model.tie"].string_value == "true"
    assert "name" not in start
    assert not any(name.startswith("monitor") for name in start)
    assert start["n_parameters"].number_value == 2_613_248
    assert set(found) == {"session_start_info", "session_end_info"}


def test_a_killed_run_has_hparams_without_an_end(tmp_path, tell):
    kill(tmp_path, tell, 0, 10)
    assert set(hparams(tmp_path)) == {"session_start_info"}


def test_training_and_validation_share_a_panel(tmp_path, tell):
    finish(tmp_path, tell, 0, 20)
    (event,) = read(tmp_path).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    panels = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert panels["loss"] == ["train/loss", "valid/loss"]
    assert {tag for tags in panels.values() for tag in tags} <= set(points(tmp_path))


def histograms(folder):
    events = read(folder / "weights")
    return {
        tag: [(h.step, h.histogram_value.num) for h in events.Histograms(tag)] for tag in events.Tags()["histograms"]
    }


def test_histograms_of_weights_are_cut_with_the_run_and_do_not_double(tmp_path, tell):
    kill(tmp_path, tell, 0, 40)
    weights = {"encoder.layers.0.weight": torch.randn(5, 3), "bias": torch.nn.Parameter(torch.zeros(4).bfloat16())}
    for step in (10, 20, 20, 40):
        write_histograms(tmp_path, weights, step)
    assert histograms(tmp_path) == {
        "encoder/layers/0/weight": [(10, 15), (20, 15), (40, 15)],
        "bias": [(10, 4), (20, 4), (40, 4)],
    }
    finish(tmp_path, tell, 25, 30)
    assert [step for step, _ in histograms(tmp_path)["bias"]] == [10, 20]


@pytest.mark.parametrize("bad", [torch.tensor([1.0, math.nan]), torch.zeros(0)])
def test_a_parameter_without_a_histogram_is_named(tmp_path, bad):
    with pytest.raises(ValueError, match=r"head\.bias has no histogram"):
        write_histograms(tmp_path, {"head.bias": bad}, 1)
    assert not (tmp_path / "weights").exists()


def test_flatten():
    config = {"a": {"b": [1, 2], "c": {"d": None}}, "e": False, "f": 1.5, "g": "x", "empty": {}}
    assert flatten(config) == {"a.b": "[1, 2]", "a.c.d": "none", "e": "false", "f": 1.5, "g": "x"}


def test_a_choice_is_shown_by_its_class():
    assert flatten({"schedule": {"_target_": "transformer.training.schedule.Cosine", "steps": 5}}) == {
        "schedule": "Cosine",
        "schedule.steps": 5,
    }


def test_ending_without_a_start_or_twice_is_fine(tmp_path, tell):
    board = TensorBoard(str(tmp_path), 4)
    board.on_end()
    tell([board], 0, 10)
    board.on_end()
    board.on_end()


def test_every_steps_must_be_positive(tmp_path):
    with pytest.raises(UserError, match=r"every_steps \(0\) must be at least 1"):
        TensorBoard(str(tmp_path), 0)


def test_tensorboard_is_imported_only_when_a_run_starts():
    make = "import sys, transformer.monitoring.tensorboard as t; t.TensorBoard('x', 1)"
    code = f"{make}; assert 'tensorboard' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
