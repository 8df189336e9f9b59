"""Products and exponentials of float32 on a CPU: as torch has them, or by another way where that is the faster one.

Torch's builds for x86 multiply matrices and take exponentials by MKL, which keeps to AVX2 on processors that are not
Intel's. What else such a build carries takes AVX-512 wherever it is, twice the numbers at once: oneDNN for products,
torch's own kernel for powers of two.
"""

import functools
import math
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

WAYS = ("auto", "torch", "onednn")
ROWS = 32  # rows of a product are filled up to a multiple of this
FEWEST = 64  # rows; fewer are left to torch, which starts sooner,
LEAST = 2**20  # unless there are so many multiplications to make
_FEW_ROWS = 8  # what rows are filled up to a multiple of where there are fewer than FEWEST
_AT_ONCE = 64  # numbers that a step of torch's kernels takes, or a multiple of them
_LOG2_E = math.log2(math.e)
_CPUINFO = Path("/proc/cpuinfo")


class _Choice:
    """What `use` was last told."""

    way = "auto"


def use(way: str) -> None:
    """Chooses for this process how float32 is computed with on a CPU.

    Args:
        way: torch; onednn, with powers of two for exponentials; or auto, which is onednn where `worthwhile` says so.

    Raises:
        ValueError: a way that does not exist, or oneDNN where this torch has none.
    """
    if way not in WAYS:
        raise ValueError(f"arithmetic is {way}, but must be one of {', '.join(WAYS)}")
    if way == "onednn" and not available():
        raise ValueError(f"arithmetic is onednn, but torch {torch.__version__} has no oneDNN here: take auto or torch")
    _Choice.way = way


def by_onednn() -> bool:
    """Whether oneDNN multiplies, and powers of two stand for exponentials."""
    return _Choice.way == "onednn" or (_Choice.way == "auto" and worthwhile())


@functools.cache
def available() -> bool:
    """Whether this torch lets oneDNN multiply float32 matrices."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@functools.cache
def worthwhile() -> bool:
    """Whether oneDNN is the faster one: torch computes with AVX-512 here, on a processor that is not Intel's."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and available() and torch.backends.mkl.is_available() and not _intel(_CPUINFO)


def _intel(cpuinfo: Path) -> bool:
    known = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else platform.processor()
    return "GenuineIntel" in known


