"""A bar on a terminal, nothing elsewhere; the items pass unchanged."""

import io

import pytest
import rich.console

from transformer.monitoring.bar import counted


@pytest.mark.parametrize("total", [5, None])
def test_on_a_terminal_it_counts_and_goes_away(total: int | None) -> None:
    file = io.StringIO()
    terminal = rich.console.Console(file=file, force_terminal=True, width=80)
    assert list(counted(iter(range(5)), total, "translating", terminal)) == list(range(5))
    told = file.getvalue()
    assert "translating" in told
    assert f"5/{total or '?'}" in told
    assert told.endswith("\x1b[2K")  # the line is cleared


def test_elsewhere_nothing_is_written() -> None:
    file = io.StringIO()
    assert list(counted("abc", 3, "scoring", rich.console.Console(file=file))) == ["a", "b", "c"]
    assert file.getvalue() == ""
