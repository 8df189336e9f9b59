"""Weights that stand in for those that are trained when a model is validated or saved, such as their moving average."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from transformer.error import UserError
from transformer.training.shard import is_sharded, own_part, sharded_like


class StandIn(ABC):
    """Weights that stand in for those that are trained wherever a model is validated or saved."""

    @abstractmethod
    def update(self) -> None:
        """Takes up the weights as they are after an update that was not left out."""

    @abstractmethod
    def in_place(self) -> AbstractContextManager[dict[str, Any]]:
        """Inside this context the parameters hold the stand-ins; what is yielded is for `load`, tensors and numbers."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint: the parameters, which hold the stand-ins now, get the weights that are trained."""


class MovingAverage(StandIn):
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
    def in_place(self) -> Iterator[dict[str, Any]]:
        """Inside this context the parameters hold the averages, and what is yielded the weights."""
        self._exchange()
        try:
            yield {"n_updates": self.n_updates, "weights": self.averages}
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            if is_sharded(parameter):  # torch holds on to the memory of its part
                held, other = own_part(parameter.detach()), own_part(average)
                before = held.clone()
                held.copy_(other)
                other.copy_(before)
            else:
                parameter.data, average.data = average.data, parameter.data

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint: the parameters, which hold the averages now, give them up for the weights."""
        self.n_updates = state["n_updates"]
        for parameter, average, weight in zip(self.parameters, self.averages, state["weights"], strict=True):
            average.copy_(parameter)
            parameter.copy_(sharded_like(weight, parameter))


def stand_in(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], ema_decay: float | None) -> StandIn | None:
    """What stands in for the weights of a run, or None for the weights themselves.

    Args:
        optimizer: one that averages by itself is its own stand-in.
        parameters: what it updates.
        ema_decay: of a moving average, or None for none.

    Raises:
        UserError: two averages are asked for.
    """
    if not isinstance(optimizer, StandIn):
        return None if ema_decay is None else MovingAverage(parameters, ema_decay)
    if ema_decay is not None:
        raise UserError(
            f"training.ema_decay is {ema_decay}, but {type(optimizer).__name__} averages the weights by itself; "
            "set training.ema_decay=null or choose another optimizer"
        )
    return optimizer
