"""How hypotheses of different length are made comparable."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from transformer.error import UserError

MOST_ALPHA = 5.0  # so that a power of any length is a number in float32


class LengthPenalty(ABC):
    """Turns the log-probability of a hypothesis into the score it is ranked by.

    For a fixed length the score must not fall when the log-probability rises; for a fixed log-probability it must be
    monotone in the length, in either direction. `Beam` relies on both to know when no hypothesis can improve.
    """

    @abstractmethod
    def score(self, log_prob: Tensor, length: Tensor) -> Tensor:
        """Return scores, float, for log_prob, float, of hypotheses of `length`, long, tokens, EOS included."""

    def best_attainable(self, log_prob: Tensor, shortest: Tensor, longest: Tensor) -> Tensor:
        """Return what a hypothesis scores at most if it ends with `shortest` to `longest` tokens, all of one shape.

        Log-probabilities only fall while a hypothesis grows, and the score is monotone in the length, so the best is
        found at one of the ends with the log-probability of today.
        """
        return torch.maximum(self.score(log_prob, shortest), self.score(log_prob, longest))


class Wu(LengthPenalty):
    """log_prob / ((5 + length) / 6) ** alpha (Wu et al., 2016, equation 14); alpha 0 ranks by probability alone.

    Raises UserError unless alpha lies between -MOST_ALPHA and MOST_ALPHA.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = _bounded(alpha)

    def score(self, log_prob: Tensor, length: Tensor) -> Tensor:
        """Return log_prob over the penalty, see `LengthPenalty.score`."""
        return log_prob / ((5.0 + length) / 6.0) ** self.alpha


class Average(LengthPenalty):
    """log_prob / length ** alpha; alpha 1 is the mean log-probability of a token, 0 ranks by probability alone.

    Raises UserError unless alpha lies between -MOST_ALPHA and MOST_ALPHA.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = _bounded(alpha)

    def score(self, log_prob: Tensor, length: Tensor) -> Tensor:
        """Return log_prob over the normalised length, see `LengthPenalty.score`."""
        return log_prob / length.to(log_prob.dtype) ** self.alpha


def _bounded(alpha: float) -> float:
    if not abs(alpha) <= MOST_ALPHA:
        raise UserError(
            f"the length penalty's alpha must lie between -{MOST_ALPHA:g} and {MOST_ALPHA:g}, not be {alpha}"
        )
    return alpha
