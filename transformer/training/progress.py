"""How far a run has come: counters and the sums over the epoch under way, all of it part of a checkpoint."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from transformer.training.observer import StepEnd


@dataclass
class EpochSums:
    """Sums over the updates of the epoch under way.

    Attributes:
        loss: smoothed loss over target tokens, nats.
        nll: unsmoothed loss over target tokens, nats.
        n_right: target tokens whose argmax was right.
        n_tokens: target tokens.
        gradient_norm: over updates, before clipping.
        n_clipped: updates whose gradient was clipped.
        n_updates: updates.
        seconds: wall time of the updates.
    """

    loss: float = 0.0
    nll: float = 0.0
    n_right: float = 0.0
    n_tokens: int = 0
    gradient_norm: float = 0.0
    n_clipped: int = 0
    n_updates: int = 0
    seconds: float = 0.0

    def add(self, end: StepEnd, clip_norm: float | None) -> None:
        """Counts an update in."""
        self.loss += end.loss * end.n_tgt_tokens
        self.nll += end.nll * end.n_tgt_tokens
        self.n_right += end.accuracy / 100.0 * end.n_tgt_tokens
        self.n_tokens += end.n_tgt_tokens
        self.gradient_norm += end.gradient_norm
        self.n_clipped += clip_norm is not None and end.gradient_norm > clip_norm
        self.n_updates += 1
        self.seconds += end.seconds


@dataclass
class Progress:
    """Counters of a run.

    Attributes:
        step: updates so far.
        epoch: the epoch under way, counted from 1.
        step_in_epoch: updates so far in it.
        best: best monitored value so far, or None.
        epochs_since_best: epochs since then.
        skipped_in_a_row: updates left out one after another because loss or gradient was not finite.
        n_rollbacks: times the run went back to an earlier checkpoint because of them.
        rate_cut: what the learning rate is multiplied by since the last of those.
        usual_loss: moving average of the loss, nats per target token; 0 before the first update.
        usual_deviation: moving average of its absolute deviation from that.
        validated: the step that was validated last; -1 before the first.
        sums: over the epoch under way.
    """

    step: int = 0
    epoch: int = 1
    step_in_epoch: int = 0
    best: float | None = None
    epochs_since_best: int = 0
    skipped_in_a_row: int = 0
    n_rollbacks: int = 0
    rate_cut: float = 1.0
    usual_loss: float = 0.0
    usual_deviation: float = 0.0
    validated: int = -1
    sums: EpochSums = field(default_factory=EpochSums)

    def next_epoch(self) -> None:
        """Goes over to the next epoch."""
        self.epoch += 1
        self.step_in_epoch = 0
        self.sums = EpochSums()

    def spike(self, loss: float) -> bool:
        """Counts an update's loss in; returns whether it stands out: 8 usual deviations and a fifth above the usual."""
        if self.usual_loss == 0.0:
            self.usual_loss, self.usual_deviation = loss, 0.1 * loss
            return False
        deviation = loss - self.usual_loss
        stands_out = deviation > 8 * self.usual_deviation and deviation > 0.2 * self.usual_loss
        self.usual_loss += 0.05 * deviation
        self.usual_deviation += 0.05 * (abs(deviation) - self.usual_deviation)
        return stands_out

    def is_better(self, value: float | None, lower_is_better: bool) -> bool:
        """Whether a monitored value is the best so far; nan, the mark of a model gone astray, never is."""
        if value is None or math.isnan(value):
            return False
        return self.best is None or (value < self.best if lower_is_better else value > self.best)

    def rank(self, value: float | None, lower_is_better: bool) -> None:
        """Counts a whole epoch's monitored value in."""
        if self.is_better(value, lower_is_better):
            self.best, self.epochs_since_best = value, 0
        elif value is not None:
            self.epochs_since_best += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Progress":
        """From `state_dict`."""
        return cls(**{**state, "sums": EpochSums(**state["sums"])})
