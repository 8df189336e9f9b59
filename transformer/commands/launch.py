"""How a command starts and ends: Hydra composes its config, a user's mistake becomes one sentence and exit code 2."""

import difflib
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from transformer.config import config_dir, register_schemas
from transformer.error import UserError


def _keys(config: Any, prefix: str = "") -> list[str]:
    """Dotted paths of all keys."""
    if not isinstance(config, dict):
        return []
    paths = [f"{prefix}{key}" for key in config]
    return paths + [path for key, value in config.items() for path in _keys(value, f"{prefix}{key}.")]


def _suggestion(command: str, override: str) -> str:
    """ "; did you mean ...?" for a misspelt key, else nothing."""
    key = override.lstrip("+~").split("=")[0].split("@")[0]
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            known = _keys(OmegaConf.to_container(hydra.compose(command)))
    except (HydraException, OmegaConfBaseException, ValueError):
        return ""
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def sentence(error: BaseException, command: str) -> str:
    """One sentence for an error in composing or reading the config."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    lines = [line.strip() for item in chain[:2] for line in str(item).strip().splitlines()]
    kept = [
        line for line in lines if line and not line.startswith(("object_type", "reference_type", "To append", "To "))
    ]
    text = "; ".join(dict.fromkeys(line.replace("full_key: ", "at ").rstrip(".") for line in kept))
    if "Could not override '" in text:
        text += _suggestion(command, text.split("Could not override '")[1].split("'")[0])
    return text


def launch(command: str, run: Callable[[Any], int | None]) -> None:
    """Composes the command's config from the command line, runs it, ends the process with its exit code.

    Exit codes: 0 done; 2 a user's mistake; 128 + n stopped by signal n (training saves a checkpoint first).

    Args:
        command: name of the config file.
        run: takes the config, returns the exit code or None for 0.
    """
    register_schemas()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows each line when it is printed
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing; the sentence is ours
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    codes: list[int] = []

    composed = False

    def task(config: DictConfig) -> None:
        nonlocal composed
        composed = True
        codes.append(_run(run, config, command))

    try:
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=command)(task)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if composed:  # then it is no mistake in the command line
            raise
        print(f"transformer-{command}: {sentence(error, command)}", file=sys.stderr)
        codes.append(2)
    sys.exit(max(codes, default=0))


def _run(run: Callable[[Any], int | None], config: DictConfig, command: str) -> int:
    try:
        return run(config) or 0
    except UserError as error:
        message = str(error)
    except OmegaConfBaseException as error:
        message = sentence(error, command)
    print(f"transformer-{command}: {message}", file=sys.stderr)
    return 2
