"""Multi-head attention: project, score, hide, normalise, mix. A fused and an explicit path give the same numbers."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.dropout import Dropout
from transformer.model.linear import Linear
from transformer.model.masks import causal as causal_mask
from transformer.model.normalizer import Normalizer, Soft
from transformer.model.position.base import Offset, Position
from transformer.model.score import ScaledDot, Score

ScoreFactory = Callable[..., Score]
NormalizerFactory = Callable[[], Normalizer]


FEW_QUERIES = 8  # a sentence's hypotheses in a step of a search; seldom a whole sentence


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """(batch, length, n_heads * d_head) -> (batch, n_heads, length, d_head)."""
    batch, length, width = x.shape
    return x.view(batch, length, n_heads, width // n_heads).transpose(1, 2)


def split_parts(x: Tensor, n_parts: int, n_heads: int) -> list[Tensor]:
    """(batch, length, n_parts * n_heads * d_head) -> n_parts tensors (batch, n_heads, length, d_head)."""
    batch, length, width = x.shape
    parts = x.view(batch, length, n_parts * n_heads, width // (n_parts * n_heads)).chunk(n_parts, dim=2)
    # Chunked before they are transposed: their gradients then lie side by side and are put together in one copy.
    return [part.transpose(1, 2) for part in parts]


def merge_heads(x: Tensor) -> Tensor:
    """(batch, n_heads, length, d_head) -> (batch, length, n_heads * d_head)."""
    batch, n_heads, length, d_head = x.shape
    return x.transpose(1, 2).reshape(batch, length, n_heads * d_head)


def hide(scores: Tensor, visible: Tensor | None) -> Tensor:
    """Sets scores to -inf where `visible` (bool, broadcastable, True = may be looked at) is False."""
    return scores if visible is None else scores.masked_fill(~visible, float("-inf"))


class Mix(nn.Module):
    """softmax(q k' / sqrt(d_head)) v and its relatives: everything in attention but the projections.

    Args:
        n_heads: number of heads.
        d_head: width of a head.
        dropout: probability of dropping an attention weight.
        score: makes the scoring function, called with n_heads and d_head.
        normalizer: makes the normalizer.

    Attributes:
        fused: use torch's fused kernel where it computes the same (ScaledDot scores, Soft weights).
        recorded: a list that receives the weights of each call, float (batch, n_heads, query_len, key_len), or None.
            Recording takes the explicit path.
    """

    def __init__(
        self,
        n_heads: int,
        d_head: int,
        dropout: float,
        score: ScoreFactory = ScaledDot,
        normalizer: NormalizerFactory = Soft,
    ) -> None:
        super().__init__()
        self.score = score(n_heads=n_heads, d_head=d_head)
        self.normalizer = normalizer()
        self.dropout = Dropout(dropout)
        self.fused = True
        self.recorded: list[Tensor] | None = None

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        visible: Tensor | None = None,
        causal: bool = False,
        bias: Tensor | None = None,
        into: list[Tensor] | None = None,
    ) -> Tensor:
        """Mixes the values by how well their keys fit the queries.

        Args:
            q: float (batch, n_heads, query_len, d_head).
            k: float (batch, n_heads, key_len, d_head).
            v: float (batch, n_heads, key_len, d_head).
            visible: bool, broadcastable to (batch, n_heads, query_len, key_len), True = may be looked at; None = all.
            causal: hide keys behind the query's own position as well (query_len = key_len).
            bias: float, broadcastable to the scores, added to them before hiding.
            into: a list that receives this call's weights, as `recorded` does; so each caller can have its own.

        Returns:
            float (batch, n_heads, query_len, d_head); zeros for a query that sees nothing.
        """
        plain = type(self.score) is ScaledDot and type(self.normalizer) is Soft
        # For a batch of none, a rank's without work, torch's kernel would give `bias` no gradient, not even zeros.
        if self.fused and plain and self.recorded is None and into is None and q.size(0) > 0:
            learning = torch.is_grad_enabled() or (self.training and self.dropout.p > 0)
            if not learning and q.size(-2) <= FEW_QUERIES and q.device.type == "cpu" and not causal:
                return self._few(q, k, v, visible, bias)
            return self._fused(q, k, v, visible, causal, bias)
        if causal:
            triangle = causal_mask(q.size(-2), q.device)
            visible = triangle if visible is None else visible & triangle
        scores = self.score(q, k)
        if bias is not None:
            scores = scores + bias
        weights = self.normalizer(hide(scores, visible))
        for place in (self.recorded, into):
            if place is not None:
                place.append(weights.detach())
        return self.dropout(weights) @ v

    def _few(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, bias: Tensor | None) -> Tensor:
        """The step of a search on a CPU, two to five times as fast there as torch's kernel: two batched products."""
        # Scaled and shifted in one pass over the scores.
        scores, scale = q @ k.transpose(-2, -1), 1.0 / math.sqrt(q.size(-1))
        scores = scores.mul_(scale) if bias is None else torch.add(bias.to(scores.dtype), scores, alpha=scale)
        if visible is None:
            return scores.softmax(dim=-1) @ v
        scores.masked_fill_(~visible, torch.finfo(scores.dtype).min)
        return (scores.softmax(dim=-1) @ v).masked_fill_(~visible.any(dim=-1, keepdim=True), 0.0)

    def _fused(
        self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, causal: bool, bias: Tensor | None
    ) -> Tensor:
        p = self.dropout.p if self.training else 0.0
        if causal and (visible is not None or bias is not None):
            triangle = causal_mask(q.size(-2), q.device)
            visible, causal = (triangle if visible is None else visible & triangle), False
        # torch does not promise what a fully masked row gives; here it gives zeros, in the gradient too: it may look at
        # all, and what comes of that is multiplied by zero, which takes a fifth of the time of filling in zeros.
        mask = sees = None
        if visible is not None:
            sees = visible.any(dim=-1, keepdim=True)
            mask = visible | ~sees
        if bias is not None:
            mask = hide(bias.to(q.dtype), mask)
        if q.dtype == torch.bfloat16 and q.device.type == "cpu":
            # There the backward pass of torch's kernel takes ten times as long in bfloat16 as in float32.
            with torch.autocast("cpu", enabled=False):
                mask = mask.float() if mask is not None and mask.is_floating_point() else mask
                wide = (q.float(), k.float(), v.float())
                mixed = F.scaled_dot_product_attention(*wide, attn_mask=mask, dropout_p=p, is_causal=causal).to(q.dtype)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=causal)
        return mixed if sees is None else mixed * sees.to(mixed.dtype)


