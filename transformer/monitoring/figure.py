"""What all pictures share: colours, fonts, the way to PNG. matplotlib is imported on first use: it takes a second."""

import functools
import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2", "#efb118", "#6cc5b0", "#9c6b4e", "#ff8ab7", "#97bbf5", "#9498a0")
"""Told apart by the colour-blind and in print."""
INK = "#333333"
FAINT = "#dddddd"
DOTS_PER_INCH = 150


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of `width` by `height` inches, drawn without a display and without global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12, wspace=0.03, hspace=0.04)  # type: ignore[union-attr, call-arg]
    return figure


def put_heading(figure: "Figure", text: str, size: float) -> None:
    """Put a line of `size` points above the figure, flush left; `$` and `_` in it mean themselves."""
    figure.suptitle(
        text, x=0.015, ha="left", fontsize=size, fontweight="bold", color=INK, parse_math=False, family=families(text)
    )


def dress(axes: "Axes", title: str, x_label: str) -> None:
    """Give a panel its title and a quiet frame: two spines, a faint horizontal grid, whole numbers along x."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=8)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#999999")


def use_log_scale(axes: "Axes") -> None:
    """Put y on a log scale with plain numbers as labels: perplexity falls by powers of ten in the first epochs."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def plot_line(axes: "Axes", xs: Sequence[float], ys: Sequence[float], colour: str, label: str) -> None:
    """Draw one curve; few points get dots so that a first epoch is not an empty panel. NaN leaves a gap."""
    axes.plot(
        xs,
        [y if math.isfinite(y) else math.nan for y in ys],
        color=colour,
        linewidth=2,
        label=label or "_",
        marker="o" if len(xs) <= 12 else "",
        markersize=4,
        solid_capstyle="round",
    )


def mark_best(axes: "Axes", x: float, y: float, colour: str) -> None:
    """Put a dot and its value at the best point of a curve."""
    axes.plot([x], [y], "o", color=colour, markersize=7, markeredgecolor="white", zorder=4)
    axes.annotate(
        f"{y:.2f}",
        (x, y),
        (0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=10,
        fontweight="bold",
        color=INK,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
    )


def to_png(figure: "Figure") -> bytes:
    """Return the figure as PNG, the same bytes for the same drawing."""
    return _render(figure, "png", {"Software": None})


def pixels(figure: "Figure") -> npt.NDArray[np.uint8]:
    """Return the figure as it looks on a screen, uint8 (height, width, 3)."""
    from matplotlib import image

    with io.BytesIO(to_png(figure)) as file:
        return np.ascontiguousarray((255 * image.imread(file)[:, :, :3]).round().astype(np.uint8))


def to_svg(figure: "Figure") -> str:
    """Return the figure as an `<svg>` element to stand in a page, the same text for the same drawing."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "figure"}):
        text = _render(figure, "svg", {"Date": None, "Creator": None}).decode()
    return text[text.index("<svg") :]


def _render(figure: "Figure", kind: str, metadata: dict[str, None]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # No font on this machine has the character: a box in the picture says so.
        warnings.filterwarnings("ignore", message="Glyph .* missing from (current )?font", category=UserWarning)
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


@functools.cache
def families(text: str) -> tuple[str, ...]:
    """Return the font families that `text` needs: matplotlib's own, then installed ones for characters it lacks."""
    from matplotlib import font_manager

    own = "DejaVu Sans"
    lacking = {ord(c) for c in text if c.isprintable()} - _characters(font_manager.findfont(own))
    found = [own]
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.fname) if lacking else ():
        if entry.name.startswith("Last Resort"):
            continue  # has every character, each as the same box
        covered = lacking & _characters(entry.fname)
        if covered:
            found.append(entry.name)
            lacking -= covered
    return tuple(found)


@functools.cache
def _characters(font_file: str) -> frozenset[int]:
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_file).get_charmap())
