"""Relative positions: what the distance between query and key adds to their score."""

import torch
from torch import Tensor, nn

from transformer.model.position.base import Position


def distances(query_len: int, key_len: int, offset: int, device: torch.device) -> Tensor:
    """key position - query position, long (query_len, key_len); the first query stands at position `offset`."""
    queries = torch.arange(offset, offset + query_len, device=device)
    return torch.arange(key_len, device=device)[None, :] - queries[:, None]


class Relative(Position):
    """A learned scalar a head and clipped distance, added to the scores (Shaw et al., 2018; Raffel et al., 2020)."""

    max_distance = 32

    def __init__(self, d_model: int, n_heads: int, max_len: int) -> None:
        super().__init__(d_model, n_heads, max_len)
        self.table = nn.Parameter(torch.zeros(n_heads, 2 * self.max_distance + 1))

    def bias(self, query_len: int, key_len: int, device: torch.device, offset: int = 0) -> Tensor | None:
        """float (n_heads, query_len, key_len)."""
        steps = distances(query_len, key_len, offset, device).clamp(-self.max_distance, self.max_distance)
        return self.table[:, steps + self.max_distance]
