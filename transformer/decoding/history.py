"""What a beam search remembers: who descends from whom, and which hypotheses have ended."""

import torch
from torch import Tensor

from transformer.decoding.penalty import LengthPenalty
from transformer.decoding.search import Hypothesis
from transformer.special import PAD

WIDEST = 2**15 - 1  # slots of a sentence, which are numbered in 16 bits


class History:
    """The tokens of all hypotheses as a tree: at every step each slot has a token and the slot of its parent.

    Memory for n_sentences * capacity * width tokens, six bytes and written once each; nothing is copied while the
    search runs.
    """

    def __init__(self, n_sentences: int, width: int, capacity: int, device: torch.device) -> None:
        self._tokens = torch.full((capacity, n_sentences, width), PAD, dtype=torch.int32, device=device)
        self._parents = torch.zeros((capacity, n_sentences, width), dtype=torch.int16, device=device)

    def record(self, steps: Tensor, sentences: Tensor, parents: Tensor, tokens: Tensor) -> None:
        """Note what `sentences` chose at their `steps`, both long (k,): parents and tokens, long (k, width)."""
        self._parents[steps, sentences] = parents.to(self._parents.dtype)
        self._tokens[steps, sentences] = tokens.to(self._tokens.dtype)

    def trace(self, lengths: Tensor, slots: Tensor) -> Tensor:
        """Return the tokens of hypotheses that were in `slots` after `lengths` steps, both long (n_sentences, n).

        Result: long (n_sentences, n, longest), filled up with PAD.
        """
        longest = int(lengths.max()) if lengths.numel() else 0
        tokens = torch.full((*lengths.shape, longest), PAD, device=lengths.device)
        for step in reversed(range(longest)):
            within = step < lengths
            tokens[:, :, step] = self._tokens[step].gather(1, slots).long().where(within, tokens[:, :, step])
            slots = self._parents[step].gather(1, slots).long().where(within, slots)
        return tokens


class Finished:
    """The best ended hypotheses of every sentence and group of its beam, best first; equals in the order of ending.

    Args:
        n_sentences: sentences of the search.
        n_groups: groups that the beam is divided into, one for an ordinary beam.
        n_kept: hypotheses kept a group.
        device: of the search.

    Attributes:
        counts: long (n_sentences, n_groups), how many have ended, those no longer kept included.
    """

    def __init__(self, n_sentences: int, n_groups: int, n_kept: int, device: torch.device) -> None:
        self._scores = torch.full((n_sentences, n_groups, n_kept), float("-inf"), device=device)
        self._log_probs = self._scores.clone()
        self._lengths = torch.zeros_like(self._scores, dtype=torch.long)
        self._slots = self._lengths.clone()
        self.counts = torch.zeros((n_sentences, n_groups), dtype=torch.long, device=device)

    def worst(self, sentences: Tensor) -> Tensor:
        """Return the worst kept scores of `sentences`, long (k,): (k, n_groups), -inf where fewer are there to keep."""
        return self._scores[sentences, :, -1]

    def add(
        self,
        steps: Tensor,
        sentences: Tensor,
        parents: Tensor,
        log_probs: Tensor,
        penalty: LengthPenalty,
        bonus: Tensor | None = None,
    ) -> None:
        """Take up hypotheses that end: EOS behind the slots `parents`, long (k, width).

        steps, sentences: long (k,), the step at which they end (counted from 0), of these sentences.
        log_probs: (k, width), EOS included, -inf where nothing ended, group by group.
        bonus: (k, width), added to the scores of the same hypotheses, None for nothing.
        """
        if not (log_probs > float("-inf")).any():
            return
        n_groups, n_kept = self._scores.shape[1:]
        parents, log_probs = parents.unflatten(1, (n_groups, -1)), log_probs.unflatten(1, (n_groups, -1))
        self.counts[sentences] += (log_probs > float("-inf")).sum(2)
        lengths = steps[:, None, None].expand_as(parents)
        scores = penalty.score(log_probs, lengths + 1)
        if bonus is not None:
            scores = scores + bonus.unflatten(1, (n_groups, -1))
        scores = torch.cat([self._scores[sentences], scores], dim=2)
        scores, order = scores.sort(dim=2, descending=True, stable=True)
        self._scores[sentences], order = scores[:, :, :n_kept], order[:, :, :n_kept]
        for kept, new in ((self._log_probs, log_probs), (self._lengths, lengths), (self._slots, parents)):
            kept[sentences] = torch.cat([kept[sentences], new], dim=2).gather(2, order)

    def hypotheses(self, history: History, n_best: int) -> list[list[Hypothesis]]:
        """Return at most n_best distinct hypotheses of every sentence, best first.

        They are the best of each group, then the second best of each, and so on, and only then sorted.
        """
        shape = self._lengths.shape[1:]
        tokens = history.trace(self._lengths.flatten(1), self._slots.flatten(1)).unflatten(1, shape)
        # Rank by rank, all groups of a rank together.
        ids, lengths, log_probs, scores = (
            field.transpose(1, 2).flatten(1, 2).tolist()
            for field in (tokens, self._lengths, self._log_probs, self._scores)
        )
        return [_best_of(ids[i], lengths[i], log_probs[i], scores[i], n_best) for i in range(self._lengths.size(0))]


def _best_of(
    tokens: list[list[int]], lengths: list[int], log_probs: list[float], scores: list[float], n_best: int
) -> list[Hypothesis]:
    """Return the first n_best that are distinct and have a score, sorted by it."""
    found: dict[tuple[int, ...], Hypothesis] = {}
    for row, length, log_prob, score in zip(tokens, lengths, log_probs, scores, strict=True):
        if score > float("-inf"):
            found.setdefault(tuple(row[:length]), Hypothesis(row[:length], log_prob, score))
    return sorted(list(found.values())[:n_best], key=lambda hypothesis: -hypothesis.score)
