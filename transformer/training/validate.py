"""Teacher-forced validation: token-averaged loss, perplexity, accuracy; and what free decoding gave."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from transformer.data.batch import Batch
from transformer.training.distributed import World
from transformer.training.observer import Look
from transformer.training.precision import Precision


@dataclass(frozen=True)
class Validation:
    """Figures over all target tokens of a split.

    Attributes:
        loss: unsmoothed, nats per target token.
        perplexity: exp(loss).
        accuracy: share of target tokens whose argmax is right, 0-100.
        n_tgt_tokens: target tokens, EOS counted.
    """

    loss: float
    perplexity: float
    accuracy: float
    n_tgt_tokens: int


@dataclass(frozen=True)
class Decoded:
    """What free decoding of the validation split gave.

    Attributes:
        bleu: sacreBLEU, 0-100.
        signature: of sacreBLEU.
        samples: (source, hypothesis, reference) of a few lines.
        scores: further corpus scores of the same translations, by name, 0-100.
        looks: where the model looked while it wrote some of the samples.
    """

    bleu: float
    signature: str
    samples: list[tuple[str, str, str]]
    scores: dict[str, float] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)


def perplexity(loss: float) -> float:
    """exp(loss), infinity where that overflows, nan of nan."""
    return math.inf if loss >= 709 else math.exp(loss)


@torch.no_grad()
def validate(objective: nn.Module, batches: Iterable[Batch], world: World, precision: Precision) -> Validation:
    """Runs the objective over all batches in evaluation mode.

    Args:
        objective: gives the three sums of `Objective.forward`.
        batches: this process's share of the split.
        world: sums are taken over its processes.
        precision: number format of the forward pass.
    """
    was_training = objective.training
    objective.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=world.device)
    n_own = 0
    for batch in batches:
        batch = batch.to(world.device)
        with precision.autocast():
            got = objective(batch.src, batch.src_key_padding_mask, batch.tgt_in, batch.tgt_out)
        sums += got[1:].double()
        n_own += batch.n_tgt_tokens
    objective.train(was_training)
    count = torch.full((1,), float(n_own), dtype=torch.float64, device=world.device)
    nll, right, n_tokens = world.sum(torch.cat((sums, count))).tolist()
    loss = nll / n_tokens
    return Validation(loss, perplexity(loss), 100.0 * right / n_tokens, int(n_tokens))
