"""A config as flat names and plain values, as TensorBoard's hparams page and experiment trackers want it."""

import json
from collections.abc import Mapping
from typing import Any

WITHOUT_EFFECT = ("name", "monitor", "final", "resume", "overwrite", "saved_dir", "results_dir", "cache_dir")
"""What says where a run writes, who watches it and what is done after it, and decides none of its numbers."""


def model_settings(config: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the flat config without what decides none of the run's numbers."""
    return flatten({key: value for key, value in config.items() if key not in WITHOUT_EFFECT})


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float]:
    """Return {"model.d_model": 512, ...}; lists as JSON, None as `none`, booleans as `true` and `false`.

    A choice is shown by its class: {"schedule": {"_target_": "transformer.training.schedule.Cosine"}} is
    {"schedule": "Cosine"}.
    """
    flat: dict[str, str | int | float] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key == "_target_" and prefix:
            flat[prefix[:-1]] = str(value).rsplit(".", 1)[-1]
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        elif value is None or isinstance(value, bool):
            flat[name] = str(value).lower()
        elif isinstance(value, int | float | str):
            flat[name] = value
        else:
            flat[name] = json.dumps(value, ensure_ascii=False, default=str)
    return flat
