"""Trials of a multirun (-m): each in folders of its own, named by what differs between them."""

import hashlib
import re
import sys
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

LONGEST = 120  # characters of a trial's folder


def swept_keys(arguments: Sequence[str]) -> list[str]:
    """The keys that a command line gives several values, in order."""
    words = [word for word in arguments if "=" in word and not word.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(words)
    return [str(override.key_or_group) for override in parsed if override.is_sweep_override()]


def trial_name(overrides: Sequence[str], swept: Sequence[str]) -> str:
    """The folder of one trial: "model.d_model-128+seed-1", with nothing that a later command line would have to quote.

    Args:
        overrides: of this trial, KEY=VALUE.
        swept: the keys that make the trials differ.
    """
    values = dict(word.lstrip("+~").partition("=")[::2] for word in overrides)
    told = "+".join(f"{key}-{values[key]}" for key in swept if key in values)
    name = re.sub(r"[^\w.+-]", "_", told.replace("/", "."))
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def in_own_folder(config: DictConfig) -> DictConfig:
    """The config of a trial with NAME/TRIAL for a name, unless the command line has its own rule for names."""
    if HydraConfig.get().mode != RunMode.MULTIRUN or "name" not in config:
        return config
    overrides = list(HydraConfig.get().overrides.task)
    swept = swept_keys(sys.argv[1:])
    given = [word.partition("=")[2] for word in sys.argv[1:] if word.startswith("name=")]
    if not swept or "name" in swept or any("${" in name for name in given):
        return config
    with open_dict(config):
        config.name = f"{config.name}/{trial_name(overrides, swept)}"
    return config
