"""batching.max_tokens=auto: found once, when a run begins, and then part of its config like any number."""

from typing import Any, cast

from omegaconf import OmegaConf

from transformer.build.machine import precision
from transformer.build.network import model_to_train
from transformer.build.run import objective, optimizer
from transformer.build.source import Data
from transformer.config import TrainConfig
from transformer.training.budget import find
from transformer.training.distributed import World
from transformer.training.update import Updater
from transformer.training.warm_start import freeze

AUTO = "auto"


def _with_max_tokens(config: TrainConfig, max_tokens: Any) -> TrainConfig:
    return cast(TrainConfig, OmegaConf.merge(config, {"batching": {"max_tokens": max_tokens}}))


def resumed_budget(saved: TrainConfig, config: TrainConfig) -> TrainConfig:
    """The config of a run that goes on: where it says auto, it has the budget that was found when the run began."""
    auto = config.batching.get("max_tokens") == AUTO
    return _with_max_tokens(config, saved.batching.get("max_tokens")) if auto else config


def found_budget(config: TrainConfig, world: World, source: Data) -> tuple[TrainConfig, str | None]:
    """The config with the largest budget that fits where it says auto, and a sentence that tells it.

    Takes random numbers, time for some updates, and memory, which is given back.
    """
    if config.batching.get("max_tokens") != AUTO:
        return config, None
    built = model_to_train(config.model, source.tokenizers, config.runtime).to(world.device)
    freeze(built, config.warm_start.frozen)
    number_format = precision(config.runtime, world.device)
    updater = Updater(
        objective(config, built, source),
        optimizer(config, built),
        world.alone(),
        number_format,
        config.training.clip_norm,
    )
    batches_per_update = config.training.accumulate * world.size
    budget = find(updater, source.train, world, batches_per_update, config.batching.get("round_to") or 1)
    told = f"batching.max_tokens=auto: {budget.max_tokens:,} ({budget.reason})"
    return _with_max_tokens(config, budget.max_tokens), told
