"""Experiment trackers: what any of them is told of a run, and how a resumed run goes on in the tracker's same run."""

import importlib.util
import json
import secrets
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from transformer.error import UserError
from transformer.evaluation.report import Row
from transformer.monitoring.replace import replace
from transformer.monitoring.scalars import epoch_means
from transformer.monitoring.settings import flatten
from transformer.training.observer import EpochEnd, Observer, RunStart
from transformer.training.signals import Interrupted

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


class Tracker(Observer):
    """Tells a tracker the flat config once, the scores of every epoch at its step, and the final scores.

    `<package>_run.json` in the run's folder keeps which run of the tracker's this is, and the last step told: a run
    that is resumed goes on in it, and an epoch trained again to the same numbers is not told again. What has been told
    cannot be taken back: after going back past the end of an epoch, its step is told once more, with its new numbers.

    Attributes:
        package: what must be installed; the name of the extra, and of the entry under `monitor`.
        takes_scores_late: whether the final scores can be told when the run has ended for the tracker.
    """

    package: ClassVar[str]
    takes_scores_late: ClassVar[bool]

    def __init__(self, folder: str) -> None:
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:  # a folder of that name is no package
            raise UserError(
                f"monitor.{self.package} needs the package {self.package}: pip install 'transformer[{self.package}]'"
            )
        self.path = Path(folder) / f"{self.package}_run.json"
        self.run_id = ""
        self.told = 0
        self.scores_follow = False

    @abstractmethod
    def begin(self, run_id: str, again: bool, name: str, settings: Mapping[str, str | int | float]) -> str:
        """Open a run, or if `again` that which was opened before as `run_id`; return its id, by which it is found."""

    @abstractmethod
    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Tell the scalars, tag -> value, of a step."""

    @abstractmethod
    def conclude(self, scores: Mapping[str, float], signatures: Mapping[str, str], step: int) -> None:
        """Tell the final scores, `split/metric` -> value, and how each was computed."""

    @abstractmethod
    def end(self, status: str) -> None:
        """End the run as finished, stopped (by a signal; to be resumed) or failed."""

    def on_start(self, start: RunStart) -> None:
        """Open the tracker's run, or go on in it."""
        again = start.resumed_step > 0 and self.path.is_file()
        run_id, told = secrets.token_hex(4), 0
        if again:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            run_id, told = kept["id"], kept["step"]
        config = {key: value for key, value in start.config.items() if key != "monitor"}
        self.scores_follow = bool(start.config.get("final", {}).get("splits"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.run_id = self.begin(run_id, again, start.name, flatten(config) | {"n_parameters": start.n_parameters})
        self._keep(told)

    def on_epoch(self, end: EpochEnd) -> None:
        """Tell the epoch's scalars, if they have not been told."""
        if end.step > self.told:
            self.log(epoch_means(end), end.step)
            self._keep(end.step)

    def on_rollback(self, step: int) -> None:
        """Be ready to tell later steps again."""
        if self.run_id:
            self._keep(min(self.told, step))

    def on_end(self) -> None:
        """End the tracker's run, unless scores are to come that must be told before."""
        error = sys.exc_info()[1]  # the trainer ends in a `finally`: what ends it is on its way
        status = FINISHED if error is None else STOPPED if isinstance(error, Interrupted) else FAILED
        if self.run_id and not (status == FINISHED and self.scores_follow and not self.takes_scores_late):
            self.end(status)

    def on_scores(self, rows: Sequence[Row], samples: Sequence[tuple[str, str, str]]) -> None:
        """Tell the scores, then end the tracker's run; without any it has ended, unless it waited for them."""
        if not rows and self.takes_scores_late:
            return
        scores = {f"{row.split}/{score.name}": score for row in rows for score in row.scores}
        values = {name: score.value for name, score in scores.items()}
        self.conclude(values, {name: score.signature for name, score in scores.items()}, self.told)
        self.end(FINISHED)

    def _keep(self, step: int) -> None:
        self.told = step
        replace(self.path, json.dumps({"id": self.run_id, "step": step}).encode())
