import re
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from transformer.error import UserError
from transformer.monitoring.tensorboard import (
    TensorBoard,
    cut_events,
    read_records,
    sample_table,
    wait_for_a_later_second,
)

STEP_TAGS = {
    "train/loss",
    "train/perplexity",
    "train/accuracy",
    "optim/gradient_norm",
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


def make_board(folder):
    """With scalars, text and hparams only."""
    return TensorBoard(str(folder), 4, 0, False, False)


def finish(folder, tell, resumed_step, last_step):
    board = make_board(folder)
    tell([board], resumed_step, last_step)
    board.on_end()


def kill(folder, tell, resumed_step, last_step):
    """Tell a run and stop without an end; what was written reaches the disk, as it does twice a minute."""
    board = make_board(folder)
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
    board = make_board(tmp_path / "killed")
    board.on_start(make_start(20))
    board.on_epoch(make_epoch(2))
    board.on_end()
    finish(tmp_path / "killed", tell, 20, 30)
    assert points(tmp_path / "killed") == points(tmp_path / "whole")


def test_an_epoch_told_for_the_first_time_after_a_stop_is_written(tmp_path, make_step, make_epoch, make_start):
    board = make_board(tmp_path)
    board.on_start(make_start(0))
    for step in range(1, 11):
        board.on_step(make_step(step))
    board.on_end()
    board = make_board(tmp_path)
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


def test_what_is_no_event_is_named_with_its_place_and_left_as_it_is(tmp_path, tell):
    finish(tmp_path, tell, 0, 10)
    (file,) = tmp_path.glob("events*")
    content = file.read_bytes()
    records = [record for record, _ in read_records(content)]
    place = sum(len(record) for record in records[:3])
    damaged = content[: place + 12] + b"\xff" * (len(records[3]) - 16) + content[place + len(records[3]) - 4 :]
    file.write_bytes(damaged)
    with pytest.raises(UserError, match=f"{file.name} is damaged: what begins at byte {place} is no event"):
        cut_events(tmp_path, 5)
    assert file.read_bytes() == damaged


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


def test_ending_without_a_start_or_twice_is_fine(tmp_path, tell):
    board = make_board(tmp_path)
    board.on_end()
    tell([board], 0, 10)
    board.on_end()
    before = points(tmp_path)
    board.on_end()
    assert points(tmp_path) == before
    assert before


def test_every_steps_must_be_positive(tmp_path):
    with pytest.raises(UserError, match=r"every_steps \(0\) must be at least 1"):
        TensorBoard(str(tmp_path), 0, 0, False, False)
    with pytest.raises(UserError, match=r"histograms_every_epochs \(-1\) must be at least 0"):
        TensorBoard(str(tmp_path), 1, -1, False, False)


def test_tensorboard_is_imported_only_when_a_run_starts():
    make = "import sys, transformer.monitoring.tensorboard as t; t.TensorBoard('x', 1, 1, True, True)"
    code = f"{make}; assert 'tensorboard' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_file_begun_in_the_same_second_is_waited_for(tmp_path):
    now = int(time.time())
    (tmp_path / f"events.out.tfevents.{now}.host.1.9").write_bytes(b"")
    wait_for_a_later_second(tmp_path)
    assert int(time.time()) > now
    (tmp_path / f"events.out.tfevents.{now + 10_000}.host.1.9").write_bytes(b"")  # of a wrong clock
    wait_for_a_later_second(tmp_path)
