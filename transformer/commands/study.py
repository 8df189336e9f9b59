"""The trials of a sweep on disk: an Optuna study that any number of processes works on and no kill damages."""

import fcntl
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from transformer.error import UserError
from transformer.training.lock import run_lock
from transformer.training.observer import EpochEnd, Observer, RunStart
from transformer.training.space import Dimension, Value

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.journal"
MAX_STARTS = 3  # of a trial without a further checkpoint; something in it ends its process


class Pruned(Exception):  # noqa: N818 (a way to end, not an error)
    """A trial was given up because others were better at the same epoch."""


class FileLock:
    """A lock of processes on one machine that dies with its process; what Optuna's journal asks of one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: TextIO | None = None

    def acquire(self) -> bool:
        """Waits for it."""
        self.file = self.path.open("a", encoding="utf-8")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Lets go."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def cut_torn(journal: Path, lock: FileLock) -> None:
    """Removes a last line that was not written to its end, for a full disk: Optuna would append to it."""
    with lock:
        text = journal.read_bytes() if journal.exists() else b""
        end = text.rfind(b"\n") + 1
        if end < len(text):
            os.truncate(journal, end)


@dataclass(frozen=True)
class Plan:
    """How trials are chosen.

    Attributes:
        n_trials: in all.
        n_random: drawn at random before the sampler looks at what came of them.
        seed: of the sampler.
        lower_is_better: of the objective.
        prune: whether trials are given up that are worse than the median at the same epoch.
        n_warmup_epochs: epochs before which none is given up.
    """

    n_trials: int
    n_random: int
    seed: int
    lower_is_better: bool
    prune: bool
    n_warmup_epochs: int


@dataclass
class Taken:
    """A trial that this process works on. values: by key. resumed: another process began it."""

    trial: "optuna.trial.Trial"
    name: str
    values: dict[str, Value]
    resumed: bool
    told: set[int] = field(default_factory=set)
    claim: ExitStack = field(default_factory=ExitStack)


class Pruning(Observer):
    """Tells the study of every epoch, and gives the trial up when it says so, but not in its last.

    Args:
        taken: the trial.
        objective: what counts: bleu, valid_loss, valid_accuracy, or the name of a further score.
        prune: whether it may be given up.
    """

    def __init__(self, taken: Taken, objective: str, prune: bool) -> None:
        self.taken, self.objective, self.prune = taken, objective, prune
        self.start: RunStart | None = None

    def on_start(self, start: RunStart) -> None:
        """Remembers where the run ends."""
        self.start = start

    def on_epoch(self, end: EpochEnd) -> None:
        """Tells the value; raises Pruned."""
        values = {"bleu": end.bleu, "valid_loss": end.valid_loss, "valid_accuracy": end.valid_accuracy, **end.scores}
        value = values.get(self.objective)
        if value is None or math.isnan(value):
            return
        if end.epoch not in self.taken.told:  # a resumed trial does its last epoch again, with the same result
            self.taken.trial.report(value, end.epoch)
            self.taken.told.add(end.epoch)
        if self.prune and not self._last(end) and self.taken.trial.should_prune():
            raise Pruned(
                f"after epoch {end.epoch}, {self.objective} {value:.4g} is worse than the median of the others"
            )

    def _last(self, end: EpochEnd) -> bool:
        limits = (self.start.max_epochs, self.start.max_steps) if self.start else (None, None)
        return any(limit is not None and at >= limit for limit, at in zip(limits, (end.epoch, end.step), strict=True))


class Study:
    """The study in a folder, made if it is not there.

    Args:
        folder: results/NAME.
        space: what is chosen for each trial.
        plan: how.
        setup: what all trials have in common, plain values; the same command later must have the same.
        step_of: trial's name -> updates of its newest checkpoint.

    Raises:
        UserError: Optuna is not installed; the study was begun with another setup.
    """

    def __init__(
        self,
        folder: Path,
        space: Sequence[Dimension],
        plan: Plan,
        setup: dict[str, Any],
        step_of: Callable[[str], int],
    ) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise UserError("transformer-sweep needs Optuna; say: pip install 'transformer[sweep]'") from error
        self.optuna, self.folder, self.space, self.plan, self.step_of = optuna, folder, space, plan, step_of
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        with self.alone():
            lock = FileLock(folder / f".{JOURNAL}.lock")
            cut_torn(folder / JOURNAL, lock)
            backend = JournalFileBackend(str(folder / JOURNAL), lock_obj=lock)
            self.study = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                study_name="sweep",
                direction="minimize" if plan.lower_is_better else "maximize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(
                    n_startup_trials=plan.n_random, n_warmup_steps=plan.n_warmup_epochs + 1
                ),
            )
            self._same(setup)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process is here at a time."""
        with FileLock(self.folder / ".study.lock"):
            yield

    def _same(self, setup: dict[str, Any]) -> None:
        setup = json.loads(json.dumps(setup))
        before = self.study.user_attrs.get("setup")
        if before is None:
            self.study.set_user_attr("setup", setup)
            return
        keys = [key for key in dict.fromkeys([*before, *setup]) if before.get(key) != setup.get(key)]
        if keys:
            told = ", ".join(f"{key} was {before.get(key)} and is now {setup.get(key)}" for key in keys)
            raise UserError(
                f"{self.folder} has a sweep with other settings: {told}; change it back, or use another name"
            )

    def take(self) -> Taken | None:
        """A trial to work on: one that a dead process left behind, else a new one; None when there are enough."""
        with self.alone():
            for frozen in self.study.get_trials(deepcopy=False, states=(self.optuna.trial.TrialState.RUNNING,)):
                if claim := self._claim(frozen.number):
                    self._seed(frozen.number)
                    taken = self._handle(self.optuna.trial.Trial(self.study, frozen._trial_id), True, claim)
                    taken.told.update(frozen.intermediate_values)
                    if self._started(taken):
                        return taken
            number = len(self.study.get_trials(deepcopy=False))
            if number >= self.plan.n_trials:
                return None
            self._seed(number)
            trial = self.study.ask()
            taken = self._handle(trial, False, self._claim(trial.number) or ExitStack())
            self._started(taken)
            return taken

    def _seed(self, number: int) -> None:
        """A generator of its own for each trial: a sweep that goes on in a later process must not repeat itself."""
        seed = int(np.random.SeedSequence([self.plan.seed, number]).generate_state(1)[0])
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.plan.n_random)

    def _claim(self, number: int) -> ExitStack | None:
        """The right to work on a trial, until it is closed or this process dies; None where another has it."""
        claim = ExitStack()
        with suppress(UserError):
            claim.enter_context(run_lock(self.folder / ".claims" / trial_folder(number)))
            return claim
        return None

    def _handle(self, trial: "optuna.trial.Trial", resumed: bool, claim: ExitStack) -> Taken:
        values = {dimension.key: dimension.suggest(trial) for dimension in self.space}
        return Taken(trial, trial_folder(trial.number), values, resumed, claim=claim)

    def _started(self, taken: Taken) -> bool:
        """Counts a start; False, and the trial has failed, where it does not get further whatever is tried."""
        starts, step = [*taken.trial.user_attrs.get("starts", [])], self.step_of(taken.name)
        if starts[-MAX_STARTS:] == [step] * MAX_STARTS:
            self.fail(taken, f"its process ended {MAX_STARTS} times without getting further than step {step}")
            return False
        taken.trial.set_user_attr("starts", [*starts, step])
        return True

    def finish(self, taken: Taken, value: float) -> None:
        """The trial came to its end with this value of the objective."""
        self._tell(taken, self.optuna.trial.TrialState.COMPLETE, value)

    def prune(self, taken: Taken) -> None:
        """The trial was given up."""
        self._tell(taken, self.optuna.trial.TrialState.PRUNED)

    def fail(self, taken: Taken, sentence: str) -> None:
        """The trial cannot be brought to an end."""
        taken.trial.set_user_attr("failure", sentence)
        self._tell(taken, self.optuna.trial.TrialState.FAIL)

    def _tell(self, taken: Taken, state: "optuna.trial.TrialState", value: float | None = None) -> None:
        self.study.tell(taken.trial.number, value, state=state)
        taken.claim.close()

    def leave(self, taken: Taken) -> None:
        """The trial was interrupted in good order: another call goes on with it, and this start does not count."""
        taken.trial.set_user_attr("starts", taken.trial.user_attrs["starts"][:-1])
        taken.claim.close()

    def chosen(self) -> Iterator[tuple[str, dict[str, Value], str]]:
        """Every trial so far: its name, its values, and the sentence it failed with or ""."""
        for frozen in self.study.get_trials(deepcopy=False):
            trial = _Stored(frozen.params)
            complete = all(dimension.key in frozen.params for dimension in self.space)
            values = {dimension.key: dimension.suggest(trial) for dimension in self.space} if complete else {}
            yield trial_folder(frozen.number), values, frozen.user_attrs.get("failure", "")


@dataclass(frozen=True)
class _Stored:
    """Says again what was chosen."""

    params: dict[str, Any]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return next(value for value in itertools.chain(choices) if value == self.params[name])


def trial_folder(number: int) -> str:
    """trial-0003."""
    return f"trial-{number:04d}"
