"""What a sweep may choose: a number in a range or one of several values, for one key of the training config."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from transformer.error import UserError

Value = str | int | float | bool | None
N_DIGITS = 4  # that count, of a real number


class Suggesting(Protocol):
    """What a dimension needs of the trial that it is chosen for; Optuna's trials have it."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from low to high."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """A whole number from low to high."""

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        """One of the choices."""


class Dimension(ABC):
    """One key and what it may be.

    Args:
        key: dotted, as on the command line of training; a group, such as model/position, too.
    """

    def __init__(self, key: str) -> None:
        if not key or "=" in key:
            raise UserError(f"key is {key!r}, but must be that of a setting of training, such as optimizer.lr")
        self.key = key

    @abstractmethod
    def suggest(self, trial: Suggesting) -> Value:
        """Choose for a trial; the same trial always gets the same."""

    @abstractmethod
    def ends(self) -> Sequence[Value]:
        """Values at the edge of what may be chosen, so that they can be tried beforehand."""


class Real(Dimension):
    """A number from low to high, rounded to four digits that count. log: as likely in each power of ten."""

    def __init__(self, key: str, low: float, high: float, log: bool) -> None:
        super().__init__(key)
        if not low < high:
            raise UserError(f"the range of {key} is empty: low ({low}) must be below high ({high})")
        if log and low <= 0:
            raise UserError(f"the range of {key} is logarithmic, so low must be above 0, not {low}")
        self.low, self.high, self.log = float(low), float(high), log

    def suggest(self, trial: Suggesting) -> float:
        """A number in the range."""
        found = trial.suggest_float(self.key, self.low, self.high, log=self.log)
        return min(self.high, max(self.low, float(f"{found:.{N_DIGITS}g}")))

    def ends(self) -> list[float]:
        """Both ends of the range."""
        return [self.low, self.high]


class Whole(Dimension):
    """A whole number from low to high, in steps."""

    def __init__(self, key: str, low: int, high: int, step: int) -> None:
        super().__init__(key)
        if not low < high:
            raise UserError(f"the range of {key} is empty: low ({low}) must be below high ({high})")
        if step < 1 or (high - low) % step:
            raise UserError(f"the range of {key}, {low} to {high}, is no whole number of steps of {step}")
        self.low, self.high, self.step = low, high, step

    def suggest(self, trial: Suggesting) -> int:
        """A whole number in the range."""
        return trial.suggest_int(self.key, self.low, self.high, step=self.step)

    def ends(self) -> list[int]:
        """Both ends of the range."""
        return [self.low, self.high]


class Choice(Dimension):
    """One of several values."""

    def __init__(self, key: str, values: list[Value]) -> None:
        super().__init__(key)
        if len(values) < 2 or any(value in values[:i] for i, value in enumerate(values)):
            raise UserError(f"the values of {key} are {values}, but must be two or more different ones")
        self.values = values

    def suggest(self, trial: Suggesting) -> Value:
        """One of the values."""
        return trial.suggest_categorical(self.key, self.values)

    def ends(self) -> list[Value]:
        """All values."""
        return self.values


def word(key: str, value: Value) -> str:
    """The override that sets a key, as on a command line."""
    told = {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value
    return f"{key}={told}"


def check_space(space: Sequence[Dimension]) -> None:
    """Raises UserError where there is nothing to choose, or a key has two dimensions."""
    if not space:
        raise UserError("the sweep has nothing to choose; name a space with sweep=NAME")
    keys = [dimension.key for dimension in space]
    if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
        raise UserError(f"{twice[0]} is in the sweep twice; leave one of them out")
