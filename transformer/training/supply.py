"""What an objective is handed because training cannot make it itself: sampled translations, and what they cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor

from transformer.model.transformer import Transformer

Ids: TypeAlias = Sequence[int]
"""Token ids of a translation, without BOS, EOS and PAD."""


class Draw(Protocol):
    """Draws translations from a model's distribution."""

    def __call__(
        self, model: Transformer, src: Tensor, src_key_padding_mask: Tensor, max_lengths: Tensor, seed: int
    ) -> Sequence[Sequence[Ids]]:
        """The translations drawn for each sentence; the same seed draws the same.

        Args:
            model: as it is, in evaluation mode or not.
            src: long (n_sentences, src_len).
            src_key_padding_mask: bool (n_sentences, src_len), True = padding.
            max_lengths: long (n_sentences,), most tokens of a translation, EOS counted.
            seed: another seed, other translations.
        """


class Cost(Protocol):
    """Says how bad translations are."""

    def __call__(self, candidates: Sequence[Sequence[Ids]], references: Sequence[Ids]) -> Sequence[Sequence[float]]:
        """What each candidate of each sentence costs, 0 for the best to 1, given the sentence's reference."""


@dataclass(frozen=True)
class Supplies:
    """What training is handed.

    Attributes:
        sampler: makes what draws so many translations a sentence (first argument) at a temperature (second).
        costs: by name.
    """

    sampler: Callable[[int, float], Draw]
    costs: Mapping[str, Cost]
