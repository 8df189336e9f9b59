"""The training loop."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transformer.data.batch import Batch
from transformer.data.loader import BatchLoader
from transformer.error import UserError
from transformer.training.checkpoint import MODEL, TRAINING, CheckpointFolder, load_tensors
from transformer.training.distributed import World
from transformer.training.loss import Objective
from transformer.training.observer import EpochEnd, Observer, RunStart, StepEnd
from transformer.training.optimizer import clip_gradients
from transformer.training.precision import Precision
from transformer.training.progress import Progress
from transformer.training.schedule import Schedule
from transformer.training.signals import Interrupted, StopRequest
from transformer.training.state import random_state, set_random_state
from transformer.training.validate import Validation, perplexity, validate

MAX_SKIPPED_IN_A_ROW = 20


@dataclass(frozen=True)
class Decoded:
    """What free decoding of the validation split gave.

    Attributes:
        bleu: sacreBLEU, 0-100.
        signature: of sacreBLEU.
        samples: (source, hypothesis, reference) of a few lines.
    """

    bleu: float
    signature: str
    samples: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Limits:
    """When to do what.

    Attributes:
        max_epochs: epochs after which training ends, or None.
        max_steps: updates after which training ends, or None.
        accumulate: micro-batches in an update.
        clip_norm: bound of the gradient's L2 norm, or None.
        monitor: "valid_loss" or "bleu": what `best` and `patience` go by.
        patience: epochs without a better monitored value after which training ends, or None.
        bleu_every_epochs: decode the validation split every so many epochs; 0 for never.
        checkpoint_every_steps: checkpoints besides those at the ends of epochs, or None.
    """

    max_epochs: int | None
    max_steps: int | None
    accumulate: int
    clip_norm: float | None
    monitor: str
    patience: int | None
    bleu_every_epochs: int
    checkpoint_every_steps: int | None

    def __post_init__(self) -> None:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("training would never end: set max_epochs or max_steps")
        if self.monitor not in ("valid_loss", "bleu"):
            raise ValueError(f"monitor must be valid_loss or bleu, not {self.monitor}")
        if self.monitor == "bleu" and self.bleu_every_epochs != 1:
            raise ValueError(f"monitor is bleu, so bleu_every_epochs must be 1, not {self.bleu_every_epochs}")

    @property
    def lower_is_better(self) -> bool:
        """Of the monitored value."""
        return self.monitor == "valid_loss"


@dataclass
class Trainer:
    """Trains an objective; every part is handed in.

    Attributes:
        objective: model and loss, on the world's device.
        optimizer: over the model's parameters; its rates at construction are the peaks.
        schedule: multiplies the peaks.
        batches: the training split, this process's share.
        validation: the validation split, this process's share.
        decode: decodes the validation split freely and scores it; called on the main process alone.
        world: the processes.
        precision: number formats.
        limits: when to do what.
        checkpoints: where they go.
        observers: who is told; heard on the main process alone.
    """

    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    batches: BatchLoader
    validation: BatchLoader
    decode: Callable[[], Decoded]
    world: World
    precision: Precision
    limits: Limits
    checkpoints: CheckpointFolder
    observers: Sequence[Observer]
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.parameters = [p for p in self.objective.parameters() if p.requires_grad]
        self.wrapped = self.world.wrap(self.objective)
        self.saved_step = -1

    def fit(self, name: str, config: dict[str, Any]) -> None:
        """Trains until a limit is reached or patience runs out.

        Args:
            name: the run's name, told to the observers.
            config: told to the observers.

        Raises:
            Interrupted: a signal came; a checkpoint has been written.
            UserError: a checkpoint cannot be written, or gradients stay non-finite.
        """
        try:
            self._tell_start(name, config)
            with StopRequest() as request:
                while not self._done():
                    for micro_batches in self._updates():
                        self._update(micro_batches)
                        if self.world.any(request.number is not None):
                            self._save(monitored=None)
                            raise Interrupted(max(n or 0 for n in self.world.gather(request.number)))
                        if self._steps_done():
                            break
                        if self._checkpoint_due():
                            self._save(monitored=None)
                    self._end_epoch()
        finally:
            self._tell("on_end")

    def _steps_done(self) -> bool:
        return self.limits.max_steps is not None and self.progress.step >= self.limits.max_steps

    def _done(self) -> bool:
        limits, progress = self.limits, self.progress
        out_of_patience = limits.patience is not None and progress.epochs_since_best > limits.patience
        if out_of_patience and progress.step_in_epoch == 0:
            self._tell(
                "on_message", f"no better {limits.monitor} for {progress.epochs_since_best} epochs: stopping early"
            )
            return True
        return self._steps_done() or (limits.max_epochs is not None and progress.epoch > limits.max_epochs)

    def _checkpoint_due(self) -> bool:
        every = self.limits.checkpoint_every_steps
        return every is not None and self.progress.step % every == 0

    def _updates(self) -> Iterator[list[Batch]]:
        """The epoch's micro-batches, `accumulate` at a time; a last, smaller group too."""
        self.batches.set_epoch(self.progress.epoch)
        batches = iter(self.batches)
        while group := list(itertools.islice(batches, self.limits.accumulate)):
            yield group

    def _update(self, micro_batches: list[Batch]) -> None:
        """One optimizer update: the gradient of the loss summed over all target tokens, divided by their number."""
        begin = time.perf_counter()
        self.objective.train()
        rate_factor = self.schedule.factor(self.progress.step + 1)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate_factor
        device = self.world.device
        n_tokens = self.world.sum(torch.tensor(float(sum(b.n_tgt_tokens for b in micro_batches)), device=device))
        sums = torch.zeros(3, device=device)
        for i, batch in enumerate(micro_batches):
            sums += self._forward_backward(batch.to(device), n_tokens, last=i == len(micro_batches) - 1)
        self.precision.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.parameters, self.limits.clip_norm)
        norm_value, n_tokens_value = float(norm), int(n_tokens)
        finite = math.isfinite(norm_value)
        if finite:
            self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        loss, nll, right = self.world.sum(sums).tolist()
        self._count(finite, norm_value, n_tokens_value, (loss, nll, right), rate_factor, time.perf_counter() - begin)

    def _forward_backward(self, batch: Batch, n_tokens: Tensor, last: bool) -> Tensor:
        with self.world.no_sync(self.wrapped, wanted=not last):
            with self.precision.autocast():
                sums = self.wrapped(batch.src, batch.src_key_padding_mask, batch.tgt_in, batch.tgt_out)
            # DistributedDataParallel averages over processes; times their number, that is a sum.
            self.precision.scaler.scale(sums[0] * (self.world.size / n_tokens)).backward()
        return sums.detach()

    def _count(
        self, finite: bool, norm: float, n_tokens: int, sums: tuple[float, float, float], factor: float, seconds: float
    ) -> None:
        progress = self.progress
        progress.step += 1
        progress.step_in_epoch += 1
        if not finite:
            self._skipped(norm)
            return
        progress.skipped_in_a_row = 0
        loss, nll, right = (s / n_tokens for s in sums)
        rate = self.peaks[0] * factor
        end = StepEnd(
            progress.step,
            progress.epoch,
            progress.step_in_epoch,
            loss,
            nll,
            100.0 * right,
            rate,
            norm,
            n_tokens,
            seconds,
        )
        progress.sums.add(end, self.limits.clip_norm)
        self._tell("on_step", end)

    def _skipped(self, norm: float) -> None:
        progress = self.progress
        progress.skipped_in_a_row += 1
        self._tell("on_message", f"step {progress.step}: gradient norm is {norm}; the update is left out")
        if progress.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW and self.precision.dtype != torch.float16:
            raise UserError(
                f"the gradient was not finite {MAX_SKIPPED_IN_A_ROW} times in a row, last at step {progress.step}; "
                "resume from an earlier checkpoint with a lower optimizer.lr or a smaller training.clip_norm"
            )

    def _end_epoch(self) -> None:
        """Validates, tells, moves schedule and counters on, saves: in this order, so that no line is ever lost."""
        begin = time.perf_counter()
        progress, limits = self.progress, self.limits
        valid = validate(self.objective, self.validation, self.world, self.precision)
        decoded: Decoded | None = None
        if limits.bleu_every_epochs and progress.epoch % limits.bleu_every_epochs == 0:
            decoded = self.world.from_main(self.decode() if self.world.is_main else None)
        metrics = {"valid_loss": valid.loss} | ({"bleu": decoded.bleu} if decoded else {})
        monitored = metrics.get(limits.monitor)
        best = progress.rank(monitored, limits.lower_is_better)
        message = self.schedule.observe(metrics)
        seconds = progress.sums.seconds + time.perf_counter() - begin
        self._tell("on_epoch", self._epoch_end(valid, decoded, best, seconds))
        if message:
            self._tell("on_message", message)
        progress.next_epoch()
        self.batches.set_epoch(progress.epoch)
        self._save(monitored)

    def _epoch_end(self, valid: Validation, decoded: Decoded | None, best: bool, seconds: float) -> EpochEnd:
        progress, sums = self.progress, self.progress.sums
        n_tokens, n_updates = max(1, sums.n_tokens), max(1, sums.n_updates)
        return EpochEnd(
            epoch=progress.epoch,
            step=progress.step,
            train_loss=sums.loss / n_tokens,
            train_perplexity=perplexity(sums.nll / n_tokens),
            train_accuracy=100.0 * sums.n_right / n_tokens,
            valid_loss=valid.loss,
            valid_perplexity=valid.perplexity,
            valid_accuracy=valid.accuracy,
            bleu=decoded.bleu if decoded else None,
            bleu_signature=decoded.signature if decoded else None,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            gradient_norm=sums.gradient_norm / n_updates,
            clipped=100.0 * sums.n_clipped / n_updates,
            padding_efficiency=self.batches.padding_efficiency,
            n_tgt_tokens=sums.n_tokens,
            tokens_per_second=sums.n_tokens / sums.seconds if sums.seconds else 0.0,
            train_seconds=sums.seconds,
            seconds=seconds,
            best=best,
            samples=decoded.samples if decoded else [],
        )

    def _save(self, monitored: float | None) -> None:
        if self.progress.step == self.saved_step and monitored is None:
            return
        self.saved_step = self.progress.step
        random_states = self.world.gather(random_state())
        if not self.world.is_main:
            return
        training = {
            "progress": self.progress.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "loader": self.batches.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "random": random_states,
        }
        facts = {
            "epoch": self.progress.epoch,
            "step_in_epoch": self.progress.step_in_epoch,
            "monitor": self.limits.monitor,
            "monitored": monitored,
        }
        path = self.checkpoints.save(self.progress.step, self.objective.model.state_dict(), training, facts)
        self._tell("on_checkpoint", str(path), self.progress.step)

    def load(self, folder: Path) -> None:
        """Goes on from a checkpoint of the same run, exactly as if it had never stopped.

        Args:
            folder: the checkpoint.

        Raises:
            UserError: it was written by another number of processes, or cannot be read.
        """
        training = load_tensors(folder / TRAINING)
        if len(training["random"]) != self.world.size:
            raise UserError(
                f"{folder} was written by {len(training['random'])} processes, this run has {self.world.size}; "
                "resume with as many"
            )
        self.objective.model.load_state_dict(load_tensors(folder / MODEL))
        self.optimizer.load_state_dict(training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        self.precision.scaler.load_state_dict(training["scaler"])
        self.progress = Progress.from_state(training["progress"])
        self.batches.load_state_dict(training["loader"])
        self.saved_step = self.progress.step
        set_random_state(training["random"][self.world.rank])

    def _tell_start(self, name: str, config: dict[str, Any]) -> None:
        n_parameters = sum(p.numel() for p in self.parameters)
        steps_per_epoch = -(-len(self.batches) // self.limits.accumulate)
        limits = self.limits
        start = RunStart(
            name, config, n_parameters, steps_per_epoch, limits.max_epochs, limits.max_steps, self.progress.step
        )
        self._tell("on_start", start)

    def _tell(self, hook: str, *what: Any) -> None:
        if self.world.is_main:
            for observer in self.observers:
                getattr(observer, hook)(*what)


def describe(module: nn.Module) -> str:
    """The parameter counts of a model's top-level parts, one line each, shared tables named once."""
    seen: set[int] = set()
    lines = []
    for name, child in module.named_children():
        own = [p for p in child.parameters() if id(p) not in seen]
        seen.update(id(p) for p in own)
        if own:
            lines.append(f"  {name}: {sum(p.numel() for p in own):,}")
    return "\n".join(lines)
