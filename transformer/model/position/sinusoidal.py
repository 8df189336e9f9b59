"""Sinusoidal positions."""

import math

import torch
from torch import Tensor

from transformer.model.position.base import Offset, Position, rows_at


def sinusoids(max_len: int, d_model: int) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i+1) = cos(the same) (Vaswani et al., 2017, section 3.5).

    Returns:
        float (max_len, d_model).
    """
    position = torch.arange(max_len, dtype=torch.float64).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float64) * (-math.log(10000.0) / d_model))
    table = torch.zeros(max_len, d_model, dtype=torch.float64)
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency[: d_model // 2])
    return table.float()


class Sinusoidal(Position):
    """Fixed sines and cosines added to the embeddings; nothing is learned."""

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__(d_model, n_heads, max_len)
        self.table: Tensor
        self.register_buffer("table", sinusoids(max_len, d_model), persistent=False)

    def embed(self, x: Tensor, offset: Offset = 0) -> Tensor:
        """x (batch, length, d_model) plus the sinusoids of positions offset .. offset + length - 1."""
        return x + rows_at(self.table, offset, x.size(1)).to(x.dtype)
