"""The training loop."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transformer.data.batch import Batch
from transformer.data.loader import BatchLoader
from transformer.error import UserError
from transformer.training.checkpoint import MODEL, TRAINING, CheckpointFolder, load_tensors, newest_before
from transformer.training.distributed import World
from transformer.training.limits import Limits, n_updates
from transformer.training.loss import Objective
from transformer.training.memory import peak_mib
from transformer.training.moving_average import stand_in
from transformer.training.observer import EpochEnd, Observer, RunStart, StepEnd
from transformer.training.optimizer import can_step_unless
from transformer.training.precision import Precision
from transformer.training.progress import Progress
from transformer.training.schedule import Schedule
from transformer.training.shard import collected, load_optimizer, load_weights, weights
from transformer.training.sharding import WholeCopy
from transformer.training.signals import Interrupted, StopRequest
from transformer.training.state import random_state, set_random_state
from transformer.training.update import Update, Updater
from transformer.training.validate import Decoded, Validation, perplexity, validate

MAX_SKIPPED_IN_A_ROW = 10  # updates
MAX_ROLLBACKS = 3
RATE_CUT = 0.5  # at each rollback


@dataclass
class Trainer:
    """Trains an objective; every part is handed in.

    Attributes:
        objective: model and loss, on the world's device.
        optimizer: over the model's parameters; its rates at construction are the peaks.
        schedule: multiplies the peaks.
        batches: the training split, this process's share.
        validation: the validation split, this process's share.
        decode: decodes the validation split freely and scores it; called by all processes together, and what it gives
            the main process counts.
        world: the processes.
        precision: number formats.
        limits: when to do what.
        checkpoints: where they go.
        observers: who is told; heard on the main process alone.
        identify: names the pairs at these positions of the training store, for messages.
        environment: goes into every checkpoint's manifest.
        progress: how far the run has come.
        deferred: tell of each update while the next one is under way, so that an accelerator never waits to be asked;
            the same bits. None = on an accelerator, where the optimizer can be driven so.
        whole: of a sharded objective, what is validated and decoded with in its place.

    Raises:
        UserError: `deferred` is True, and the optimizer cannot be driven so.
    """

    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    batches: BatchLoader
    validation: BatchLoader
    decode: Callable[[], Decoded | None]
    world: World
    precision: Precision
    limits: Limits
    checkpoints: CheckpointFolder
    observers: Sequence[Observer]
    identify: Callable[[np.ndarray], str] = "pairs {}".format
    environment: dict[str, str] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    deferred: bool | None = None
    whole: WholeCopy | None = None

    def __post_init__(self) -> None:
        can = can_step_unless(self.optimizer)
        if self.deferred and not can:
            raise UserError(
                "runtime.deferred is true, but the optimizer is not Adam or AdamW with fused=true, or its weights are "
                "sharded; use null or false"
            )
        late = can and self.world.device.type != "cpu" if self.deferred is None else self.deferred
        self.update = Updater(self.objective, self.optimizer, self.world, self.precision, self.limits.clip_norm, late)
        self.deferred = late
        self.pending: tuple[Callable[[], Update], np.ndarray] | None = None  # what has not been told yet, its pairs
        self.average = stand_in(self.optimizer, self.update.parameters, self.limits.ema_decay)
        self.saved_step = -1
        self.saved_at = time.monotonic()

    def fit(self, name: str, config: dict[str, Any]) -> None:
        """Trains until a limit is reached or patience runs out.

        Args:
            name: the run's name, told to the observers.
            config: told to the observers.

        Raises:
            Interrupted: a signal came; a checkpoint has been written.
            UserError: a checkpoint cannot be written, gradients stay non-finite, or the schedule is too long.
        """
        try:
            self._tell_start(name, config)
            with StopRequest() as request:
                while not self._done():
                    for micro_batches in self._updates():
                        if not self._step(micro_batches):
                            break
                        stop, due = self.world.any(request.number is not None), self._checkpoint_due()
                        if (stop or due) and not self._settle():
                            break
                        if stop and not self._steps_done():
                            self._save(monitored=None)
                            raise self._interrupted(request)
                        # Weights that may be what is wrong are nothing to go back to.
                        if due and not self.progress.skipped_in_a_row:
                            self._save(monitored=None)
                    else:
                        if self._settle():
                            self._end_epoch()
                progress = self.progress
                if self._steps_done() and progress.step_in_epoch and progress.validated != progress.step:
                    self._end_epoch()  # max_steps was reached before, and the run was cut off before it was validated
                if self.world.any(request.number is not None):
                    raise self._interrupted(request)
        finally:
            self._tell("on_end")

    def _interrupted(self, request: StopRequest) -> Interrupted:
        return Interrupted(max(n or 0 for n in self.world.gather(request.number)))

    def _n_done(self) -> int:
        """Updates so far, the one that has not been told yet included."""
        return self.progress.step + (self.pending is not None)

    @property
    def at_its_end(self) -> bool:
        """Whether as many epochs or updates are done as are allowed; patience is asked only while training."""
        max_epochs = self.limits.max_epochs
        return self._steps_done() or (max_epochs is not None and self.progress.epoch > max_epochs)

    def _steps_done(self) -> bool:
        return self.limits.max_steps is not None and self._n_done() >= self.limits.max_steps

    def _done(self) -> bool:
        limits, n_epochs = self.limits, self.progress.epochs_since_best
        out_of_patience = limits.patience is not None and n_epochs >= limits.patience
        if out_of_patience and self.progress.step_in_epoch == 0:
            self._tell("on_message", f"no better {limits.monitor} for {n_epochs} epochs: stopping early")
            return True
        return self.at_its_end

    def _checkpoint_due(self) -> bool:
        steps, minutes = self.limits.checkpoint_every_steps, self.limits.checkpoint_every_minutes
        if minutes is not None and self.world.any(time.monotonic() - self.saved_at >= 60 * minutes):
            return True
        return steps is not None and self._n_done() % steps == 0

    def _updates(self) -> Iterator[list[Batch]]:
        """The epoch's micro-batches, `accumulate` at a time; a last, smaller group too."""
        self.batches.set_epoch(self.progress.epoch)
        batches = iter(self.batches)
        while not self._steps_done() and (group := list(itertools.islice(batches, self.limits.accumulate))):
            yield group

    def _step(self, micro_batches: list[Batch]) -> bool:
        """One update; returns False when the run has gone back to an earlier checkpoint instead.

        A deferred one is counted and told at the next call, when that one's gradients are on their way: only then is
        anybody asked how it went, and the device has work meanwhile. All that follows from its figures, the moving
        average and the learning rate included, comes before the next change of the weights.
        """
        pairs = np.concatenate([batch.indices for batch in micro_batches])
        if not self.deferred:
            return self._count(self.update(micro_batches, self._rate_factor()), pairs)
        gradients = self.update.gradients(micro_batches)
        if not self._settle():
            self.optimizer.zero_grad(set_to_none=True)
            return False
        self.pending = self.update.apply(gradients, self._rate_factor()), pairs
        return True

    def _rate_factor(self) -> float:
        return self.schedule.factor(self.progress.step + 1) * self.progress.rate_cut

    def _settle(self) -> bool:
        """Counts and tells the update that has not been told yet, if there is one; returns what `_step` returns."""
        if self.pending is None:
            return True
        (figures, pairs), self.pending = self.pending, None
        return self._count(figures(), pairs)

    def _count(self, update: Update, pairs: np.ndarray) -> bool:
        progress = self.progress
        progress.step += 1
        progress.step_in_epoch += 1
        if update.n_splits:
            self._say(f"memory ran out; micro-batches were halved {update.n_splits} times, same result", pairs)
        if not update.finite:
            return self._left_out(update, pairs)
        if self.average:
            self.average.update()
        progress.skipped_in_a_row = 0
        usual = progress.usual_loss
        if progress.spike(update.loss):
            self._say(f"loss {update.loss:.3f} stands out, the usual is {usual:.3f}", pairs)
        end = StepEnd(
            progress.step,
            progress.epoch,
            progress.step_in_epoch,
            update.loss,
            update.nll,
            update.accuracy,
            update.learning_rate,
            update.gradient_norm,
            update.n_tgt_tokens,
            update.seconds,
        )
        progress.sums.add(end, self.limits.clip_norm)
        self._tell("on_step", end)
        return True

    def _say(self, what: str, pairs: np.ndarray) -> None:
        pairs = np.concatenate(self.world.gather(pairs))  # those of the update, whichever process had them
        if self.observers:  # on one process, where others need not read files to name the pairs as well
            self._tell("on_message", f"step {self.progress.step}: {what}; {self.identify(pairs)}")

    def _left_out(self, update: Update, pairs: np.ndarray) -> bool:
        """Counts an update that was left out; after many in a row goes back, after several times ends the run."""
        progress = self.progress
        progress.skipped_in_a_row += 1
        told = f"loss is {update.loss}, gradient norm {update.gradient_norm}: the update is left out"
        self._say(told, pairs)
        # A loss scale that is still too high shows in the same way, and comes down by itself.
        if progress.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW * (4 if self.precision.dtype == torch.float16 else 1):
            return True
        n_rollbacks, step = progress.n_rollbacks + 1, progress.step
        # What was written since the last update that counted, or right behind it, has the weights that fail now.
        newest = newest_before(self.checkpoints.folder, step - progress.skipped_in_a_row)
        if newest is None or n_rollbacks > MAX_ROLLBACKS:
            raise UserError(
                f"loss or gradient was not finite {progress.skipped_in_a_row} times in a row, last at step {step}, "
                f"after going back {progress.n_rollbacks} times; look at the pairs named above, or train under another "
                "name with a lower optimizer.lr or training.clip_norm"
            )
        self.load(newest)
        self.progress.skipped_in_a_row = 0
        self.progress.n_rollbacks, self.progress.rate_cut = n_rollbacks, RATE_CUT**n_rollbacks
        self._tell("on_rollback", self.progress.step)
        self._tell("on_message", f"step {step}: back to {newest} with {self.progress.rate_cut:g} of the learning rate")
        return False

    def _end_epoch(self) -> None:
        """Validates, tells, moves schedule and counters on, saves: in this order, so that no line is ever lost.

        An epoch that max_steps cuts short is validated too, but stays under way: with a higher max_steps the run goes
        on where it stands.
        """
        begin = time.perf_counter()
        progress, limits = self.progress, self.limits
        progress.validated = progress.step
        decoded: Decoded | None = None
        with self._averaged(), self.whole.filled() if self.whole else nullcontext(self.objective) as objective:
            valid = validate(objective, self.validation, self.world, self.precision)
            if limits.bleu_every_epochs and progress.epoch % limits.bleu_every_epochs == 0:
                decoded = self.world.from_main(self.decode())
        metrics = {"valid_loss": valid.loss, "valid_accuracy": valid.accuracy}
        if decoded:
            metrics |= {"bleu": decoded.bleu, **decoded.scores}
        monitored = metrics.get(limits.monitor)
        whole = self.batches.state_dict()["position"] == len(self.batches)
        best = progress.is_better(monitored, limits.lower_is_better)
        message = None
        if whole:
            progress.rank(monitored, limits.lower_is_better)
            message = self.schedule.observe(metrics, progress.step)
        seconds = progress.sums.seconds + time.perf_counter() - begin
        self._tell("on_epoch", self._epoch_end(valid, decoded, best, seconds))
        if message:
            self._tell("on_message", message)
        if whole:
            progress.next_epoch()
            self.batches.set_epoch(progress.epoch)
        self._save(monitored)

    def _averaged(self) -> AbstractContextManager[dict[str, Any]]:
        """Inside this context the model's weights are those that are validated and saved."""
        return self.average.in_place() if self.average else nullcontext({})

    def _epoch_end(self, valid: Validation, decoded: Decoded | None, best: bool, seconds: float) -> EpochEnd:
        progress, sums = self.progress, self.progress.sums
        # Of an epoch whose updates were all left out there is nothing to tell.
        n_tokens, n_updates = sums.n_tokens or math.nan, sums.n_updates or math.nan
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
            peak_memory_mib=peak_mib(self.world.device),
            scores=decoded.scores if decoded else {},
            samples=decoded.samples if decoded else [],
            looks=decoded.looks if decoded else [],
        )

    def _save(self, monitored: float | None) -> None:
        if self.progress.step == self.saved_step and monitored is None:
            return
        self.saved_step, self.saved_at = self.progress.step, time.monotonic()
        self._tell("before_checkpoint", self.progress.step)
        random_states, is_main = self.world.gather(random_state()), self.world.is_main
        training: dict[str, Any] = {
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
            "lower_is_better": self.limits.lower_is_better,
            "skipped_in_a_row": self.progress.skipped_in_a_row,
            "environment": self.environment,
        }
        with self._averaged() as trained:
            if self.average:
                training["average"] = trained
            model, training = weights(self.objective.model, is_main), collected(training, is_main)
            path = self.checkpoints.save(self.progress.step, model, training, facts) if is_main else None
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
        load_weights(self.objective.model, load_tensors(folder / MODEL))
        if self.average:
            self.average.load(training["average"])
        load_optimizer(self.optimizer, training["optimizer"])
        self.schedule.load_state_dict(training["schedule"])
        self.precision.scaler.load_state_dict(training["scaler"])
        self.progress = Progress.from_state(training["progress"])
        self.batches.load_state_dict(training["loader"])
        self.saved_step = self.progress.step
        set_random_state(training["random"][self.world.rank])

    def _tell_start(self, name: str, config: dict[str, Any]) -> None:
        n_parameters = sum(p.numel() for p in self.update.parameters)
        steps_per_epoch = n_updates(len(self.batches), self.limits.accumulate)
        ends = self.limits.max_epochs, self.limits.max_steps
        model = (self.whole.objective if self.whole else self.objective).model
        start = RunStart(name, config, n_parameters, steps_per_epoch, *ends, self.progress.step, model)
        self._tell("on_start", start)
        if told := self.limits.tell_end(self.schedule, self.batches):
            self._tell("on_message", told)

    def _tell(self, hook: str, *what: Any) -> None:
        if self.world.is_main:
            for observer in self.observers:
                getattr(observer, hook)(*what)
