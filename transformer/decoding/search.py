"""What a search needs of a model, and what it gives back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from transformer.decoding.batch import Batch, Flow, fitting
from transformer.decoding.demand import Demand
from transformer.decoding.rule import Rule
from transformer.error import UserError

AT_ONCE = Flow()


class DecoderState(Protocol):
    """What a model remembers of `width` hypotheses for each of `n_sentences` sentences."""

    @property
    def n_sentences(self) -> int:
        """Sentences still searched."""

    @property
    def width(self) -> int:
        """Hypotheses a sentence."""

    def reorder(self, parents: Tensor) -> None:
        """Let hypothesis j of each sentence go on from the history of parents[:, j], long (n_sentences, width)."""

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but these, long (k,), in this order."""

    def admit(self, rows: Tensor, fresh: Any) -> None:
        """Let the sentences of `fresh`, a state just started, take the places `rows`, long (k,), one each.

        What was there is dropped. Places from n_sentences on are new; all up to the last of them are taken.
        """


@runtime_checkable
class AttendingState(DecoderState, Protocol):
    """A state that can tell where the model looked; only searches that reckon with coverage need one.

    attending: whether steps note their attention; false at the start, for it costs time.
    attention: of the last step, (n_sentences, width, src_len), at least 0, sums of 1 over the source; None before.
    """

    attending: bool

    @property
    def attention(self) -> Tensor | None:
        """See above."""


class StepModel(Protocol):
    """A model that decodes token by token; the state is whatever its `start` returned."""

    def start(self, src: Tensor, src_key_padding_mask: Tensor, width: int, capacity: int) -> DecoderState:
        """Encode src, long (n_sentences, src_len), mask bool of that shape, True = padding, for `capacity` steps."""

    def step(self, ids: Tensor, state: Any) -> Tensor:
        """Feed ids, long (n_sentences, width); return a fresh tensor of logits, float (n_sentences, width, vocab_size).

        BOS is fed first, to every slot of a sentence. The first step of a search may be fed it but once a sentence,
        (n_sentences, 1), for all slots, which are alike then; what comes back has one slot as well.
        """


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a sentence.

    ids: token ids without BOS and EOS. log_prob: sum of the model's log-probabilities, EOS included.
    score: the number that hypotheses are ranked by.
    """

    ids: list[int]
    log_prob: float
    score: float


class NoTranslationError(UserError):
    """Nothing meets the rules and demands of a sentence. sentence: its index in the batch, counted from 0."""

    def __init__(self, sentence: int, max_length: int) -> None:
        super().__init__(f"no translation of at most {max_length} tokens, EOS counted, meets the rules and demands")
        self.sentence, self.max_length = sentence, max_length


class Search(ABC):
    """A way to find translations; it keeps no state between calls.

    rules: what a translation may not do.
    """

    rules: Sequence[Rule] = ()

    @property
    @abstractmethod
    def width(self) -> int:
        """Hypotheses a sentence that the model steps at once, for reckoning memory."""

    def search(
        self,
        model: StepModel,
        src: Tensor,
        src_key_padding_mask: Tensor,
        max_lengths: Tensor,
        demands: Sequence[Demand] | None = None,
        flow: Flow = AT_ONCE,
    ) -> list[list[Hypothesis]]:
        """Search translations for a batch.

        src: long (n_sentences, src_len). src_key_padding_mask: bool (n_sentences, src_len), True = padding, which
        stands behind the tokens.
        max_lengths: long (n_sentences,), at least 1: most tokens of each translation, EOS included. A hypothesis that
        reaches its limit ends there: its last token is EOS, whatever the model says.
        demands: what each sentence demands besides; None: nothing.
        flow: how many are searched at once, and who is told of those that end. Sentences of like length should stand
        together.

        Raises NoTranslationError where nothing meets the rules and the demands of a sentence; UserError for a demand
        that contradicts itself or that this search cannot meet.

        Returns, for each sentence in order, its hypotheses, best first. PAD and BOS never occur in them.
        """
        batch = Batch(src, src_key_padding_mask, max_lengths, demands)
        if flow.room is None or self._refills(batch):
            return self._search(model, batch, flow)
        found: list[list[Hypothesis]] = []
        lengths = batch.lengths()
        while (first := len(found)) < len(batch):
            part = batch.part(first, first + fitting(lengths[first:], flow.room))
            try:
                found += self._search(model, part, replace(flow, room=None))
            except NoTranslationError as error:
                raise NoTranslationError(first + error.sentence, error.max_length) from error
        return found

    def _refills(self, batch: Batch) -> bool:
        """Return whether sentences may begin while others are under way."""
        return not self.rules and batch.demands is None

    @abstractmethod
    def _search(self, model: StepModel, batch: Batch, flow: Flow) -> list[list[Hypothesis]]:
        """Search translations, see `search`; flow.room is None unless `_refills`."""
