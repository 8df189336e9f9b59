"""What the trainer tells, and the interface of those who listen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transformer.evaluation.report import Row
from transformer.model.transformer import Transformer


@dataclass(frozen=True)
class RunStart:
    """Told once, before the first step.

    Attributes:
        name: the run's name.
        config: the resolved config as plain dicts and lists.
        n_parameters: trainable parameters, shared ones counted once.
        steps_per_epoch: optimizer updates in one epoch.
        max_epochs: epochs at which training ends, or None.
        max_steps: updates at which training ends, or None.
        resumed_step: the step training goes on from; 0 for a new run. What was written for later steps is void.
        model: what is trained, its parameters changed in place by every update; for looking only.
    """

    name: str
    config: dict[str, Any]
    n_parameters: int
    steps_per_epoch: int
    max_epochs: int | None
    max_steps: int | None
    resumed_step: int = 0
    model: Transformer | None = None


@dataclass(frozen=True)
class StepEnd:
    """Told after every optimizer update.

    Attributes:
        step: updates so far, counted from 1.
        epoch: the epoch under way, counted from 1.
        step_in_epoch: updates so far in this epoch, counted from 1.
        loss: training loss per target token (label-smoothed), in nats.
        nll: unsmoothed negative log-likelihood per target token, in nats.
        accuracy: share of target tokens whose argmax is right (teacher-forced), 0-100.
        learning_rate: what the optimizer used.
        gradient_norm: L2 norm before clipping.
        n_tgt_tokens: target tokens in this update, over all micro-batches and ranks.
        seconds: wall time of the update.
    """

    step: int
    epoch: int
    step_in_epoch: int
    loss: float
    nll: float
    accuracy: float
    learning_rate: float
    gradient_norm: float
    n_tgt_tokens: int
    seconds: float


@dataclass(frozen=True)
class Look:
    """Where a model looked while it wrote one translation.

    Attributes:
        src_tokens: pieces of the source, end of sentence last.
        tgt_tokens: pieces of the translation.
        weights: (n_layers, n_heads, len(tgt_tokens), len(src_tokens)), float.
    """

    src_tokens: list[str]
    tgt_tokens: list[str]
    weights: np.ndarray


@dataclass(frozen=True)
class EpochEnd:
    """Told after every epoch's validation. These are the fields of a line in metrics.jsonl, in this order.

    Attributes:
        epoch: counted from 1.
        step: updates so far.
        train_loss: label-smoothed loss per target token over the epoch, in nats.
        train_perplexity: exp of the unsmoothed token-averaged training loss.
        train_accuracy: teacher-forced token accuracy, 0-100.
        valid_loss: unsmoothed token-averaged loss, in nats.
        valid_perplexity: exp(valid_loss).
        valid_accuracy: teacher-forced token accuracy, 0-100.
        bleu: sacreBLEU of freely decoded, detokenised validation text, 0-100; None when not computed this epoch.
        bleu_signature: its sacreBLEU signature, or None.
        learning_rate: at the epoch's end.
        gradient_norm: mean over the epoch's steps, before clipping.
        clipped: share of the epoch's steps whose gradient was clipped, 0-100.
        padding_efficiency: share of the epoch's source and target positions that are not padding, 0-100.
        n_tgt_tokens: target tokens trained on in this epoch.
        tokens_per_second: target tokens trained on per second of training time (validation not counted).
        train_seconds: wall time of the epoch's training steps.
        seconds: wall time of the epoch, validation included.
        best: whether this epoch is the best so far by the monitored metric.
        peak_memory_mib: the most memory the main process has held since it began, in MiB: on its GPU if it trains on
            one, else resident; nan where that cannot be known.
        scores: further corpus scores of the validation split, freely decoded, by name; empty where not decoded.
        samples: (source, hypothesis, reference) of a few validation lines; not written to metrics.jsonl.
        looks: where the model looked while it wrote some of their hypotheses; not written either.
    """

    epoch: int
    step: int
    train_loss: float
    train_perplexity: float
    train_accuracy: float
    valid_loss: float
    valid_perplexity: float
    valid_accuracy: float
    bleu: float | None
    bleu_signature: str | None
    learning_rate: float
    gradient_norm: float
    clipped: float
    padding_efficiency: float
    n_tgt_tokens: int
    tokens_per_second: float
    train_seconds: float
    seconds: float
    best: bool
    peak_memory_mib: float = math.nan
    scores: dict[str, float] = field(default_factory=dict)
    samples: list[tuple[str, str, str]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


class Observer:
    """Listens to a training run. Every hook does nothing unless a subclass says otherwise; called on rank 0 only."""

    def on_start(self, start: RunStart) -> None:
        """Before the first step."""

    def on_step(self, end: StepEnd) -> None:
        """After every optimizer update."""

    def on_epoch(self, end: EpochEnd) -> None:
        """After every epoch's training and validation."""

    def on_rollback(self, step: int) -> None:
        """The run has gone back to its checkpoint of `step`: what was told of later steps is void, told anew."""

    def before_checkpoint(self, step: int) -> None:
        """Before a checkpoint of `step` is written: a resumed run tells only what follows, so put all else on disk."""

    def on_checkpoint(self, path: str, step: int) -> None:
        """After a checkpoint has been written to `path`."""

    def on_scores(self, rows: Sequence[Row], samples: Sequence[tuple[str, str, str]]) -> None:
        """After on_end, when the best checkpoint has been evaluated: scores on test splits, and (source, hypothesis,
        reference) of some lines of the first of them.
        """

    def on_message(self, text: str) -> None:
        """A sentence the user should read (a rate cut, an early stop)."""

    def on_end(self) -> None:
        """When training ends, also by an exception or a signal; close files here."""
