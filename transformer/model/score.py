"""Scoring functions: how well a query fits a key. q is (batch, n_heads, query_len, d_head), k likewise with key_len."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Score(nn.Module, ABC):
    """A scoring function a(q, k) -> (batch, n_heads, query_len, key_len).

    Args:
        n_heads: number of heads.
        d_head: width of a head.
    """

    def __init__(self, n_heads: int, d_head: int) -> None:
        super().__init__()
        self.n_heads, self.d_head = n_heads, d_head

    @abstractmethod
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores of every query against every key, float (batch, n_heads, query_len, key_len)."""


class Dot(Score):
    """q . k (Luong et al., 2015)."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores of every query against every key, float (batch, n_heads, query_len, key_len)."""
        return q @ k.transpose(-2, -1)


class ScaledDot(Score):
    """q . k / sqrt(d_head) (Vaswani et al., 2017, equation 1)."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores of every query against every key, float (batch, n_heads, query_len, key_len)."""
        return (q * (1.0 / math.sqrt(self.d_head))) @ k.transpose(-2, -1)


class Bilinear(Score):
    """q W k, one W a head (Luong et al., 2015, "general")."""

    def __init__(self, n_heads: int, d_head: int) -> None:
        super().__init__(n_heads, d_head)
        self.weight = nn.Parameter(torch.eye(d_head).repeat(n_heads, 1, 1) / math.sqrt(d_head))

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores of every query against every key, float (batch, n_heads, query_len, key_len)."""
        return (q @ self.weight) @ k.transpose(-2, -1)


class Additive(Score):
    """v . tanh(W q + U k), one v, W, U a head (Bahdanau et al., 2015); memory query_len x key_len x d_head a head."""

    def __init__(self, n_heads: int, d_head: int) -> None:
        super().__init__(n_heads, d_head)
        self.query_weight = nn.Parameter(torch.empty(n_heads, d_head, d_head))
        self.key_weight = nn.Parameter(torch.empty(n_heads, d_head, d_head))
        self.vector = nn.Parameter(torch.empty(n_heads, d_head))
        bound = math.sqrt(3.0 / d_head)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores of every query against every key, float (batch, n_heads, query_len, key_len)."""
        sums = (q @ self.query_weight).unsqueeze(-2) + (k @ self.key_weight).unsqueeze(-3)
        return torch.einsum("bhqkd,hd->bhqk", torch.tanh(sums), self.vector)
