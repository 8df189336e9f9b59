"""Schedule-Free AdamW, behind the extra `schedulefree`: an average of the weights does what a falling rate would."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from transformer.error import UserError
from transformer.training.moving_average import StandIn
from transformer.training.shard import sharded_like


class ScheduleFreeAdamW(torch.optim.Optimizer, StandIn):
    """Gradients are taken at y, between the iterate z and the average x of all z; x is validated and saved.

    (Defazio et al., 2024.) The package's own warm-up stays off, for a run's schedule has one. An iterate counts in the
    average by the square of the highest rate so far, so that those of the warm-up count little.

    Args:
        params: groups or tensors.
        lr: the peak.
        betas: how much of x is in y; the decay of the mean of squared gradients.
        eps: added to the root of that mean.
        weight_decay: decoupled, at y.

    Raises:
        UserError: the package is missing.
        ValueError: a value out of its range.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        if importlib.util.find_spec("schedulefree") is None:
            raise UserError(
                "optimizer=schedule_free_adamw needs the package schedulefree: pip install 'transformer[schedulefree]'"
            )
        from schedulefree import AdamWScheduleFree

        if not (0 < betas[0] < 1 and 0 <= betas[1] < 1):  # the package checks nothing, and divides by the first
            raise ValueError(f"betas must lie between 0 and 1, not {list(betas)}")
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        self.inner = AdamWScheduleFree(params, lr, betas, eps, weight_decay, warmup_steps=0)
        self.inner.train()
        super().__init__(self.inner.param_groups, {})
        self._share()

    def _share(self) -> None:
        """One state and one list of groups."""
        self.inner.state, self.inner.param_groups = self.state, self.param_groups

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; returns what the closure, if any, does."""
        for parameter in self._parameters():
            if parameter.grad is not None:  # the package overwrites gradients, at which others may still look
                parameter.grad = parameter.grad.clone()
        return self.inner.step(closure)

    def update(self) -> None:
        """Nothing is left to do: `step` has moved the average."""

    @contextmanager
    def in_place(self) -> Iterator[dict[str, Any]]:
        """Inside this context the parameters hold x; what is yielded is y, from which `load` goes on."""
        trained = [p.detach().clone() for p in self._parameters()]
        self.inner.eval()
        try:
            yield {"weights": trained}
        finally:
            self.inner.train()
            self.load({"weights": trained})  # the package's way back is rounded

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint: the parameters, which hold x now, get y."""
        for parameter, weight in zip(self._parameters(), state["weights"], strict=True):
            parameter.copy_(sharded_like(weight, parameter))

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self.param_groups for p in group["params"]]
