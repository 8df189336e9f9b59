"""Required phrases: a beam search that always meets them (dynamic beam allocation, Post and Vilar, 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer.decoding.phrase import NO_TOKEN, Phrases, longest
from transformer.decoding.rule import HIDDEN, Bounds, RuleState
from transformer.special import EOS, PAD


class Required(RuleState):
    """Which required phrases each hypothesis holds, and how far the others are under way.

    A hypothesis needs at most as many further tokens as its missing phrases have, less those of the one that is
    furthest under way. It ends only when it needs none, and where the room left is just what it needs, only tokens
    that lead on remain visible; so every hypothesis can always still meet its demand. (Phrases that overlap might do
    with less room than that; a phrase that stands inside another is not counted.)

    Args:
        phrases: for each sentence the phrases, in token ids, none empty.
        bounds: of the batch.
    """

    def __init__(self, phrases: Sequence[Sequence[Sequence[int]]], bounds: Bounds) -> None:
        device = bounds.max_lengths.device
        phrases = [longest(row) for row in phrases]
        self._phrases = Phrases(phrases, device)
        self._limits = bounds.max_lengths
        self._length = 0
        shape = (len(phrases), bounds.width, self._phrases.sizes.size(1))
        self._progress = torch.zeros(shape, dtype=torch.long, device=device)
        self._met = (self._phrases.sizes == 0).unsqueeze(1).expand(shape)
        tokens = [sorted({token for phrase in row for token in phrase}) for row in phrases]
        most = max(map(len, tokens))
        self._tokens = torch.tensor([[*row, *[PAD] * (most - len(row))] for row in tokens], device=device)

    def next_tokens(self) -> Tensor:
        """Return the next token of each phrase, PAD for one that is met: long (n_sentences, width, n_phrases)."""
        tokens = self._phrases.tokens_at(self._progress)
        return tokens.masked_fill(self._met | (tokens == NO_TOKEN), PAD)

    def banks(self, tokens: Tensor) -> Tensor:
        """Return how many tokens of the phrases a hypothesis has behind each of `tokens`, shapes as in `needs`."""
        return self._phrases.sizes.sum(1)[:, None, None] - self.needs(tokens)

    def needs(self, tokens: Tensor) -> Tensor:
        """Return how many more tokens suffice behind each of `tokens`, both long (n_sentences, width, n)."""
        progress, met = self._after(self._progress, self._met, tokens)
        return self._missing(met) - progress.amax(-1)

    def apply(self, visible: Tensor, logits: Tensor) -> None:
        """Hide EOS from hypotheses that lack phrases, and whatever leaves too little room to complete them."""
        missing = self._missing(self._met)
        visible[:, :, EOS].masked_fill_(missing > 0, HIDDEN)
        # How many more tokens there is room for behind this one and before EOS.
        room = (self._limits - self._length - 2).unsqueeze(1)
        tokens = self._tokens.unsqueeze(1).expand(-1, visible.size(1), -1)
        fits = (self.needs(tokens) <= room.unsqueeze(-1)) & (tokens != PAD)
        leads_on = fits & (tokens.unsqueeze(-1) == self.next_tokens().unsqueeze(2)).any(-1)
        before = visible.gather(2, tokens)
        # A token of no phrase leaves all of `missing` to do.
        visible.masked_fill_(((missing > 0) & (missing > room)).unsqueeze(-1), HIDDEN)
        for shown, values in ((fits, before), (leads_on, logits.gather(2, tokens))):
            sentence, slot, _ = shown.nonzero(as_tuple=True)
            visible[sentence, slot, tokens[shown]] = values[shown]

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """Follow the hypotheses, see `RuleState.advance`."""
        index = parents.unsqueeze(-1).expand_as(self._progress)
        progress, met = self._progress.gather(1, index), self._met.gather(1, index)
        progress, met = self._after(progress, met, tokens.unsqueeze(-1))
        self._progress, self._met = progress.squeeze(2), met.squeeze(2)
        self._length += 1

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but these."""
        self._phrases.keep(sentences)
        self._progress, self._met = self._progress[sentences], self._met[sentences]
        self._limits, self._tokens = self._limits[sentences], self._tokens[sentences]

    def _after(self, progress: Tensor, met: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return progress, 0 where met, and met, (n_sentences, width, n, n_phrases), behind tokens (.., n)."""
        progress = self._phrases.extended(progress.unsqueeze(2), tokens)
        met = met.unsqueeze(2) | (progress == self._phrases.sizes[:, None, None])
        return progress.masked_fill(met, 0), met

    def _missing(self, met: Tensor) -> Tensor:
        """Return the tokens of all phrases not met: met bool (n_sentences, ..., n_phrases), result without phrases."""
        sizes = self._phrases.sizes
        sizes = sizes.view(sizes.size(0), *[1] * (met.dim() - 2), sizes.size(1))
        return sizes.masked_fill(met, 0).sum(-1)


def in_turn(banks: Tensor, alive: Tensor) -> Tensor:
    """Return the order in which candidates are picked so that every bank gets its share of the beam.

    banks: long (n_sentences, n), tokens of required phrases that a candidate has; the candidates are sorted best
    first. alive: bool of that shape. Result: indices, long, of that shape: the best of each bank, the highest bank
    first, then the second of each, and so on, which shares out the beam evenly and passes on what a bank does not use;
    the dead come last.
    """
    n_banks = int(banks.max()) + 1
    same = torch.nn.functional.one_hot(banks, n_banks) * alive.unsqueeze(-1)
    rank = (same.cumsum(1) - 1).gather(2, banks.unsqueeze(-1)).squeeze(-1)
    turn = (rank * n_banks + (n_banks - 1 - banks)).masked_fill(~alive, banks.numel() * n_banks)
    return turn.argsort(dim=1, stable=True)
