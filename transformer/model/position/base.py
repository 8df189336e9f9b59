"""The three places where positions may enter a Transformer."""

import torch
from torch import Tensor, device, nn

Offset = int | Tensor
"""The position of the first element: one for the whole batch, or long (batch,), one for each of its rows."""


def rows_at(table: Tensor, offset: Offset, length: int) -> Tensor:
    """Rows offset .. offset + length - 1 of a table (max_len, width): (length, width), or (batch, length, width)."""
    if isinstance(offset, int):
        return table[offset : offset + length]
    return table[offset.unsqueeze(1) + torch.arange(length, device=offset.device)]


class Position(nn.Module):
    """A way to tell positions apart. Each family member overrides the hooks it needs; the others do nothing.

    Args:
        d_model: width of the embeddings.
        n_heads: number of heads.
        max_len: most positions that will be asked for.
    """

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__()
        self.d_model, self.n_heads, self.max_len = d_model, n_heads, max_len

    def embed(self, x: Tensor, offset: Offset = 0) -> Tensor:
        """Adds positions to embeddings x (batch, length, d_model) whose first stands at position `offset`."""
        return x

    def rotate(self, x: Tensor, offset: Offset = 0) -> Tensor:
        """Turns queries or keys x (batch, n_heads, length, d_head) whose first stands at position `offset`."""
        return x

    def bias(self, query_len: int, key_len: int, device: device, offset: int = 0) -> Tensor | None:
        """What is added to the scores, (n_heads, query_len, key_len), or None; the first query stands at `offset`."""
        return None
