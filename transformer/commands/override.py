"""What a command line changes."""

from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from transformer.commands.resume import flat


class Asked(NamedTuple):
    """What an override on the command line changes: a dotted key or a group, and whether it may be new (+KEY=...)."""

    key: str
    added: bool


def asked() -> list[Asked]:
    """What the command line changes; each of the values in braces by itself."""
    words = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    found = []
    for override in OverridesParser.create().parse_overrides(words):
        key, value = override.key_or_group, override.value()
        added = override.is_add() or override.is_force_add()
        found += [Asked(path, added) for path in flat(value, str(key))]
    return found