def filled_up(x: Tensor, dtype: torch.dtype, multiple: int = ROWS) -> Tensor:
    """(..., width) -> (n, width) of another type, n the next multiple; the rows that were not there are zeros.

    For every new shape oneDNN makes a program, which in bfloat16 takes about as long as running it, and keeps the last
    1,024 of them. Batches of text differ in shape nearly all the time; their rows rounded up do not. What is fitting
    already comes back as it is.
    """
    flat = x.reshape(-1, x.size(-1))
    n = -(-flat.size(0) // multiple) * multiple
    if n == flat.size(0) and flat.dtype == dtype and flat.is_contiguous():
        return flat
    rows = torch.empty(n, flat.size(1), dtype=dtype, device=x.device)
    rows[: flat.size(0)].copy_(flat)
    rows[flat.size(0) :].zero_()
    return rows


def times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + b by oneDNN, without gradients.

    Args:
        x: float32 (n, k), by row or by column.
        weight: float32 (m, k), by row or by column.
        bias: float32 (m,) or None.

    Returns:
        float32 (n, m).
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def outer(a: Tensor, b: Tensor) -> Tensor:
    """A' B by oneDNN, the sum over many rows; the narrower one goes second, which is up to a third faster.

    Args:
        a: float32 (n, m).
        b: float32 (n, k).

    Returns:
        float32 (m, k), by row: torch's fused optimizers read gradients as if they lay like their weights.
    """
    return times(b.T, a.T).T.contiguous() if a.size(1) > b.size(1) else times(a.T, b.T)


class OuterSum:
    """A sum of A' B over chunks of rows, in float32, laid out as the way of multiplying wants it.

    Args:
        like: float (m, k), of whose shape and device the sum is.
        dtype: of the chunks.
    """

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        n_rows, n_columns = like.shape
        self._onednn = fits(like, like) and dtype == torch.float32 and n_rows > n_columns
        shape = (n_columns, n_rows) if self._onednn else (n_rows, n_columns)
        self._total = torch.zeros(shape, dtype=torch.float32, device=like.device)

    def add(self, a: Tensor, b: Tensor) -> None:
        """Adds a' b; a: float (n, m), b: float (n, k), of one type."""
        if self._onednn:
            self._total.add_(times(b.T, a.T))
        elif a.dtype == torch.float32:
            self._total.addmm_(a.T, b)
        else:
            self._total.add_(torch.mm(a.T, b))

    def whole(self) -> Tensor:
        """The sum, float32 (m, k) by row."""
        return self._total.T.contiguous() if self._onednn else self._total


def exp_(x: Tensor) -> Tensor:
    """e to the power of x, float (n, m), in place; as 2^(x log2 e), which costs some last bits, where that is faster.

    A row gives the same bits in whatever batch it stands.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or not by_onednn():
        return x.exp_()
    # What is left over by its vectors torch computes one by one, and rounds otherwise.
    whole = x.size(1) // _AT_ONCE * _AT_ONCE
    x[:, :whole].mul_(_LOG2_E).exp2_()
    x[:, whole:].exp_()
    return x


def exp_sums(x: Tensor, largest: Tensor, n_at_once: int) -> Tensor:
    """The sum of e^(x - largest) of every row, float32 (n, 1), with little memory traffic; at least 1, as it must be.

    Where the exponentials are powers of two, x log2 e - largest log2 e costs one pass, and some last bits.

    Args:
        x: float (n, m).
        largest: float32 (n, 1), the largest of each row.
        n_at_once: about as many exponentials are held at a time.
    """
    n_rows = max(1, n_at_once // x.size(1))
    pieces = zip(x.split(n_rows), largest.split(n_rows), strict=True)
    if x.device.type != "cpu" or x.dtype != torch.float32 or not by_onednn():
        return torch.cat([exp_(some - shift).sum(1, keepdim=True) for some, shift in pieces])
    whole = x.size(1) // _AT_ONCE * _AT_ONCE  # as in `exp_`
    buffer, sums = x.new_empty(min(n_rows, x.size(0)), x.size(1)), x.new_empty(x.size(0), 1)
    shifts = (largest * -_LOG2_E).split(n_rows)
    for (some, shift), power_shift, into in zip(pieces, shifts, sums.split(n_rows), strict=True):
        e = buffer[: some.size(0)]
        powers = e[:, :whole]
        torch.add(power_shift, some[:, :whole], alpha=_LOG2_E, out=powers).exp2_()
        if whole < x.size(1):
            e[:, whole:] = torch.sub(some[:, whole:], shift).exp_()
        torch.sum(e, 1, keepdim=True, out=into)
    return sums.clamp_(min=1.0)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + b as `torch.nn.functional.linear` where no gradients are wanted, in the way that `use` has chosen.

    Args:
        x: float (..., k).
        weight: float (m, k).
        bias: float (m,) or None.

    Returns:
        float (..., m).
    """
    if fits(x, weight):
        multiple = ROWS if x.numel() >= FEWEST * x.size(-1) else _FEW_ROWS
        out = times(filled_up(x, torch.float32, multiple), weight, bias)
        return out[: x.shape[:-1].numel()].view(*x.shape[:-1], weight.size(0))
    return F.linear(x, weight, bias)


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether x (..., k) times weight (m, k) is for oneDNN: float32 on a CPU, no autocast, enough to multiply."""
    return (
        (x.numel() * weight.size(0) >= LEAST or x.numel() >= FEWEST * x.size(-1))
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and by_onednn()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
