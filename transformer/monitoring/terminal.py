"""The one terminal that table, messages and progress bar share, so that a line printed goes above a live bar."""

import functools
import sys
import unicodedata
from typing import TextIO

import rich.console


def open_terminal(file: TextIO) -> rich.console.Console:
    """Return a rich console on `file`: colours and a live bar on a terminal, bare text anywhere else.

    Only the file decides. rich would also colour a log file when FORCE_COLOR is set; a log file is read by programs.
    """
    return rich.console.Console(
        file=file,
        force_terminal=file.isatty(),
        force_jupyter=False,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


@functools.cache
def shared_terminal() -> rich.console.Console:
    """Return the process's terminal on standard output, the same one at every call."""
    return open_terminal(sys.stdout)


def is_live(terminal: rich.console.Console) -> bool:
    """Return whether a line can be redrawn in place: a terminal, and not a dumb one."""
    return terminal.is_terminal and not terminal.is_dumb_terminal


def printable(text: str) -> str:
    """Return `text` with every control character but the line break as a space: it must not move the cursor.

    What joins letters or keeps them apart, as in Persian, is no control character.
    """
    moving = ("Cc", "Cs", "Zl", "Zp")
    return "".join(" " if c != "\n" and unicodedata.category(c) in moving else c for c in text)


def duration(seconds: float) -> str:
    """Return h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
