"""Whom the words of a command line are for."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from transformer.commands.argument import divided, override


def test_a_command_line_is_divided() -> None:
    words = ["--cfg", "job", "name=x", "~sweep.lr", "sweep=tiny", "+sweep.a.b=1", "seed=2", "~monitor.curves"]
    own, training = divided(words)
    assert own == ["--cfg", "job", "name=x", "~sweep.lr", "sweep=tiny", "+sweep.a.b=1"]
    assert training == ["seed=2", "~monitor.curves"]


@pytest.mark.parametrize(
    "value", ["saved/a/best", "a,b", "a b", "it's", 'a "b"', "{a}", "é", "a=b", "[x]", "a:b", "\\", 'a\\"', "null", ""]
)
def test_what_is_told_is_read_back(value: str) -> None:
    for values, expected in (([value], value), ([value, "b"], [value, "b"])):
        [word] = shlex.split(override("key", *values))
        [parsed] = OverridesParser.create().parse_overrides([word])
        found = parsed.value()
        plain = [str(v) for v in found] if isinstance(found, list) else str(found or "")
        assert plain == expected or (value == "null" and found in (None, [None, "b"]))


def test_a_plain_word_is_told_without_quotes() -> None:
    assert override("checkpoint", "saved/a/best") == "checkpoint=saved/a/best"
