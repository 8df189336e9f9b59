"""Objectives that see every pair twice, and ask for the same prediction both times: R-Drop, SimCut, token cut-off."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import vecdot

from transformer.model.arithmetic import OuterSum, linear
from transformer.model.dropout import generator_in_use
from transformer.model.transformer import Transformer
from transformer.special import BOS, PAD
from transformer.training.loss import (
    Objective,
    few_shapes,
    mean_of_prior,
    product_dtype,
    rows_at_once,
    subtract_asked_for,
)

# Logits of a view held at a time: several tensors of that size stay in a CPU's cache together.
_CPU_LOGITS, _ACCELERATOR_LOGITS = 1 << 20, 1 << 26

Divergence: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(p, q, log p - log q), float (n, vocab_size) each -> divergence (n,), its gradients by the logits of p and of q."""


def kullback_leibler(p: Tensor, q: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """KL(p || q) = sum p log(p / q)."""
    value = vecdot(p, log_ratio)
    return value, (log_ratio - value[:, None]).mul_(p), q - p


def jeffreys(p: Tensor, q: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Half of KL(p || q) + KL(q || p)."""
    forward, backward = vecdot(p, log_ratio), -vecdot(q, log_ratio)
    apart = p - q
    d_p = torch.addcmul(apart, p, log_ratio - forward[:, None]).mul_(0.5)
    d_q = apart.addcmul_(q, log_ratio + backward[:, None]).mul_(-0.5)
    return 0.5 * (forward + backward), d_p, d_q


def jensen_shannon(p: Tensor, q: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Half of KL(p || m) + KL(q || m), m = (p + q) / 2; at most log 2."""
    of_p, of_q = math.log(2) - F.softplus(-log_ratio), math.log(2) - F.softplus(log_ratio)  # log p/m, log q/m
    first, second = vecdot(p, of_p), vecdot(q, of_q)
    d_p, d_q = (of_p - first[:, None]).mul_(p).mul_(0.5), (of_q - second[:, None]).mul_(q).mul_(0.5)
    return 0.5 * (first + second), d_p, d_q


@dataclass(frozen=True)
class Pairing:
    """How two views' losses make one: shares[0] CE(first) + shares[1] CE(second) + weight divergence(first, second).

    Attributes:
        divergence: of the first view's prediction and the second's.
        weight: of the divergence.
        shares: of the two cross-entropies; they sum to 1.
        smoothing: label smoothing, 0 <= smoothing < 1.
        prior: what smoothing mixes in, float (vocab_size,), or None for the uniform distribution.
    """

    divergence: Divergence
    weight: float
    shares: tuple[float, float]
    smoothing: float
    prior: Tensor | None

    def losses(self, of_target: tuple[Tensor, Tensor], of_prior: tuple[Tensor, Tensor], apart: Tensor) -> Tensor:
        """The loss of each target, given what both views give it.

        Args:
            of_target: its log-probabilities, two of float (n,).
            of_prior: the log-probabilities that smoothing asks for, averaged over what it mixes in, two of float (n,).
            apart: the views' divergence, float (n,).

        Returns:
            float (n,), nats.
        """
        loss = self.weight * apart
        for share, target, prior in zip(self.shares, of_target, of_prior, strict=True):
            loss = loss - share * ((1 - self.smoothing) * target + self.smoothing * prior)
        return loss


def plain_two_views(first: Tensor, second: Tensor, weight: Tensor, target: Tensor, pairing: Pairing) -> Tensor:
    """The loss of two views as three sums, all logits in memory.

    Args:
        first: the decoder's output for one view, float (n, d_model).
        second: for the other.
        weight: of the output projection, float (vocab_size, d_model).
        target: long (n,); PAD is not counted.
        pairing: what is summed.

    Returns:
        float (3,), as `Pairing.losses` gives.
    """
    ok, at = (target != PAD).float(), target[:, None]
    one, two = (F.linear(hidden, weight).float().log_softmax(dim=1) for hidden in (first, second))
    apart, _, _ = pairing.divergence(one.exp(), two.exp(), one - two)
    of_target = one.gather(1, at)[:, 0], two.gather(1, at)[:, 0]
    prior = pairing.prior
    # Sums, for autocast would round products.
    of_prior = one.mean(dim=1), two.mean(dim=1)
    if prior is not None:
        of_prior = (one * prior).sum(dim=1), (two * prior).sum(dim=1)
    with torch.no_grad():
        nll = -0.5 * (of_target[0] + of_target[1])
        right = 0.5 * ((of_target[0] >= one.amax(dim=1)).float() + (of_target[1] >= two.amax(dim=1)).float())
    return (torch.stack((pairing.losses(of_target, of_prior, apart), nll, right)) * ok).sum(dim=1)


class _ChunkedTwoViews(torch.autograd.Function):
    """Values and gradients in one sweep over chunks of rows; no more logits are held than a chunk has."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, first: Tensor, second: Tensor, weight: Tensor, target: Tensor, pairing: Pairing, with_gradients: bool
    ) -> Tensor:
        dtype = product_dtype(first)
        with torch.autocast(first.device.type, enabled=False):
            sums, *gradients = _sweep((first, second), weight, target, pairing, with_gradients, dtype)
        if with_gradients:
            ctx.save_for_backward(*gradients)
        return sums

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        return *((saved * grad[0]).to(saved.dtype) for saved in ctx.saved_tensors), None, None, None


def _sweep(
    hidden: tuple[Tensor, Tensor],
    weight: Tensor,
    target: Tensor,
    pairing: Pairing,
    with_gradients: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_rows = rows_at_once(weight, _CPU_LOGITS, _ACCELERATOR_LOGITS)
    w, smoothing, mean_weight = weight.to(dtype), pairing.smoothing, mean_of_prior(weight, pairing.prior)
    sums = torch.zeros(3, device=weight.device)
    given, (first, target) = target, few_shapes(hidden[0], target, dtype)
    second, _ = few_shapes(hidden[1], given, dtype)
    n, valid = target.size(0), target != PAD
    d_hidden = [torch.empty_like(view, dtype=hidden[0].dtype) for view in (first, second)]
    d_weight = OuterSum(weight, dtype)
    for begin in range(0, n, n_rows):
        # Padding is computed, too, and counts as nothing: how much of it there is, a GPU would have to be waited for.
        rows = slice(begin, min(begin + n_rows, n))
        ok, t_rows = valid[rows].float(), target[rows, None]
        views = (first[rows], second[rows])
        z = [linear(view, w).float() for view in views]
        p = [scores.softmax(dim=1) for scores in z]
        peaks = [scores.amax(dim=1) for scores in z]
        totals = [peak - probability.amax(dim=1).log() for peak, probability in zip(peaks, p, strict=True)]
        scores = [one.gather(1, t_rows)[:, 0] for one in z]
        of_target = (scores[0] - totals[0], scores[1] - totals[1])
        of_prior = (views[0].float() @ mean_weight - totals[0], views[1].float() @ mean_weight - totals[1])
        log_ratio = z[0].sub_(z[1]).sub_((totals[0] - totals[1])[:, None])
        apart, *gradients = pairing.divergence(p[0], p[1], log_ratio)
        right = (scores[0] >= peaks[0]).float() + (scores[1] >= peaks[1]).float()
        loss, nll = pairing.losses(of_target, of_prior, apart), -0.5 * (of_target[0] + of_target[1])
        sums += torch.stack((loss, nll, 0.5 * right)) @ ok
        if not with_gradients:
            continue
        for i, share in enumerate(pairing.shares):
            # Of the cross-entropy only p; what it subtracts, the target and the prior, needs no logits.
            by_logits = gradients[i].mul_(pairing.weight)
            by_logits = (by_logits.add_(p[i], alpha=share) if share else by_logits).to(dtype)
            d_rows = linear(by_logits, w.T).float()
            d_rows.sub_(weight.float()[t_rows[:, 0]], alpha=share * (1 - smoothing))
            d_rows.sub_(mean_weight, alpha=share * smoothing)
            d_hidden[i][rows] = d_rows.mul_(ok[:, None]).to(d_hidden[i].dtype)
            d_weight.add(by_logits, views[i] * ok[:, None].to(dtype))
    if not with_gradients:
        return sums, *hidden, weight
    h = pairing.shares[0] * hidden[0].float() + pairing.shares[1] * hidden[1].float()
    by_weight = d_weight.whole()
    subtract_asked_for(by_weight, h * valid[: len(h), None], given, smoothing, pairing.prior)
    return sums, d_hidden[0][: len(h)], d_hidden[1][: len(h)], by_weight.to(weight.dtype)


def chunked_two_views(first: Tensor, second: Tensor, weight: Tensor, target: Tensor, pairing: Pairing) -> Tensor:
    """The same as `plain_two_views`, without ever holding all logits."""
    return _ChunkedTwoViews.apply(first, second, weight, target, pairing, torch.is_grad_enabled())


def cut_mask(ids: Tensor, p: float) -> Tensor:
    """Which tokens a view does not see: each with probability p, padding never.

    Args:
        ids: long (batch, length).
        p: 0 <= p < 1.

    Returns:
        bool (batch, length), True = cut.
    """
    generator = generator_in_use() if ids.device.type == "cpu" else None
    return (torch.rand(ids.shape, device=ids.device, generator=generator) < p) & (ids != PAD)


class TwoViews(Objective):
    """Every pair goes through the model twice, with other dropout, the second time perhaps with tokens cut.

    In evaluation mode it is the plain label-smoothed cross-entropy of one view.

    Args:
        model: the Transformer.
        label_smoothing: 0 <= label_smoothing < 1.
        chunked: compute the loss in chunks, else all logits at once.
        prior: what smoothing mixes in, float (tgt_vocab_size,), or None for the uniform distribution.
        divergence: of the two predictions.
        weight: of the divergence, at least 0.
        shares: of the two cross-entropies; they sum to 1.
        p_cut: probability that the second view does not see a token, of either side; 0 <= p_cut < 1.
    """

    def __init__(
        self,
        model: Transformer,
        label_smoothing: float,
        chunked: bool,
        prior: Tensor | None,
        divergence: Divergence,
        weight: float,
        shares: tuple[float, float],
        p_cut: float,
    ) -> None:
        super().__init__(model, label_smoothing, chunked, prior)
        self.divergence, self.weight, self.shares, self.p_cut = divergence, weight, shares, p_cut

    def forward(self, src: Tensor, src_key_padding_mask: Tensor, tgt_in: Tensor, tgt_out: Tensor) -> Tensor:
        """As `Objective.forward`; the first sum is that of the objective, the others are means over both views."""
        if not self.training:
            return super().forward(src, src_key_padding_mask, tgt_in, tgt_out)
        src_cut, tgt_cut = (self._cut(ids) if self.p_cut else None for ids in (src, tgt_in))
        # One pass over the doubled batch: twice the work, but the price of each operation's start only once.
        padding = src_key_padding_mask.repeat(2, 1)
        memory = self.model.encode(src.repeat(2, 1), padding, cut=src_cut)
        hidden = self.model.decode(tgt_in.repeat(2, 1), memory, padding, cut=tgt_cut)
        first, second = (half.flatten(0, 1) for half in hidden.chunk(2))
        pairing = Pairing(self.divergence, self.weight, self.shares, self.label_smoothing, self.prior)
        two_views = chunked_two_views if self.chunked else plain_two_views
        return two_views(first, second, self.model.output.weight, tgt_out.flatten(), pairing)

    def _cut(self, ids: Tensor) -> Tensor:
        """For the doubled batch: nothing in its first half. BOS stays: nothing else says where a target begins."""
        cut = cut_mask(ids, self.p_cut)
        return torch.cat((torch.zeros_like(cut), cut & (ids != BOS)))


def _check_weight(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, not {value}")


def _check_cut(p_cut: float) -> None:
    if not 0 < p_cut < 1:
        raise ValueError(f"p_cut must be above 0 and below 1, not {p_cut}")


class RDrop(TwoViews):
    """Two views that differ by dropout: (CE1 + CE2) / 2 + alpha (KL(1 || 2) + KL(2 || 1)) / 4 (Liang et al., 2021).

    That is half of the paper's loss, so that it compares with a plain one.

    Args:
        model: the Transformer.
        label_smoothing: 0 <= label_smoothing < 1.
        chunked: compute the loss in chunks, else all logits at once.
        prior: what smoothing mixes in, float (tgt_vocab_size,), or None for the uniform distribution.
        alpha: weight of the divergence, at least 0; the paper has 5.
    """

    def __init__(
        self, model: Transformer, label_smoothing: float, chunked: bool, prior: Tensor | None, alpha: float
    ) -> None:
        _check_weight("alpha", alpha)
        super().__init__(model, label_smoothing, chunked, prior, jeffreys, 0.5 * alpha, (0.5, 0.5), 0.0)


class SimCut(TwoViews):
    """CE of the whole input + alpha KL(whole || cut): tokens of the second view are cut (Gao et al., 2022).

    Args:
        model: the Transformer.
        label_smoothing: 0 <= label_smoothing < 1.
        chunked: compute the loss in chunks, else all logits at once.
        prior: what smoothing mixes in, float (tgt_vocab_size,), or None for the uniform distribution.
        alpha: weight of the divergence, at least 0; the paper has 3.
        p_cut: probability that a token is cut, 0 < p_cut < 1; the paper has 0.05.
    """

    def __init__(
        self,
        model: Transformer,
        label_smoothing: float,
        chunked: bool,
        prior: Tensor | None,
        alpha: float,
        p_cut: float,
    ) -> None:
        _check_weight("alpha", alpha)
        _check_cut(p_cut)
        super().__init__(model, label_smoothing, chunked, prior, kullback_leibler, alpha, (1.0, 0.0), p_cut)


class Cutoff(TwoViews):
    """(CE(whole) + alpha CE(cut) + beta JS(whole, cut)) / (1 + alpha): token cut-off (Shen et al., 2020).

    That is the paper's loss, with one cut view, divided so that it compares with a plain one.

    Args:
        model: the Transformer.
        label_smoothing: 0 <= label_smoothing < 1.
        chunked: compute the loss in chunks, else all logits at once.
        prior: what smoothing mixes in, float (tgt_vocab_size,), or None for the uniform distribution.
        alpha: weight of the cut view's cross-entropy, at least 0.
        beta: weight of the Jensen-Shannon divergence, at least 0.
        p_cut: probability that a token is cut, 0 < p_cut < 1.
    """

    def __init__(
        self,
        model: Transformer,
        label_smoothing: float,
        chunked: bool,
        prior: Tensor | None,
        alpha: float,
        beta: float,
        p_cut: float,
    ) -> None:
        _check_weight("alpha", alpha)
        _check_weight("beta", beta)
        _check_cut(p_cut)
        total = 1.0 + alpha
        shares = (1.0 / total, alpha / total)
        super().__init__(model, label_smoothing, chunked, prior, jensen_shannon, beta / total, shares, p_cut)
