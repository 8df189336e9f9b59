"""The machine that a config asks for: threads, memory, device, processes."""

import torch

from transformer.build.part import explained
from transformer.config import RuntimeConfig
from transformer.error import UserError
from transformer.training.distributed import World
from transformer.training.memory import keep_memory

MOST_WORKERS = 4  # each has gradients of its own in memory
DEVICES = ("auto", "cpu", "cuda")


def runtime(config: RuntimeConfig) -> World:
    """Sets threads and memory, joins the process group."""
    if config.keep_memory:
        keep_memory()
    if config.threads is not None:
        if config.threads < 1:
            raise UserError(f"runtime.threads must be at least 1 or null, not {config.threads}")
        torch.set_num_threads(config.threads)
    if config.device not in DEVICES:
        raise UserError(f"runtime.device is {config.device}, but must be one of {', '.join(DEVICES)}")
    if config.workers is not None and config.workers < 1:
        raise UserError(f"runtime.workers must be at least 1 or null, not {config.workers}")
    n_workers = config.workers or min(MOST_WORKERS, torch.get_num_threads())
    with explained("runtime"):
        return World(config.device, n_workers)
