import io

import pytest

from transformer.monitoring.terminal import duration, is_live, open_terminal, printable, shared_terminal


def test_a_file_is_never_coloured_even_when_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    terminal = open_terminal(file)
    terminal.print("[bold]word[/bold] :smile: " + "x" * 200, style="bold red")
    assert file.getvalue() == "[bold]word[/bold] :smile: " + "x" * 200 + "\n"
    assert not is_live(terminal)


def test_everyone_gets_the_same_terminal():
    assert shared_terminal() is shared_terminal()


def test_control_characters_become_spaces():
    assert printable("a\x1b[2Jb\tc\nd\x07é漢\x9b") == "a [2Jb c\nd é漢 "
    assert printable("a\u200cb") == "a\u200cb"  # a non-joiner is part of a word


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (65, "1:05"), (3599.4, "59:59"), (7_384, "2:03:04")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
