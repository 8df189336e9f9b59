import dataclasses
import math

import pytest

from transformer.error import UserError
from transformer.monitoring.figure import to_png
from transformer.monitoring.plot import AXES, draw_runs, read_runs, result
from transformer.monitoring.record import Record


@pytest.fixture
def folders(tmp_path, tell):
    paths = [tmp_path / "a" / "small", tmp_path / "b" / "small", tmp_path / "b" / "base"]
    for path, n_steps in zip(paths, (20, 40, 30), strict=True):
        tell([Record(str(path))], 0, n_steps)
    return paths


def test_runs_are_called_by_folder_with_as_many_parents_as_needed(folders):
    assert list(read_runs(folders[1:])) == ["small", "base"]
    assert list(read_runs(folders)) == ["a/small", "b/small", "b/base"]


def test_each_run_is_one_line_in_every_panel(folders):
    figure = draw_runs(read_runs(folders), "step")
    assert len(figure.axes) == 4
    bleu, loss = figure.axes[:2]
    assert [list(line.get_xdata()) for line in bleu.get_lines()] == [[20], [20, 30, 40], [20, 30]]
    assert [list(line.get_ydata())[-1] for line in loss.get_lines()] == [3.1, 2.1, 1 + 4 / 3 + 0.1]
    assert [text.get_text().split()[0] for text in figure.legends[0].get_texts()] == ["a/small", "b/small", "b/base"]


@pytest.mark.parametrize(
    ("x", "values"),
    [
        ("epoch", [1, 2]),
        ("step", [10, 20]),
        ("hours", [65 / 3600, 130 / 3600]),
        ("million target tokens", [0.001055, 0.00211]),
    ],
)
def test_what_may_run_along_x(make_epoch, x, values):
    assert AXES[x]([make_epoch(1), make_epoch(2)]) == pytest.approx(values)


def test_an_unknown_x_is_refused_with_the_choice(make_epoch):
    with pytest.raises(UserError, match=r"x \(weeks\) must be one of: epoch, step, hours, million target tokens"):
        draw_runs({"small": [make_epoch(1)]}, "weeks")


def test_a_folder_without_epochs_and_one_named_twice_are_refused(tmp_path, folders):
    with pytest.raises(UserError, match=r"nowhere has no metrics\.jsonl; name folders of runs' results, such as res"):
        read_runs([folders[0], tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").touch()
    with pytest.raises(UserError, match=r"empty/metrics\.jsonl holds no epoch"):
        read_runs([folders[0], tmp_path / "empty"])
    with pytest.raises(UserError, match="small is named twice"):
        read_runs([folders[0], folders[0]])


def test_result_is_best_bleu_else_lowest_loss_else_diverged(make_epoch):
    epochs = [make_epoch(1), make_epoch(2), dataclasses.replace(make_epoch(3), bleu=15.0)]
    assert result(epochs) == "BLEU 20.00 (epoch 2)"
    assert result(epochs[:1]) == "loss 5.100 (epoch 1)"
    assert result([dataclasses.replace(epochs[0], valid_loss=math.nan)]) == "diverged"


def test_more_runs_than_colours_are_told_apart_by_the_stroke(make_epoch):
    figure = draw_runs({f"run {n}": [make_epoch(2)] for n in range(13)}, "epoch")
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.axes[1].get_lines()}
    assert len(styles) == 13
    assert to_png(figure)
