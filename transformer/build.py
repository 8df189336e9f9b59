"""From a config to objects: the one place that knows both. Only what is named here may be built from a config."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import hydra.utils
import numpy as np
import torch
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from transformer.config import ModelConfig, RuntimeConfig, TrainConfig, TranslationConfig
from transformer.data.batching import Batching, Sorted
from transformer.data.corpus import Corpus
from transformer.data.loader import BatchLoader
from transformer.data.store import PairStore, prepare_store
from transformer.data.tokenizer.base import TokenizerPair, TokenizerTrainer, train_tokenizers
from transformer.decoding.search import Search
from transformer.decoding.translator import Translator
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.leaf import check
from transformer.model.feedforward import ACTIVATIONS
from transformer.model.layers import LayerShape
from transformer.model.normalizer import Normalizer
from transformer.model.position.base import Position
from transformer.model.score import Score
from transformer.model.transformer import Transformer, Vocabulary
from transformer.training.checkpoint import (
    CONFIG,
    MODEL,
    TOKENIZER,
    CheckpointFolder,
    Retention,
    load_tensors,
    verify,
)
from transformer.training.distributed import World
from transformer.training.environment import environment
from transformer.training.loss import Objective
from transformer.training.memory import keep_memory
from transformer.training.observer import Observer
from transformer.training.optimizer import parameter_groups
from transformer.training.precision import Precision
from transformer.training.schedule import Schedule
from transformer.training.trainer import Decoded, Limits, Trainer
from transformer.training.update import out_of_memory

T = TypeVar("T")
DEVICES = ("auto", "cpu", "cuda")


def instantiate(leaf: Mapping[str, Any], where: str, family: type[T], partial: bool = False) -> T:
    """Builds what a leaf names.

    Args:
        leaf: `_target_` and its arguments.
        where: the leaf's place in the config, for messages.
        family: the base class that the target must have.
        partial: the leaf says `_partial_: true`, and what comes back is a factory that takes the rest.

    Raises:
        UserError: what `check` raises, or the constructor's own complaint.
    """
    if isinstance(leaf, Mapping) and not isinstance(leaf, DictConfig):
        leaf = OmegaConf.create(dict(leaf))
    plain = OmegaConf.to_container(leaf, resolve=True) if isinstance(leaf, DictConfig) else leaf
    check(cast(Mapping[str, Any], plain), where, family, partial)
    try:
        return cast(T, hydra.utils.instantiate(plain, _convert_="all"))
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(f"{where}: {cause or str(error).splitlines()[0]}") from error


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turns a constructor's ValueError, or its want of memory, into a UserError that names the part of the config."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    except (RuntimeError, MemoryError, OverflowError) as error:
        if not (out_of_memory(error) or isinstance(error, OverflowError) or "overflow" in str(error).lower()):
            raise
        told = str(error).partition("\n")[0] or "memory ran out"
        raise UserError(f"{where}: too large for this machine ({told}); choose smaller sizes") from error


def runtime(config: RuntimeConfig) -> World:
    """Sets threads and memory, joins the process group."""
    if config.keep_memory:
        keep_memory()
    if config.threads is not None:
        if config.threads < 1:
            raise UserError(f"runtime.threads must be at least 1 or null, not {config.threads}")
        torch.set_num_threads(config.threads)
    if config.device not in DEVICES:
        raise UserError(f"runtime.device is {config.device}, but must be one of {', '.join(DEVICES)}")
    with explained("runtime"):
        return World(config.device)


def model(config: ModelConfig, tokenizers: TokenizerPair, run: RuntimeConfig) -> Transformer:
    """The model, freshly initialised from torch's random state."""
    parts: dict[str, type] = {"position": Position, "score": Score, "normalizer": Normalizer}
    made: dict[str, Any] = {
        name: instantiate(getattr(config, name), f"model.{name}", kind, partial=True) for name, kind in parts.items()
    }
    if config.activation not in ACTIVATIONS:
        raise UserError(f"model.activation must be one of {', '.join(ACTIVATIONS)}, not {config.activation}")
    for name in ("d_model", "n_heads", "d_ff", "n_encoder_layers", "n_decoder_layers", "max_len"):
        if getattr(config, name) < 1:
            raise UserError(f"model.{name} must be at least 1, not {getattr(config, name)}")
    if config.tying == "three" and not tokenizers.joint:
        raise UserError("model.tying is three, but source and target have a vocabulary each; use model.tying=two")
    with explained("model"):
        shape = LayerShape(
            d_model=config.d_model,
            n_heads=config.n_heads,
            d_ff=config.d_ff,
            norm=config.norm,
            activation=config.activation,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation_dropout=config.activation_dropout,
            score=made["score"],
            normalizer=made["normalizer"],
        )
        vocabulary = Vocabulary(tokenizers.src.vocab_size, tokenizers.tgt.vocab_size, config.tying)
        built = Transformer(
            vocabulary,
            shape,
            config.n_encoder_layers,
            config.n_decoder_layers,
            made["position"],
            config.max_len,
        )
    built.use_fast_paths(run.fused_attention, run.bulk_dropout)
    return built


