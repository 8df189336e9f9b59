"""The trainer of a config, and what it writes beside the weights."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from omegaconf import OmegaConf

from transformer.build.decoder import search, translator
from transformer.build.machine import precision
from transformer.build.network import load_pretrained, model_to_train
from transformer.build.part import explained, instantiate
from transformer.build.source import Data, loader
from transformer.build.stored import Loaded
from transformer.build.supply import supplies
from transformer.build.warm import keeps_tokenizer, provenance, take_up
from transformer.config import TrainConfig
from transformer.data.place import Places
from transformer.data.reader import Pair
from transformer.decoding.alignment import Aligner
from transformer.decoding.translator import Translator
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.model.transformer import Transformer
from transformer.training.checkpoint import (
    CONFIG,
    TOKENIZER,
    CheckpointFolder,
    Retention,
)
from transformer.training.distributed import World
from transformer.training.environment import environment
from transformer.training.limits import Limits
from transformer.training.loss import Objective
from transformer.training.observer import Look, Observer
from transformer.training.optimizer import optimizer_of
from transformer.training.schedule import Schedule
from transformer.training.sharding import WholeCopy, shard
from transformer.training.trainer import Trainer
from transformer.training.validate import Decoded
from transformer.training.warm_start import freeze

SMOOTHING_PRIORS = ("uniform", "unigram")
N_LOOKS = 2  # samples whose attention is shown each epoch


def validation_decoder(
    config: TrainConfig, source: Data, built: Transformer, world: World
) -> "partial[Decoded | None]":
    """A function that decodes the validation split freely and scores it, see `_decode`."""
    device = world.device
    decoder = translator(
        built,
        source.tokenizers,
        search(config.validation_decoding, "validation_decoding"),
        config.translation,
        device,
    )
    metric = instantiate(config.validation_metric, "validation_metric", Metric)  # type: ignore[type-abstract]
    aligner = Aligner([built], source.tokenizers, config.translation.max_tokens, device)
    others = validation_scores(config)
    # Of the pairs whose loss is reckoned: without a blank side, and not too long. Read once, as those are.
    usable = set(source.validation.lines.tolist())
    lines = enumerate(source.corpus.pairs("validation") if config.training.bleu_every_epochs else (), start=1)
    pairs = [pair for line, pair in lines if line in usable]
    return partial(_decode, decoder, aligner, metric, others, pairs, config.training.n_samples, world)


def validation_scores(config: TrainConfig) -> dict[str, Metric]:
    """The further metrics of each epoch, by name."""
    return {
        name: instantiate(leaf, f"validation_scores.{name}", Metric)  # type: ignore[type-abstract]
        for name, leaf in config.validation_scores.items()
    }


def monitored_is_lower_better(config: TrainConfig) -> bool:
    """Whether less of what training.monitor names is better.

    Raises:
        UserError: there is no such value.
    """
    monitor = config.training.monitor
    directions = {"valid_loss": True, "valid_accuracy": False, "bleu": False}
    directions |= {name: not metric.higher_is_better for name, metric in validation_scores(config).items()}
    if monitor not in directions:
        raise UserError(f"training.monitor is {monitor}, but must be one of {', '.join(directions)}")
    return directions[monitor]


def _decode(
    decoder: Translator,
    aligner: Aligner,
    metric: Metric,
    others: dict[str, Metric],
    pairs: Sequence[Pair],
    n_samples: int,
    world: World,
) -> Decoded | None:
    """Each process translates its share of the sentences; the main process scores all, the others have None."""
    own = [best[0] for best in decoder.translate(pair.src for pair in pairs[world.rank :: world.size])]
    shares = world.gather([(best.text, best.ids) for best in own])
    if not world.is_main:
        return None
    found = [shares[i % world.size][i // world.size] for i in range(len(pairs))]
    hypotheses = [text for text, _ in found]
    references = [pair.tgt for pair in pairs]
    score = metric.score(hypotheses, references, n_bootstrap=0)
    scores = {name: other.score(hypotheses, references, n_bootstrap=0).value for name, other in others.items()}
    samples = [(p.src, h, p.tgt) for p, h in zip(pairs[:n_samples], hypotheses, strict=False)]
    n_looks = min(N_LOOKS, n_samples)
    attentions = aligner.attend([p.src for p in pairs[:n_looks]], found[:n_looks])
    looks = [Look(a.src_tokens, a.tgt_tokens, a.weights) for a in attentions if a.tgt_tokens]
    return Decoded(score.value, score.signature, samples, scores, looks)


def observers(config: TrainConfig) -> list[Observer]:
    """The configured observers."""
    return [instantiate(leaf, f"monitor.{name}", Observer) for name, leaf in config.monitor.items()]


def optimizer(config: TrainConfig, built: Transformer) -> torch.optim.Optimizer:
    """The configured optimizer over the model's parameters, in the groups it asks for."""
    for key, value in config.optimizer.items():
        if isinstance(value, float) and not math.isfinite(value):  # torch takes an infinite rate
            raise UserError(f"optimizer.{key} is {value}, but must be a finite number")
    factory = cast(Any, instantiate(config.optimizer, "optimizer", torch.optim.Optimizer, partial=True))
    try:
        return optimizer_of(built, factory)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"optimizer: {error}") from error


