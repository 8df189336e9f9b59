"""What a sweep may choose: ranges that make sense, values in them, words that say them."""

from collections.abc import Sequence
from typing import Any

import pytest

from transformer.error import UserError
from transformer.training.space import Choice, Real, Value, Whole, check_space, word


class Scripted:
    """Gives what it was told to give, and keeps what it was asked."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.asked: tuple[Any, ...] = ()

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked = (name, low, high, log)
        return float(self.value)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        self.asked = (name, low, high, step)
        return int(self.value)

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        self.asked = (name, choices)
        return choices[self.value]


def test_each_kind_asks_for_what_it_is() -> None:
    trial = Scripted(0.00123456)
    assert Real("optimizer.lr", 1e-3, 1e-2, log=True).suggest(trial) == 0.001235
    assert trial.asked == ("optimizer.lr", 1e-3, 1e-2, True)
    trial = Scripted(6)
    assert Whole("model.n_heads", 2, 8, step=2).suggest(trial) == 6
    assert trial.asked == ("model.n_heads", 2, 8, 2)
    assert Choice("model/position", ["rotary", "alibi"]).suggest(Scripted(1)) == "alibi"


def test_rounding_does_not_leave_the_range() -> None:
    assert Real("a", 0.12344, 0.2, log=False).suggest(Scripted(0.123444)) == 0.12344
    assert Real("a", 0.1, 0.123446, log=False).suggest(Scripted(0.123446)) <= 0.123446


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Real("a.b", 1.0, 1.0, log=False), "the range of a.b is empty: low (1.0) must be below high (1.0)"),
        (lambda: Real("a.b", 0.0, 1.0, log=True), "the range of a.b is logarithmic, so low must be above 0, not 0.0"),
        (lambda: Whole("a.b", 4, 2, step=1), "the range of a.b is empty: low (4) must be below high (2)"),
        (lambda: Whole("a.b", 1, 4, step=2), "the range of a.b, 1 to 4, is no whole number of steps of 2"),
        (lambda: Choice("a.b", [1]), "the values of a.b are [1], but must be two or more different ones"),
        (lambda: Choice("a.b", ["x", "y", "x"]), "the values of a.b are ['x', 'y', 'x'], but must be two or more"),
        (lambda: Real("", 0.0, 1.0, log=False), "key is '', but must be that of a setting of training"),
        (lambda: check_space([]), "the sweep has nothing to choose; name a space with sweep=NAME"),
        (lambda: check_space([Choice("a", [1, 2]), Choice("a", [3, 4])]), "a is in the sweep twice; leave one of"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: Any, sentence: str) -> None:
    with pytest.raises(UserError) as told:
        make()
    assert str(told.value).startswith(sentence)


def test_values_as_words() -> None:
    values: list[Value] = [0.001, 2, "rotary", None, True, False]
    assert [word("k", v) for v in values] == ["k=0.001", "k=2", "k=rotary", "k=null", "k=true", "k=false"]
