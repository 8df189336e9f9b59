"""A live line under the table: epoch, steps, loss, speed, time left, best BLEU. Quiet in a log file."""

import math
import time

import rich.console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from transformer.monitoring.terminal import duration, is_live, shared_terminal
from transformer.training.observer import EpochEnd, Observer, RunStart, StepEnd

SMOOTHING = 0.95
"""Weight of the past in the shown loss and speed, per step."""


class Progress(Observer):
    """Shows the epoch under way as a bar on a terminal; writes nothing at all anywhere else.

    Time left is that of the whole run where its end is known, from the wall time per step since the start, validation
    included; else that of the epoch.
    """

    def __init__(self, terminal: rich.console.Console | None = None) -> None:
        self.terminal = terminal or shared_terminal()
        self.bar: Bar | None = None
        self.task = TaskID(0)
        self.start: RunStart | None = None
        self.started = 0.0
        self.loss = Smooth(SMOOTHING)
        self.seconds_per_token = Smooth(SMOOTHING)
        self.best_bleu: float | None = None

    def on_start(self, start: RunStart) -> None:
        """Show an empty bar."""
        self.start = start
        self.started = time.monotonic()
        if not is_live(self.terminal):
            return
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True)),
            console=self.terminal,
            expand=True,
            transient=True,
        )
        self.task = self.bar.add_task("epoch 1", total=start.steps_per_epoch, numbers="")
        self.bar.start()

    def on_step(self, end: StepEnd) -> None:
        """Move the bar."""
        if self.bar is None or self.start is None:
            return
        self.loss.add(end.loss)
        if end.n_tgt_tokens:
            self.seconds_per_token.add(end.seconds / end.n_tgt_tokens)
        validating = end.step_in_epoch >= self.start.steps_per_epoch
        of = "" if self.start.max_epochs is None else f"/{self.start.max_epochs}"
        self.bar.update(
            self.task,
            completed=end.step_in_epoch,
            total=max(self.start.steps_per_epoch, end.step_in_epoch),
            description="validating" if validating else f"epoch {end.epoch}{of}",
            numbers=self._numbers(end),
        )

    def on_epoch(self, end: EpochEnd) -> None:
        """Remember the best BLEU."""
        if end.bleu is not None and (self.best_bleu is None or end.bleu > self.best_bleu):
            self.best_bleu = end.bleu

    def on_end(self) -> None:
        """Take the bar away and give the cursor back."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _numbers(self, end: StepEnd) -> str:
        assert self.start is not None
        parts = [f"loss {self.loss.value:.3f}", f"{speed(self.seconds_per_token.value)} tok/s"]
        if self.best_bleu is not None:
            parts.append(f"BLEU {self.best_bleu:.2f}")
        steps = steps_left(self.start, end)
        seconds = (time.monotonic() - self.started) / max(1, end.step - self.start.resumed_step)
        parts.append(f"{duration(steps * seconds)} left")
        return " ".join(parts)


class Smooth:
    """An exponential mean that starts at its first value."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self.value = math.nan

    def add(self, value: float) -> None:
        """Take in one value; after a NaN the mean starts anew."""
        self.value = value if math.isnan(self.value) else self.keep * self.value + (1 - self.keep) * value


def steps_left(start: RunStart, end: StepEnd) -> int:
    """Return the updates until the run's nearest known end, or until the epoch's when none is known."""
    ends = [end.step - end.step_in_epoch + start.steps_per_epoch]
    if start.max_epochs is not None:
        ends = [ends[0] + (start.max_epochs - end.epoch) * start.steps_per_epoch]
    if start.max_steps is not None:
        ends = [start.max_steps] if start.max_epochs is None else [min(ends[0], start.max_steps)]
    return max(0, ends[0] - end.step)


def speed(seconds_per_token: float) -> str:
    """Return tokens per second in at most four characters: 980, 6.3k, 120k, 1.2M; `-` when unknown."""
    if math.isnan(seconds_per_token) or seconds_per_token <= 0:
        return "-"
    rate = 1 / seconds_per_token
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if rate >= factor:
            shown = rate / factor
            return f"{shown:.1f}{unit}" if shown < 10 else f"{shown:.0f}{unit}"
    return f"{rate:.0f}"
