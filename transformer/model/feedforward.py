"""The position-wise feed-forward network."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.dropout import Dropout
from transformer.model.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class FeedForward(nn.Module):
    """activation(x W1 + b1) W2 + b2 (Vaswani et al., 2017, equation 2).

    Args:
        d_model: width of input and output.
        d_ff: width between.
        activation: relu, gelu or silu.
        dropout: probability of dropping an element behind the activation.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.inner = Linear(d_model, d_ff)
        self.out = Linear(d_ff, d_model)
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x: float (..., d_model); the same shape comes back."""
        return self.out(self.dropout(self.activation(self.inner(x))))
