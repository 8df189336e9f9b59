"""An exponential moving average of the weights, kept beside them while training goes on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """After update n (counted from 1): average <- d average + (1 - d) weights, d = min(decay, (1 + n) / (10 + n)).

    The smaller d at the beginning lets the average forget the initial weights (as in TensorFlow's
    ExponentialMovingAverage with num_updates).

    Args:
        parameters: what is averaged, updated in place by the optimizer.
        decay: 0-1; an average over about the last 1 / (1 - decay) updates.

    Attributes:
        n_updates: updates averaged so far.

    Raises:
        ValueError: the decay does not lie between 0 and 1.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay must be at least 0 and below 1, not {decay}")
        self.parameters, self.decay, self.n_updates = list(parameters), decay, 0
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes up the weights as they are after an update."""
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        get_ema_multi_avg_fn(decay)(self.averages, self.parameters, self.n_updates)

    @contextmanager
    def in_place(self) -> Iterator[list[Tensor]]:
        """Inside this context the parameters hold the averages, and what is yielded the weights; nothing is copied."""
        self._exchange()
        try:
            yield self.averages
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.data, average.data = average.data, parameter.data

    @torch.no_grad()
    def load(self, weights: Sequence[Tensor], n_updates: int) -> None:
        """Goes on from a checkpoint: the parameters, which hold the averages now, give them up for the weights."""
        self.n_updates = n_updates
        for parameter, average, weight in zip(self.parameters, self.averages, weights, strict=True):
            average.copy_(parameter)
            parameter.copy_(weight)