def load_pretrained(built: Transformer, tokenizers: TokenizerPair, trainer: TokenizerTrainer) -> None:
    """Copies pretrained word vectors, where the tokenizer is configured with any, into the embeddings."""
    tables = (built.src_embedding.tokens, built.tgt_embedding.tokens)
    for table, vectors, side in zip(tables, trainer.pretrained(tokenizers), ("source", "target"), strict=True):
        if vectors is None:
            continue
        if vectors.weights.size(1) != table.embedding_dim:
            raise UserError(
                f"the pretrained {side} vectors have {vectors.weights.size(1)} dimensions, model.d_model is "
                f"{table.embedding_dim}; make them equal"
            )
        with torch.no_grad():
            # Embeddings are multiplied by sqrt(d_model) when they are read.
            table.weight[vectors.found] = vectors.weights[vectors.found] / table.embedding_dim**0.5


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


@dataclass(frozen=True)
class Data:
    """What a run trains on.

    Attributes:
        corpus: the text.
        tokenizers: trained on its training split.
        trainer: what trained them.
        train: the training pairs.
        validation: the validation pairs.
    """

    corpus: Corpus
    tokenizers: TokenizerPair
    trainer: TokenizerTrainer
    train: PairStore
    validation: PairStore


def data(config: TrainConfig, tokenizers: TokenizerPair | None = None) -> Data:
    """Corpus, tokenizers (trained if none are given) and prepared pairs."""
    corpus = instantiate(config.data, "data", Corpus)  # type: ignore[type-abstract]
    trainer = instantiate(config.tokenizer, "tokenizer", TokenizerTrainer)  # type: ignore[type-abstract]
    corpus.prepare()
    cache = Path(config.cache_dir)
    tokenizers = tokenizers or train_tokenizers(corpus, trainer, cache)
    stores = [
        prepare_store(corpus, split, tokenizers, config.training.max_len, cache) for split in ("train", "validation")
    ]
    return Data(corpus, tokenizers, trainer, *stores)


def loader(config: TrainConfig, world: World, source: Data) -> tuple[BatchLoader, BatchLoader]:
    """This process's batches for training (shuffled, sampled) and for validation (in order, as they are)."""
    batching = instantiate(config.batching, "batching", Batching)  # type: ignore[type-abstract]
    train = BatchLoader(source.train, batching, config.seed, world.rank, world.size, source.tokenizers)
    train.set_epoch(1)  # so that what is told beforehand is true of the first epoch
    in_order = Sorted(batching.max_tokens)
    return train, BatchLoader(source.validation, in_order, config.seed, world.rank, world.size, None)


def validation_decoder(
    config: TrainConfig, source: Data, built: Transformer, device: torch.device
) -> "partial[Decoded]":
    """A function that decodes the validation split freely and scores it."""
    decoder = translator(
        built,
        source.tokenizers,
        search(config.validation_decoding, "validation_decoding"),
        config.translation,
        device,
    )
    metric = instantiate(config.validation_metric, "validation_metric", Metric)  # type: ignore[type-abstract]
    return partial(_decode, decoder, metric, source.corpus, config.training.n_samples)


def _decode(decoder: Translator, metric: Metric, corpus: Corpus, n_samples: int) -> Decoded:
    pairs = list(corpus.pairs("validation"))
    hypotheses = [best[0].text for best in decoder.translate(pair.src for pair in pairs)]
    score = metric.score(hypotheses, [pair.tgt for pair in pairs], n_bootstrap=0)
    samples = [(p.src, h, p.tgt) for p, h in zip(pairs[:n_samples], hypotheses, strict=False)]
    return Decoded(score.value, score.signature, samples)


def observers(config: TrainConfig) -> list[Observer]:
    """The configured observers."""
    return [instantiate(leaf, f"monitor.{name}", Observer) for name, leaf in config.monitor.items()]


