"""The numbers of a run under the tags that TensorBoard and trackers show: train/, valid/, best/, optim/, speed/."""

import math
from collections.abc import Sequence

from transformer.training.observer import EpochEnd, StepEnd
from transformer.training.validate import perplexity


def step_scalars(window: Sequence[StepEnd]) -> dict[str, float]:
    """Return tag -> value over consecutive updates: means over tokens, the mean norm, the last rate."""
    tokens = max(1, sum(end.n_tgt_tokens for end in window))
    seconds = sum(end.seconds for end in window)
    return {
        "train/loss": sum(end.loss * end.n_tgt_tokens for end in window) / tokens,
        "train/perplexity": perplexity(sum(end.nll * end.n_tgt_tokens for end in window) / tokens),
        "train/accuracy": sum(end.accuracy * end.n_tgt_tokens for end in window) / tokens,
        "optim/gradient_norm": sum(end.gradient_norm for end in window) / len(window),
        "optim/learning_rate": window[-1].learning_rate,
        "speed/tokens_per_second": tokens / seconds if seconds > 0 else math.nan,
    }


def epoch_scalars(end: EpochEnd) -> dict[str, float]:
    """Return tag -> value of an epoch; BLEU only where it was computed, best/... only for the best so far."""
    scalars = {
        "valid/loss": end.valid_loss,
        "valid/perplexity": end.valid_perplexity,
        "valid/accuracy": end.valid_accuracy,
        "optim/clipped": end.clipped,
        "speed/padding_efficiency": end.padding_efficiency,
    }
    if not math.isnan(end.peak_memory_mib):
        scalars["speed/peak_memory_mib"] = end.peak_memory_mib
    quality = end.scores if end.bleu is None else {"bleu": end.bleu, **end.scores}
    scalars |= {f"valid/{name}": value for name, value in quality.items()}
    best = {"best/valid_loss": end.valid_loss} | {f"best/{name}": value for name, value in quality.items()}
    return scalars | best if end.best else scalars


def epoch_means(end: EpochEnd) -> dict[str, float]:
    """Return tag -> value of an epoch with the means over its updates, for those who are told of no single update."""
    means = {
        "train/loss": end.train_loss,
        "train/perplexity": end.train_perplexity,
        "train/accuracy": end.train_accuracy,
        "optim/gradient_norm": end.gradient_norm,
        "optim/learning_rate": end.learning_rate,
        "speed/tokens_per_second": end.tokens_per_second,
    }
    return means | epoch_scalars(end)
