"""Trials of a multirun (-m): each in folders of its own, named by what differs; what is finished is not repeated."""

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from transformer.evaluation.sweep import FAILED
from transformer.monitoring.outcome import Failure, read_outcome, write_failure
from transformer.training.checkpoint import is_checkpoint

LONGEST = 120  # characters of a trial's folder
NOT_ASKED = ("resume", "overwrite", "saved_dir", "results_dir", "cache_dir")  # what a run does not depend on


def _parsed(arguments: Sequence[str]) -> list[Override]:
    words = [word for word in arguments if "=" in word and not word.startswith("-")]
    begun = GlobalHydra.instance()
    loader = begun.config_loader() if begun.is_initialized() else None  # knows what model=glob(*) stands for
    return OverridesParser.create(config_loader=loader).parse_overrides(words)


def _key(override: Override) -> str:
    """As it is written, a group's package included: decoding@validation_decoding."""
    return str(override.get_key_element()).lstrip("+~")


def swept_keys(arguments: Sequence[str]) -> list[str]:
    """The keys that a command line gives several values, in order."""
    return [_key(override) for override in _parsed(arguments) if override.is_sweep_override()]


def swept_values(arguments: Sequence[str]) -> list[dict[str, str]]:
    """What Hydra makes of a command line, in its order: swept key -> value, of each trial."""
    swept = [override for override in _parsed(arguments) if override.is_sweep_override()]
    keys = [_key(override) for override in swept]
    values = [[str(value) for value in override.sweep_string_iterator()] for override in swept]
    return [dict(zip(keys, chosen, strict=True)) for chosen in product(*values)]


def trial_name(overrides: Sequence[str], swept: Sequence[str]) -> str:
    """The folder of one trial: "model.d_model-128+seed-1", with nothing that a later command line would have to quote.

    Keys are sorted, so that a command line in another order means the same folders. Where a value has other signs, or
    the name is too long, part of a hash tells trials apart.

    Args:
        overrides: of this trial, KEY=VALUE.
        swept: the keys that make the trials differ.
    """
    values = dict(word.lstrip("+~").partition("=")[::2] for word in overrides)
    told = "+".join(f"{key}-{values[key]}" for key in sorted(swept) if key in values)
    name = re.sub(r"[^\w.+-]", "_", told.replace("/", "."))
    whole = all(re.fullmatch(r"[\w.-]*", values[key]) for key in swept if key in values)
    if whole and len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def own_names(arguments: Sequence[str]) -> bool:
    """Whether a command line has its own rule for the names of trials."""
    given = [word.partition("=")[2] for word in arguments if word.startswith("name=")]
    return "name" in swept_keys(arguments) or any("${" in name for name in given)


def is_trial(config: DictConfig) -> bool:
    """Whether this is a training run of a multirun."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and "resume" in config


def in_own_folder(config: DictConfig, arguments: Sequence[str]) -> DictConfig:
    """The config of a trial with NAME/TRIAL for a name, unless the command line has its own rule for names.

    Args:
        config: of the trial.
        arguments: of the multirun; another process than the one they were given to may run the trial.
    """
    swept = swept_keys(arguments)
    if not is_trial(config) or not swept or own_names(arguments):
        return config
    with open_dict(config):
        config.name = f"{config.name}/{trial_name(list(HydraConfig.get().overrides.task), swept)}"
    return config


def results_of(config: Any) -> Path:
    """results/NAME of a training run."""
    return Path(config.results_dir) / config.name


def finished_before(config: Any) -> bool:
    """Whether there is nothing left to do: resume=true, and a run of this very config has come to its end."""
    if not config.resume or not is_checkpoint(Path(config.saved_dir) / config.name / "best"):
        return False
    outcome = read_outcome(results_of(config))
    asked = OmegaConf.to_container(config, resolve=True)
    if outcome is None or not isinstance(asked, dict):
        return False
    keys = {*asked, *outcome.config} - {*NOT_ASKED}
    return all(asked.get(key) == outcome.config.get(key) for key in keys)


def keep_failure(config: Any, sentence: str) -> None:
    """Keeps the sentence that a trial ended with, for the table; several processes of one trial keep it once."""
    if os.environ.get("RANK", "0") != "0":
        return
    try:
        write_failure(results_of(config), Failure(FAILED, sentence))
    except OSError as error:
        print(f"the failure of {config.name} could not be kept ({error})", file=sys.stderr)
