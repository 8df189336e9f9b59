"""One optimizer update: forward, backward, unscale, clip, step; split and done again when memory runs out."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transformer.data.batch import Batch
from transformer.error import UserError
from transformer.training.distributed import World
from transformer.training.divided import Divided, divisible, parts
from transformer.training.optimizer import clip_gradients, step_unless
from transformer.training.precision import Precision


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes:
        loss: smoothed, nats per target token.
        nll: unsmoothed, nats per target token.
        accuracy: share of target tokens whose argmax was right, 0-100.
        gradient_norm: L2, before clipping.
        n_tgt_tokens: over all micro-batches and processes.
        learning_rate: of the first parameter group.
        finite: whether loss and gradient were; if not, the weights are untouched.
        n_splits: how often a micro-batch had to be halved to fit into memory.
        seconds: wall time; of updates that overlap, since the figures of the one before were known.
    """

    loss: float
    nll: float
    accuracy: float
    gradient_norm: float
    n_tgt_tokens: int
    learning_rate: float
    finite: bool
    n_splits: int
    seconds: float


@dataclass(frozen=True)
class Gradients:
    """What an update knows once the parameters hold its gradients.

    Attributes:
        sums: float (3,), the objective's, over this process's micro-batches.
        n_tokens: float (), target tokens over all micro-batches and processes.
        n_splits: how often a micro-batch had to be halved to fit into memory.
        begin: when the update began, by `time.perf_counter`.
    """

    sums: Tensor
    n_tokens: Tensor
    n_splits: int
    begin: float


class Arriving:
    """Numbers on their way from an accelerator, which does not wait for them to be read.

    Args:
        values: float (n,), not changed any more.
    """

    def __init__(self, values: Tensor) -> None:
        self.event: torch.cuda.Event | None = None
        self.values = values.to("cpu", non_blocking=True)  # into pinned memory
        if values.device.type == "cuda":
            self.event = torch.cuda.Event(blocking=True)
            self.event.record()

    def tolist(self) -> list[float]:
        """The numbers, as soon as they are there."""
        if self.event is not None:
            self.event.synchronize()
        return self.values.tolist()


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


class Updater:
    """Updates the objective's parameters.

    Args:
        objective: gives the three sums of `Objective.forward`; on the world's device.
        optimizer: over its parameters; its rates now are the peaks.
        world: the processes.
        precision: number formats.
        clip_norm: bound of the gradient's L2 norm, or None.
        deferred: whether the device itself leaves out an update that is not finite, so that the host need not wait for
            its figures: the same bits; the optimizer must be one that `step_unless` can drive.
    """

    def __init__(
        self,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        world: World,
        precision: Precision,
        clip_norm: float | None,
        deferred: bool = False,
    ) -> None:
        self.objective, self.optimizer, self.world = objective, optimizer, world
        self.precision, self.clip_norm, self.deferred = precision, clip_norm, deferred
        self.peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self.wrapped = world.wrap(objective)
        self.known_at = 0.0  # when the figures of the last update were
        self.divided: Divided | None = None
        if world.n_workers > 1 and world.size == 1 and world.device.type == "cpu" and divisible(objective):
            self.divided = Divided(objective, self.parameters, precision, world.n_workers)

    def __call__(self, micro_batches: Sequence[Batch], rate_factor: float) -> Update:
        """One update by the gradient of the loss summed over all target tokens, divided by their number.

        Args:
            micro_batches: this process's.
            rate_factor: what the peak rates are multiplied by.

        Raises:
            UserError: a single pair does not fit into memory, or a batch does not with several processes.
        """
        return self.apply(self.gradients(micro_batches), rate_factor)()

    def gradients(self, micro_batches: Sequence[Batch]) -> Gradients:
        """The first half of an update: gives the parameters their gradients."""
        begin = time.perf_counter()
        self.objective.train()
        n_own = sum(b.n_tgt_tokens for b in micro_batches)
        # Filled in on the device: a number from the host would be waited for.
        n_tokens = self.world.sum(torch.full((), float(n_own), device=self.world.device))
        sums, n_splits = self._gradients(list(micro_batches), n_tokens)
        return Gradients(sums, n_tokens, n_splits, begin)

    def apply(self, gradients: Gradients, rate_factor: float) -> Callable[[], Update]:
        """The second half: changes the weights and gives up the gradients.

        Returns:
            A function that tells what the update did; it waits for the device where the update is deferred.
        """
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * rate_factor
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.parameters, self.clip_norm)
        sums = self.world.sum(gradients.sums)
        figures = torch.cat((sums, gradients.n_tokens[None], norm[None]))
        if self.deferred:
            step_unless(self.optimizer, ~(norm.isfinite() & sums[0].isfinite()))
            arriving = Arriving(figures)
        else:
            arriving = Arriving(figures)
            if _finite(arriving.tolist()):
                scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return lambda: self._told(gradients, arriving.tolist(), self.peaks[0] * rate_factor)

    def _told(self, gradients: Gradients, figures: list[float], rate: float) -> Update:
        loss, nll, right, n, norm = figures
        now = time.perf_counter()
        seconds, self.known_at = now - max(gradients.begin, self.known_at), now
        finite, n_splits = _finite(figures), gradients.n_splits
        return Update(loss / n, nll / n, 100.0 * right / n, norm, int(n), rate, finite, n_splits, seconds)

    def _gradients(self, pieces: list[Batch], n_tokens: Tensor) -> tuple[Tensor, int]:
        """Accumulates the gradients of all pieces; begins again with one of them halved when memory runs out on it."""
        n_splits = 0
        while True:
            at = 0
            try:
                sums = torch.zeros(3, device=self.world.device)
                for at, batch in enumerate(pieces):
                    sums += self._forward_backward(batch.to(self.world.device), n_tokens, last=at == len(pieces) - 1)
                return sums, n_splits
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._refuse_to_split(pieces[at], error)
            # Out of the except block, so that nothing holds on to the failed pass's tensors.
            self.optimizer.zero_grad(set_to_none=True)
            if self.world.device.type == "cuda":
                torch.cuda.empty_cache()
            pieces[at : at + 1] = parts(pieces[at], 2)
            n_splits += 1

    def _refuse_to_split(self, batch: Batch, error: BaseException) -> None:
        if self.world.size > 1:
            raise UserError("memory ran out in one of several processes; lower batching.max_tokens") from error
        if batch.src.size(0) < 2:
            raise UserError(
                f"memory ran out on a single pair of {batch.src.size(1)} and {batch.tgt_in.size(1)} tokens; "
                "lower training.max_len or choose a smaller model"
            ) from error

    def _forward_backward(self, batch: Batch, n_tokens: Tensor, last: bool) -> Tensor:
        if self.divided is not None and batch.src.size(0) > 1:
            return self.divided(batch, n_tokens)
        with self.world.no_sync(self.wrapped, wanted=not last):
            with self.precision.autocast():
                sums = self.wrapped(batch.src, batch.src_key_padding_mask, batch.tgt_in, batch.tgt_out)
            # DistributedDataParallel averages over processes; times their number, that is a sum.
            self.precision.scaler.scale(sums[0] * (self.world.size / n_tokens)).backward()
        return sums.detach()


def _finite(figures: Sequence[float]) -> bool:
    """Whether the sum of losses, which comes first, and the gradient's norm, which comes last, are finite."""
    return math.isfinite(figures[0]) and math.isfinite(figures[-1])
