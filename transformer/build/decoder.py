"""How a config translates and scores."""

from collections.abc import Mapping
from typing import Any

import torch

from transformer.build.part import instantiate
from transformer.config import TranslationConfig
from transformer.data.tokenizer.base import TokenizerPair
from transformer.decoding.search import Search
from transformer.decoding.translator import Translator
from transformer.evaluation.metrics import Metric
from transformer.model.transformer import Transformer


def search(leaf: Mapping[str, Any], where: str = "decoding") -> Search:
    """The configured search."""
    return instantiate(leaf, where, Search)  # type: ignore[type-abstract]


def translator(
    built: Transformer, tokenizers: TokenizerPair, how: Search, config: TranslationConfig, device: torch.device
) -> Translator:
    """A translator that uses the model with the given search."""
    return Translator(
        built,
        tokenizers,
        how,
        config.max_tokens,
        config.max_len_ratio,
        config.max_len_offset,
        device,
        config.buffer_lines,
    )


def metrics(leaves: Mapping[str, Mapping[str, Any]]) -> list[Metric]:
    """The configured metrics, in order."""
    return [instantiate(leaf, f"metrics.{name}", Metric) for name, leaf in leaves.items()]  # type: ignore[type-abstract]
