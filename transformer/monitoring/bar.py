"""A bar for work on lines: how many are done, how fast, how long it will take. On a terminal only."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

T = TypeVar("T")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} lines/s" if task.speed else "")


def counted(items: Iterable[T], total: int | None, what: str, terminal: rich.console.Console | None) -> Iterator[T]:
    """Yields the items, showing on the terminal how many there were.

    Args:
        items: anything; one is a line.
        total: how many there will be, or None where that is not known.
        what: is done, such as "translating".
        terminal: where to show it; None: standard error. If that is no terminal, nothing is shown.
    """
    terminal = terminal or rich.console.Console(file=sys.stderr)
    if not terminal.is_terminal:
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)