def objective(config: TrainConfig, built: Transformer, source: Data) -> Objective:
    """The configured objective of a model, on the model's device."""
    training = config.training
    if training.smoothing_prior not in SMOOTHING_PRIORS:
        known = " or ".join(SMOOTHING_PRIORS)
        raise UserError(f"training.smoothing_prior is {training.smoothing_prior}, but must be {known}")
    prior = None
    if training.smoothing_prior == "unigram":
        counts = source.train.tgt_counts(source.tokenizers.tgt.vocab_size)
        prior = torch.from_numpy(counts / counts.sum()).float().to(built.output.weight.device)
    factory = cast(Any, instantiate(config.loss, "loss", Objective, partial=True))
    with explained("loss"):
        try:
            made = cast(Objective, factory(built, training.label_smoothing, config.runtime.chunked_loss, prior))
        except TypeError as error:
            raise UserError(f"loss: {error}") from error
        made.supply(supplies(source.tokenizers.tgt))
    return made


def _shard(config: TrainConfig, world: World, made: Objective) -> WholeCopy | None:
    """Shards the objective if that is wanted; returns what is then validated and decoded with.

    Raises:
        UserError: it does not go together with something else that is wanted.
    """
    if not config.runtime.sharded:
        return None
    if made.draws:
        raise UserError(
            "this loss draws translations, for which each process needs the whole model; use runtime.sharded=false or "
            "another loss"
        )
    return shard(made, world)


def _model(config: TrainConfig, source: Data, start: Loaded | None) -> Transformer:
    """The model that is trained, with the weights that it begins with."""
    built = model_to_train(config.model, source.tokenizers, config.runtime)
    if not keeps_tokenizer(config):
        load_pretrained(built, source.tokenizers, source.trainer)
    if start:
        take_up(start, built, source.tokenizers)
    freeze(built, config.warm_start.frozen)
    return built


def trainer(config: TrainConfig, world: World, source: Data, start: Loaded | None = None) -> Trainer:
    """A trainer at the start of its run.

    Args:
        config: of the run.
        world: the processes.
        source: what is trained on.
        start: the checkpoint that it begins with, if any; a run that is resumed needs none.
    """
    limits_config = config.training
    built = _model(config, source, start).to(world.device)
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
            lower_is_better=monitored_is_lower_better(config),
            ema_decay=limits_config.ema_decay,
        )
    number_format = precision(config.runtime, world.device)
    train_batches, validation_batches = loader(config, world, source)
    made = objective(config, built, source)
    whole = _shard(config, world, made)  # before the optimizer, which holds on to the parameters
    retention = Retention(limits_config.keep_last, limits_config.keep_best, limits.lower_is_better)
    folder = CheckpointFolder(Path(config.saved_dir) / config.name, retention, partial(_write_static, config, source))
    return Trainer(
        objective=made,
        optimizer=optimizer(config, built),
        schedule=instantiate(config.schedule, "schedule", Schedule),  # type: ignore[type-abstract]
        batches=train_batches,
        validation=validation_batches,
        decode=validation_decoder(config, source, (whole.objective if whole else made).model, world),
        world=world,
        precision=number_format,
        limits=limits,
        checkpoints=folder,
        observers=observers(config) if world.is_main else [],
        identify=partial(_identify, source, Places(source.corpus.parts("train"))),
        environment={
            "seed": str(config.seed),
            **{f"{split}_text": text for split, text in source.texts.items()},
            **environment(world.device),
            **({"warm_start": provenance(start)} if start else {}),
        },
        deferred=config.runtime.deferred,
        whole=whole,
    )


def _identify(source: Data, places: Places, indices: np.ndarray) -> str:
    """Which pairs of the training split, by file and line, and the longest of them, as text."""
    first = places.told(sorted(source.train.lines[indices].tolist())[:20])
    longest = max(indices.tolist(), key=lambda i: int(source.train.src_lengths[i] + source.train.tgt_lengths[i]))
    src, tgt = source.train[longest]
    text = (
        f"{source.tokenizers.src.decode(src.tolist())[:200]!r} = {source.tokenizers.tgt.decode(tgt.tolist())[:200]!r}"
    )
    more = ", ..." if len(indices) > 20 else ""
    where = places.told([int(source.train.lines[longest])])
    return f"{len(indices)} pairs, {first}{more}; the longest, {where}: {text}"


def _write_static(config: TrainConfig, source: Data, folder: Path) -> None:
    (folder / CONFIG).write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    source.tokenizers.save(folder / TOKENIZER)
