"""The mean of state dicts: the formula, what it is blind to, and what has no mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.training.average import mean


@given(n=st.integers(1, 6), seed=st.integers(0, 99))
def test_it_is_the_mean_in_any_order(n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = [{"a": torch.randn(3, generator=generator), "b": torch.randn(2, 2, generator=generator)} for _ in range(n)]
    found, turned = mean(states), mean(states[::-1])
    for name in ("a", "b"):
        expected = torch.stack([state[name].double() for state in states]).mean(0)
        torch.testing.assert_close(found[name], expected.float())
        torch.testing.assert_close(found[name], turned[name])
        assert found[name].dtype == torch.float32


def test_of_one_it_is_itself_to_the_last_bit() -> None:
    state = {"a": torch.randn(5), "n": torch.tensor(3), "h": torch.randn(4).half()}
    found = mean([state])
    assert all(torch.equal(found[name], state[name]) for name in state)
    same = mean([state] * 3)
    assert all(torch.equal(same[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"a": torch.zeros(2)}, "n is in one of them only"),
        ({"a": torch.zeros(3), "n": torch.tensor(1)}, r"a is \(2,\) in one and \(3,\) in another"),
        ({"a": torch.zeros(2), "n": torch.tensor(2)}, "n differs and is no float"),
    ],
)
def test_what_does_not_go_together_is_named(other: dict[str, torch.Tensor], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        mean([{"a": torch.zeros(2), "n": torch.tensor(1)}, other])
