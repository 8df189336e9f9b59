"""Which pairs go together into a batch: pure functions of lengths, token budget, seed, epoch, rank and world size."""

import random
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from transformer.error import UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchtext 0.6 is older than some of what it imports
    import torchtext.data


class Batching(ABC):
    """Plans an epoch under a token budget, padding counted.

    A batch of n pairs satisfies n * (longest source + 1) <= max_tokens and n * (longest target + 1) <= max_tokens, the
    + 1 being EOS or BOS. A pair that is longer than the budget by itself is not dropped: it forms a batch of its own.

    With round_to both sides are padded to a multiple of it, which counts in the budget, so that batches come in few
    shapes: what a compiler or a CUDA graph makes for one shape serves many batches.
    """

    def __init__(self, max_tokens: int, round_to: int | None = None) -> None:
        """Takes the budget of a batch, in tokens of one side, and what padded lengths are a multiple of, None = any.

        Raises:
            UserError: the budget is below 2, which holds no token and its EOS, or lengths cannot be such multiples.
        """
        if max_tokens < 2:
            raise UserError(f"batching.max_tokens={max_tokens} must be at least 2, one token and its end of sentence")
        if round_to is not None and not 1 <= round_to <= max_tokens:
            raise UserError(
                f"batching.round_to={round_to} must be at least 1 and at most batching.max_tokens={max_tokens}, or null"
            )
        self.max_tokens, self.round_to = max_tokens, round_to or 1

    def told(self) -> list[str]:
        """Sentences on what an epoch is made of, where that is not every pair once."""
        return []

    @abstractmethod
    def plan(self, src_lengths: np.ndarray, tgt_lengths: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch, for all ranks together.

        Args:
            src_lengths: (pairs,) integers; tokens without EOS.
            tgt_lengths: (pairs,) integers.
            seed: of the run, at least 0.
            epoch: counted as the caller likes, at least 0.

        Returns:
            Arrays of int64 indices of pairs; every pair is in exactly one. The same for the same arguments.
        """


class Bucket(Batching):
    """Pairs of like lengths go together; which ones, and in which order the batches come, differs from epoch to epoch.

    Pairs are sorted by their longer side, then by how much longer the target is than the source, with ties broken at
    random; the second key runs up and down by turns, so that neighbours across a step of the first key are alike too.
    The first batch is cut short at random, which moves all borders.
    """

    def plan(self, src_lengths: np.ndarray, tgt_lengths: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
        """See Batching.plan."""
        rng = np.random.default_rng([seed, epoch])
        order, longest = by_length(src_lengths, tgt_lengths, rng)
        if not len(order):
            return []
        longest = rounded(longest, self.round_to)
        full = cut(longest[: self.max_tokens], self.max_tokens, multiple=self.round_to)[0]
        ends = cut(longest, self.max_tokens, first=int(rng.integers(1, full + 1)), multiple=self.round_to)
        batches = np.split(order, ends[:-1])
        return [batches[i] for i in rng.permutation(len(batches))]


class Sorted(Batching):
    """Pairs of like lengths go together, shortest first, in the same order always; for validation."""

    def plan(self, src_lengths: np.ndarray, tgt_lengths: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
        """See Batching.plan; seed and epoch change nothing."""
        order, longest = by_length(src_lengths, tgt_lengths, None)
        ends = cut(rounded(longest, self.round_to), self.max_tokens, multiple=self.round_to)
        return np.split(order, ends[:-1]) if len(order) else []


class Pool(Batching):
    """The teaching code's way: torchtext's pool.

    The shuffled pairs are taken in pools of 100 budgets, each pool is sorted and cut into batches, and its batches are
    shuffled. Pads more than Bucket and plans far slower.
    """

    def plan(self, src_lengths: np.ndarray, tgt_lengths: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
        """See Batching.plan."""
        rng = random.Random(f"{seed} {epoch}")  # not the global generator, which torchtext would take by itself
        src, tgt = src_lengths.tolist(), tgt_lengths.tolist()

        def shuffled(items: Sequence) -> list:
            return rng.sample(items, len(items))

        batches = torchtext.data.pool(
            shuffled(range(len(src))),
            self.max_tokens,
            key=lambda i: (src[i], tgt[i]),
            batch_size_fn=_padded_tokens(src, tgt, self.round_to),
            random_shuffler=shuffled,
            shuffle=True,
            sort_within_batch=True,
        )
        return [np.asarray(batch, dtype=np.int64) for batch in batches if batch]  # torchtext opens some with nothing


def _padded_tokens(src: Sequence[int], tgt: Sequence[int], round_to: int) -> Callable[[int, int, int], int]:
    """torchtext's batch_size_fn: tokens of the longer side once pair `new` makes the batch `count` pairs large."""
    longest = 0

    def size(new: int, count: int, so_far: int) -> int:
        nonlocal longest
        longest = max(0 if count == 1 else longest, -(-(max(src[new], tgt[new]) + 1) // round_to) * round_to)
        return count * longest

    return size


def rounded(lengths: np.ndarray, multiple: int) -> np.ndarray:
    """Integers rounded up to multiples."""
    return -(-lengths // multiple) * multiple


def by_length(
    src_lengths: np.ndarray, tgt_lengths: np.ndarray, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts pairs as Bucket says.

    Args:
        src_lengths: (pairs,) integers, without EOS.
        tgt_lengths: (pairs,) integers.
        rng: breaks ties; None = by index.

    Returns:
        The indices in order, and the longer side + 1 of each pair in that order, ascending; both (pairs,) int64.
    """
    longest = np.maximum(src_lengths, tgt_lengths).astype(np.int64) + 1
    span = int(longest.max(initial=1))
    difference = tgt_lengths.astype(np.int64) - src_lengths  # -span < difference < span
    turn = int(rng.integers(2)) if rng else 0
    difference[longest % 2 == turn] *= -1
    key = longest * (2 * span) + (difference + span)
    if rng:
        ties = 2**62 // (2 * span * (span + 1))
        key = key * ties + rng.integers(ties, size=len(key))
    order = np.argsort(key, kind="stable")  # stable: the same on every processor
    return order, longest[order]


def cut(longest: np.ndarray, max_tokens: int, first: int | None = None, multiple: int = 1) -> list[int]:
    """Where each of the largest possible batches of sorted pairs ends.

    Args:
        longest: (pairs,) int64, ascending; the longer side + 1 of each pair.
        max_tokens: the budget of a batch.
        first: the most pairs in the first batch; None = as many as fit.
        multiple: of pairs in a batch, where as many fit; the last batch has what is left.
    """
    ends: list[int] = []
    counts = np.arange(1, min(max_tokens, len(longest)) + 1)
    start = 0
    while start < len(longest):
        ahead = longest[start : start + max_tokens // int(longest[start])]
        n = int(np.searchsorted(ahead * counts[: len(ahead)], max_tokens, side="right"))
        if first is not None and start == 0:
            n = min(n, first)
        if n > multiple:
            n -= n % multiple
        start += max(1, n)  # a pair over the budget goes alone
        ends.append(start)
    return ends


def divide(batches: Sequence[np.ndarray], n: int) -> list[np.ndarray]:
    """Makes `n` batches out of no more than that by halving the largest; empty ones at the end if the pairs run out."""
    divided = list(batches)
    sizes = [len(batch) for batch in divided]
    while len(divided) < n:
        largest = int(np.argmax(sizes)) if sizes else 0
        if not sizes or sizes[largest] < 2:
            return divided + [np.zeros(0, dtype=np.int64)] * (n - len(divided))
        half = (sizes[largest] + 1) // 2
        divided[largest : largest + 1] = [divided[largest][:half], divided[largest][half:]]
        sizes[largest : largest + 1] = [half, sizes[largest] - half]
    return divided


def shard(batches: Sequence[np.ndarray], rank: int, world_size: int) -> list[np.ndarray]:
    """One rank's share: every rank gets equally many batches, and every pair goes to exactly one rank.

    Step s of rank r is batch s * world_size + r. If the batches cannot be divided evenly, the largest are halved until
    they can; if there are no two pairs left to separate, the last ranks get an empty array in the last step, and must
    still take part in it.

    Args:
        batches: the plan for all ranks.
        rank: 0 .. world_size - 1.
        world_size: number of ranks.
    """
    steps = -(-len(batches) // world_size)
    return divide(batches, steps * world_size)[rank::world_size]


def padding_efficiency(
    batches: Sequence[np.ndarray], src_lengths: np.ndarray, tgt_lengths: np.ndarray, round_to: int = 1
) -> float:
    """The share of source and target positions that are not padding, EOS counted, 0-100 (100 for no batches)."""
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        return 100.0
    pairs, src, tgt = shapes(batches, src_lengths, tgt_lengths, round_to).T
    padded = int((pairs * (src + tgt)).sum())
    order = np.concatenate(batches)
    real = int(src_lengths[order].astype(np.int64).sum() + tgt_lengths[order].astype(np.int64).sum()) + 2 * len(order)
    return 100.0 * real / padded


def shapes(
    batches: Sequence[np.ndarray], src_lengths: np.ndarray, tgt_lengths: np.ndarray, round_to: int = 1
) -> np.ndarray:
    """Pairs, source and target positions of each batch when it is padded, (batches, 3) int64; no batch is empty."""
    sizes = np.asarray([len(batch) for batch in batches], dtype=np.int64)
    order = np.concatenate(list(batches))
    starts = np.cumsum(sizes) - sizes
    longest = [np.maximum.reduceat(lengths[order].astype(np.int64), starts) for lengths in (src_lengths, tgt_lengths)]
    return np.stack([sizes, *(rounded(side + 1, round_to) for side in longest)], axis=1)
