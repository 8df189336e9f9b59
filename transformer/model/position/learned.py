"""Learned positions."""

import torch
from torch import Tensor, nn

from transformer.model.position.base import Offset, Position, rows_at


class Learned(Position):
    """One learned vector a position, added to the embeddings (Gehring et al., 2017)."""

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__(d_model, n_heads, max_len)
        self.table = nn.Parameter(torch.empty(max_len, d_model))
        nn.init.normal_(self.table, std=d_model**-0.5)

    def embed(self, x: Tensor, offset: Offset = 0) -> Tensor:
        """x (batch, length, d_model) plus the vectors of positions offset .. offset + length - 1."""
        return x + rows_at(self.table, offset, x.size(1))
