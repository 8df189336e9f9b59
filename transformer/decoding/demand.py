"""What single sentences demand of their translations: a beginning, phrases to contain, phrases to avoid."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.decoding.phrase import Phrases, contains, longest
from transformer.decoding.required import Required
from transformer.decoding.rule import HIDDEN, Bounds, Rule, RuleState, RuleStates
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD, UNK

Phrase = tuple[int, ...]


@dataclass(frozen=True)
class Demand:
    """What the translation of one sentence must be, in token ids.

    prefix: it begins with these. required: each of these phrases stands in it, in any order; they may overlap.
    forbidden: none of these phrases stands in it.
    """

    prefix: Phrase = ()
    required: tuple[Phrase, ...] = ()
    forbidden: tuple[Phrase, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Tokens, EOS counted, that surely suffice to meet the demand."""
        return len(self.prefix) + sum(map(len, longest(self.required))) + 1

    def check(self, max_length: int) -> None:
        """Raise UserError where no translation of max_length tokens, EOS counted, can meet this."""
        if not all((*self.required, *self.forbidden)):
            raise UserError("a required or forbidden phrase is empty; leave it out or give it tokens")
        if self.n_tokens > max_length:
            raise UserError(
                f"the prefix and the required phrases need {self.n_tokens} tokens with EOS, "
                f"but the translation may have {max_length}"
            )
        for phrase in (self.prefix, *self.required):
            if {PAD, UNK, BOS, EOS} & set(phrase):
                raise UserError("the prefix or a required phrase holds what the vocabulary cannot write")
            if any(contains(phrase, forbidden) for forbidden in self.forbidden):
                raise UserError("the prefix or a required phrase holds a forbidden phrase")


def start_rules(
    rules: Sequence[Rule], demands: Sequence[Demand] | None, bounds: Bounds
) -> tuple[RuleStates, Required | None]:
    """Return the states of all rules and demands for a new search, and that of the required phrases, if any.

    Required phrases override the rules, the prefix overrides both, and forbidden phrases override everything.

    Raises UserError, with the sentence's number in the batch, for a demand that cannot be met.
    """
    states = [rule.start(bounds) for rule in rules]
    if demands is None:
        return RuleStates(states), None
    for i, (demand, max_length) in enumerate(zip(demands, bounds.max_lengths.tolist(), strict=True), start=1):
        try:
            demand.check(max_length)
        except UserError as error:
            raise UserError(f"sentence {i} of the batch: {error}") from error
    required = None
    if any(demand.required for demand in demands):
        required = Required([demand.required for demand in demands], bounds)
        states.append(required)
    if any(demand.prefix for demand in demands):
        states.append(_Prefix([demand.prefix for demand in demands], bounds))
    if any(demand.forbidden for demand in demands):
        states.append(_Forbidden([demand.forbidden for demand in demands], bounds))
    return RuleStates(states), required


def start_rules_without_required(rules: Sequence[Rule], demands: Sequence[Demand] | None, bounds: Bounds) -> RuleStates:
    """As `start_rules`, for a search that cannot meet required phrases: raises UserError if there are any."""
    if any(demand.required for demand in demands or ()):
        raise UserError("required phrases need a beam search: choose decoding=beam, or leave them out")
    return start_rules(rules, demands, bounds)[0]


class _Prefix(RuleState):
    def __init__(self, prefixes: Sequence[Phrase], bounds: Bounds) -> None:
        longest = max(map(len, prefixes))
        rows = [[*prefix, *[PAD] * (longest - len(prefix))] for prefix in prefixes]
        self._tokens = torch.tensor(rows, device=bounds.max_lengths.device)
        self._length = 0

    def apply(self, visible: Tensor, logits: Tensor) -> None:
        if self._length >= self._tokens.size(1):
            return
        tokens = self._tokens[:, self._length]
        forced = (tokens != PAD).nonzero().flatten()
        visible[forced] = HIDDEN
        visible[forced, :, tokens[forced]] = logits[forced, :, tokens[forced]]

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        self._length += 1

    def keep(self, sentences: Tensor) -> None:
        self._tokens = self._tokens[sentences]


class _Forbidden(RuleState):
    def __init__(self, phrases: Sequence[Sequence[Phrase]], bounds: Bounds) -> None:
        device = bounds.max_lengths.device
        self._phrases = Phrases(phrases, device)
        shape = (len(phrases), bounds.width, self._phrases.sizes.size(1))
        self._progress = torch.zeros(shape, dtype=torch.long, device=device)

    def apply(self, visible: Tensor, logits: Tensor) -> None:
        complete = self._progress + 1 == self._phrases.sizes.unsqueeze(1)
        sentence, slot, _ = complete.nonzero(as_tuple=True)
        visible[sentence, slot, self._phrases.tokens_at(self._progress)[complete]] = HIDDEN

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        progress = self._progress.gather(1, parents.unsqueeze(-1).expand_as(self._progress))
        progress = self._phrases.extended(progress, tokens)
        # Only a slot in which nothing lives can have completed a forbidden phrase.
        self._progress = progress.masked_fill(progress == self._phrases.sizes.unsqueeze(1), 0)

    def keep(self, sentences: Tensor) -> None:
        self._phrases.keep(sentences)
        self._progress = self._progress[sentences]
