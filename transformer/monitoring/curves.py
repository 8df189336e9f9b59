"""The run as one picture: loss, perplexity, BLEU and learning rate over the epochs, drawn anew after each."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.monitoring.figure import (
    COLOURS,
    INK,
    dress,
    mark_best,
    new_figure,
    plot_line,
    put_heading,
    to_png,
    use_log_scale,
)
from transformer.monitoring.record import read_epochs
from transformer.monitoring.replace import replace
from transformer.training.observer import EpochEnd, Observer, RunStart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES_FILE = "curves.png"
TRAIN, VALID = COLOURS[0], COLOURS[1]


class Curves(Observer):
    """Draws `curves.png` in the run's folder after every epoch; a resumed run shows its whole history.

    The history comes from metrics.jsonl, so `Record` must write into the same folder for a resumed run to have one.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.epochs: list[EpochEnd] = []
        self.name = ""

    def on_start(self, start: RunStart) -> None:
        """Read the epochs up to `start.resumed_step`."""
        self.name = start.name
        self.epochs = [e for e in read_epochs(self.folder) if e.step <= start.resumed_step]

    def on_rollback(self, step: int) -> None:
        """Drop the epochs after `step`."""
        self.epochs = [e for e in self.epochs if e.step <= step]

    def on_epoch(self, end: EpochEnd) -> None:
        """Draw the picture with this epoch in it."""
        self.epochs = [e for e in self.epochs if e.epoch < end.epoch] + [end]
        replace(self.folder / CURVES_FILE, to_png(draw_curves(self.epochs, self.name)))


def draw_curves(epochs: Sequence[EpochEnd], title: str) -> "Figure":
    """Return a figure of four panels, 10 by 6.6 inches: loss, perplexity, BLEU (or accuracy without BLEU), rate.

    A dotted line stands at the best epoch; an empty title is left out. The training loss is label-smoothed and the
    validation loss is not, so only the perplexities, both unsmoothed, can be compared; the legend says so.
    """
    best = max((e.epoch for e in epochs if e.best), default=None)
    figure = new_figure(10, 6.6)
    if title:
        heading = title if best is None else f"{title}, best after epoch {best}"
        put_heading(figure, heading, 15)
    (loss, perplexity), (quality, rate) = figure.subplots(2, 2)
    xs = [e.epoch for e in epochs]

    dress(loss, "Loss, nats per token", "epoch")
    plot_line(loss, xs, [e.train_loss for e in epochs], TRAIN, "train, label-smoothed")
    plot_line(loss, xs, [e.valid_loss for e in epochs], VALID, "validation")

    dress(perplexity, "Perplexity", "epoch")
    plot_line(perplexity, xs, [e.train_perplexity for e in epochs], TRAIN, "train")
    plot_line(perplexity, xs, [e.valid_perplexity for e in epochs], VALID, "validation")
    use_log_scale(perplexity)

    _draw_quality(quality, epochs)

    dress(rate, "Learning rate", "epoch")
    plot_line(rate, xs, [e.learning_rate for e in epochs], COLOURS[3], "")
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    rate.set_ylim(bottom=0)

    for axes in (loss, perplexity, quality, rate):
        axes.set_xlim(0, max([2, *xs]) * 1.03)
        if best is not None:
            axes.axvline(best, color="#999999", linewidth=1, linestyle=":", zorder=0)
        if axes.get_legend_handles_labels()[1]:
            corner = "lower right" if axes is quality else "upper right"
            axes.legend(loc=corner, frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _draw_quality(axes: "Axes", epochs: Sequence[EpochEnd]) -> None:
    scored = [(e.epoch, e.bleu) for e in epochs if e.bleu is not None and math.isfinite(e.bleu)]
    if not scored:
        dress(axes, "Token accuracy, %", "epoch")
        plot_line(axes, [e.epoch for e in epochs], [e.train_accuracy for e in epochs], TRAIN, "train")
        plot_line(axes, [e.epoch for e in epochs], [e.valid_accuracy for e in epochs], VALID, "validation")
        return
    dress(axes, "BLEU, validation", "epoch")
    plot_line(axes, [x for x, _ in scored], [y for _, y in scored], COLOURS[2], "")
    mark_best(axes, *max(scored, key=lambda point: point[1]), COLOURS[2])
    axes.set_ylim(0, max(1.0, 1.15 * max(y for _, y in scored)))
