"""A checkpoint folder to the objects in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor

from transformer.build.network import model
from transformer.config import MachineConfig, ModelConfig, TrainConfig, WarmStartConfig
from transformer.data.tokenizer.base import TokenizerPair
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.search import StepModel
from transformer.error import UserError
from transformer.model.transformer import Transformer
from transformer.training.checkpoint import (
    CONFIG,
    MODEL,
    TOKENIZER,
    load_tensors,
    read_manifest,
    verify,
)


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint folder holds.

    Attributes:
        folder: where it is.
        config: of the run that wrote it.
        tokenizers: its tokenizers.
        model: its model, or that of several that decode together, on the device, in evaluation mode.
        manifest: step, epoch, monitored value.
    """

    folder: Path
    config: TrainConfig
    tokenizers: TokenizerPair
    model: Transformer | Ensemble
    manifest: dict[str, Any]

    def into(self, language: str | None) -> "Loaded":
        """The same for translating into another language of a model for several; None: into the one of its config.

        Raises:
            UserError: the model knows no such language.
        """
        return self if language is None else replace(self, tokenizers=self.tokenizers.into(language))


def checkpoint_config(folder: Path) -> TrainConfig:
    """The config of the run that wrote a checkpoint.

    Raises:
        UserError: it does not fit the schema, or refers to something outside itself: what is written is resolved.
    """
    path = folder / CONFIG
    try:
        config = OmegaConf.merge(OmegaConf.structured(TrainConfig), OmegaConf.load(path))
        text = OmegaConf.to_yaml(config)
    except Exception as error:  # the YAML reader's errors have no base in common with the others
        raise UserError(f"{path} is no training config ({str(error).splitlines()[0]})") from error
    if OmegaConf.is_missing(config, "warm_start"):  # the checkpoint is older than warm starts
        config.warm_start = WarmStartConfig(checkpoint=None, tokenizer="checkpoint", frozen=[])
    if "${" in text:
        raise UserError(f"{path} is no training config of ours: it holds an interpolation, ${{...}}")
    return cast(TrainConfig, config)


def _check_size(config: ModelConfig, n_tokens: int, weights: Mapping[str, Tensor]) -> None:
    """Refuses a model of more parameters than there are, before it takes memory or time, whatever the config says."""
    n_layers = config.n_encoder_layers + config.n_decoder_layers
    n_weights = sum(tensor.numel() for tensor in weights.values())
    needed = n_layers * config.d_model * max(config.d_model, config.d_ff) + n_tokens * config.d_model  # and more
    if n_layers > len(weights) or needed > n_weights:
        raise RuntimeError(
            f"the config has {n_layers} layers of width {config.d_model} and {config.d_ff} and {n_tokens} tokens, the "
            f"file {len(weights)} tensors of {n_weights} numbers together"
        )


def _restored(folder: Path, config: TrainConfig, tokenizers: TokenizerPair, run: MachineConfig) -> Transformer:
    """The model with its weights."""
    if missing := [key for key in OmegaConf.missing_keys(config) if key.partition(".")[0] == "model"]:
        raise UserError(f"{folder / CONFIG} is no training config (it lacks {', '.join(sorted(missing))})")
    weights = load_tensors(folder / MODEL)
    try:
        _check_size(config.model, tokenizers.tgt.vocab_size, weights)
        built = model(config.model, tokenizers, run)
        built.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        told = str(error).splitlines()[-1].strip()  # torch's first line says nothing
        raise UserError(f"{folder / MODEL} does not fit the config beside it ({told})") from error
    return built


def stored_config(folder: Path) -> TrainConfig:
    """The config of a checkpoint that is not loaded yet; what is wrong with its manifest or config is said."""
    read_manifest(folder)
    return checkpoint_config(folder)


def load(folder: str | Path, run: MachineConfig, device: torch.device) -> Loaded:
    """Loads a checkpoint for use; every file is compared with its SHA-256 first.

    Raises:
        UserError: no such folder, no checkpoint, or a damaged one.
    """
    path = Path(folder)
    manifest = verify(path)
    config = checkpoint_config(path)
    tokenizers = TokenizerPair.load(path / TOKENIZER)
    built = _restored(path, config, tokenizers, run).to(device).eval()
    if device.type == "cpu" and run.precision != "bf16":
        built.lay_out_by_column()
    return Loaded(path, config, tokenizers, built, manifest)


def load_together(folders: Sequence[str | Path], run: MachineConfig, device: torch.device) -> Loaded:
    """Loads one checkpoint, or several as an ensemble; folder, config and manifest are the first one's.

    Raises:
        UserError: what `load` raises; no folder; vocabularies that differ.
    """
    if not folders:
        raise UserError("checkpoint names no folder; say checkpoint=FOLDER or checkpoint=[FOLDER,FOLDER]")
    loaded = [load(folder, run, device) for folder in folders]
    first = loaded[0]
    for other in loaded[1:]:
        if other.tokenizers.fingerprint() != first.tokenizers.fingerprint():
            raise UserError(
                f"{other.folder} has another vocabulary than {first.folder}; models that decode together need the same "
                f"(trained with tokenizer=existing tokenizer.folder={first.folder} the other would have it)"
            )
    if len(loaded) == 1:
        return first
    members = [cast(StepModel, other.model) for other in loaded]
    return Loaded(first.folder, first.config, first.tokenizers, Ensemble(members).eval(), first.manifest)
