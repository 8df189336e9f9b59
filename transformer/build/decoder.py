"""How a config translates and scores."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from transformer.build.part import instantiate
from transformer.config import TranslationConfig
from transformer.data.batch import collate
from transformer.data.batching import Sorted
from transformer.data.corpus import Pair
from transformer.data.tokenizer.base import TokenizerPair
from transformer.decoding.search import Search, StepModel
from transformer.decoding.translator import LengthLimit, Translator
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.model.transformer import Transformer
from transformer.processes import can_fork
from transformer.training.distributed import World
from transformer.training.loss import Objective
from transformer.training.precision import Precision
from transformer.training.validate import Validation, validate

logger = logging.getLogger(__name__)


def search(leaf: Mapping[str, Any], where: str = "decoding") -> Search:
    """The configured search."""
    return instantiate(leaf, where, Search)  # type: ignore[type-abstract]


def translator(
    built: StepModel,
    tokenizers: TokenizerPair,
    how: Search,
    config: TranslationConfig,
    device: torch.device,
    precision: Precision | None = None,
) -> Translator:
    """A translator that uses the model with the given search, in the given number format, None = the weights' own.

    Raises:
        UserError: processes are asked for where there cannot be any.
    """
    refill = device.type != "cpu" if config.refill is None else config.refill
    if config.processes and (refill or device.type != "cpu"):
        raise UserError("translation.processes=true needs runtime.device=cpu and no translation.refill")
    if config.processes and not can_fork():
        raise UserError("translation.processes=true needs Linux and its shared memory (/dev/shm); leave it null")
    made = Translator(
        built,
        tokenizers,
        how,
        config.max_tokens,
        LengthLimit(config.max_len_ratio, config.max_len_offset),
        device,
        config.buffer_lines,
        refill=refill,
    )
    made.processes = bool(config.processes)
    if precision:
        made.autocast = precision.autocast
    return made


def metrics(leaves: Mapping[str, Mapping[str, Any]]) -> list[Metric]:
    """The configured metrics, in order.

    Raises:
        UserError: two have one name, of which tables would keep but one.
    """
    made = [instantiate(leaf, f"metrics.{name}", Metric) for name, leaf in leaves.items()]  # type: ignore[type-abstract]
    keys: dict[str, str] = {}
    for key, metric in zip(leaves, made, strict=True):
        if keys.setdefault(metric.name, key) != key:
            raise UserError(
                f"metrics.{keys[metric.name]} and metrics.{key} are both called {metric.name}; leave one out "
                f"(~metrics.{key})"
            )
    return made


def reference_loss(
    built: Transformer,
    tokenizers: TokenizerPair,
    pairs: Sequence[Pair],
    max_tokens: int,
    world: World,
    precision: Precision,
) -> Validation | None:
    """Teacher-forced, unsmoothed loss of the reference translations, over all their tokens, EOS included.

    Pairs with a side that the model cannot take, or without a token, are left out, and the log says how many; None
    where none is left.

    Args:
        built: the model.
        tokenizers: its tokenizers.
        pairs: source and reference lines.
        max_tokens: most tokens of a batch on either side.
        world: the device.
        precision: number format of the forward pass.
    """
    src, tgt = (
        tokenizers.src.encode_lines([p.src for p in pairs]),
        tokenizers.tgt.encode_lines([p.tgt for p in pairs]),
    )
    ids = [
        (a, b) for a, b in zip(src, tgt, strict=True) if min(len(a), len(b)) > 0 and max(len(a), len(b)) < built.max_len
    ]
    if len(ids) < len(pairs):
        logger.warning("loss and perplexity are of %d of %d pairs; the others are blank or long", len(ids), len(pairs))
    if not ids:
        return None
    arrays = [(np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)) for a, b in ids]
    lengths = np.asarray([(len(a), len(b)) for a, b in arrays])
    plan = Sorted(max(max_tokens, 2)).plan(lengths[:, 0], lengths[:, 1], 0, 0)
    batches = (collate([arrays[i] for i in indices.tolist()], indices) for indices in plan)
    return validate(Objective(built, 0.0, chunked=True), batches, world, precision)
