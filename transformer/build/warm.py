"""A run that begins with the weights of a checkpoint: what they must have in common, what is taken, what is told."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from transformer.build.stored import Loaded, load
from transformer.config import TrainConfig
from transformer.data.tokenizer.base import TokenizerPair
from transformer.error import UserError
from transformer.model.transformer import Transformer
from transformer.training.checkpoint import MODEL
from transformer.training.warm_start import same_spelling, take_weights

# What gives weights their shape or their meaning; dropout and max_len may be others.
ALIKE = (
    "d_model", "n_heads", "d_ff", "n_encoder_layers", "n_decoder_layers", "norm", "activation", "tying",
    "position", "score", "normalizer",
)  # fmt: skip


def _shape(config: TrainConfig) -> dict[str, Any]:
    """Dotted key -> value of what must be alike."""
    model = cast(dict[str, Any], OmegaConf.to_container(cast(DictConfig, config.model), resolve=True))
    values: dict[str, Any] = {}
    for name in ALIKE:
        below = model[name] if isinstance(model[name], Mapping) else {"": model[name]}
        values |= {f"model.{name}.{key}".rstrip("."): value for key, value in below.items()}
    return values


def models_differ(one: TrainConfig, other: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> both values of what gives weights their shape or their meaning, where it is not alike."""
    now, before = _shape(one), _shape(other)
    keys = [key for key in dict.fromkeys([*now, *before]) if now.get(key) != before.get(key)]
    return {key: (now.get(key), before.get(key)) for key in keys}


def warm_start(config: TrainConfig) -> Loaded | None:
    """The checkpoint whose weights a new run begins with, on the CPU; None where none is asked for.

    Takes random numbers.

    Raises:
        UserError: what `load` raises; its model is another than the config's, with both values of each key.
    """
    folder = config.warm_start.checkpoint
    if folder is None:
        return None
    start = load(folder, config.runtime, torch.device("cpu"))
    if differing := models_differ(config, start.config):
        told = ", ".join(f"{key} is {now} but {before} there" for key, (now, before) in differing.items())
        raise UserError(
            f"the weights of warm_start.checkpoint={folder} are those of another model: {told}; set "
            f"{'it' if len(differing) == 1 else 'them'} as there"
        )
    return start


def keeps_tokenizer(config: TrainConfig) -> bool:
    """Whether the run has the vocabulary of the checkpoint that it began with."""
    return config.warm_start.checkpoint is not None and config.warm_start.tokenizer == "checkpoint"


def with_tokenizer_of(before: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The config with the tokenizer part of another, where it says that it has that vocabulary."""
    if not keeps_tokenizer(config):
        return config
    changed = copy.deepcopy(config)
    changed.tokenizer = before.tokenizer
    return changed


def take_up(start: Loaded, built: Transformer, tokenizers: TokenizerPair) -> None:
    """Copies the weights into a model of the same shape, embeddings by the spelling of their tokens.

    Raises:
        UserError: a tensor has another shape, which happens to positions that are learned.
    """
    try:
        take_weights(built, start.model.state_dict(), start.tokenizers, tokenizers)
    except ValueError as error:
        raise UserError(
            f"the weights of warm_start.checkpoint={start.folder} do not fit ({error}); model.max_len is "
            f"{built.max_len} but {start.config.model.max_len} there: set it as there"
        ) from error


def provenance(start: Loaded) -> str:
    """Which weights a run began with: folder, step and SHA-256."""
    return f"{start.folder}, step {start.manifest['step']}, {MODEL} SHA-256 {start.manifest['files'][MODEL]}"


def told_of(start: Loaded, tokenizers: TokenizerPair) -> list[str]:
    """Sentences on what a run begins with."""
    told = [f"warm start: {provenance(start)}"]
    if tokenizers.fingerprint() == start.tokenizers.fingerprint():
        return [*told, "warm start: its vocabulary is kept"]
    sides = {"joint": tokenizers.src} if tokenizers.joint else {"source": tokenizers.src, "target": tokenizers.tgt}
    for name, side in sides.items():
        before = start.tokenizers.tgt if name == "target" else start.tokenizers.src
        n_taken = int((same_spelling(before, side) >= 0).sum())
        told.append(
            f"warm start: {n_taken:,} of {side.vocab_size:,} tokens of the {name} vocabulary have the embeddings of "
            f"the {before.vocab_size:,} there, {side.vocab_size - n_taken:,} begin anew"
        )
    return told
