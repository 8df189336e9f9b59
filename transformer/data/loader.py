"""The stream of batches a rank trains on, resumable after any batch."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from transformer.data.batch import Batch, collate
from transformer.data.batching import Batching, padding_efficiency, shapes, shard
from transformer.data.sampling import GROUP, expected_lengths, regroup, resample
from transformer.data.store import PairStore
from transformer.data.tokenizer.base import TokenizerPair
from transformer.data.transfer import Sent, Transfer
from transformer.error import UserError

_AHEAD = 4  # batches made in the background while the consumer computes


class BatchLoader:
    """Iterates over one rank's batches of an epoch.

    What comes is a pure function of the constructor's arguments, the epoch and the position, sampled segmentations
    included; so a loader that is given the state of another goes on exactly where that one stood. One iteration at a
    time.

    Attributes:
        padding_efficiency: share of this epoch's source and target positions, over all ranks, that are not padding,
            0-100; with sampling measured on this rank's first batches.
        n_shapes: how many different (pairs, source length, target length) this epoch's batches have, over all ranks;
            None with sampling, which decides lengths as it goes.
    """

    def __init__(
        self,
        store: PairStore,
        batching: Batching,
        seed: int,
        rank: int,
        world_size: int,
        tokenizers_for_sampling: TokenizerPair | None,
        transfer: Transfer | None = None,
    ) -> None:
        """Plans nothing yet.

        Args:
            store: the pairs.
            batching: plans the batches of an epoch.
            seed: of the run, at least 0.
            rank: 0 .. world_size - 1.
            world_size: number of processes that share the batches.
            tokenizers_for_sampling: draws a new segmentation of every sentence in every epoch, if these tokenizers
                sample at all; the token budget then holds on average, not for every batch. None = ids as stored.
            transfer: brings the batches to where they are used, ahead of time; None = they stay in main memory.
        """
        self._store = store
        self._batching = batching
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        samples = tokenizers_for_sampling is not None and tokenizers_for_sampling.samples
        self._tokenizers = tokenizers_for_sampling if samples else None
        self._transfer = transfer or Transfer(torch.device("cpu"))
        self._epoch = 0
        self._position = 0
        self._finished = False
        self._lengths: tuple[np.ndarray, np.ndarray] | None = None
        self._planned: tuple[int, list[np.ndarray], float] | None = None
        self._counted: dict[int, int] = {}  # batches of epochs that were planned to be counted

    def set_epoch(self, epoch: int) -> None:
        """Starts another epoch at its first batch; naming the current epoch changes nothing."""
        if epoch != self._epoch:
            self._epoch, self._position, self._finished = epoch, 0, False

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its batches already yielded."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next iteration go on behind the batches that were yielded when `state` was taken.

        Raises:
            UserError: the epoch has fewer batches than that: the data or the batching has changed.
        """
        self._epoch, self._position, self._finished = int(state["epoch"]), int(state["position"]), False
        if not 0 <= self._position <= len(self):
            raise UserError(
                f"the saved position is batch {self._position} of epoch {self._epoch}, which has {len(self)} batches; "
                "resume with the data and the batching of the saved run"
            )

    def __len__(self) -> int:
        """This rank's batches in the whole epoch."""
        return len(self._plan()[0])

    def n_batches(self, epoch: int) -> int:
        """This rank's batches in an epoch, which is planned for it, once, if it is not the present one."""
        if epoch == self._epoch:
            return len(self)
        if epoch not in self._counted:
            self._counted[epoch] = len(shard(self._all(epoch), self._rank, self._world_size))
        return self._counted[epoch]

    @property
    def padding_efficiency(self) -> float:
        """Share of this epoch's positions that are not padding, 0-100; see the class."""
        return self._plan()[1]

    @property
    def told(self) -> list[str]:
        """Sentences on what an epoch is made of: see `Batching.told`, and pairs that are too long for the budget."""
        longest, budget = np.maximum(self._store.src_lengths, self._store.tgt_lengths) + 1, self._batching.max_tokens
        n_beyond = int((longest > budget).sum())
        beyond = f"pairs with more tokens than batching.max_tokens={budget}, each a batch by itself: {n_beyond:,}"
        return self._batching.told() + ([f"{beyond}, of up to {longest.max()} tokens"] if n_beyond else [])

    @property
    def n_shapes(self) -> int | None:
        """How many shapes this epoch's batches have; see the class. Plans the epoch again, so ask once."""
        if self._tokenizers is not None:
            return None
        lengths = self._store.src_lengths, self._store.tgt_lengths
        batches = [batch for batch in self._batching.plan(*lengths, self._seed, self._epoch) if len(batch)]
        return len(np.unique(shapes(batches, *lengths, self._batching.round_to), axis=0)) if batches else 0

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches that are left of the epoch; all of them if it was iterated to its end before.

        Batches are made, and sent on their way to the device, in a background thread; an error there is raised here.
        """
        if self._finished:
            self._position, self._finished = 0, False
        batches = map(self._transfer.send, self._produce(self._epoch, self._plan()[0], self._position))
        left = len(self) - self._position
        pending: deque[Future[Sent]] = deque()
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        try:
            for _ in range(left):
                while len(pending) < min(left, _AHEAD):
                    pending.append(pool.submit(next, batches))
                batch = self._transfer.receive(pending.popleft().result())
                left -= 1
                self._position += 1
                yield batch
            self._finished = True
        finally:
            pool.shutdown(cancel_futures=True)

    def _planned_by(self) -> tuple[np.ndarray, np.ndarray]:
        """The lengths of sources and targets that batches are planned by; with sampling the expected ones."""
        if self._tokenizers is None:
            return self._store.src_lengths, self._store.tgt_lengths
        if self._lengths is None:
            self._lengths = expected_lengths(self._store, self._tokenizers)
        return self._lengths

    def _all(self, epoch: int) -> list[np.ndarray]:
        """The batches of all ranks."""
        return self._batching.plan(*self._planned_by(), self._seed, epoch)

    def _plan(self) -> tuple[list[np.ndarray], float]:
        """This rank's batches and the padding efficiency of the epoch, planned once."""
        if self._planned is None or self._planned[0] != self._epoch:
            batches = self._all(self._epoch)
            mine = shard(batches, self._rank, self._world_size)
            round_to = self._batching.round_to
            if self._tokenizers is None:
                efficiency = padding_efficiency(batches, *self._planned_by(), round_to)
            else:
                efficiency = _efficiency(self._sampled_group(self._epoch, mine, 0, self._tokenizers), round_to)
            self._planned = self._epoch, mine, efficiency
        return self._planned[1:]

    def _produce(self, epoch: int, plan: list[np.ndarray], position: int) -> Iterator[Batch]:
        """The epoch's batches from `position` on; runs in the background."""
        if self._tokenizers is None:
            for indices in plan[position:]:
                yield collate([self._store[i] for i in indices.tolist()], indices, self._batching.round_to)
            return
        for first in range(position - position % GROUP, len(plan), GROUP):
            group = self._sampled_group(epoch, plan, first, self._tokenizers)
            for pairs, indices in group[max(0, position - first) :]:
                yield collate(pairs, indices, self._batching.round_to)

    def _sampled_group(
        self, epoch: int, plan: list[np.ndarray], first: int, tokenizers: TokenizerPair
    ) -> list[tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]]:
        """The pairs and indices of GROUP planned batches, segmented anew and dealt into as many batches."""
        planned = plan[first : first + GROUP]
        if not planned:
            return []
        words = np.random.SeedSequence([self._seed, epoch, self._rank, first]).generate_state(2)
        indices = np.concatenate(planned)
        pairs = resample(self._store, indices, tokenizers, int(words[0]))
        lengths = _lengths(pairs)
        batches = regroup(lengths[:, 0], lengths[:, 1], len(planned), int(words[1]))
        return [([pairs[i] for i in batch.tolist()], indices[batch]) for batch in batches]


def _lengths(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Source and target tokens of each pair, (pairs, 2) int64."""
    return np.asarray([(len(src), len(tgt)) for src, tgt in pairs], dtype=np.int64).reshape(-1, 2)


def _efficiency(batches: list[tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]], round_to: int) -> float:
    """Padding efficiency, 0-100, of batches of pairs of ids."""
    lengths = _lengths([pair for pairs, _ in batches for pair in pairs])
    ends = np.cumsum([len(pairs) for pairs, _ in batches], dtype=np.int64)
    return padding_efficiency(np.split(np.arange(len(lengths)), ends[:-1]), lengths[:, 0], lengths[:, 1], round_to)
