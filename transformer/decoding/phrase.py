"""Which phrases are under way at the end of each hypothesis: Knuth, Morris and Pratt's matching, for a whole batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

Ids = Sequence[int]
NO_TOKEN = -1


class Phrases:
    """Phrases of every sentence, each a sequence of token ids, as tensors.

    Progress in a phrase is how many of its first tokens are the last tokens of a hypothesis.

    Args:
        phrases: for each sentence its phrases; none may be empty.
        device: where the tensors go.

    Attributes:
        sizes: long (n_sentences, n_phrases), tokens of each phrase, 0 where a sentence has fewer phrases than others.
    """

    def __init__(self, phrases: Sequence[Sequence[Ids]], device: torch.device) -> None:
        n_phrases = max((len(row) for row in phrases), default=0)
        longest = max((len(phrase) for row in phrases for phrase in row), default=0)
        tokens = [[[*phrase, *[NO_TOKEN] * (longest - len(phrase))] for phrase in row] for row in phrases]
        fallbacks = [[[*_fallbacks(phrase), *[0] * (longest - len(phrase))] for phrase in row] for row in phrases]
        empty = [NO_TOKEN] * longest
        self._tokens = torch.tensor([row + [empty] * (n_phrases - len(row)) for row in tokens], device=device)
        self._fallbacks = torch.tensor(
            [row + [[0] * longest] * (n_phrases - len(row)) for row in fallbacks], device=device
        )
        sizes = [[len(phrase) for phrase in row] + [0] * (n_phrases - len(row)) for row in phrases]
        self.sizes = torch.tensor(sizes, device=device)

    def tokens_at(self, progress: Tensor) -> Tensor:
        """Return the token that comes next in each phrase: progress and result long (n_sentences, ..., n_phrases).

        Progress is below the phrase's size; NO_TOKEN for a phrase that is not there.
        """
        return _at(self._tokens, progress)

    def extended(self, progress: Tensor, tokens: Tensor) -> Tensor:
        """Return the progress when hypotheses go on with `tokens`.

        progress: long (n_sentences, ..., n_phrases), each below the phrase's size; tokens: long (n_sentences, ...).
        Result: as progress; it is the phrase's size where the phrase is complete.
        """
        tokens = tokens.unsqueeze(-1)
        progress = progress.expand(*tokens.shape[:-1], -1)
        while True:
            fits = self.tokens_at(progress) == tokens
            falls = ~fits & (progress > 0)
            if not falls.any():
                return progress + fits
            progress = _at(self._fallbacks, progress).where(falls, progress)

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but these, long (k,)."""
        self._tokens, self._fallbacks = self._tokens[sentences], self._fallbacks[sentences]
        self.sizes = self.sizes[sentences]


def contains(ids: Ids, phrase: Ids) -> bool:
    """Return whether the phrase stands in ids, one token behind the other."""
    size = len(phrase)
    return any(list(ids[i : i + size]) == list(phrase) for i in range(len(ids) - size + 1))


def longest(phrases: Sequence[Ids]) -> list[Ids]:
    """Return the phrases, each once and without those that stand inside another."""
    kept: list[Ids] = []
    for phrase in sorted(phrases, key=len, reverse=True):
        if not any(contains(longer, phrase) for longer in kept):
            kept.append(phrase)
    return kept


def _fallbacks(phrase: Ids) -> list[int]:
    """Return, for each progress below the size, the next shorter one that the same last tokens make."""
    fallbacks = [0] * len(phrase)
    for progress in range(2, len(phrase)):
        shorter = fallbacks[progress - 1]
        while shorter and phrase[shorter] != phrase[progress - 1]:
            shorter = fallbacks[shorter]
        fallbacks[progress] = shorter + (phrase[shorter] == phrase[progress - 1])
    return fallbacks


def _at(table: Tensor, progress: Tensor) -> Tensor:
    """Return table[sentence, phrase, progress]: table (n_sentences, n_phrases, longest), progress as in tokens_at."""
    n_between = progress.dim() - 2
    table = table.view(table.size(0), *[1] * n_between, *table.shape[1:])
    return table.expand(*progress.shape, table.size(-1)).gather(-1, progress.unsqueeze(-1)).squeeze(-1)