def optimizer(config: TrainConfig, built: Transformer) -> torch.optim.Optimizer:
    """The configured optimizer over the model's parameters, matrices apart from the rest."""
    factory = cast(Any, instantiate(config.optimizer, "optimizer", torch.optim.Optimizer, partial=True))
    try:
        return cast(torch.optim.Optimizer, factory(parameter_groups(built)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"optimizer: {error}") from error


def trainer(config: TrainConfig, world: World, source: Data) -> Trainer:
    """A trainer at the start of its run."""
    limits_config = config.training
    built = model(config.model, source.tokenizers, config.runtime)
    load_pretrained(built, source.tokenizers, source.trainer)
    built.to(world.device)
    with explained("training"):
        limits = Limits(
            max_epochs=limits_config.max_epochs,
            max_steps=limits_config.max_steps,
            accumulate=limits_config.accumulate,
            clip_norm=limits_config.clip_norm,
            monitor=limits_config.monitor,
            patience=limits_config.patience,
            bleu_every_epochs=limits_config.bleu_every_epochs,
            checkpoint_every_steps=limits_config.checkpoint_every_steps,
            checkpoint_every_minutes=limits_config.checkpoint_every_minutes,
        )
        objective = Objective(built, limits_config.label_smoothing, config.runtime.chunked_loss)
    with explained("runtime"):
        precision = Precision(config.runtime.precision, world.device)
    train_batches, validation_batches = loader(config, world, source)
    retention = Retention(limits_config.keep_last, limits_config.keep_best, limits.lower_is_better)
    folder = CheckpointFolder(Path(config.saved_dir) / config.name, retention, partial(_write_static, config, source))
    return Trainer(
        objective=objective,
        optimizer=optimizer(config, built),
        schedule=instantiate(config.schedule, "schedule", Schedule),  # type: ignore[type-abstract]
        batches=train_batches,
        validation=validation_batches,
        decode=validation_decoder(config, source, built, world.device),
        world=world,
        precision=precision,
        limits=limits,
        checkpoints=folder,
        observers=observers(config) if world.is_main else [],
        identify=partial(_identify, source),
        environment={"seed": str(config.seed), **environment(world.device)},
    )


def _identify(source: Data, indices: np.ndarray) -> str:
    """Which pairs of the training split, by line, and the longest of them, as text."""
    lines = ", ".join(str(line) for line in sorted(source.train.lines[indices].tolist())[:20])
    longest = max(indices.tolist(), key=lambda i: int(source.train.src_lengths[i] + source.train.tgt_lengths[i]))
    src, tgt = source.train[longest]
    text = (
        f"{source.tokenizers.src.decode(src.tolist())[:200]!r} = {source.tokenizers.tgt.decode(tgt.tolist())[:200]!r}"
    )
    more = ", ..." if len(indices) > 20 else ""
    return f"{len(indices)} pairs, lines {lines}{more}; the longest, line {source.train.lines[longest]}: {text}"


def _write_static(config: TrainConfig, source: Data, folder: Path) -> None:
    (folder / CONFIG).write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    source.tokenizers.save(folder / TOKENIZER)


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint folder holds.

    Attributes:
        folder: where it is.
        config: of the run that wrote it.
        tokenizers: its tokenizers.
        model: its model, on the device, in evaluation mode.
        manifest: step, epoch, monitored value.
    """

    folder: Path
    config: TrainConfig
    tokenizers: TokenizerPair
    model: Transformer
    manifest: dict[str, Any]


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
    if "${" in text:
        raise UserError(f"{path} is no training config of ours: it holds an interpolation, ${{...}}")
    return cast(TrainConfig, config)


def _restored(folder: Path, config: TrainConfig, tokenizers: TokenizerPair, run: RuntimeConfig) -> Transformer:
    """The model with its weights.

    Shapes are compared with those of the weights before the model takes memory or time, whatever the config says.
    """
    if missing := [key for key in OmegaConf.missing_keys(config) if key.partition(".")[0] == "model"]:
        raise UserError(f"{folder / CONFIG} is no training config (it lacks {', '.join(sorted(missing))})")
    weights = load_tensors(folder / MODEL)
    n_layers = config.model.n_encoder_layers + config.model.n_decoder_layers
    try:
        if n_layers > len(weights):
            raise RuntimeError(f"{n_layers} layers, {len(weights)} tensors")
        with torch.device("meta"):
            model(config.model, tokenizers, run).load_state_dict(weights, assign=True)
        built = model(config.model, tokenizers, run)
        built.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        told = str(error).splitlines()[-1].strip()  # torch's first line says nothing
        raise UserError(f"{folder / MODEL} does not fit the config beside it ({told})") from error
    return built


def load(folder: str | Path, run: RuntimeConfig, device: torch.device) -> Loaded:
    """Loads a checkpoint for use; every file is compared with its SHA-256 first.

    Raises:
        UserError: no such folder, no checkpoint, or a damaged one.
    """
    path = Path(folder)
    manifest = verify(path)
    config = checkpoint_config(path)
    tokenizers = TokenizerPair.load(path / TOKENIZER)
    built = _restored(path, config, tokenizers, run)
    return Loaded(path, config, tokenizers, built.to(device).eval(), manifest)
