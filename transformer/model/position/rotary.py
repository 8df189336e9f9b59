"""Rotary positions."""

import torch
from torch import Tensor

from transformer.model.position.base import Offset, Position, rows_at


def rotation_angles(max_len: int, d_head: int) -> Tensor:
    """pos * 10000^(-2i/d_head) for pair i (Su et al., 2021, section 3.2.2); float64 (max_len, d_head / 2)."""
    frequency = 10000.0 ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    return torch.outer(torch.arange(max_len, dtype=torch.float64), frequency)


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
        cos, sin = (rows_at(table, offset, x.size(-2)).to(x.dtype) for table in (self.cos, self.sin))
        if not isinstance(offset, int):
            cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # the same for every head
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
