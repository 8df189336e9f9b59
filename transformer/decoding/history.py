"""What a beam search remembers: who descends from whom, and which hypotheses have ended."""

import torch
from torch import Tensor

from transformer.decoding.penalty import LengthPenalty
from transformer.decoding.search import Hypothesis
from transformer.special import PAD


class History:
    """The tokens of all hypotheses as a tree: at every step each slot has a token and the slot of its parent.

    Memory for n_sentences * capacity * width tokens, written once each; nothing is copied while the search runs.
    """

    def __init__(self, n_sentences: int, width: int, capacity: int, device: torch.device) -> None:
        self._tokens = torch.full((capacity, n_sentences, width), PAD, device=device)
        self._parents = torch.zeros((capacity, n_sentences, width), dtype=torch.long, device=device)

    def record(self, step: int, sentences: Tensor, parents: Tensor, tokens: Tensor) -> None:
        """Note what was chosen at `step` for `sentences`, long (k,): parents and tokens, long (k, width)."""
        self._parents[step, sentences] = parents
        self._tokens[step, sentences] = tokens

    def trace(self, lengths: Tensor, slots: Tensor) -> Tensor:
        """Return the tokens of hypotheses that were in `slots` after `lengths` steps, both long (n_sentences, n).

        Result: long (n_sentences, n, longest), filled up with PAD.
        """
        longest = int(lengths.max()) if lengths.numel() else 0
        tokens = torch.full((*lengths.shape, longest), PAD, device=lengths.device)
        for step in reversed(range(longest)):
            within = step < lengths
            tokens[:, :, step] = self._tokens[step].gather(1, slots).where(within, tokens[:, :, step])
            slots = self._parents[step].gather(1, slots).where(within, slots)
        return tokens


class Finished:
    """The best `n_best` ended hypotheses of every sentence, best first; of equal scores the one that ended first.

    counts: long (n_sentences,), how many have ended, those no longer kept included.
    """

    def __init__(self, n_sentences: int, n_best: int, device: torch.device) -> None:
        self._scores = torch.full((n_sentences, n_best), float("-inf"), device=device)
        self._log_probs = self._scores.clone()
        self._lengths = torch.zeros((n_sentences, n_best), dtype=torch.long, device=device)
        self._slots = self._lengths.clone()
        self.counts = torch.zeros(n_sentences, dtype=torch.long, device=device)

    def worst(self, sentences: Tensor) -> Tensor:
        """Return the worst kept score of each of `sentences`, long (k,); -inf while fewer than n_best have ended."""
        return self._scores[sentences, -1]

    def add(self, step: int, sentences: Tensor, parents: Tensor, log_probs: Tensor, penalty: LengthPenalty) -> None:
        """Take up hypotheses that end at `step` (counted from 0): EOS behind the slots `parents`, long (k, n).

        log_probs: (k, n), EOS included, -inf where nothing ended. sentences: long (k,).
        """
        ended = log_probs > float("-inf")
        if not ended.any():
            return
        self.counts[sentences] += ended.sum(1)
        lengths = torch.full_like(parents, step)
        scores = penalty.score(log_probs, lengths + 1)
        merged = torch.cat([self._scores[sentences], scores], dim=1)
        merged, order = merged.sort(dim=1, descending=True, stable=True)
        n_best = self._scores.size(1)
        self._scores[sentences], order = merged[:, :n_best], order[:, :n_best]
        for kept, new in ((self._log_probs, log_probs), (self._lengths, lengths), (self._slots, parents)):
            kept[sentences] = torch.cat([kept[sentences], new], dim=1).gather(1, order)

    def hypotheses(self, history: History) -> list[list[Hypothesis]]:
        """Return the kept hypotheses of every sentence, best first."""
        tokens = history.trace(self._lengths, self._slots).tolist()
        scores, log_probs, lengths = self._scores.tolist(), self._log_probs.tolist(), self._lengths.tolist()
        return [
            [
                Hypothesis(ids[:length], log_prob, score)
                for ids, length, log_prob, score in zip(*sentence, strict=True)
                if score > float("-inf")
            ]
            for sentence in zip(tokens, lengths, log_probs, scores, strict=True)
        ]
