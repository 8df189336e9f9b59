"""Weights & Biases, behind the extra `wandb`: the run on its server, or in a folder to be sent there later."""

from collections.abc import Mapping
from typing import Any, ClassVar

from transformer.error import UserError
from transformer.monitoring.tracker import FINISHED, Tracker


class WandB(Tracker):
    """Tells Weights & Biases of the run: settings as config, scores over `step`, final scores as summary.

    What it writes lies in the run's folder. Without a network (mode offline) every process writes a part of the run,
    and all parts have one id; `wandb sync` puts them together.

    folder: the run's. project: the runs it stands among. mode: online, offline or disabled; None: what WANDB_MODE says.
    """

    package: ClassVar[str] = "wandb"
    takes_scores_late: ClassVar[bool] = False

    def __init__(self, folder: str, project: str, mode: str | None) -> None:
        super().__init__(folder)
        if mode not in (None, "online", "offline", "disabled"):
            raise UserError(f"monitor.wandb.mode is {mode}, but must be online, offline, disabled or null")
        self.folder, self.project, self.mode = folder, project, mode
        self.run: Any = None

    def begin(self, run_id: str, again: bool, name: str, settings: Mapping[str, str | int | float]) -> str:
        """Open the run of this id, which is made if it is new.

        Raises:
            UserError: nobody is logged in, or the server cannot be reached.
        """
        import wandb

        try:
            self.run = wandb.init(
                project=self.project,
                name=name,
                id=run_id,
                dir=self.folder,
                mode=self.mode,  # type: ignore[arg-type, unused-ignore]
                resume="allow",
                reinit="create_new",  # one process may train several runs
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.errors.Error as error:
            raise UserError(f"monitor.wandb: {error} Or say monitor.wandb.mode=offline") from error
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        self.run.config.update(dict(settings), allow_val_change=True)
        return run_id

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Log the scalars beside their step."""
        self.run.log({"step": step, **scalars})

    def conclude(self, scores: Mapping[str, float], signatures: Mapping[str, str], step: int) -> None:
        """Put scores and signatures into the summary."""
        self.run.summary.update({**scores, **{f"{name} signature": text for name, text in signatures.items() if text}})

    def end(self, status: str) -> None:
        """Send what is left, and end the run."""
        self.run.finish(exit_code=0 if status == FINISHED else 1)
