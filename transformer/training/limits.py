"""When a training run does what: its ends, its checkpoints, what its best epoch goes by."""

import math
from dataclasses import dataclass

from transformer.data.loader import BatchLoader
from transformer.training.schedule import Schedule

WITHOUT_DECODING = ("valid_loss", "valid_accuracy")  # what can be monitored however seldom is decoded


def n_updates(n_batches: int, accumulate: int) -> int:
    """Updates of an epoch of so many micro-batches; a last, smaller group of them makes one too."""
    return -(-n_batches // accumulate)


@dataclass(frozen=True)
class Limits:
    """When to do what.

    Attributes:
        max_epochs: epochs after which training ends, or None.
        max_steps: updates after which training ends, or None.
        accumulate: micro-batches in an update.
        clip_norm: bound of the gradient's L2 norm, or None.
        monitor: what `best` and `patience` go by: "valid_loss", "valid_accuracy", "bleu" or a name in `Decoded.scores`.
        patience: epochs without a better monitored value after which training ends, or None.
        bleu_every_epochs: decode the validation split every so many epochs; 0 for never.
        checkpoint_every_steps: checkpoints besides those at the ends of epochs, or None.
        checkpoint_every_minutes: likewise, by the clock.
        lower_is_better: of the monitored value.
        ema_decay: of the moving average of the weights that is validated and saved in their place, or None.
    """

    max_epochs: int | None
    max_steps: int | None
    accumulate: int
    clip_norm: float | None
    monitor: str
    patience: int | None
    bleu_every_epochs: int
    checkpoint_every_steps: int | None
    checkpoint_every_minutes: float | None
    lower_is_better: bool
    ema_decay: float | None = None

    def last_update(self, n_batches: int) -> int:
        """The number of the update with which training ends at the latest, of epochs of so many micro-batches."""
        by_epochs = math.inf if self.max_epochs is None else self.max_epochs * n_updates(n_batches, self.accumulate)
        return int(min(by_epochs, math.inf if self.max_steps is None else self.max_steps))

    def tell_end(self, schedule: Schedule, batches: BatchLoader) -> str | None:
        """Tells a schedule that is open which update is the last; returns what `Schedule.end_with` does.

        Raises:
            UserError: see there.
        """
        return schedule.end_with(self.last_update(batches.n_batches(1))) if schedule.is_open else None

    def __post_init__(self) -> None:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("training would never end: set max_epochs or max_steps")
        if self.monitor not in WITHOUT_DECODING and self.bleu_every_epochs != 1:
            raise ValueError(f"monitor is {self.monitor}, so bleu_every_epochs must be 1, not {self.bleu_every_epochs}")
