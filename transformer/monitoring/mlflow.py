"""MLflow, behind the extra `mlflow`: the run in a file or on a server of its own kind."""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from transformer.error import UserError
from transformer.monitoring.tracker import FAILED, FINISHED, STOPPED, Tracker

STATUS = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}
MOST_AT_ONCE = 100  # parameters that MLflow takes in one call
LONGEST = 6000  # characters of a parameter's value


class MLflow(Tracker):
    """Tells MLflow of the run: settings as parameters, scores as metrics, signatures as tags.

    A parameter cannot change: a setting that a resumed run has changed is a tag of the same name. A server that cannot
    be reached while training goes on is named on standard error, and training goes on.

    folder: the run's. tracking_uri: a database or server, None: what MLflow is told by MLFLOW_TRACKING_URI.
    experiment: the runs it stands among.
    """

    package: ClassVar[str] = "mlflow"
    takes_scores_late: ClassVar[bool] = True

    def __init__(self, folder: str, tracking_uri: str | None, experiment: str) -> None:
        super().__init__(folder)
        self.tracking_uri, self.experiment = tracking_uri, experiment
        self.client: Any = None

    def begin(self, run_id: str, again: bool, name: str, settings: Mapping[str, str | int | float]) -> str:
        """Open a run, or that of `run_id`.

        Raises:
            UserError: MLflow does not have it, or cannot be reached.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
        try:
            self.client = MlflowClient(self.tracking_uri)
            if not again:
                found = self.client.get_experiment_by_name(self.experiment)
                place = found.experiment_id if found else self.client.create_experiment(self.experiment)
                run_id = self.client.create_run(place, run_name=name).info.run_id
            before = self.client.get_run(run_id).data.params
            self.client.update_run(run_id, status="RUNNING")
            self._log_settings(run_id, before, {key: str(value)[:LONGEST] for key, value in settings.items()})
        except MlflowException as error:
            told = f"monitor.mlflow: {first_line(error)}; look at monitor.mlflow.tracking_uri ({self.tracking_uri})"
            hint = f", or remove {self.path} to begin a new run" if again else ""
            raise UserError(told + hint) from error
        return run_id

    def _log_settings(self, run_id: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        fresh = [Param(key, value) for key, value in now.items() if key not in before]
        for start in range(0, len(fresh), MOST_AT_ONCE):
            self.client.log_batch(run_id, params=fresh[start : start + MOST_AT_ONCE])
        for key, value in now.items():
            if before.get(key, value) != value:
                self.client.set_tag(run_id, key, value)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Log the scalars as metrics."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(re.sub(r"[^\w\-./: ]", "_", tag), value, now, step) for tag, value in scalars.items()]
        with told_if_unreachable(f"step {step}"):
            self.client.log_batch(self.run_id, metrics=metrics)

    def conclude(self, scores: Mapping[str, float], signatures: Mapping[str, str], step: int) -> None:
        """Log the scores as metrics, their signatures as tags."""
        self.log(scores, step)
        with told_if_unreachable("the signatures"):
            for name, signature in signatures.items():
                if signature:
                    self.client.set_tag(self.run_id, re.sub(r"[^\w\-./: ]", "_", f"{name} signature"), signature)

    def end(self, status: str) -> None:
        """Set the run's status."""
        with told_if_unreachable("the run's end"):
            self.client.set_terminated(self.run_id, STATUS[status])


@contextmanager
def told_if_unreachable(what: str) -> Iterator[None]:
    """Says on standard error what MLflow could not be told; training is worth more than its record."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        logging.getLogger(__name__).warning("MLflow was not told of %s: %s", what, first_line(error))


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, shortened."""
    return str(error).strip().partition("\n")[0][:200]
