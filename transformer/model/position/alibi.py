"""Attention with linear biases."""

import torch
from torch import Tensor

from transformer.model.position.base import Position
from transformer.model.position.relative import distances


class Alibi(Position):
    """-slope * |distance|, one fixed slope a head: 2^(-8h/n_heads) (Press et al., 2022)."""

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__(d_model, n_heads, max_len)
        self.slopes: Tensor
        slopes = 2.0 ** (-8.0 * torch.arange(1, n_heads + 1) / n_heads)
        self.register_buffer("slopes", slopes, persistent=False)

    def bias(self, query_len: int, key_len: int, device: torch.device, offset: int = 0) -> Tensor | None:
        """float (n_heads, query_len, key_len)."""
        return -self.slopes[:, None, None] * distances(query_len, key_len, offset, device).abs()
