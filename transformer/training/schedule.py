"""Learning-rate schedules: the factor, at most 1, by which the optimizer's peak rate is multiplied."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from transformer.error import UserError


def warmup(step: int, warmup_steps: int) -> float:
    """Linear from 1/warmup_steps at step 1 to 1 at step warmup_steps, then 1."""
    return min(1.0, step / warmup_steps) if warmup_steps > 0 else 1.0


def share(name: str, value: float) -> float:
    """The value, if it lies between 0 and 1.

    Raises:
        ValueError: it does not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, not be {value}")
    return value


class Schedule(ABC):
    """The learning rate of update `step` (counted from 1) is the optimizer's configured rate times `factor(step)`.

    The configured rate is therefore the peak that the optimizer really sees.

    Args:
        warmup_steps: updates of linear warm-up; 0 for none.
    """

    def __init__(self, warmup_steps: int) -> None:
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, not {warmup_steps}")
        self.warmup_steps = warmup_steps

    @abstractmethod
    def factor(self, step: int) -> float:
        """The factor, 0-1, of update `step`, counted from 1."""

    @property
    def is_open(self) -> bool:
        """Whether it comes to an end, but has to be told which update that is: see `end_with`."""
        return False

    def end_with(self, step: int) -> str | None:
        """Takes the last update of the training; returns a sentence when that is another than before.

        Raises:
            UserError: there are too few updates for it.
        """
        return None

    def observe(self, metrics: dict[str, float], step: int) -> str | None:
        """Takes an epoch's validation metrics, after update `step`; returns a sentence when the rate is cut for it."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on as if never stopped."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict`; there is nothing to take up where that is empty."""
        if state:
            raise ValueError(f"a {type(self).__name__} schedule has no state, but was given {state}")


class Constant(Schedule):
    """Warm-up, then 1."""

    def factor(self, step: int) -> float:
        """The factor, 0-1, of update `step`, counted from 1."""
        return warmup(step, self.warmup_steps)


class InverseSqrt(Schedule):
    """Warm-up, then sqrt(warmup_steps / step).

    Vaswani et al. (2017, equation 3), "noam", is this shape with the peak (d_model * warmup_steps)^-0.5.
    """

    def factor(self, step: int) -> float:
        """The factor, 0-1, of update `step`, counted from 1."""
        return min(warmup(step, self.warmup_steps), math.sqrt(max(1, self.warmup_steps) / step))


