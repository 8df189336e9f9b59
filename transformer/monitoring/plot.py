"""Several runs on one picture, read from their folders."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.error import UserError
from transformer.monitoring.figure import COLOURS, INK, dress, families, new_figure, plot_line, use_log_scale
from transformer.monitoring.record import METRICS_FILE, read_epochs
from transformer.training.observer import EpochEnd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES: dict[str, Callable[[Sequence[EpochEnd]], list[float]]] = {
    "epoch": lambda epochs: [e.epoch for e in epochs],
    "step": lambda epochs: [e.step for e in epochs],
    "hours": lambda epochs: list(accumulate(e.seconds / 3600 for e in epochs)),
    "million target tokens": lambda epochs: list(accumulate(e.n_tgt_tokens / 1e6 for e in epochs)),
}
"""What may run along x, each from a run's epochs; hours are wall time, validation included."""

WHOLE = ("epoch", "step")
PANELS = {
    "bleu": "BLEU, validation",
    "valid_loss": "Loss, validation, nats per token",
    "valid_perplexity": "Perplexity, validation",
    "train_perplexity": "Perplexity, training",
}
"""Field -> title."""


def read_runs(folders: Sequence[str | Path]) -> dict[str, list[EpochEnd]]:
    """Return run name -> epochs; a run is called as its folder, with as many parents as tell it from the others.

    Raises:
        UserError: a folder without metrics.jsonl or with an empty one, or the same folder twice.
    """
    paths = [Path(folder).resolve() for folder in folders]
    runs = {}
    for name, path in zip(_names(paths), paths, strict=True):
        if not (path / METRICS_FILE).exists():
            raise UserError(f"{path} has no {METRICS_FILE}; name folders of runs' results, such as results/NAME")
        epochs = read_epochs(path)
        if not epochs:
            raise UserError(f"{path / METRICS_FILE} holds no epoch; name folders of runs that finished at least one")
        runs[name] = epochs
    return runs


def draw_runs(runs: Mapping[str, Sequence[EpochEnd]], x: str) -> "Figure":
    """Return a figure of four panels, a colour per run: BLEU, loss and perplexity on validation, training perplexity.

    The legend gives each run's best BLEU, or its lowest validation loss where none of its epochs has BLEU.

    Args:
        runs: run name -> epochs in order.
        x: what runs along x, a key of `AXES`.

    Raises:
        UserError: `x` is no key of `AXES`.
    """
    if x not in AXES:
        raise UserError(f"x ({x}) must be one of: {', '.join(AXES)}")
    figure = new_figure(11, 7.4 + 0.22 * math.ceil(len(runs) / 2))
    panels = dict(zip(PANELS, figure.subplots(2, 2).flat, strict=True))
    for field, axes in panels.items():
        dress(axes, PANELS[field], x)
        axes.xaxis.get_major_locator().set_params(integer=x in WHOLE)
    for index, (name, epochs) in enumerate(runs.items()):
        xs = AXES[x](epochs)
        for field, axes in panels.items():
            points = [(a, b) for a, b in zip(xs, (getattr(e, field) for e in epochs), strict=True) if b is not None]
            plot_line(axes, [a for a, _ in points], [b for _, b in points], COLOURS[index % len(COLOURS)], name)
            axes.get_lines()[-1].set_linestyle(("-", "--", ":", "-.")[index // len(COLOURS) % 4])
    for field, axes in panels.items():
        axes.set_xlim(left=0)
        if field.endswith("perplexity"):
            use_log_scale(axes)
    handles = panels["valid_loss"].get_lines()
    labels = [f"{name}   {result(epochs)}" for name, epochs in runs.items()]
    legend = figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=10)
    for text in legend.get_texts():
        text.set(color=INK, family=families(text.get_text()), parse_math=False)
    return figure


def result(epochs: Sequence[EpochEnd]) -> str:
    """Return a run's best BLEU and its epoch, e.g. `BLEU 40.41 (epoch 22)`; without BLEU the lowest validation loss."""
    scored = [(e.bleu, e.epoch) for e in epochs if e.bleu is not None and math.isfinite(e.bleu)]
    if scored:
        bleu, epoch = max(scored, key=lambda point: point[0])
        return f"BLEU {bleu:.2f} (epoch {epoch})"
    losses = [(e.valid_loss, e.epoch) for e in epochs if math.isfinite(e.valid_loss)]
    if not losses:
        return "diverged"
    loss, epoch = min(losses)
    return f"loss {loss:.3f} (epoch {epoch})"


def _names(paths: Sequence[Path]) -> list[str]:
    for n_parts in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-n_parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    if paths:
        twice = next(path for path in paths if list(paths).count(path) > 1)
        raise UserError(f"{twice} is named twice; name each run's folder once")
    return []
