"""The epochs as a table on the terminal or in a log file, and the sentences the user should read."""

import time

import rich.console

from transformer.monitoring.terminal import duration, printable, shared_terminal
from transformer.training.observer import EpochEnd, Observer, RunStart

COLUMNS = (
    ("epoch", 5),
    ("train loss", 10),
    ("valid loss", 10),
    ("valid ppl", 9),
    ("acc", 5),
    ("BLEU", 6),
    ("lr", 8),
    ("tok/s", 7),
    ("time", 8),
)
"""Heading and width; with a space between and a mark behind, a row takes 77 columns."""


class Console(Observer):
    """Prints one row per epoch under a header printed once, and messages as they come.

    The row of the best epoch so far ends in `*`. On a terminal rows are coloured and stay above the progress bar;
    in a file they are plain lines without control characters.
    """

    def __init__(self, terminal: rich.console.Console | None = None) -> None:
        self.terminal = terminal or shared_terminal()
        self.header_printed = False
        self.best: EpochEnd | None = None
        self.checkpoint = ""
        self.started: float | None = None

    def on_start(self, start: RunStart) -> None:
        """Print what is trained and for how long."""
        self.started = time.monotonic()
        self._print(start_line(start), "bold")

    def on_epoch(self, end: EpochEnd) -> None:
        """Print the epoch's row, and the header above the first."""
        if not self.header_printed:
            self.header_printed = True
            self._print(header(), "bold")
            self._print("-" * len(header()), "dim")
        self._print(row(end), "green" if end.best else "")
        if end.best:
            self.best = end

    def on_rollback(self, step: int) -> None:
        """Forget a best epoch that is void."""
        if self.best is not None and self.best.step > step:
            self.best = None

    def on_checkpoint(self, path: str, step: int) -> None:
        """Remember the path for the closing line; a line each time would tear the table apart."""
        self.checkpoint = path

    def on_message(self, text: str) -> None:
        """Print the sentence."""
        self._print(printable(text), "yellow")

    def on_end(self) -> None:
        """Print the best epoch, the last checkpoint and the time."""
        if self.best is not None:
            self._print(best_line(self.best), "bold")
        if self.checkpoint:
            self._print(f"last checkpoint: {printable(self.checkpoint)}", "")
        if self.started is not None:
            self._print(f"trained for {duration(time.monotonic() - self.started)}", "")

    def _print(self, text: str, style: str) -> None:
        self.terminal.print(text, style=style or None)


def start_line(start: RunStart) -> str:
    """Return e.g. `small: 2,613,248 parameters, 227 steps per epoch, at most 60 epochs, resuming after step 4,540`."""
    parts = [f"{start.n_parameters:,} parameters", f"{start.steps_per_epoch:,} steps per epoch"]
    ends = ((start.max_epochs, "epoch"), (start.max_steps, "step"))
    limits = [f"{n:,} {what}{'s' if n != 1 else ''}" for n, what in ends if n is not None]
    if limits:
        parts.append("at most " + " or ".join(limits))
    if start.resumed_step:
        parts.append(f"resuming after step {start.resumed_step:,}")
    return f"{printable(start.name)}: {', '.join(parts)}"


def header() -> str:
    """Return the table's headings, each over the right edge of its column."""
    return " ".join(f"{name:>{width}}" for name, width in COLUMNS)


def row(end: EpochEnd) -> str:
    """Return the epoch's row, at most 77 columns wide; `-` for a BLEU not computed, `*` behind the best epoch."""
    cells = (
        str(end.epoch),
        fixed(end.train_loss, 4, 10),
        fixed(end.valid_loss, 4, 10),
        fixed(end.valid_perplexity, 2, 9),
        fixed(end.valid_accuracy, 1, 5),
        "-" if end.bleu is None else fixed(end.bleu, 2, 6),
        f"{end.learning_rate:.2e}",
        fixed(end.tokens_per_second, 0, 7),
        duration(end.seconds),
    )
    line = " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return f"{line} *" if end.best else line


def fixed(value: float, digits: int, width: int) -> str:
    """Return `value` with `digits` decimals, or in powers of ten where that is wider than `width`."""
    text = f"{value:.{digits}f}"
    return text if len(text) <= width else f"{value:.2g}"


def best_line(end: EpochEnd) -> str:
    """Return the best epoch in one line, BLEU with its signature."""
    if end.bleu is None:
        return f"best: epoch {end.epoch}, validation loss {end.valid_loss:.4f}"
    signature = f" ({end.bleu_signature})" if end.bleu_signature else ""
    return f"best: epoch {end.epoch}, validation loss {end.valid_loss:.4f}, BLEU {end.bleu:.2f}{signature}"
