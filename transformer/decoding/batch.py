"""What a search is given: sentences, how long their translations may be, and how many fit in at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from transformer.decoding.demand import Demand

Room = Callable[[int], int]
"""How many sentences are searched at once when the longest of them has so many source tokens, EOS counted."""


def untold(n_sentences: int) -> None:
    """Nobody wants to know how many sentences have been found."""


@dataclass(frozen=True)
class Flow:
    """How sentences go through a search.

    room: how many are searched at once; the others wait and take the places of those that have ended or, where rules,
    demands or coverage reckon with a common beginning, follow in batches. None: all at once.
    told: is called with the number of sentences that have just ended.
    """

    room: Room | None = None
    told: Callable[[int], None] = untold


@dataclass(frozen=True)
class Batch:
    """The sentences of one search.

    src: long (n_sentences, src_len). src_key_padding_mask: bool (n_sentences, src_len), True = padding, behind the
    tokens. max_lengths: long (n_sentences,), at least 1. demands: one a sentence, or None.
    """

    src: Tensor
    src_key_padding_mask: Tensor
    max_lengths: Tensor
    demands: Sequence[Demand] | None = None

    def __len__(self) -> int:
        return self.src.size(0)

    def lengths(self) -> list[int]:
        """Return the source tokens of every sentence, EOS counted."""
        return list((~self.src_key_padding_mask).sum(1).tolist())

    def part(self, first: int, last: int) -> "Batch":
        """Return sentences `first` up to but not `last`, without padding that none of them needs."""
        mask = self.src_key_padding_mask[first:last]
        src_len = int((~mask).sum(1).max())
        demands = None if self.demands is None else self.demands[first:last]
        return Batch(self.src[first:last, :src_len], mask[:, :src_len], self.max_lengths[first:last], demands)


def fitting(lengths: Sequence[int], room: Room, n_there: int = 0, longest: int = 0) -> int:
    """Return how many of the first sentences, `lengths` tokens long, fit beside n_there of at most `longest`.

    One fits whatever its length where none is there.
    """
    for n_new, length in enumerate(lengths):
        longest = max(longest, length)
        if n_there + n_new and n_there + n_new + 1 > room(longest):
            return n_new
    return len(lengths)
