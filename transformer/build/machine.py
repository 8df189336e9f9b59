"""The machine that a config asks for: threads, memory, device, processes."""

import logging

import torch

from transformer.build.part import explained
from transformer.config import MachineConfig
from transformer.error import UserError
from transformer.model import arithmetic
from transformer.training.distributed import World
from transformer.training.memory import keep_memory
from transformer.training.precision import Precision

logger = logging.getLogger(__name__)

MOST_WORKERS = 4  # each has gradients of its own in memory
DEVICES = ("auto", "cpu", "cuda")


def runtime(config: MachineConfig, workers: int | None = 1) -> World:
    """Sets threads, memory and arithmetic, joins the process group.

    Args:
        config: what is wanted.
        workers: threads that divide a training batch; None: as many as torch has, at most MOST_WORKERS.
    """
    if config.keep_memory:
        keep_memory()
    if config.threads is not None:
        if config.threads < 1:
            raise UserError(f"runtime.threads must be at least 1 or null, not {config.threads}")
        torch.set_num_threads(config.threads)
    if config.device not in DEVICES:
        raise UserError(f"runtime.device is {config.device}, but must be one of {', '.join(DEVICES)}")
    if workers is not None and workers < 1:
        raise UserError(f"runtime.workers must be at least 1 or null, not {workers}")
    with explained("runtime"):
        arithmetic.use(config.arithmetic)
    n_workers = workers or min(MOST_WORKERS, torch.get_num_threads())
    with explained("runtime"):
        return World(config.device, n_workers)


def precision(config: MachineConfig, device: torch.device) -> Precision:
    """The number format that a config asks for."""
    with explained("runtime"):
        return Precision(config.precision, device)


def precision_with_caution(config: MachineConfig, device: torch.device) -> Precision:
    """The same; the log says where the processor does not know it."""
    found = precision(config, device)
    if caution := found.caution():
        logger.warning(caution)
    return found
