"""Encoder and decoder layers, and the one class that decides between pre- and post-norm."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.attention import CrossAttention, Mix, NormalizerFactory, ScoreFactory, SelfAttention
from transformer.model.cache import DecoderState, LayerCache
from transformer.model.dropout import Dropout
from transformer.model.feedforward import FeedForward
from transformer.model.normalizer import Soft
from transformer.model.position.base import Position
from transformer.model.score import ScaledDot


@dataclass(frozen=True)
class LayerShape:
    """What all layers of a model have in common.

    Attributes:
        d_model: width of the sequences; divisible by n_heads.
        n_heads: attention heads.
        d_ff: width inside the feed-forward network.
        norm: "pre" (x + f(norm(x))) or "post" (norm(x + f(x)), as in the paper).
        activation: of the feed-forward network: relu, gelu or silu.
        dropout: of each sub-layer's output, before it is added (0-1).
        attention_dropout: of attention weights (0-1).
        activation_dropout: behind the feed-forward activation (0-1).
        score: makes the scoring function from n_heads and d_head.
        normalizer: makes the normalizer of scores.
    """

    d_model: int
    n_heads: int
    d_ff: int
    norm: str
    activation: str
    dropout: float
    attention_dropout: float
    activation_dropout: float
    score: ScoreFactory = ScaledDot
    normalizer: NormalizerFactory = Soft

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model ({self.d_model}) must be divisible by n_heads ({self.n_heads})")
        if self.norm not in ("pre", "post"):
            raise ValueError(f"norm must be pre or post, not {self.norm}")

    def mix(self) -> Mix:
        """A fresh Mix of this shape."""
        d_head = self.d_model // self.n_heads
        return Mix(self.n_heads, d_head, self.attention_dropout, self.score, self.normalizer)

    def feed_forward(self) -> FeedForward:
        """A fresh feed-forward network of this shape."""
        return FeedForward(self.d_model, self.d_ff, self.activation, self.activation_dropout)

    def residual(self) -> "Residual":
        """A fresh residual connection of this shape."""
        return Residual(self.d_model, self.dropout, self.norm == "pre")


class Residual(nn.Module):
    """A residual connection with its layer norm: post-norm(x + dropout(f(x))) or x + dropout(f(pre-norm(x))).

    Args:
        d_model: width.
        dropout: probability of dropping an element of f's output.
        pre: pre-norm, else post-norm.
    """

    def __init__(self, d_model: int, dropout: float, pre: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)
        self.pre = pre

    def forward(self, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        """x: float (..., d_model); f maps that shape to itself."""
        y = f(self.norm(x) if self.pre else x)
        summed = x + (self.dropout(y) if self.training else y)
        return summed if self.pre else self.norm(summed)


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network, each inside a residual connection."""

    def __init__(self, shape: LayerShape, position: Position) -> None:
        super().__init__()
        self.self_attention = SelfAttention(shape.d_model, shape.n_heads, shape.mix(), position)
        self.feed_forward = shape.feed_forward()
        self.residuals = nn.ModuleList(shape.residual() for _ in range(2))

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """x: float (batch, src_len, d_model), visible: bool (batch, 1, 1, src_len) or None. Returns x's shape."""
        x = self.residuals[0](x, lambda y: self.self_attention(y, visible))
        return self.residuals[1](x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the memory, the feed-forward network, each inside a residual connection."""

    def __init__(self, shape: LayerShape, position: Position) -> None:
        super().__init__()
        self.self_attention = SelfAttention(shape.d_model, shape.n_heads, shape.mix(), position)
        self.cross_attention = CrossAttention(shape.d_model, shape.n_heads, shape.mix())
        self.feed_forward = shape.feed_forward()
        self.residuals = nn.ModuleList(shape.residual() for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor | None, memory_visible: Tensor | None) -> Tensor:
        """All positions at once.

        Args:
            x: float (batch, tgt_len, d_model).
            memory: float (batch, src_len, d_model).
            visible: bool (batch, 1, 1, tgt_len), False = padding, or None; the future is hidden anyway.
            memory_visible: bool (batch, 1, 1, src_len), False = padding, or None.

        Returns:
            float (batch, tgt_len, d_model).
        """
        x = self.residuals[0](x, lambda y: self.self_attention(y, visible, causal=True))
        x = self.residuals[1](x, lambda y: self.cross_attention(y, memory, memory_visible))
        return self.residuals[2](x, self.feed_forward)

    def step(
        self,
        x: Tensor,
        cache: LayerCache,
        state: DecoderState,
        bias: Tensor | None,
        memory_weights: list[Tensor] | None = None,
    ) -> Tensor:
        """One position of every hypothesis, the earlier ones out of the cache.

        Args:
            x: float (n_sentences, width, d_model); one slot may stand for all in the first step.
            cache: this layer's keys and values; gains those of x.
            state: the search's state.
            bias: float, `state.bias()`.
            memory_weights: a list that receives the weights of the attention to the memory.

        Returns:
            float, of the shape of x.
        """
        x = self.residuals[0](x, lambda y: self._self_step(y, cache, state, bias))
        k, v = cache.memory_key, cache.memory_value
        x = self.residuals[1](
            x, lambda y: self.cross_attention.attend(y, k, v, bias=state.memory_bias, into=memory_weights)
        )
        return self.residuals[2](x, self.feed_forward)

    def _self_step(self, x: Tensor, cache: LayerCache, state: DecoderState, bias: Tensor | None) -> Tensor:
        attention = self.self_attention
        n_sentences, width, d_model = x.shape
        # All slots stand at the same position, so each is projected as a sequence of its own, one long.
        rows = attention.project(x.reshape(n_sentences * width, 1, d_model), offset=state.offset)
        q, k, v = (r.view(n_sentences, width, attention.n_heads, -1).transpose(1, 2) for r in rows)
        keys, values = cache.append(k, v, state.n_keys, state.n_shown)
        n_before = state.n_keys // state.width
        # A position's bias depends on the distance alone, and that is the distance of columns.
        of_position = attention.position.bias(1, n_before + 1, x.device, offset=n_before)
        if of_position is not None:
            of_position = of_position.repeat_interleave(state.width, dim=-1)
            of_position = F.pad(of_position, (0, keys.size(2) - of_position.size(-1)))
            bias = of_position if bias is None else of_position + bias
        mixed = attention.mix(q, keys, values, bias=bias)
        return attention.out(mixed.transpose(1, 2).reshape(n_sentences, width, d_model))
