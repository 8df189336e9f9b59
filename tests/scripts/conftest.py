"""What the tests of the scripts share: the config that a command would have."""

from collections.abc import Callable

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from transformer.config import config_dir, register_schemas


def compose(command: str, words: list[str]) -> DictConfig:
    """The config of a command with these overrides."""
    register_schemas()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose(command, words)


@pytest.fixture(scope="session")
def composed() -> Callable[[str, list[str]], DictConfig]:
    """Composes: composed(command, overrides)."""
    return compose
