"""A command's run with a config that stands: what the user can mend becomes one sentence and exit code 2."""

import errno
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from transformer.commands.launch import complain, first_line, sentence, unread
from transformer.commands.trial import finished_before, in_own_folder, is_trial, keep_failure, results_of
from transformer.config import SCHEMAS
from transformer.error import UserError
from transformer.monitoring.outcome import forget_failure

WRITTEN = ("saved_dir", "results_dir", "cache_dir", "output_dir")  # keys of folders that commands write to

Run = Callable[[Any], int | None]
"""What a command does with its config; returns the exit code, or None for 0."""

# Errors of the operating system that no file's name comes with and that are still the machine's affair. Libraries
# raise OSError without a number too, for what they cannot read or reach.
OUTSIDE = (
    None,
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM, errno.EAGAIN, errno.EADDRINUSE, errno.ECONNREFUSED, errno.ECONNRESET),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT),
)


def carry_out(run: Run, config: DictConfig, command: str, arguments: Sequence[str]) -> int:
    """Runs, as one trial of several where it is one, and returns the exit code.

    Args:
        run: of the command.
        config: as Hydra composed it.
        command: its name.
        arguments: what stood on the command line; another process than the one they were given to may run a trial.
    """
    config = in_own_folder(config, arguments)
    return _run_trial(run, config, command) if is_trial(config) else attempt(run, config, command)[0]


def _run_trial(run: Run, config: DictConfig, command: str) -> int:
    """One run of a multirun: nothing if it was finished before; its failure is kept, its interruption ends them all."""
    try:
        if finished_before(config):
            print(f"{config.name} was finished before: not trained again")
            forget_failure(results_of(config))
            return 0
    except (UserError, OmegaConfBaseException) as error:
        print(f"{config.name}: {first_line(error)}", file=sys.stderr)
    try:
        code, message = attempt(run, config, command)
    except Exception as error:  # the others are trained, and the table says what became of this one
        traceback.print_exc()
        code, message = 1, f"{type(error).__name__}: {first_line(error)}"
    if message:
        keep_failure(config, message)
    if code > 128:
        print("the multirun ends here; the same command with resume=true goes on")
        sys.exit(code)
    return code


def attempt(run: Run, config: DictConfig, command: str) -> tuple[int, str]:
    """Runs; what the user can mend becomes a sentence. Returns the exit code, and the sentence if there is one."""
    try:
        # Refuses what +KEY=VALUE has made up (a checkpoint with such a config could not be read again), and
        # interpolations of what is not there.
        OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), OmegaConf.to_container(config, resolve=True))
        return run(config) or 0, ""
    except UserError as error:
        message = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    except MissingMandatoryValue as error:  # which names the key without what it is in
        keys = sorted(OmegaConf.missing_keys(config))
        key = next((k for k in keys if f".{k}".endswith(f".{error.full_key}")), error.full_key)
        message = f"{key} is not given; say {key}=..."
    except OmegaConfBaseException as error:
        message = sentence(error, command)
    except BrokenPipeError:
        return unread(), ""
    except OSError as error:
        if error.filename is None and error.errno not in OUTSIDE:
            raise  # a descriptor that is none, a child that was not there: no user can mend that
        place = error.filename or (fullest(config) if error.errno == errno.ENOSPC else None)
        message = f"{place}: {error.strerror}" if place else error.strerror or str(error)
    except (RuntimeError, MemoryError) as error:
        if not (message := _memory_message(error)):
            raise
    except KeyboardInterrupt:
        return 128 + signal.SIGINT, ""
    complain(command, message)
    return 2, message


def _memory_message(error: Exception) -> str:
    """What to tell where memory ran out, on a GPU or on the CPU; nothing for another error."""
    from transformer.training.update import out_of_memory  # torch is there by now, where this can happen

    if not out_of_memory(error):
        return ""
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    told = f" ({asked[1]} were wanted)" if asked else ""
    return (
        f"memory ran out{told}; take less at once: smaller batches "
        "(batching.max_tokens, translation.max_tokens), a narrower search (decoding.beam_size, decoding.n_best)"
    )


def fullest(config: DictConfig) -> str | None:
    """The folder with the least room among those that a command writes to, as KEY=FOLDER; None where it has none."""
    given = [(key, str(config[key])) for key in WRITTEN if config.get(key) and Path(config[key]).exists()]
    free = [(shutil.disk_usage(folder).free, f"{key}={folder}") for key, folder in given]
    return min(free)[1] if free else None
