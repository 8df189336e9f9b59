"""Attention as a picture: which source tokens the model looked at while it wrote each target token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from transformer.monitoring.figure import INK, families, new_figure, put_heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLOUR_MAP = "Blues"
CELL, SMALL_CELL = 0.34, 0.16
"""Width and height of one weight, in inches, in a single heatmap and in a grid."""
LARGEST = 24.0
"""No picture is wider or higher, in inches; longer sentences get smaller cells and letters."""
CAPTION = 0.9
"""Room for a panel's caption, in inches."""


def draw_heatmap(weights: npt.ArrayLike, src_tokens: Sequence[str], tgt_tokens: Sequence[str], title: str) -> "Figure":
    """Return one heatmap: source tokens along the top, target tokens downwards, darker where more is looked at.

    The colours run from 0 to the largest weight, as the colour bar says.

    Args:
        weights: (tgt_len, src_len), not negative.
        src_tokens: src_len labels.
        tgt_tokens: tgt_len labels.
        title: stands above the picture.

    Raises:
        ValueError: the weights' shape is not (number of target tokens, number of source tokens).
    """
    matrix = _checked(weights, 2, src_tokens, tgt_tokens)
    cell = _cell(CELL, max(matrix.shape))
    left, top = _label_room(tgt_tokens), _label_room(src_tokens)
    figure = _titled_figure(cell * matrix.shape[1] + left + 1.0, cell * matrix.shape[0] + top + 0.7, title)
    axes = figure.subplots()
    image = _draw(axes, matrix, _top(matrix))
    _label(axes, src_tokens, tgt_tokens, _letters(9, cell))
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 2.5 / (cell * matrix.shape[0])), aspect=15, pad=0.02)
    _dress_bar(bar)
    return figure


def draw_heads(weights: npt.ArrayLike, src_tokens: Sequence[str], tgt_tokens: Sequence[str], title: str) -> "Figure":
    """Return a grid of heatmaps, a row per layer and a column per head, all on one scale from 0 to the largest weight.

    Args:
        weights: (n_layers, n_heads, tgt_len, src_len), not negative.
        src_tokens: src_len labels.
        tgt_tokens: tgt_len labels.
        title: stands above the picture.

    Raises:
        ValueError: the weights' shape does not end in (number of target tokens, number of source tokens).
    """
    grid = _checked(weights, 4, src_tokens, tgt_tokens)
    n_layers, n_heads, tgt_len, src_len = grid.shape
    cell = _cell(SMALL_CELL, max(n_layers * tgt_len, n_heads * src_len))
    left, top = 0.6 * _label_room(tgt_tokens), 0.6 * _label_room(src_tokens)
    width = n_heads * (max(cell * src_len, CAPTION) + 0.2) + left + 1.2
    figure = _titled_figure(width, n_layers * (cell * tgt_len + 0.45) + top + 0.6, title)
    panels = figure.subplots(n_layers, n_heads, squeeze=False)
    for layer in range(n_layers):
        for head in range(n_heads):
            axes = panels[layer, head]
            image = _draw(axes, grid[layer, head], _top(grid))
            shown = src_tokens if layer == 0 else (), tgt_tokens if head == 0 else ()
            _label(axes, *shown, _letters(6, cell))
            axes.set_xlabel(f"layer {layer + 1}, head {head + 1}", fontsize=7, color=INK)
    wide, high = figure.get_size_inches()
    _dress_bar(figure.colorbar(image, ax=panels, shrink=0.5, aspect=min(25, 5 * high), pad=max(0.01, 0.4 / wide)))
    return figure


def mean_heads(weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return (tgt_len, src_len), the mean over layers and heads of (n_layers, n_heads, tgt_len, src_len)."""
    return np.asarray(weights, dtype=np.float64).mean(axis=(0, 1))


def _checked(
    weights: npt.ArrayLike, n_axes: int, src_tokens: Sequence[str], tgt_tokens: Sequence[str]
) -> npt.NDArray[np.float64]:
    array = np.asarray(weights, dtype=np.float64)
    labels = (len(tgt_tokens), len(src_tokens))
    if array.ndim != n_axes or array.shape[-2:] != labels or 0 in array.shape:
        raise ValueError(f"weights of shape {array.shape} do not fit {labels[0]} target and {labels[1]} source tokens")
    return array


def _cell(wanted: float, n_cells: int) -> float:
    return min(wanted, LARGEST / n_cells)


def _letters(wanted: float, cell: float) -> float:
    """Points of letters of which neighbours do not overlap in cells of so many inches."""
    return min(wanted, 0.8 * 72 * cell)


def _label_room(tokens: Sequence[str]) -> float:
    return 0.3 + 0.085 * max(map(len, tokens))


def _top(weights: npt.NDArray[np.float64]) -> float:
    top = float(np.nanmax(weights, initial=0.0))
    return top if top > 0 else 1.0


def _draw(axes: "Axes", matrix: npt.NDArray[np.float64], top: float) -> "AxesImage":
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    return axes.imshow(matrix, cmap=COLOUR_MAP, vmin=0.0, vmax=top, aspect="equal", interpolation="nearest")


def _label(axes: "Axes", src_tokens: Sequence[str], tgt_tokens: Sequence[str], size: float) -> None:
    family = families("".join([*src_tokens, *tgt_tokens]))
    axes.tick_params(length=0, pad=3, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks(range(len(src_tokens)), list(src_tokens), rotation=60, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(tgt_tokens)), list(tgt_tokens))
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(fontsize=size, color=INK, family=family, parse_math=False)


def _titled_figure(width: float, height: float, title: str) -> "Figure":
    figure = new_figure(max(width, 0.12 * len(title) + 0.4), max(height, 2.4))
    put_heading(figure, title, 12)
    return figure


def _dress_bar(bar: "Colorbar") -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=INK, length=2)
    bar.set_label("attention weight", fontsize=8, color=INK)
