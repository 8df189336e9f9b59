"""The largest token budget of a batch that fits into memory: batching.max_tokens=auto."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from transformer.data.batch import Batch, collate
from transformer.data.batching import Sorted, rounded
from transformer.data.store import PairStore
from transformer.error import UserError
from transformer.training.distributed import World
from transformer.training.update import Updater

LEAST_UPDATES = 100  # of an epoch: a budget that leaves fewer learns too seldom, however well it fits
SPARE = 0.2  # of the memory: for fragments, other batches, and whatever else the machine does


@dataclass(frozen=True)
class Budget:
    """What was found.

    Attributes:
        max_tokens: the budget.
        reason: what keeps it from being larger, in words.
    """

    max_tokens: int
    reason: str


def largest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest budget that fits, to a sixteenth: by doubling, then by halving the gap.

    Args:
        fits: whether a budget does; asked for larger and larger ones until one does not, then between the two.
        least: the first to try.
        most: the last to try, at least `least`.

    Returns:
        0 when not even `least` fits.
    """
    if not fits(least):
        return 0
    good, bad = least, 0
    while good < most and not bad:
        doubled = min(2 * good, most)
        good, bad = (doubled, 0) if fits(doubled) else (good, doubled)
    while bad - good > max(1, good // 16):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def heaviest(store: PairStore, max_tokens: int, round_to: int = 1) -> list[Batch]:
    """Of the batches under a budget, the one with most positions and the one with the longest sentences."""
    batches = Sorted(max_tokens, round_to).plan(store.src_lengths, store.tgt_lengths, 0, 0)

    def positions(batch: np.ndarray) -> int:
        longest = np.array([store.src_lengths[batch].max(), store.tgt_lengths[batch].max()]) + 1
        return len(batch) * int(rounded(longest, round_to).sum())

    chosen = {id(batch): batch for batch in (batches[-1], max(batches, key=positions))}
    return [collate([store[i] for i in batch.tolist()], batch, round_to) for batch in chosen.values()]


def free_memory() -> int | None:
    """Bytes of main memory that this process may still take, or None where the system does not tell."""
    lines = _told(Path("/proc/meminfo")).splitlines()
    found = [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    limit, used = (_told(Path("/sys/fs/cgroup") / name).strip() for name in ("memory.max", "memory.current"))
    if limit.isdigit() and used.isdigit():
        found.append(max(0, int(limit) - int(used)))
    return min(found, default=None)


def _told(path: Path) -> str:
    return path.read_text(encoding="ascii") if path.is_file() else ""


def peak_memory() -> int:
    """The most main memory that this process has held so far, in bytes."""
    import resource  # not on every system; where it is missing, free_memory tells nothing either

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Probe:
    """Whether an update under a budget fits into memory; the weights stay what they are.

    On an accelerator the update is tried, and memory runs out or not. On a CPU a process that takes too much is killed
    and not told, so peak memory is measured, and an update is tried only if the smaller ones foretell that it fits.

    Args:
        updater: does the update, with a learning rate of 0.
        store: the training pairs.
        limit: bytes that may be taken on a CPU; None on an accelerator.
        round_to: what padded lengths are multiples of.
    """

    def __init__(self, updater: Updater, store: PairStore, limit: int | None, round_to: int = 1) -> None:
        self.updater, self.store, self.limit, self.round_to = updater, store, limit, round_to
        self.before = peak_memory() if limit is not None else 0
        self.bytes_per_token = 0.0

    def __call__(self, max_tokens: int) -> bool:
        """Whether an update under the budget fits."""
        if self.limit is not None and self.bytes_per_token * max_tokens > self.limit:
            return False
        for batch in heaviest(self.store, max_tokens, self.round_to):
            try:
                if self.updater([batch], 0.0).n_splits:
                    return False
            except UserError:  # not even one pair of it fits
                return False
        if self.limit is None:
            return True
        taken = peak_memory() - self.before
        self.bytes_per_token = max(self.bytes_per_token, taken / max_tokens)
        return taken <= self.limit


def find(updater: Updater, store: PairStore, world: World, batches_per_update: int, round_to: int = 1) -> Budget:
    """The largest budget with which training fits into memory, all processes agreeing.

    Args:
        updater: of a model and an optimizer that are thrown away afterwards, in a world of its own.
        store: the training pairs.
        world: the processes, each of which tries for itself.
        batches_per_update: over all processes and micro-batches.
        round_to: what padded lengths are multiples of; it counts in the budget.

    Raises:
        UserError: not even the smallest fits, or the system does not tell how much memory there is.
    """
    lengths = rounded(np.maximum(store.src_lengths, store.tgt_lengths).astype(np.int64) + 1, round_to)
    longest, total = int(lengths.max()), int(lengths.sum())
    most = max(longest, total // (LEAST_UPDATES * batches_per_update))
    limit = None
    if world.device.type == "cpu":
        free = free_memory()
        if free is None:
            raise UserError("batching.max_tokens is auto, but this system does not tell its free memory; give a number")
        limit = int((1 - SPARE) * free / int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    probe = Probe(updater, store, limit, round_to)
    found = min(world.gather(largest(probe, longest, most)))
    if not found:
        raise UserError(
            f"batching.max_tokens is auto, but not even a batch of one pair of {longest} tokens fits into memory; "
            "lower training.max_len or choose a smaller model"
        )
    if world.device.type == "cuda":
        torch.cuda.empty_cache()
    if found == most:
        return Budget(found, f"an epoch of {LEAST_UPDATES} updates; memory would hold more")
    if limit is None:
        found = max(longest, int((1 - SPARE / 2) * found))
    return Budget(found, "what fits into memory" if limit is None else f"what fits into {limit / 2**30:.1f} GiB")
