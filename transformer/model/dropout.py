"""Dropout whose random numbers are drawn in bulk: four decisions from each 64-bit draw."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16
_own = threading.local()


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Inside this context, bulk dropout in this thread draws from `generator` and not from torch's default one."""
    _own.generator = generator
    try:
        yield
    finally:
        _own.generator = None


def generator_in_use() -> torch.Generator:
    """What bulk dropout in this thread draws from."""
    return getattr(_own, "generator", None) or torch.default_generator


def keep_mask(n: int, p: float) -> Tensor:
    """Independent decisions to keep, each with probability 1 - p rounded to 1/65536.

    Each 64-bit number of torch's CPU generator is split into four 16-bit ones: a quarter of the draws of
    `torch.nn.functional.dropout`, from the same generator (but see `drawing_from`), so that its saved state reproduces
    them.

    Args:
        n: how many.
        p: probability of dropping, 0 <= p < 1.

    Returns:
        uint8 (n,), 1 = keep, 0 = drop: torch turns bytes into floats eight times as fast as booleans.
    """
    draws = torch.empty((n + 3) // 4, dtype=torch.int64)
    draws = draws.random_(-(1 << 63), None, generator=generator_in_use())  # the full 64-bit range
    keep = torch.empty(n, dtype=torch.uint8)
    return torch.ge(draws.view(torch.int16)[:n], round(p * _LEVELS) - (_LEVELS >> 1), out=keep)


def _kept(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    """x * keep * scale; a product of two types would take more than ten times as long."""
    return keep.to(x.dtype).mul_(x).mul_(scale)


class _BulkDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:  # type: ignore[no-untyped-def]
        keep = keep_mask(x.numel(), p).view(x.shape)
        ctx.scale = 1.0 / (1.0 - round(p * _LEVELS) / _LEVELS)
        ctx.save_for_backward(keep)
        return _kept(x, keep, ctx.scale)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (keep,) = ctx.saved_tensors
        return _kept(grad, keep, ctx.scale), None


def fits(p: float) -> bool:
    """Whether 16 bits tell p from 0 and from 1."""
    return 0 < round(p * _LEVELS) < _LEVELS


def dropout(x: Tensor, p: float, bulk: bool) -> Tensor:
    """Zeroes each element with probability p and scales the rest by 1 / (1 - p) (Srivastava et al., 2014).

    Args:
        x: float, any shape.
        p: probability of dropping, 0 <= p < 1.
        bulk: draw in bulk; only on a CPU, elsewhere torch's own dropout is used.
    """
    if p == 0.0:
        return x
    if bulk and x.device.type == "cpu" and fits(p):
        return _BulkDropout.apply(x, p)
    return F.dropout(x, p, training=True)


class Dropout(nn.Module):
    """Dropout as a module; the identity in evaluation mode.

    Args:
        p: probability of dropping, 0 <= p < 1.
    """

    bulk: bool = True

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a dropout rate must be at least 0 and below 1, not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as x."""
        return dropout(x, self.p, self.bulk) if self.training else x

    def extra_repr(self) -> str:
        """Shown in the printed model."""
        return f"p={self.p}"
