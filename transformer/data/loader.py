"""The stream of batches a rank trains on, resumable after any batch."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from transformer.data.batch import Batch, collate
from transformer.data.batching import Batching, padding_efficiency, shard
from transformer.data.store import PairStore
from transformer.data.tokenizer.base import TokenizerPair
from transformer.error import UserError

_AHEAD = 4  # batches made in the background while the consumer computes


class BatchLoader:
    """Iterates over one rank's batches of an epoch.

    What comes is a pure function of the constructor's arguments, the epoch and the position, sampled segmentations
    included; so a loader that is given the state of another goes on exactly where that one stood. One iteration at a
    time.

    Attributes:
        padding_efficiency: share of this epoch's planned positions, over all ranks, that are not padding, 0-100.
    """

    def __init__(
        self,
        store: PairStore,
        batching: Batching,
        seed: int,
        rank: int,
        world_size: int,
        tokenizers_for_sampling: TokenizerPair | None,
    ) -> None:
        """Plans nothing yet.

        Args:
            store: the pairs.
            batching: plans the batches of an epoch.
            seed: of the run, at least 0.
            rank: 0 .. world_size - 1.
            world_size: number of processes that share the batches.
            tokenizers_for_sampling: draws a new segmentation of every sentence each time, if these tokenizers sample at
                all (batches may then be longer than planned, but no sentence over the store's max_len); None = ids as
                stored.
        """
        self._store = store
        self._batching = batching
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._tokenizers = (
            tokenizers_for_sampling if tokenizers_for_sampling and tokenizers_for_sampling.samples else None
        )
        self._epoch = 0
        self._position = 0
        self._finished = False
        self._planned: tuple[int, list[np.ndarray], float] | None = None

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
                f"the saved position is {self._position} batches into epoch {self._epoch}, which has only {len(self)}; "
                "resume with the data and batching of the saved run"
            )

    def __len__(self) -> int:
        """This rank's batches in the whole epoch."""
        return len(self._plan()[0])

    @property
    def padding_efficiency(self) -> float:
        """See the attributes."""
        return self._plan()[1]

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches that are left of the epoch; all of them if it was iterated to its end before.

        Batches are made in a background thread; an error there is raised here.
        """
        if self._finished:
            self._position, self._finished = 0, False
        epoch, batches = self._epoch, self._plan()[0]
        pending: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        try:
            submitted = self._position
            while self._position < len(batches):
                while submitted < min(len(batches), self._position + _AHEAD):
                    pending.append(pool.submit(self._make, epoch, submitted, batches[submitted]))
                    submitted += 1
                batch = pending.popleft().result()
                self._position += 1
                yield batch
            self._finished = True
        finally:
            pool.shutdown(cancel_futures=True)

    def _plan(self) -> tuple[list[np.ndarray], float]:
        """This rank's batches and the padding efficiency of the epoch, planned once."""
        if self._planned is None or self._planned[0] != self._epoch:
            lengths = self._store.src_lengths, self._store.tgt_lengths
            batches = self._batching.plan(*lengths, self._seed, self._epoch)
            mine = shard(batches, self._rank, self._world_size)
            self._planned = self._epoch, mine, padding_efficiency(batches, *lengths)
        return self._planned[1:]

    def _make(self, epoch: int, position: int, indices: np.ndarray) -> Batch:
        pairs = [self._store[i] for i in indices.tolist()]
        if self._tokenizers is not None:
            number = position * self._world_size + self._rank  # the batch's number in the plan for all ranks
            words = np.random.SeedSequence([self._seed, epoch, number]).generate_state(1)
            pairs = self._resampled(pairs, self._tokenizers, int(words[0]) % (2**32 - 2))
        return collate(pairs, indices)

    def _resampled(
        self, pairs: list[tuple[np.ndarray, np.ndarray]], tokenizers: TokenizerPair, seed: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """New segmentations; a pair that would be over max_len keeps its stored ids."""
        src, tgt = tokenizers.sample([src.tolist() for src, _ in pairs], [tgt.tolist() for _, tgt in pairs], seed)
        most = self._store.max_len
        return [
            (np.asarray(s, dtype=np.int32), np.asarray(t, dtype=np.int32))
            if len(s) <= most and len(t) <= most
            else pair
            for s, t, pair in zip(src, tgt, pairs, strict=True)
        ]
