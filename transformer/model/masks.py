"""Boolean masks of visibility: True = may be looked at. Pure functions."""

import torch
from torch import Tensor


def causal(length: int, device: torch.device | str = "cpu") -> Tensor:
    """The mask that hides the future.

    Returns:
        bool (length, length); entry (i, j) is True when query i may look at key j, that is j <= i.
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


def from_padding(key_padding_mask: Tensor) -> Tensor:
    """Visibility of keys, broadcastable over heads and queries.

    Args:
        key_padding_mask: bool (batch, key_len), True = padding.

    Returns:
        bool (batch, 1, 1, key_len), True = may be looked at.
    """
    return ~key_padding_mask[:, None, None, :]
