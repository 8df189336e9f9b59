"""Where the commands begin: little is imported before Ctrl-C is heard, for importing torch takes seconds."""

import importlib
import signal
import sys
from functools import partial


def start(command: str) -> None:
    """Runs transformer-COMMAND on the process's own arguments; Ctrl-C ends it at any moment without a traceback."""
    try:
        importlib.import_module(f"transformer.commands.{command}").main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


train = partial(start, "train")
evaluate = partial(start, "evaluate")
average = partial(start, "average")
distill = partial(start, "distill")
compare = partial(start, "compare")
plot = partial(start, "plot")
score = partial(start, "score")
sweep = partial(start, "sweep")
translate = partial(start, "translate")