class Ending(Schedule):
    """One that comes to `final_factor` at `total_steps`, and stays there.

    Args:
        warmup_steps: updates of linear warm-up.
        total_steps: the update that reaches the final factor; None for the last of the training. A run that goes on
            for longer than it was meant to has another one then, and the rate rises to what it is there.
        final_factor: 0-1.
    """

    def __init__(self, warmup_steps: int, total_steps: int | None, final_factor: float) -> None:
        super().__init__(warmup_steps)
        if total_steps is not None and total_steps <= warmup_steps:
            raise ValueError(f"total_steps ({total_steps}) must be more than warmup_steps ({warmup_steps})")
        self.total_steps, self.final_factor = total_steps, share("final_factor", final_factor)
        self._last: int | None = None  # update of the training, where total_steps is None

    @property
    def is_open(self) -> bool:
        """Whether it has to be told which update is the last."""
        return self.total_steps is None

    def end_with(self, step: int) -> str | None:
        """See Schedule; nothing that was given changes."""
        if not self.is_open:
            return None
        before, self._last = self._last, step
        if before in (None, step):
            return None
        return f"the learning rate comes down until update {step:,}, the last one; before it was {before:,}"

    def _end(self) -> int:
        end = self._last if self.total_steps is None else self.total_steps
        if end is None:
            raise RuntimeError("total_steps is None; say end_with(step) before the first update")
        return end

    def state_dict(self) -> dict[str, Any]:
        """See Schedule."""
        return {} if self._last is None else {"total_steps": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Schedule; `end_with` says when training ends now."""
        if self.is_open:
            self._last = state.get("total_steps")
        else:
            super().load_state_dict(state)


class Cosine(Ending):
    """Warm-up, then half a cosine down to `final_factor` at `total_steps` (Loshchilov & Hutter, 2017); see Ending."""

    def factor(self, step: int) -> float:
        """The factor, 0-1, of update `step`, counted from 1."""
        done = min(1.0, max(0.0, (step - self.warmup_steps) / max(1, self._end() - self.warmup_steps)))
        cosine = self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * done))
        return min(warmup(step, self.warmup_steps), cosine)


class WarmupStableDecay(Ending):
    """Warm-up, 1, then over the last `decay_steps` linearly to `final_factor` (Hu et al., 2024).

    Args:
        warmup_steps: updates of linear warm-up.
        total_steps: see Ending.
        decay_steps: length of the decay; None for a quarter of total_steps.
        final_factor: 0-1.
    """

    def __init__(
        self, warmup_steps: int, total_steps: int | None, decay_steps: int | None, final_factor: float
    ) -> None:
        if decay_steps is not None and decay_steps < 0:
            raise ValueError(f"decay_steps must be at least 0, not {decay_steps}")
        if total_steps is not None and warmup_steps + (decay_steps or 0) > total_steps:
            raise ValueError(
                f"warmup_steps ({warmup_steps}) and decay_steps ({decay_steps}) exceed total_steps ({total_steps})"
            )
        super().__init__(warmup_steps, total_steps, final_factor)
        self.decay_steps = decay_steps

    def end_with(self, step: int) -> str | None:
        """See Schedule."""
        if self.is_open and self.decay_steps is not None and self.warmup_steps + self.decay_steps > step:
            raise UserError(
                f"schedule.warmup_steps ({self.warmup_steps}) and schedule.decay_steps ({self.decay_steps}) exceed the "
                f"{step:,} updates of the training; take more epochs, a shorter decay or a shorter warm-up"
            )
        return super().end_with(step)

    def factor(self, step: int) -> float:
        """The factor, 0-1, of update `step`, counted from 1."""
        end = self._end()
        decay_steps = end // 4 if self.decay_steps is None else self.decay_steps
        left = min(1.0, max(0.0, (end - step) / max(1, decay_steps)))
        return min(warmup(step, self.warmup_steps), self.final_factor + (1 - self.final_factor) * left)


class Plateau(Schedule):
    """Warm-up, then torch's ReduceLROnPlateau: the rate is cut when validation no longer improves.

    Args:
        warmup_steps: updates of linear warm-up.
        monitor: "valid_loss" (lower is better) or "bleu" (higher is better).
        factor: what the rate is multiplied by at a cut, 0-1.
        patience: epochs without improvement that are let pass before a cut.
        threshold: least absolute change that counts as improvement.
        min_factor: the rate never falls below this share of its peak.
    """

    def __init__(
        self, warmup_steps: int, monitor: str, factor: float, patience: int, threshold: float, min_factor: float
    ) -> None:
        super().__init__(warmup_steps)
        if monitor not in ("valid_loss", "bleu"):
            raise ValueError(f"monitor must be valid_loss or bleu, not {monitor}")
        if patience < 0:
            raise ValueError(f"patience must be at least 0, not {patience}")
        if not 0 <= threshold < math.inf:
            raise ValueError(f"threshold must be at least 0 and finite, not {threshold}")
        if not 0 < factor < 1:
            raise ValueError(f"factor must be above 0 and below 1, not {factor}")
        self.monitor = monitor
        # torch's scheduler acts on an optimizer's rate; this one holds nothing but the factor.
        self._holder = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        self._plateau = ReduceLROnPlateau(
            self._holder,
            mode="min" if monitor == "valid_loss" else "max",
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode="abs",
            min_lr=share("min_factor", min_factor),
        )

    def _cut(self) -> float:
        return float(self._holder.param_groups[0]["lr"])

    def factor(self, step: int) -> float:
        """The factor, 0-1, of update `step`, counted from 1."""
        return warmup(step, self.warmup_steps) * self._cut()

    def observe(self, metrics: dict[str, float], step: int) -> str | None:
        """See Schedule; epochs that end within the warm-up do not count, for the rate has not been tried yet."""
        if self.monitor not in metrics or step < self.warmup_steps:
            return None
        before = self._cut()
        self._plateau.step(metrics[self.monitor])
        if self._cut() < before:
            return f"{self.monitor} gains too little: learning rate cut to {self._cut():.3g} of its peak"
        return None

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on as if never stopped."""
        plateau = self._plateau
        return {"cut": self._cut(), "best": float(plateau.best), "num_bad_epochs": int(plateau.num_bad_epochs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict`."""
        self._holder.param_groups[0]["lr"] = state["cut"]
        self._plateau.best = state["best"]
        self._plateau.num_bad_epochs = state["num_bad_epochs"]
