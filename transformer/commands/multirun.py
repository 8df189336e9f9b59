"""The end of a multirun (-m): its table, and an exit code that knows of every trial, whichever process ran it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from transformer.commands.table import conclude
from transformer.commands.trial import own_names, results_of, swept_keys, swept_values, trial_name
from transformer.error import UserError
from transformer.evaluation.sweep import FAILED, Trial
from transformer.monitoring.outcome import read_trial

NAMING_GROUPS = ("experiment", "data")  # choices that bring a name of their own


def no_common_folder(arguments: Sequence[str]) -> str:
    """Why the trials of a command line do not lie in one folder, or ""."""
    if own_names(arguments):
        return "the command line has its own rule for names"
    named = any(word.startswith("name=") for word in arguments)
    choices = [key for key in swept_keys(arguments) if key in NAMING_GROUPS and not named]
    return f"{choices[0]} brings a name of its own; say name=NAME" if choices else ""


def trials_of(folder: Path, arguments: Sequence[str]) -> list[Trial]:
    """The trials that a command line asks for, as their folders tell them.

    Args:
        folder: results/NAME.
        arguments: of the multirun.
    """
    found = []
    for values in swept_values(arguments):
        name = trial_name([f"{key}={value}" for key, value in values.items()], list(values))
        found.append(read_trial(folder / name, name, values))
    return found


class TableAtEnd(Callback):
    """Hydra calls this in the process that the multirun was started in."""

    def on_multirun_end(self, config: DictConfig, config_name: str | None = None) -> None:  # type: ignore[override]
        """Prints and writes the table; exit code 2 where a trial failed."""
        arguments = list(config.hydra.overrides.task)
        if os.environ.get("RANK", "0") != "0" or not swept_keys(arguments):
            return
        if why := no_common_folder(arguments):
            print(f"\nno table of the trials: {why}")
            return
        try:
            sweep = conclude(results_of(config), trials_of(results_of(config), arguments))
        except (UserError, OSError) as error:
            print(f"transformer-train: no table of the trials: {error}", file=sys.stderr)
            sys.exit(2)
        if any(trial.state == FAILED for trial in sweep.trials):
            sys.exit(2)
