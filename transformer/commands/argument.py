"""The words of a command line, and whom they are for."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields

from transformer.config import SweepConfig

OWN = tuple(field.name for field in fields(SweepConfig))


def key_of(argument: str) -> str:
    """The key of a word on a command line."""
    return argument.lstrip("+~").partition("=")[0]


def _escaped(value: str) -> str:
    """A value as it stands between Hydra's double quotes: backslashes count only before a quote."""
    return re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value)


def override(key: str, *values: str) -> str:
    """KEY=VALUE, of several values a list, so that a shell and then Hydra read them as they are."""
    plain = re.compile(r"[\w./+-]+", re.ASCII)
    told = [value if plain.fullmatch(value) else f'"{_escaped(value)}"' for value in values]
    return shlex.quote(f"{key}={told[0] if len(told) == 1 else '[' + ','.join(told) + ']'}")


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line that are for the sweep, and those that are for the training of each trial."""

    def is_own(argument: str) -> bool:
        is_override = "=" in argument or argument.startswith("~")
        return argument.startswith("-") or not is_override or re.split(r"[.@]", key_of(argument))[0] in OWN

    return [a for a in arguments if is_own(a)], [a for a in arguments if not is_own(a)]
