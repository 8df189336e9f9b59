import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformer.decoding.penalty import Average, LengthPenalty, Wu
from transformer.error import UserError


def scored(penalty: LengthPenalty, log_prob: float, length: int) -> float:
    return float(penalty.score(torch.tensor([log_prob]), torch.tensor([length])))


def test_wu_follows_the_formula():
    assert scored(Wu(0.6), -7.0, 10) == pytest.approx(-7.0 / ((5 + 10) / 6) ** 0.6)
    assert scored(Wu(1.0), -7.0, 1) == pytest.approx(-7.0)


def test_average_follows_the_formula():
    assert scored(Average(1.0), -7.0, 10) == pytest.approx(-0.7)
    assert scored(Average(0.5), -7.0, 10) == pytest.approx(-7.0 / math.sqrt(10))


@pytest.mark.parametrize("family", [Wu, Average])
def test_alpha_zero_is_the_log_prob(family):
    assert scored(family(0.0), -7.0, 10) == -7.0


@pytest.mark.parametrize("family", [Wu, Average])
@given(
    alpha=st.floats(-2, 3),
    log_prob=st.floats(-50, 0),
    falls=st.floats(0, 20),
    shortest=st.integers(1, 30),
    more=st.integers(0, 60),
    share=st.floats(0, 1),
)
def test_nothing_scores_above_the_best_attainable(family, alpha, log_prob, falls, shortest, more, share):
    penalty = family(alpha)
    best = penalty.best_attainable(torch.tensor(log_prob), torch.tensor(shortest), torch.tensor(shortest + more))
    length = shortest + round(share * more)
    assert scored(penalty, log_prob - falls, length) <= float(best) * (1 - 1e-6) + 1e-6


def test_best_attainable_is_attained():
    log_prob, shortest, longest = torch.tensor(-6.0), torch.tensor(4), torch.tensor(9)
    assert Wu(1.0).best_attainable(log_prob, shortest, longest) == pytest.approx(-6.0 / (14 / 6))
    assert Wu(-1.0).best_attainable(log_prob, shortest, longest) == pytest.approx(-6.0 * (9 / 6))


def test_a_dead_hypothesis_attains_nothing():
    dead = Wu(1.0).best_attainable(torch.tensor(float("-inf")), torch.tensor(4), torch.tensor(9))
    assert dead == float("-inf")


@pytest.mark.parametrize("family", [Wu, Average])
@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), 1000.0, -11.0])
def test_alpha_must_leave_scores_that_are_numbers(family, alpha):
    with pytest.raises(UserError, match=f"alpha must lie between -5 and 5, not be {alpha}$"):
        family(alpha)
    lengths = torch.tensor([1, 2, 9999])
    for extreme in (-5.0, 5.0):
        scores = family(extreme).score(torch.full((3,), -1.0), lengths)
        assert torch.isfinite(scores).all()
        assert (scores < 0).all()
