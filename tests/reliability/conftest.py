"""How many cases the fuzzing tests tried, printed when the tests have ended."""

import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import settings

TRIED: Counter[str] = Counter()
LONG = "TRANSFORMER_FUZZ_EXAMPLES"  # cases a fuzzing test; set, they are drawn anew in each run

settings.register_profile("fuzz", deadline=None, derandomize=LONG not in os.environ, print_blob=True)


@pytest.fixture(scope="session")
def tried() -> Callable[[str, str], None]:
    """Counts a case: tried(what was tried, how it ended)."""

    def count(what: str, end: str) -> None:
        TRIED[f"{what}: {end}"] += 1

    return count


@pytest.fixture(scope="session")
def sentence() -> Callable[[BaseException], str]:
    """The one sentence of a UserError, checked to be one."""

    def checked(error: BaseException) -> str:
        told = str(error)
        assert told.strip() == told
        assert told
        assert len(told.splitlines()) == 1, told
        return told

    return checked


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep to one thread: the tensors here are so small that several only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TRIED:
        terminalreporter.section("fuzzing: cases tried")
        for what, n in sorted(TRIED.items()):
            terminalreporter.write_line(f"{n:7,} {what}")
        terminalreporter.write_line(f"{sum(TRIED.values()):7,} in all")
