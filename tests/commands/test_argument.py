"""Whom the words of a command line are for."""

from transformer.commands.argument import divided


def test_a_command_line_is_divided() -> None:
    words = ["--cfg", "job", "name=x", "~sweep.lr", "sweep=tiny", "+sweep.a.b=1", "seed=2", "~monitor.curves"]
    own, training = divided(words)
    assert own == ["--cfg", "job", "name=x", "~sweep.lr", "sweep=tiny", "+sweep.a.b=1"]
    assert training == ["seed=2", "~monitor.curves"]
