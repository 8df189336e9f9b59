"""From a config to objects: the one place that knows both. Only what is named here may be built from a config."""

from transformer.build.budget import found_budget, resumed_budget
from transformer.build.compiled import compiled
from transformer.build.decoder import metrics, reference_loss, search, translator
from transformer.build.machine import precision_with_caution, runtime
from transformer.build.network import load_pretrained, model, model_to_train
from transformer.build.part import explained, instantiate
from transformer.build.run import observers, optimizer, trainer, validation_decoder
from transformer.build.source import Data, data, loader
from transformer.build.stored import Loaded, checkpoint_config, load, load_together, stored_config
from transformer.build.warm import keeps_tokenizer, models_differ, told_of, warm_start, with_tokenizer_of

__all__ = [
    "Data",
    "Loaded",
    "checkpoint_config",
    "compiled",
    "data",
    "explained",
    "found_budget",
    "instantiate",
    "keeps_tokenizer",
    "load",
    "load_pretrained",
    "load_together",
    "loader",
    "metrics",
    "model",
    "model_to_train",
    "models_differ",
    "observers",
    "optimizer",
    "precision_with_caution",
    "reference_loss",
    "resumed_budget",
    "runtime",
    "search",
    "stored_config",
    "told_of",
    "trainer",
    "translator",
    "validation_decoder",
    "warm_start",
    "with_tokenizer_of",
]
