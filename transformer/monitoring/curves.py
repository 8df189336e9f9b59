"""The run as one picture: loss, perplexity, BLEU and learning rate over the epochs, drawn anew after each."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.monitoring.figure import COLOURS, INK, dress, new_figure, to_png
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

    def on_epoch(self, end: EpochEnd) -> None:
        """Draw the picture with this epoch in it."""
        self.epochs = [e for e in self.epochs if e.epoch < end.epoch] + [end]
        replace(self.folder / CURVES_FILE, to_png(draw_curves(self.epochs, self.name)))


def draw_curves(epochs: Sequence[EpochEnd], title: str) -> "Figure":
    """Return a figure of four panels, 10 by 6.4 inches: loss, perplexity, BLEU (or accuracy without BLEU), rate.

    The training loss is label-smoothed and the validation loss is not, so only the perplexities, both unsmoothed, can
    be compared; the legend says so.
    """
    figure = new_figure(10, 6.4)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
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
    plot_line(rate, xs, [e.learning_rate for e in epochs], COLOURS[3], "learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    rate.set_ylim(bottom=0)

    for axes in (loss, perplexity, quality):
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    return figure


def _draw_quality(axes: "Axes", epochs: Sequence[EpochEnd]) -> None:
    scored = [(e.epoch, e.bleu) for e in epochs if e.bleu is not None]
    if not scored:
        dress(axes, "Token accuracy, %", "epoch")
        plot_line(axes, [e.epoch for e in epochs], [e.train_accuracy for e in epochs], TRAIN, "train")
        plot_line(axes, [e.epoch for e in epochs], [e.valid_accuracy for e in epochs], VALID, "validation")
        return
    dress(axes, "BLEU, validation", "epoch")
    plot_line(axes, [x for x, _ in scored], [y for _, y in scored], COLOURS[2], "")
    x, best = max(scored, key=lambda point: point[1])
    axes.plot([x], [best], "o", color=COLOURS[2], markersize=7, markeredgecolor="white", zorder=4)
    axes.annotate(
        f"{best:.2f}",
        (x, best),
        (0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=10,
        fontweight="bold",
        color=INK,
    )
    axes.margins(y=0.15)


def plot_line(axes: "Axes", xs: Sequence[float], ys: Sequence[float], colour: str, label: str) -> None:
    """Draw one curve; few points get dots so that a first epoch is not an empty panel. NaN leaves a gap."""
    few = len(xs) <= 12
    axes.plot(
        xs,
        [y if math.isfinite(y) else math.nan for y in ys],
        color=colour,
        linewidth=2,
        label=label or "_",
        marker="o" if few else "",
        markersize=4,
        solid_capstyle="round",
    )


def use_log_scale(axes: "Axes") -> None:
    """Put y on a log scale with plain numbers as labels: perplexity falls by powers of ten in the first epochs."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
