"""A bar on a terminal, nothing elsewhere."""

import io
import logging
import re
import sys

import pytest
import rich.console

from transformer.monitoring.bar import counting
from transformer.monitoring.terminal import open_terminal


@pytest.mark.parametrize("total", [5, None])
def test_on_a_terminal_it_counts_and_gives_way_to_one_line(total: int | None) -> None:
    file = io.StringIO()
    terminal = rich.console.Console(file=file, force_terminal=True, width=80)
    with counting("translating", lambda: total, terminal) as done:
        done(2)
        done(3)
    told = file.getvalue()
    assert "translating" in told
    assert f"5/{total or '?'}" in told
    bar, _, after = told.rpartition("\x1b[2K")  # the bar's line is cleared
    assert "translating" in bar
    assert re.fullmatch(r"5 lines in \d+:\d\d, [\d.,]+ lines/s", after.strip())


def test_an_error_ends_the_bar_without_a_summary() -> None:
    file = io.StringIO()
    terminal = rich.console.Console(file=file, force_terminal=True, width=80)
    with pytest.raises(ZeroDivisionError), counting("translating", lambda: 5, terminal):
        raise ZeroDivisionError
    assert file.getvalue().endswith("\x1b[2K")


def test_elsewhere_nothing_is_written_and_nothing_counted() -> None:
    file = io.StringIO()

    def count() -> int:
        raise AssertionError("nobody sees it")

    with counting("scoring", count, open_terminal(file)) as done:
        done(1)
    assert file.getvalue() == ""


def test_the_log_is_written_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(sys, "__stderr__", file)
    handler = logging.StreamHandler(file)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    terminal = rich.console.Console(file=file, force_terminal=True, width=80)
    with counting("translating", lambda: 5, terminal) as done:
        done(1)
        logging.getLogger("any").warning("line 3 is long")
    assert handler.stream is file
    line = next(line for line in file.getvalue().split("\n") if "line 3 is long" in line)
    assert line.rpartition("\x1b[2K")[2].rstrip("\r") == "line 3 is long"
