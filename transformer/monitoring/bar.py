"""A bar for work on lines: how many are done, how fast, how long it will take. On a terminal only."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from transformer.monitoring.terminal import duration, is_live, open_terminal


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(_speed(task.speed) if task.speed else "")


def _speed(lines_per_second: float) -> str:
    return f"{lines_per_second:,.0f} lines/s" if lines_per_second >= 10 else f"{lines_per_second:.1f} lines/s"


@contextmanager
def counting(
    what: str, total: Callable[[], int | None], terminal: rich.console.Console | None
) -> Iterator[Callable[[int], None]]:
    """Shows, while work goes on, how many lines are done, and at its end how long it took.

    Args:
        what: is done, such as "translating".
        total: how many lines there will be, None where that is not known; asked only if there is something to show.
        terminal: where to show it; None: standard error. If that is no terminal, nothing is shown.

    Yields:
        A function to be told each time how many more lines are done.
    """
    terminal = terminal or open_terminal(sys.stderr)
    if not is_live(terminal):
        yield lambda n_lines: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    started = time.monotonic()
    with Progress(*columns, console=terminal, transient=True, redirect_stdout=False) as bar, _messages_above():
        task = bar.add_task(what, total=total())
        yield lambda n_lines: bar.advance(task, n_lines)
    n_lines, seconds = bar.tasks[0].completed, time.monotonic() - started
    speed = _speed(n_lines / max(seconds, 1e-9))
    terminal.print(f"{n_lines:,.0f} lines in {duration(seconds)}, {speed}", highlight=False)


@contextmanager
def _messages_above() -> Iterator[None]:
    """Has the log written above the bar: its handlers hold the stream that the bar has just wrapped."""
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler)]
    moved = [(handler, handler.stream) for handler in handlers if handler.stream is sys.__stderr__]
    for handler, _ in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler, stream in moved:
            handler.setStream(stream)