class Merged(Linear):
    """Several projections of one input as one: their matrices stand one below the other.

    Args:
        d_model: width of the input and of each projection.
        n_parts: projections.
    """

    def __init__(self, d_model: int, n_parts: int) -> None:
        super().__init__(d_model, n_parts * d_model)
        self.n_parts = n_parts


class SelfAttention(nn.Module):
    """Attention of a sequence to itself (global, or causal in the decoder); q, k and v come out of one projection.

    Args:
        d_model: width of the sequence; divisible by n_heads.
        n_heads: number of heads.
        mix: scoring, normalising and mixing.
        position: how the positions enter (rotations and biases; additive embeddings entered before the first layer).
    """

    def __init__(self, d_model: int, n_heads: int, mix: Mix, position: Position) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = Merged(d_model, 3)
        self.out = Linear(d_model, d_model)
        self.mix, self.position = mix, position

    def project(self, x: Tensor, offset: Offset = 0) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of x (batch, length, d_model), each (batch, n_heads, length, d_head); positions count from offset."""
        q, k, v = split_parts(self.qkv(x), 3, self.n_heads)
        return self.position.rotate(q, offset), self.position.rotate(k, offset), v

    def forward(self, x: Tensor, visible: Tensor | None = None, causal: bool = False) -> Tensor:
        """Attends.

        Args:
            x: float (batch, length, d_model).
            visible: bool, broadcastable to (batch, n_heads, length, length), True = may be looked at; None = all.
            causal: hide the future as well.

        Returns:
            float (batch, length, d_model).
        """
        q, k, v = self.project(x)
        bias = self.position.bias(x.size(1), x.size(1), x.device)
        return self.out(merge_heads(self.mix(q, k, v, visible, causal, bias)))


class CrossAttention(nn.Module):
    """Attention of one sequence to another of its own length: the decoder's queries, the memory's keys and values.

    Args:
        d_model: width of both sequences; divisible by n_heads.
        n_heads: number of heads.
        mix: scoring, normalising and mixing.
    """

    def __init__(self, d_model: int, n_heads: int, mix: Mix) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = Linear(d_model, d_model)
        self.key_value = Merged(d_model, 2)
        self.out = Linear(d_model, d_model)
        self.mix = mix

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """k, v of memory (batch, src_len, d_model), each (batch, n_heads, src_len, d_head)."""
        k, v = split_parts(self.key_value(memory), 2, self.n_heads)
        return k, v

    def attend(
        self,
        x: Tensor,
        k: Tensor,
        v: Tensor,
        visible: Tensor | None = None,
        bias: Tensor | None = None,
        into: list[Tensor] | None = None,
    ) -> Tensor:
        """Attends to a memory that is projected already; x is (batch, tgt_len, d_model), so is what comes back.

        visible, bias, into: see `Mix.forward`.
        """
        q = split_heads(self.query(x), self.n_heads)
        return self.out(merge_heads(self.mix(q, k, v, visible, bias=bias, into=into)))

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor | None = None) -> Tensor:
        """Attends.

        Args:
            x: float (batch, tgt_len, d_model), gives the queries.
            memory: float (batch, src_len, d_model), gives keys and values.
            visible: bool, broadcastable to (batch, n_heads, tgt_len, src_len), True = may be looked at; None = all.

        Returns:
            float (batch, tgt_len, d_model).
        """
        k, v = self.project_memory(memory)
        return self.attend(x, k, v, visible)


def xavier_by_part(linear: nn.Linear, n_parts: int) -> None:
    """Glorot-uniform initialisation of merged projections, each part as if it stood alone; biases to zero."""
    width = linear.weight.size(0) // n_parts
    bound = math.sqrt(6.0 / (width + linear.weight.size(1)))
    with torch.no_grad():
        linear.weight.uniform_(-bound, bound)
        linear.bias.zero_()
