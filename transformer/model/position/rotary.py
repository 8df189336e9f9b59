"""Rotary positions."""

import torch
from torch import Tensor

from transformer.model.position.base import Offset, Position, rows_at


def rotation_angles(max_len: int, d_head: int) -> Tensor:
    """pos * 10000^(-2i/d_head) for pair i (Su et al., 2021, section 3.2.2); float64 (max_len, d_head / 2)."""
    frequency = 10000.0 ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    return torch.outer(torch.arange(max_len, dtype=torch.float64), frequency)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns pairs of numbers, a whole row of all heads at once where that can be.

    Args:
        x: float (batch, n_heads, length, d_head), as a rule the transposed view of a projection; x_i belongs to
            x_{i + d_head/2}.
        cos: of the angles, (length, d_head / 2), or (batch, length, d_head / 2).
        sin: of the angles, like cos.

    Returns:
        float, of the shape of x.
    """
    batch, n_heads, length, d_head = x.shape
    half = d_head // 2
    # A CPU adds products of 16-bit numbers one by one: four times as slow as with both conversions.
    dtype = torch.float32 if x.device.type == "cpu" and x.dtype.itemsize == 2 else x.dtype
    rows, cos, sin = x.transpose(1, 2).to(dtype), cos.to(dtype), sin.to(dtype)
    flat = rows.flatten(2)
    turned = (flat * cos.repeat(*[1] * (cos.dim() - 1), 2 * n_heads)).view(batch, length, n_heads, d_head)
    turned[..., :half].addcmul_(rows[..., half:], sin.unsqueeze(-2), value=-1)
    turned[..., half:].addcmul_(rows[..., :half], sin.unsqueeze(-2))
    return turned.transpose(1, 2).to(x.dtype)


class _Turn(torch.autograd.Function):
    """`turn`; the gradient is turned back by the same angle: half the operations that torch would record."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(cos, sin)
        return turn(x, cos, sin)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        cos, sin = ctx.saved_tensors
        return turn(grad, cos, -sin), None, None


class Rotary(Position):
    """Queries and keys turned by their position, so that their product depends on the distance alone (RoPE)."""

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__(d_model, n_heads, max_len)
        d_head = d_model // n_heads
        if d_head % 2:
            raise ValueError(f"rotary positions need an even head width, but d_model / n_heads is {d_head}")
        angles = rotation_angles(max_len, d_head)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def rotate(self, x: Tensor, offset: Offset = 0) -> Tensor:
        """x (batch, n_heads, length, d_head), each pair (x_i, x_{i + d_head/2}) turned by its position's angle."""
        cos, sin = (rows_at(table, offset, x.size(-2)) for table in (self.cos, self.sin))
        turned: Tensor = _Turn.apply(x, cos, sin)
        return turned
