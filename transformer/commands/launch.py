"""How a command starts and ends: Hydra composes its config, a mistake in it becomes one sentence and exit code 2.

What takes seconds to import, torch above all, is imported behind that: --help and a misspelt key do not wait for it.
"""

import atexit
import difflib
import importlib
import io
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from transformer.commands import help as help_page
from transformer.commands.argument import override
from transformer.config import config_dir, register_schemas

LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm"}  # and the extra that has it

PATIENCE = 3.0  # seconds; in a tenth of them torchrun notices that one of its processes has ended


def _keys(config: Any, prefix: str = "") -> list[str]:
    """Dotted paths of all keys."""
    if not isinstance(config, dict):
        return []
    paths = [f"{prefix}{key}" for key in config]
    return paths + [path for key, value in config.items() for path in _keys(value, f"{prefix}{key}.")]


def _having(key: str) -> list[str]:
    """Choices, as GROUP=NAME, that have a setting so called: data=files for data.train.src."""
    group, _, setting = key.partition(".")
    files = sorted((config_dir() / group).glob("*.yaml")) if setting else []
    return [f"{group}={file.stem}" for file in files if setting in _keys(OmegaConf.to_container(OmegaConf.load(file)))]


def _suggestion(command: str, key: str) -> str:
    """What to say of a key that is not there: what has it, or how it may be spelt; nothing for one like no other."""
    try:
        begun = GlobalHydra.instance().is_initialized()  # by a command that composes the config of another
        with nullcontext() if begun else hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            known = _keys(OmegaConf.to_container(hydra.compose(command)))
    except (HydraException, OmegaConfBaseException, ValueError):
        return ""
    if having := _having(key):
        return f"; it belongs to {' or '.join(having)}"
    last = [path for path in known if path.endswith(f".{key}")]
    close = last or difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def first_line(error: BaseException | None) -> str:
    """The first line of what an error says, else its kind."""
    lines = str(error or "").strip().splitlines()
    return lines[0].strip().rstrip(".:") if lines else type(error).__name__


def sentence(error: BaseException, command: str) -> str:
    """One sentence for an error in composing or reading the config."""
    text = first_line(error)
    if isinstance(error, MissingConfigException):
        group, _, name = (error.missing_cfg_file or "").rpartition("/")
        if group == "hydra/launcher" and name in LAUNCHERS:
            return f"hydra/launcher={name} is not installed; say: pip install 'transformer[{LAUNCHERS[name]}]'"
        return f"there is no {group}={name}; choose one of {', '.join(error.options or ['no others'])}"
    if isinstance(error, OverrideParseException):
        reason = first_line(error.__cause__ or error.__context__)
        key, _, value = error.override.partition("=")
        home = os.path.expanduser(value)
        quoted = f"; put quotes around the value: {override(key, home)}" if value and value[0] not in "[{" else ""
        return f"{error.override!r} cannot be read as KEY=VALUE ({reason}){quoted}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not given; say {error.full_key}=..."
    if unknown := re.match(r"Could not (?:override|delete) '(\S+?)'|.*'(\S+)' does not exist$", text):
        key = unknown[1] or unknown[2]
        if re.fullmatch(r"data(\.\w+)*\.tests\.\w+\.(src|tgt|tsv)", key):
            return f"there is no {key} to change; +{key}=... adds this test split"
        suggestion = _suggestion(command, re.split("[@=]", key)[0])
        return f"there is no {key} to change{suggestion or f'; transformer-{command} --help lists what there is'}"
    if ambiguous := re.fullmatch(r"Ambiguous value for argument '(.*?)=(.*)'", text):
        key, value = ambiguous.groups()
        several = ", or -m for a run with each value" if command == "train" else ""
        return (
            f"{key}={value} has a comma: say '{key}=[{value}]' for a list, '{key}=\"{value}\"' for one value{several}"
        )
    no_list = re.fullmatch(r"Error merging override ([\w.]+)=(.*)", text)
    if no_list and "is not a ListConfig" in first_line(error.__cause__ or error.__context__):
        return f"{no_list[1]} is a list: say '{no_list[1]}=[{no_list[2]}]'"
    if type(error) is ValueError:
        return f"a group is chosen by name, such as decoding=greedy ({text})"
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return "; ".join(line.strip() for line in str(error).splitlines())  # a YAML file that is none: where, and why
    told = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    text = re.sub(r"Error merging override |: \w+ raised while composing config$", "", text)
    text += f": {first_line(told)}" if told and told is not error else ""
    where = getattr(told, "full_key", None) or ""
    if isinstance(told, (ConfigKeyError, ConfigAttributeError)):
        return f"{text} (at {where}){_suggestion(command, where)}"
    # An override names its key itself; a YAML file does not.
    return text if where in text else f"{text} (at {where})"


def launch(command: str, run: Callable[[Any], int | None]) -> None:
    """Composes the command's config from the command line, runs it, ends the process with its exit code.

    Exit codes: 0 done; 2 a user's mistake; 128 + n stopped by signal n (training saves a checkpoint first).

    Args:
        command: name of the config file.
        run: takes the config, returns the exit code or None for 0.
    """
    register_schemas()
    help_page.register()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A log file shows each line when it is printed; what the locale lacks is no reason to fail.
        sys.stdout.reconfigure(line_buffering=True, errors="replace")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing; the sentence is ours
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for library in ("matplotlib", "sacrebleu", "torch"):
        logging.getLogger(library).setLevel(logging.WARNING)
    codes: list[int] = []
    # Hydra takes -m before and behind all overrides alone.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    arguments = sys.argv[1:]  # a launcher may run trials in processes that have others
    composed = False

    def task(config: DictConfig) -> None:
        nonlocal composed
        composed = True
        attempt = importlib.import_module("transformer.commands.attempt")
        codes.append(attempt.carry_out(run, config, command, arguments))

    try:
        if help_page.is_wanted(arguments):
            print(help_page.page(command, arguments))
        else:
            hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=command)(task)()
    except BrokenPipeError:  # --help | head
        codes.append(unread())
    except Exception as error:
        if composed:  # then it is no mistake in the command line or a YAML file
            raise
        complain(command, sentence(error, command))
        codes.append(2)
    leave(max(codes, default=0))


def leave(code: int) -> NoReturn:
    """Ends the process.

    As one of several it does not wait for the interpreter to be taken apart: a thread of gloo's that lets go of its
    last tensor meanwhile would end it with SIGABRT (https://github.com/pytorch/pytorch/pull/179291), and torchrun all
    others with it. Leaving the process group does not end those threads, for torch itself keeps hold of the group.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def complain(command: str, message: str) -> None:
    """Prints the sentence. Of several processes the first speaks; the others do where it has nothing to say."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(PATIENCE)  # torchrun ends us before, if another has ended
    print(f"transformer-{command}: {message}", file=sys.stderr)


def unread() -> int:
    """Whoever read our output has had enough: nothing more is written, the exit code is that of SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE
