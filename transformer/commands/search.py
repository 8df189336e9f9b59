"""How a command searches with a checkpoint: as its run did in the end, but for what the command line says."""

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer import build
from transformer.commands.override import Asked, asked
from transformer.commands.resume import flat, plain
from transformer.config import (
    CompareConfig,
    DistillConfig,
    EvaluateConfig,
    Leaf,
    TrainConfig,
    TranslateConfig,
    TranslationConfig,
)
from transformer.decoding.translator import Translator
from transformer.error import UserError
from transformer.processes import can_fork
from transformer.training.precision import Precision

logger = logging.getLogger(__name__)

Searching = TranslateConfig | EvaluateConfig | CompareConfig | DistillConfig

# Of the settings of `translation`, those that decide what comes out; the others are the machine's affair.
LIMITS = ("max_len_ratio", "max_len_offset")


@dataclass(frozen=True)
class Way:
    """How is searched.

    Attributes:
        decoding: the search, as in a config.
        translation: how much is translated at once, and how long a translation may be.
        precision: in which number format, and where.
    """

    decoding: Leaf
    translation: TranslationConfig
    precision: Precision

    def facts(self) -> dict[str, object]:
        """What decides what comes out, as it is kept beside it."""
        return {"decoding": self.decoding, "translation": {key: getattr(self.translation, key) for key in LIMITS}}

    def translator(self, loaded: build.Loaded) -> Translator:
        """What translates with a checkpoint in this way."""
        how = build.search(self.decoding)
        device = self.precision.device
        return build.translator(loaded.model, loaded.tokenizers, how, self.translation, device, self.precision)


def _inside(tree: Leaf, parts: Sequence[str]) -> Leaf:
    """What is at a path in nested dicts; nothing where there is no such path."""
    found: Any = tree
    for part in parts:
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def on_top(own: Leaf, composed: Leaf, overrides: Sequence[Asked]) -> Leaf:
    """A run's own search, with the command's values in place of those that the command line changes.

    Args:
        own: as the checkpoint's config has it.
        composed: as the command's config has it.
        overrides: of the command line; those outside `decoding` are passed over.

    Raises:
        UserError: one of them changes what the run's search does not have.
    """
    if any(override.key == "decoding" for override in overrides):  # chosen by name: nothing of the run's is wanted
        return composed
    found = deepcopy(own)
    for override in overrides:
        first, *parts = override.key.split(".")
        if first != "decoding":
            continue
        *above, last = parts
        here, there = _inside(found, above), _inside(composed, above)
        if not override.added and last not in here and here.get("_target_") != there.get("_target_"):
            raise UserError(
                f"there is no {override.key} to change: the run's own search is another ({own.get('_target_')}); "
                "choose one by name too, such as decoding=beam"
            )
        if last in there:
            here[last] = there[last]
        else:  # ~KEY
            here.pop(last, None)
    return found


def way(config: Searching, own: TrainConfig, precision: Precision) -> Way:
    """How a command searches with a checkpoint.

    Args:
        config: of the command.
        own: of the run that wrote the checkpoint.
        precision: see `Way`.

    Raises:
        UserError: the command line changes what the run's search does not have, or makes no search of it.
    """
    overrides, here, there = asked(), plain(config), plain(own)
    keys = {override.key for override in overrides}
    kept = {key: there["translation"][key] for key in LIMITS if f"translation.{key}" not in keys}
    decoding = on_top(there["decoding"], here["decoding"], overrides)
    build.search(decoding)  # no mistake in it shows only when it is needed
    translation = TranslationConfig(**{**here["translation"], **kept})
    if translation.processes is None:
        translation.processes = precision.device.type == "cpu" and not translation.refill and can_fork()
    return Way(decoding, translation, precision)


def warn_of_members(folders: Sequence[str]) -> None:
    """Warns where the runs of an ensemble's models searched in different ways, unless the command line settles it.

    The ensemble is searched with as with its first model.

    Args:
        folders: the checkpoints; one alone is no ensemble.

    Raises:
        UserError: no such folder, or no checkpoint.
    """
    if len(folders) == 1:
        return
    said = {override.key for override in asked()}
    searches = {}
    for folder in folders:
        own = plain(build.stored_config(Path(folder)))
        settings = _settings(own["decoding"], own["translation"])
        searches[folder] = {
            key: value for key, value in settings.items() if not any(f"{key}.".startswith(f"{s}.") for s in said)
        }
    if differing := _differing(searches):
        logger.warning("the ensemble is searched with as its first model's run did; not all agree: %s", differing)


def _settings(decoding: Leaf, translation: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what comes out of a search: dotted key -> value."""
    return flat({"decoding": decoding, "translation": {key: translation[key] for key in LIMITS}})


def _differing(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """The settings in which systems differ, with the values of each; nothing where there are none."""
    keys = dict.fromkeys(key for found in settings.values() for key in found)
    told = {key: [found.get(key, "nothing") for found in settings.values()] for key in keys}
    differing = [key for key, of_each in told.items() if any(value != of_each[0] for value in of_each)]
    if "decoding._target_" in differing:  # then the rest says little
        differing = ["decoding._target_"]
    return "; ".join(
        f"{key} is {', '.join(f'{v} for {n}' for n, v in zip(settings, told[key], strict=True))}" for key in differing
    )


def differing_note(ways: Mapping[str, Way]) -> str:
    """A sentence where systems are searched with in different ways, each in that of its run, else nothing."""
    differing = _differing({name: _settings(way.decoding, vars(way.translation)) for name, way in ways.items()})
    return f"each system is searched with as in its own run, and that differs: {differing}" if differing else ""
