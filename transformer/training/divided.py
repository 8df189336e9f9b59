"""A batch divided among threads: each computes the gradient of its part, and the parts are summed in order."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from transformer.data.batch import Batch
from transformer.model.attention import Mix
from transformer.model.dropout import Dropout, drawing_from, fits
from transformer.special import PAD
from transformer.training.precision import Precision
from transformer.workers import side_by_side

_SEEDS = 1 << 62


def parts(batch: Batch, n: int) -> list[Batch]:
    """A batch as n batches of as many pairs each, or one pair more; the batch has at least n pairs."""
    n_pairs = batch.src.size(0)
    ends = [i * n_pairs // n for i in range(n + 1)]
    found = []
    for begin, end in itertools.pairwise(ends):
        rows = slice(begin, end)
        tgt_out = batch.tgt_out[rows]
        found.append(
            Batch(
                batch.src[rows],
                batch.tgt_in[rows],
                tgt_out,
                batch.src_key_padding_mask[rows],
                int((tgt_out != PAD).sum()),
                batch.indices[rows],
            )
        )
    return found


def divisible(objective: nn.Module) -> bool:
    """Whether threads can share a batch reproducibly: every random number comes from `drawing_from`'s generator."""
    for module in objective.modules():
        if isinstance(module, Dropout) and module.p > 0 and not (module.bulk and fits(module.p)):
            return False
        if isinstance(module, Mix) and module.fused and module.dropout.p > 0:
            return False  # torch's kernel draws from torch's generator
        if isinstance(module, nn.Dropout) and module.p > 0:
            return False
    return True


class Divided:
    """Computes gradients with several threads, each on its part of the batch.

    Threads that share one operation wait for one another at the end of each; threads that have a part of the batch
    wait once an update. The sum over the parts is the gradient of the whole up to rounding; dropout draws other numbers
    than an undivided batch, from generators seeded by torch's default one, so that the same seed gives the same bits.

    Args:
        objective: gives the three sums of `Objective.forward`; on the CPU.
        parameters: those to train.
        precision: number formats.
        n_workers: threads, at least 2.
    """

    def __init__(
        self, objective: nn.Module, parameters: Sequence[nn.Parameter], precision: Precision, n_workers: int
    ) -> None:
        self.objective, self.parameters = objective, list(parameters)
        self.precision, self.n_workers = precision, n_workers

    def __call__(self, batch: Batch, n_tokens: Tensor) -> Tensor:
        """Adds the gradient of the loss summed over the batch, divided by n_tokens, to the parameters'.

        Returns:
            float (3,), the objective's sums.
        """
        pieces = parts(batch, min(self.n_workers, batch.src.size(0)))
        seeds = torch.randint(_SEEDS, (len(pieces),)).tolist()
        results: dict[int, tuple[Tensor, tuple[Tensor | None, ...]]] = {}

        def work(i: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            piece = pieces[i]
            with drawing_from(torch.Generator().manual_seed(seeds[i])):
                with self.precision.autocast():
                    sums = self.objective(piece.src, piece.src_key_padding_mask, piece.tgt_in, piece.tgt_out)
                scaled = self.precision.scaler.scale(sums[0] / n_tokens)
                return sums.detach(), torch.autograd.grad(scaled, self.parameters, allow_unused=True)

        side_by_side(work, range(len(pieces)), results.__setitem__, self.n_workers)
        for i in range(len(pieces)):
            for parameter, gradient in zip(self.parameters, results[i][1], strict=True):
                if gradient is None:
                    continue
                if parameter.grad is None:
                    # Laid out like the parameter, as a backward pass would have it: fused optimizers do not look.
                    fits = gradient.stride() == parameter.stride()
                    parameter.grad = gradient if fits else torch.empty_like(parameter).copy_(gradient)
                else:
                    parameter.grad.add_(gradient)
        return torch.stack([results[i][0] for i in range(len(pieces))]).sum(0)
