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


def as_bias(visible: Tensor) -> Tensor:
    """Visibility as a number that is added to scores.

    Args:
        visible: bool, True = may be looked at.

    Returns:
        float32 of that shape: 0 where it is True; where it is False, what leaves a weight of zero beside any key that
        is visible, and is finite in bfloat16 too, so that a query without such a key has weights and not NaN.
    """
    hidden = torch.finfo(torch.bfloat16).min
    return torch.zeros(visible.shape, device=visible.device).masked_fill_(~visible, hidden)
