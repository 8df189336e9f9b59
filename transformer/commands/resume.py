"""What may change between a run and its resumption."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf

from transformer.config import TrainConfig, config_dir
from transformer.error import UserError
from transformer.training.checkpoint import read_manifest

# Everything else decides the bits of the weights.
MAY_CHANGE = (
    "resume",
    "overwrite",
    "name",
    "saved_dir",
    "results_dir",
    "cache_dir",
    "training.max_epochs",
    "training.max_steps",
    "training.patience",
    "training.checkpoint_every_steps",
    "training.checkpoint_every_minutes",
    "training.keep_last",
    "training.keep_best",
    "training.n_samples",
    "runtime.keep_memory",
    "runtime.threads",  # which is told
    "runtime.deferred",
    "translation.processes",
    "metrics",
    "monitor",
    "final",
    "validation_scores",
)

PLACED = ("name", "saved_dir", "results_dir")  # where a run lies

# Nor does it matter where the text lies, be it in a corpus inside another one: `refuse_other_texts` looks at the text.
PLACES = re.compile(r"data(\.corpus|\.corpora\.[^.]+)*\.(root|splits_root|url|train|validation|tests)(\..*)?")

# What settings were, in effect, before there were such settings.
BEFORE = {"loss": {"_target_": "transformer.training.loss.Objective", "_partial_": True}, "smoothing_prior": "uniform"}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of nested dicts."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        path: leaf
        for key, item in value.items()
        for path, leaf in flat(item, f"{prefix}.{key}" if prefix else key).items()
    }


def _filled(config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's config with what settings it lacks were in effect."""
    filled = {key: BEFORE.get(key, value) if value == MISSING else value for key, value in config.items()}
    return {key: _filled(value) if isinstance(value, dict) else value for key, value in filled.items()}


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> (value before, value after) of what differs and may not.

    A setting that is newer than the checkpoint, which has MISSING for it, must be off, or left to the machine.
    """
    old, new = flat(_filled(before)), flat(after)
    off = [k for k, value in old.items() if value == MISSING and new.get(k) in (None, False, "auto")]
    keys = [k for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k) and k not in off]
    fixed = [
        k for k in keys if not PLACES.fullmatch(k) and not any(f"{k}.".startswith(f"{may}.") for may in MAY_CHANGE)
    ]
    return {k: (old.get(k), new.get(k)) for k in fixed}


def as_before(saved: TrainConfig, composed: TrainConfig, keys: Sequence[str]) -> TrainConfig:
    """The config of a run that goes on: its own, with what the command line says on top.

    A part that is chosen by name (optimizer=adamw) is the command line's as a whole. Where that takes a key away,
    chooses an experiment or is another command's, it has to say all. Where the run lies is what the command line says;
    it may have been moved or given another name.

    Args:
        saved: of the run's checkpoint.
        composed: of the command line, with defaults for what it does not say.
        keys: dotted ones or groups, what it changes.
    """
    # A group's node: metrics, model/position, metrics@validation_scores.
    paths = {key.split("@")[-1].replace("/", "."): (config_dir() / key.split("@")[0]).is_dir() for key in keys}
    if any(OmegaConf.select(cast(DictConfig, composed), path, default=MISSING) == MISSING for path in paths):
        return composed
    own = copy.deepcopy(saved)
    for path in [*OmegaConf.missing_keys(saved), "resume", "overwrite", *PLACED, *paths]:
        value = OmegaConf.select(cast(DictConfig, composed), path)
        OmegaConf.update(cast(DictConfig, own), path, value, merge=not paths.get(path), force_add=True)
    before, now = (f"{config.results_dir}/{config.name}" for config in (saved, composed))
    for key, folder in flat(plain(own).get("monitor", {}), "monitor").items():
        if folder == before:  # made of the place, as in configs/monitor
            OmegaConf.update(cast(DictConfig, own), key, now)
    return own


def plain(config: object) -> dict[str, Any]:
    """A composed config as dicts and lists, interpolations resolved."""
    return cast(dict[str, Any], OmegaConf.to_container(cast(DictConfig, config), resolve=True))


def refuse_changes(saved: TrainConfig, now: TrainConfig) -> None:
    """Refuses to resume a run whose config has changed in what decides its result.

    Raises:
        UserError: naming every such key with both values.
    """
    differing = changes(*(plain(config) for config in (saved, now)))
    if differing:
        told = ", ".join(f"{key} was {old} and is now {new}" for key, (old, new) in differing.items())
        raise UserError(
            f"this run cannot be resumed with another config: {told}; change it back, or use another name "
            f"(with warm_start.checkpoint={now.saved_dir}/{now.name}/last it begins with the weights of this one)"
        )


def refuse_other_texts(checkpoint: Path, texts: dict[str, str]) -> None:
    """Refuses to resume a run on another text than it has begun with.

    Args:
        checkpoint: from which it would go on.
        texts: split -> fingerprint of its text.

    Raises:
        UserError: naming the splits that differ.
    """
    environment = read_manifest(checkpoint).get("environment", {})
    before = {split: environment.get(f"{split}_text", text) for split, text in texts.items()}  # older ones do not tell
    differing = [split for split, text in texts.items() if before[split] != text]
    if differing:
        told = ", ".join(f"{split} ({before[split][:12]}..., now {texts[split][:12]}...)" for split in differing)
        raise UserError(
            f"this run cannot be resumed, for its text has changed: {told}; put the files back, or use another name "
            f"(with warm_start.checkpoint={checkpoint} it begins with the weights of this one)"
        )
