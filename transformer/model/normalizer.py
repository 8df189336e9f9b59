"""Normalizers: from scores to weights that sum to one over the keys, or to zero where no key is visible; never NaN."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Normalizer(nn.Module, ABC):
    """Turns scores (..., key_len), -inf where hidden, into weights of the same shape."""

    @abstractmethod
    def forward(self, scores: Tensor) -> Tensor:
        """Weights (..., key_len) >= 0 that sum to 1 over the last dimension, or to 0 where every score is -inf."""


class Soft(Normalizer):
    """softmax(scores)."""

    def forward(self, scores: Tensor) -> Tensor:
        """Weights (..., key_len) >= 0 that sum to 1 over the last dimension, or to 0 where every score is -inf."""
        hidden = torch.isneginf(scores).all(dim=-1, keepdim=True)
        # The scores of such a row are replaced before the softmax, so that neither value nor gradient is ever NaN.
        weights = torch.softmax(scores.masked_fill(hidden, 0.0), dim=-1)
        return weights.masked_fill(hidden, 0.0)


class Hard(Normalizer):
    """All weight on the best key (Xu et al., 2015); gradients pass as if it were Soft (straight-through estimator)."""

    def __init__(self) -> None:
        super().__init__()
        self.soft = Soft()

    def forward(self, scores: Tensor) -> Tensor:
        """Weights (..., key_len): 1 at the first best key, 0 elsewhere; all 0 where every score is -inf."""
        soft = self.soft(scores)
        hidden = torch.isneginf(scores).all(dim=-1, keepdim=True)
        hard = torch.zeros_like(soft).scatter_(-1, scores.argmax(dim=-1, keepdim=True), 1.0).masked_fill(hidden, 0.0)
        return hard + (soft - soft.detach()) if soft.requires_grad else hard
