import dataclasses
import math
import subprocess
import sys

import pytest
from matplotlib.image import imread

from transformer.monitoring.curves import Curves, draw_curves
from transformer.monitoring.figure import to_png
from transformer.monitoring.record import Record


def lines(axes):
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


def test_a_picture_is_there_after_the_first_epoch_and_nothing_else(tmp_path, tell):
    tell([Curves(str(tmp_path))], 0, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    picture = imread(tmp_path / "curves.png")
    assert picture.shape == (990, 1500, 4)
    assert picture.std() > 0.05


def test_panels_hold_the_epochs_numbers(make_epoch):
    loss, perplexity, quality, rate = draw_curves([make_epoch(n) for n in (1, 2, 3)], "small").axes
    assert lines(loss)["validation"] == [(1, 5.1), (2, 3.1), (3, 1 + 4 / 3 + 0.1)]
    assert lines(perplexity)["train"][0] == (1, math.exp(5))
    assert quality.get_title(loc="left") == "BLEU, validation"
    assert "30.00" in [text.get_text() for text in quality.texts]
    assert [y for _, y in next(iter(lines(rate).values()))] == [0.001, 0.002, 0.003]


def test_without_bleu_the_panel_shows_accuracy(make_epoch):
    quality = draw_curves([make_epoch(1)], "small").axes[2]
    assert quality.get_title(loc="left") == "Token accuracy, %"
    assert lines(quality)["validation"] == [(1, 40.0)]


def test_a_resumed_run_shows_its_whole_history_but_nothing_void(tmp_path, tell):
    folder = str(tmp_path)
    tell([Record(folder)], 0, 50)
    curves = Curves(folder)
    tell([Record(folder), curves], 25, 30)
    assert [e.epoch for e in curves.epochs] == [1, 2, 3]


def test_the_order_of_record_and_curves_does_not_matter(tmp_path, tell):
    pictures = []
    for name in ("one", "two"):
        folder = tmp_path / name
        observers = [Record(str(folder)), Curves(str(folder))]
        tell(observers if name == "one" else observers[::-1], 0, 10)
        pictures.append((folder / "curves.png").read_bytes())
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_strange_numbers_are_drawn_without_a_warning(make_epoch, value):
    strange = [
        dataclasses.replace(
            make_epoch(n), train_loss=value, valid_loss=value, valid_perplexity=value, learning_rate=value, bleu=value
        )
        for n in (1, 2)
    ]
    assert to_png(draw_curves(strange, "$a_1 漢 %"))


def test_matplotlib_is_imported_only_when_a_picture_is_drawn():
    code = "import sys, transformer.monitoring.curves as c; c.Curves('x'); assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
