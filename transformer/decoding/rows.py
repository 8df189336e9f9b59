"""The sentences under search, one a row of the batch: those that end leave it, those that wait take their places."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.decoding.batch import Batch, Flow, Room, fitting
from transformer.decoding.rule import Bounds
from transformer.decoding.search import DecoderState, NoTranslationError, StepModel


@dataclass(frozen=True)
class Turn:
    """How the rows change between two steps.

    n_rows: rows from now on. kept: long (k,), the old rows that stay, in their new order; None: all, as they are.
    fresh: long, rows in which another sentence begins; they may lie behind the old ones. None: there are none.
    """

    n_rows: int
    kept: Tensor | None = None
    fresh: Tensor | None = None

    def carry(self, values: Tensor, beginning: Tensor | int | bool) -> Tensor:
        """Return `values`, (old rows, ...), for the new rows; `beginning` is what a fresh row has there."""
        if self.kept is not None:
            values = values[self.kept]
        if self.fresh is None:
            return values
        carried = values.new_empty(self.n_rows, *values.shape[1:])
        carried[: min(self.n_rows, values.size(0))] = values
        carried[self.fresh] = torch.as_tensor(beginning, dtype=values.dtype, device=values.device)
        return carried


class Rows:
    """The rows of one search.

    Rows whose sentence has ended stay, unused, until so many have that a change pays; see `worth_leaving`.

    Args:
        model: steps through the sentences; they start at once.
        batch: the sentences.
        width: hypotheses a sentence.
        flow: how many are searched at once while the others wait, and who is told of those that end.

    Attributes:
        state: the model's.
        sentences: long (n_rows,), the number of each row's sentence in the batch.
        limits: long (n_rows,), most tokens of its translation, EOS counted.
        ages: long (n_rows,), the tokens it has so far.
        alive: bool (n_rows,), False where the sentence has ended.
    """

    def __init__(self, model: StepModel, batch: Batch, width: int, flow: Flow) -> None:
        self.model, self.batch, self.width, self.told = model, batch, width, flow.told
        self.room: Room = flow.room or (lambda src_len: len(batch))
        self.capacity = int(batch.max_lengths.max())
        self._lengths = batch.lengths()
        self._next = fitting(self._lengths, self.room)
        device = batch.src.device
        self.state = self._started(0, self._next)
        self.sentences = torch.arange(self._next, device=device)
        self.limits = batch.max_lengths.to(device)[: self._next]
        self.ages = torch.zeros_like(self.sentences)
        self.alive = torch.ones_like(self.sentences, dtype=torch.bool)
        self._n_alive = self._next

    @property
    def bounds(self) -> Bounds:
        """What rules are told of the rows."""
        src_lengths = torch.tensor(self._lengths, device=self.limits.device)[self.sentences]
        return Bounds(src_lengths - 1, self.limits, self.width)

    @property
    def all_alive(self) -> bool:
        """Whether no row is unused."""
        return self._n_alive == self.alive.size(0)

    def must_end(self) -> Tensor:
        """Return which rows have room for EOS alone at this step, bool (n_rows,)."""
        return self.limits == self.ages + 1

    def check(self, possible: Tensor) -> None:
        """Raise NoTranslationError where a row, bool (n_rows,), has no token to go on with."""
        if not possible.all():
            row = (~possible).nonzero()[0, 0]
            raise NoTranslationError(int(self.sentences[row]), int(self.limits[row]))

    def turn(self, going: Tensor) -> Turn | None:
        """Count the step that was made, and change the rows where that pays.

        going: bool (n_rows,), the sentences to search on; what it says of an unused row does not matter.

        Returns what has changed, or None when all sentences of the batch have ended.
        """
        self.alive = self.alive & going
        self.ages = self.ages + self.alive
        n_rows = self.alive.size(0)
        n_alive = int(self.alive.sum())
        if n_alive < self._n_alive:
            self.told(self._n_alive - n_alive)
        self._n_alive = n_alive
        if n_alive == 0 and self._next == len(self.batch):
            return None
        # To go on with a few that have ended costs less than to move the others.
        if self.all_alive or not worth_leaving(n_alive, n_rows):
            return Turn(n_rows)
        return self._admit(n_rows, n_alive) or self._leave(n_alive)

    def _leave(self, n_alive: int) -> Turn:
        # The last take the places of those that have ended, so that few are moved.
        kept = torch.arange(n_alive, device=self.alive.device)
        kept[~self.alive[:n_alive]] = n_alive + self.alive[n_alive:].nonzero().flatten()
        self.state.keep(kept)
        turn = Turn(kept.size(0), kept=kept)
        self._carry(turn, kept, kept, kept)
        return turn

    def _admit(self, n_rows: int, n_alive: int) -> Turn | None:
        """Let waiting sentences in; None where there are none, or no room for one."""
        living = self.sentences[self.alive].tolist()
        longest = max((self._lengths[i] for i in living), default=0)
        n_new = fitting(self._lengths[self._next :], self.room, n_alive, longest)
        n_free = n_rows - n_alive
        if n_new > n_free and 4 * (n_new - n_free) < n_rows:
            n_new = n_free  # a few more rows are not worth moving all
        if n_new == 0:
            return None
        device = self.alive.device
        free = (~self.alive).nonzero().flatten()
        places = torch.cat([free, torch.arange(n_rows, n_rows + max(0, n_new - n_free), device=device)])[:n_new]
        first, self._next = self._next, self._next + n_new
        self.state.admit(places, self._started(first, self._next))
        turn = Turn(n_rows + max(0, n_new - n_free), fresh=places)
        sentences = torch.arange(first, self._next, device=device)
        self._carry(turn, sentences, self.batch.max_lengths.to(device)[sentences], torch.zeros_like(sentences))
        return turn

    def _carry(self, turn: Turn, sentences: Tensor, limits: Tensor, ages: Tensor) -> None:
        self.sentences = turn.carry(self.sentences, sentences)
        self.limits, self.ages = turn.carry(self.limits, limits), turn.carry(self.ages, ages)
        self.alive = turn.carry(self.alive, True)
        self._n_alive = int(self.alive.sum())

    def _started(self, first: int, last: int) -> DecoderState:
        part = self.batch.part(first, last)
        return self.model.start(part.src, part.src_key_padding_mask, width=self.width, capacity=self.capacity)


def worth_leaving(n_going: int, n_rows: int) -> bool:
    """Return whether so few of the rows go on that it pays to change them: a sixteenth has ended."""
    return 16 * n_going <= 15 * n_rows
