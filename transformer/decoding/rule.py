"""What a translation may not do, whatever the model says: hidden tokens, step by step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.error import UserError
from transformer.special import EOS, UNK

HIDDEN = float("-inf")
MOST = 2**30  # tokens, where a ratio asks for more


@dataclass(frozen=True)
class Bounds:
    """What a rule is told about a batch when a search starts.

    src_lengths: long (n_sentences,), source tokens, EOS not counted.
    max_lengths: long (n_sentences,), most tokens of each translation, EOS counted.
    width: hypotheses a sentence.
    """

    src_lengths: Tensor
    max_lengths: Tensor
    width: int


class RuleState(ABC):
    """What a rule remembers of `width` hypotheses for each of n_sentences sentences during one search."""

    @abstractmethod
    def apply(self, visible: Tensor, logits: Tensor) -> None:
        """Hide tokens: set `visible`, (n_sentences, width, vocab_size), to -inf there.

        logits, of that shape, are the model's own; a state that must override earlier rules copies from there.
        """

    @abstractmethod
    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """Let hypothesis j of each sentence go on from parents[:, j] with tokens[:, j].

        parents, tokens: long (n_sentences, width).
        """

    @abstractmethod
    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but these, long (k,), in this order."""


class Rule(ABC):
    """A rule for all sentences, one of the `rules` of a search."""

    @abstractmethod
    def start(self, bounds: Bounds) -> RuleState:
        """Return the state for a new search; every hypothesis is empty."""


class NoRepeat(Rule):
    """No sequence of n_tokens tokens occurs twice in a translation (Paulus et al., 2018, section 2.5).

    Raises UserError for n_tokens below 1.
    """

    def __init__(self, n_tokens: int) -> None:
        if n_tokens < 1:
            raise UserError(f"n_tokens of NoRepeat must be at least 1, not {n_tokens}")
        self.n_tokens = n_tokens

    def start(self, bounds: Bounds) -> RuleState:
        """Return a state that remembers the tokens so far."""
        return _NoRepeatState(self.n_tokens, bounds)


class MinLength(Rule):
    """A translation has at least ratio * source tokens + offset tokens, EOS counted, or as many as it may have.

    Raises UserError for a ratio that is negative or not finite, or a negative offset.
    """

    def __init__(self, ratio: float, offset: int) -> None:
        if not 0 <= ratio < math.inf or offset < 0:
            raise UserError(
                f"ratio and offset of MinLength must be finite and not negative, but are {ratio} and {offset}"
            )
        self.ratio = ratio
        self.offset = offset

    def start(self, bounds: Bounds) -> RuleState:
        """Return a state that counts steps."""
        least = (self.ratio * bounds.src_lengths).clamp(max=MOST).long() + min(self.offset, MOST)
        return _MinLengthState(torch.minimum(least, bounds.max_lengths))


class NoUnknown(Rule):
    """The unknown token is never produced."""

    def start(self, bounds: Bounds) -> RuleState:
        """Return a state that remembers nothing."""
        return _NoUnknownState()


class _NoRepeatState(RuleState):
    def __init__(self, n_tokens: int, bounds: Bounds) -> None:
        self._n_tokens = n_tokens
        shape = (bounds.max_lengths.size(0), bounds.width, 0)
        self._prefixes = torch.zeros(shape, dtype=torch.long, device=bounds.max_lengths.device)

    def apply(self, visible: Tensor, logits: Tensor) -> None:
        n, length = self._n_tokens, self._prefixes.size(2)
        if length < n:
            return
        # A token is hidden where it followed what now are the last n - 1 tokens; for n = 1 wherever it stands.
        windows = self._prefixes.unfold(2, n, 1)
        last = self._prefixes[:, :, length - n + 1 :].unsqueeze(2)
        repeats = (windows[..., : n - 1] == last).all(-1)
        # Windows that do not match point to EOS, which no prefix holds and which is put back afterwards.
        followers = windows[..., n - 1].masked_fill(~repeats, EOS)
        end = visible[:, :, EOS].clone()
        visible.scatter_(2, followers, HIDDEN)
        visible[:, :, EOS] = end

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        prefixes = self._prefixes.gather(1, parents.unsqueeze(-1).expand_as(self._prefixes))
        self._prefixes = torch.cat([prefixes, tokens.unsqueeze(-1)], dim=2)

    def keep(self, sentences: Tensor) -> None:
        self._prefixes = self._prefixes[sentences]


class _MinLengthState(RuleState):
    def __init__(self, least: Tensor) -> None:
        self._least = least
        self._length = 0

    def apply(self, visible: Tensor, logits: Tensor) -> None:
        visible[self._least > self._length + 1, :, EOS] = HIDDEN

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        self._length += 1

    def keep(self, sentences: Tensor) -> None:
        self._least = self._least[sentences]


class _NoUnknownState(RuleState):
    def apply(self, visible: Tensor, logits: Tensor) -> None:
        visible[:, :, UNK] = HIDDEN

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """Remember nothing: UNK is hidden everywhere alike."""

    def keep(self, sentences: Tensor) -> None:
        """Have nothing to drop."""


class RuleStates:
    """All rules of one search together, in order; later ones have the last word."""

    def __init__(self, states: Sequence[RuleState]) -> None:
        self._states = list(states)

    def __len__(self) -> int:
        return len(self._states)

    def visible(self, logits: Tensor) -> Tensor:
        """Return the logits with hidden tokens at -inf: a new tensor, or the same where there are no rules."""
        if not self._states:
            return logits
        visible = logits.clone()
        for state in self._states:
            state.apply(visible, logits)
        return visible

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """See `RuleState.advance`."""
        for state in self._states:
            state.advance(parents, tokens)

    def keep(self, sentences: Tensor) -> None:
        """See `RuleState.keep`."""
        for state in self._states:
            state.keep(sentences)
