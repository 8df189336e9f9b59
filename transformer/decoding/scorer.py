"""How likely a model finds translations that are given."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.data.tokenizer.base import TokenizerPair
from transformer.decoding.candidate import log_probs_at, refuse_nan
from transformer.decoding.search import StepModel
from transformer.decoding.translator import batches, evaluating, padded, untold
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD


@dataclass(frozen=True)
class PairScore:
    """How likely a target is, given its source.

    log_prob: sum over all tokens, EOS included. tokens: the target's pieces, EOS included.
    token_log_probs: one for each of them.
    """

    log_prob: float
    tokens: list[str]
    token_log_probs: list[float]


def token_log_probs(model: StepModel, src: Tensor, src_key_padding_mask: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of every token of given targets, fed step by step as a search does.

    src: long (n_sentences, src_len). src_key_padding_mask: bool (n_sentences, src_len), True = padding.
    targets: long (n_sentences, tgt_len), ids and EOS, filled up with PAD.
    Result: (n_sentences, tgt_len), 0 for padding. Its sums over a row are the log_prob that a search reports for the
    same translation.
    """
    n_sentences, length = targets.shape
    state = model.start(src, src_key_padding_mask, width=1, capacity=length)
    ids = torch.full((n_sentences, 1), BOS, device=src.device)
    steps = []
    for step in range(length):
        logits = model.step(ids, state)
        ids = targets[:, step : step + 1]
        steps.append(log_probs_at(logits.flatten(0, 1), ids))
    return torch.cat(steps, dim=1).masked_fill(targets == PAD, 0.0)


class Scorer:
    """Scores pairs of lines.

    Args:
        model: steps through translations.
        tokenizers: source and target tokenizer of the model.
        max_tokens: most source and target tokens of a batch, padding and EOS included.
        device: where the model is.
        buffer_lines: pairs read before the first of them is scored; they are sorted by length.
        autocast: the context in which steps compute; it decides the number format.

    Attributes:
        told: is called with the number of pairs that have just been scored, batch by batch, see `Translator.told`.

    Raises UserError for an impossible number.
    """

    def __init__(
        self,
        model: StepModel,
        tokenizers: TokenizerPair,
        max_tokens: int,
        device: torch.device | str,
        buffer_lines: int = 4096,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        for name, value in (("max_tokens", max_tokens), ("buffer_lines", buffer_lines)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        self.model = model
        self.tokenizers = tokenizers
        self.max_tokens = max_tokens
        self.device = torch.device(device)
        self.buffer_lines = buffer_lines
        self.autocast = autocast
        self.max_len: int | None = getattr(model, "max_len", None)
        self.told: Callable[[int], None] = untold

    def score(self, pairs: Iterable[tuple[str, str]]) -> Iterator[PairScore]:
        """Yield the score of each (source, target) pair of lines, in order; either may be blank.

        Raises UserError, with the pair's number, where a side is longer than the model can take: the probability of a
        part would be taken for that of the whole; and where the model gives NaN.
        """
        remaining = iter(pairs)
        n_before = 0
        while buffer := list(itertools.islice(remaining, self.buffer_lines)):
            yield from self._score_buffer(buffer, n_before)
            n_before += len(buffer)

    def _score_buffer(self, pairs: Sequence[tuple[str, str]], n_before: int) -> list[PairScore]:
        sources = self.tokenizers.src.encode_lines([src for src, _ in pairs])
        targets = self.tokenizers.tgt.encode_lines([tgt for _, tgt in pairs])
        lengths = [len(src) + len(tgt) + 2 for src, tgt in zip(sources, targets, strict=True)]
        self._check_lengths(sources, targets, n_before)
        scores: dict[int, PairScore] = {}
        with evaluating(self.model), torch.inference_mode(), self.autocast():
            for indices in batches(lengths, self.max_tokens):
                src = padded([[*sources[i], EOS] for i in indices]).to(self.device)
                tgt = padded([[*targets[i], EOS] for i in indices]).to(self.device)
                found = token_log_probs(self.model, src, src == PAD, tgt)
                refuse_nan(found)
                for i, row in zip(indices, found.tolist(), strict=True):
                    numbers = row[: len(targets[i]) + 1]
                    tokens = self.tokenizers.tgt.tokens([*targets[i], EOS])
                    scores[i] = PairScore(sum(numbers), tokens, numbers)
                self.told(len(indices))
        return [scores[i] for i in range(len(pairs))]

    def _check_lengths(self, sources: Sequence[list[int]], targets: Sequence[list[int]], n_before: int) -> None:
        if self.max_len is None:
            return
        for number, (src, tgt) in enumerate(zip(sources, targets, strict=True), start=n_before + 1):
            for side, ids in (("source", src), ("target", tgt)):
                if len(ids) + 1 > self.max_len:
                    raise UserError(
                        f"the {side} of pair {number} has {len(ids) + 1} tokens with EOS, "
                        f"but the model takes {self.max_len}; split it or leave it out"
                    )
