"""A config as flat names and plain values, as TensorBoard's hparams page and experiment trackers want it."""

import json
from collections.abc import Mapping
from typing import Any


def model_settings(config: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the flat config less the run's name and who watches it, which are no settings of the model's."""
    return flatten({key: value for key, value in config.items() if key not in ("name", "monitor")})


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
