"""Where pairs stand in the files that they came from."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from transformer.data.corpus import Part
from transformer.error import UserError


class Places:
    """Files and lines of pairs that are known by their numbers in a split, as text for messages."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Takes the files of the split, in order; they are read when they are first asked for, if there are several."""
        self._parts = parts

    def told(self, numbers: Sequence[int]) -> str:
        """Such as "lines 3, 7"; where the split has several files "lines 3, 7 of a.en, 2 of b.en".

        Where these can be read no longer it is "pairs 3, 7 of the split".

        Args:
            numbers: of pairs, from 1, ascending.
        """
        word = "line" if len(numbers) == 1 else "lines"
        if len(self._parts) == 1:
            return f"{word} {_listed(numbers)}"
        try:
            part_of = np.searchsorted(self._ends, numbers)
        except UserError:  # no reason to end a training run
            return f"{'pair' if len(numbers) == 1 else 'pairs'} {_listed(numbers)} of the split"
        told = []
        for i in np.unique(part_of).tolist():
            before = int(self._ends[i - 1]) if i else 0
            own = [number - before for number, of in zip(numbers, part_of, strict=True) if of == i]
            told.append(f"{_listed(own)} of {self._parts[i].src}")
        return f"{word} {', '.join(told)}"

    @cached_property
    def _ends(self) -> np.ndarray:
        """(parts,) int64; the number of the last pair of each."""
        return np.cumsum([sum(1 for _ in part.pairs()) for part in self._parts])


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
