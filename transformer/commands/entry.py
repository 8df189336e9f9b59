"""Where the commands begin: little is imported before Ctrl-C is heard, for importing torch takes seconds."""

import importlib
import signal
import sys
from functools import partial
from typing import Any


def run(command: str, *arguments: Any) -> int | None:
    """Runs a command with its config, the last argument, and returns its exit code, or None for 0."""
    code: int | None = importlib.import_module(f"transformer.commands.{command}").run(*arguments)
    return code


def start(command: str) -> None:
    """Runs transformer-COMMAND on the process's own arguments; Ctrl-C ends it at any moment without a traceback."""
    try:
        from transformer.commands.argument import divided
        from transformer.commands.launch import launch

        more: list[list[str]] = []
        if command == "sweep":  # the rest of its words are for the trainings
            sys.argv[1:], *more = divided(sys.argv[1:])
        launch(command, partial(run, command, *more))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


train = partial(start, "train")
evaluate = partial(start, "evaluate")
average = partial(start, "average")
distill = partial(start, "distill")
compare = partial(start, "compare")
export = partial(start, "export")
plot = partial(start, "plot")
score = partial(start, "score")
sweep = partial(start, "sweep")
translate = partial(start, "translate")
