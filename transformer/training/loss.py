"""Label-smoothed cross-entropy of the output projection, whole or in chunks that never store all logits."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.arithmetic import FEWEST, ROWS, OuterSum, exp_, filled_up, fits, linear
from transformer.model.transformer import Transformer
from transformer.special import PAD
from transformer.training.supply import Supplies

# Logits held at a time: on a CPU what fits its outer cache, on an accelerator what keeps it busy.
_CPU_LOGITS, _ACCELERATOR_LOGITS = 1 << 22, 1 << 27


def product_dtype(x: Tensor) -> torch.dtype:
    """In which type matrix products with x are taken: autocast's where it is on, else x's own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def rows_at_once(weight: Tensor, cpu_logits: int, accelerator_logits: int) -> int:
    """Rows of a chunk that has about so many logits, a multiple of ROWS, at least 64; weight: (vocab_size, d_model)."""
    n = (cpu_logits if weight.device.type == "cpu" else accelerator_logits) // weight.size(0)
    return max(FEWEST, n // ROWS * ROWS)


def few_shapes(hidden: Tensor, target: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """hidden (n, d_model) as another type, and target (n,); on a CPU filled up with zeros and PAD (`filled_up`)."""
    if hidden.device.type != "cpu":
        return hidden.to(dtype), target
    rows = filled_up(hidden, dtype)
    return rows, F.pad(target, (0, len(rows) - len(target)), value=PAD)


def mean_of_prior(weight: Tensor, prior: Tensor | None) -> Tensor:
    """The rows of weight (vocab_size, d_model) averaged over what smoothing mixes in, None = all alike: (d_model,)."""
    return weight.float().mean(dim=0) if prior is None else prior @ weight.float()


def subtract_asked_for(
    d_weight: Tensor, hidden: Tensor, target: Tensor, smoothing: float, prior: Tensor | None
) -> None:
    """From the gradient of the output embeddings, in place: q' H, q = (1 - smoothing) one-hot + smoothing prior.

    Args:
        d_weight: float (vocab_size, d_model).
        hidden: float (n, d_model); zeros for a target that does not count.
        target: long (n,).
        smoothing: 0 <= smoothing < 1.
        prior: float (vocab_size,), or None for the uniform distribution.
    """
    d_weight.index_add_(0, target, hidden, alpha=smoothing - 1)
    if prior is None:
        d_weight.sub_(hidden.sum(dim=0), alpha=smoothing / d_weight.size(0))
    else:
        d_weight.sub_(torch.outer(prior, hidden.sum(dim=0)), alpha=smoothing)


def plain_cross_entropy(
    hidden: Tensor, weight: Tensor, target: Tensor, smoothing: float, prior: Tensor | None = None
) -> Tensor:
    """The loss as three sums over the targets that are not PAD, all logits in memory.

    loss = -sum_j q_j log p_j, q = (1 - smoothing) one-hot + smoothing u, p = softmax(h W'), where u is uniform, 1 / V
    (Szegedy et al., 2016), or a given distribution.

    Args:
        hidden: float (n, d_model).
        weight: float (vocab_size, d_model).
        target: long (n,).
        smoothing: 0 <= smoothing < 1.
        prior: u, float (vocab_size,), or None for the uniform distribution.

    Returns:
        float (3,): sum of smoothed losses in nats (differentiable), sum of unsmoothed ones, count of right argmaxes.
    """
    logits = F.linear(hidden, weight).float()
    uniform = 0.0 if prior is not None else smoothing
    loss = F.cross_entropy(logits, target, ignore_index=PAD, label_smoothing=uniform, reduction="sum")
    if prior is not None:
        of_prior = (logits.log_softmax(dim=1) * prior).sum(dim=1)[target != PAD].sum()  # autocast rounds products
        loss = (1 - smoothing) * loss - smoothing * of_prior
    with torch.no_grad():
        nll = F.cross_entropy(logits, target, ignore_index=PAD, reduction="sum")
        right = ((logits.max(dim=1).indices == target) & (target != PAD)).sum()
    return torch.stack((loss, nll.detach(), right.to(loss.dtype)))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Values and gradients in one sweep over chunks of rows.

    With E = exp(z - max z), s = sum_j E_j and e = smoothing, for row i with target t:
        d loss / d h_i = E_i W / s_i - (1 - e) W_t - e sum_j u_j W_j
        d loss / d W   = E' (H / s) - (1 - e) scatter_t(h) - e u sum_i h_i'
    so that one pass over the logits (the exponential) is enough.
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx,
        hidden: Tensor,
        weight: Tensor,
        target: Tensor,
        smoothing: float,
        prior: Tensor | None,
        with_gradients: bool,
    ) -> Tensor:
        dtype = product_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            sums, d_hidden, d_weight = _sweep(hidden, weight, target, smoothing, prior, with_gradients, dtype)
        if with_gradients:
            ctx.save_for_backward(d_hidden, d_weight)
        return sums

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        d_hidden, d_weight = ctx.saved_tensors
        # Only the first sum is a loss; the others are told, not trained on.
        return (d_hidden * grad[0]).to(d_hidden.dtype), d_weight * grad[0], None, None, None, None


def _sweep(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    smoothing: float,
    prior: Tensor | None,
    with_gradients: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    n, vocab_size = hidden.size(0), weight.size(0)
    n_rows = rows_at_once(weight, _CPU_LOGITS, _ACCELERATOR_LOGITS)
    w, mean_weight = weight.to(dtype), mean_of_prior(weight, prior)
    h, target = few_shapes(hidden, target, dtype)
    valid = target != PAD
    sums = torch.zeros(3, device=hidden.device)
    d_hidden = torch.empty_like(h, dtype=hidden.dtype) if with_gradients else hidden
    d_weight = OuterSum(weight, dtype) if with_gradients else None
    by_onednn = fits(h, w)
    buffer = torch.empty(0 if by_onednn else min(n_rows, len(h)), vocab_size, dtype=dtype, device=hidden.device)
    wide = buffer if dtype == torch.float32 else torch.empty_like(buffer, dtype=torch.float32)
    for begin in range(0, len(h), n_rows):
        rows = slice(begin, min(begin + n_rows, len(h)))
        h_rows, t_rows, ok = h[rows], target[rows], valid[rows].float()
        narrow = linear(h_rows, w) if by_onednn else torch.mm(h_rows, w.T, out=buffer[: len(h_rows)])
        z = narrow if wide is buffer else wide[: len(h_rows)].copy_(narrow)
        of_target = z.gather(1, t_rows[:, None])[:, 0]
        peak = z.amax(dim=1, keepdim=True)
        # Where nothing is learned, ties, which bfloat16 makes, are told apart: fifteen times the work of a maximum.
        right = of_target >= peak[:, 0] if with_gradients else z.max(dim=1).indices == t_rows
        e = exp_(z.sub_(peak))
        total = e.sum(dim=1)
        nll = total.log() + peak[:, 0] - of_target
        of_prior = nll + of_target - h_rows.float() @ mean_weight
        sums += torch.stack(
            ((((1 - smoothing) * nll + smoothing * of_prior) * ok).sum(), (nll * ok).sum(), (right.float() * ok).sum())
        )
        if d_weight is not None:
            scaled = (h_rows.float() * (ok / total)[:, None]).to(dtype)
            e = e if wide is buffer else narrow.copy_(e)
            d_rows = linear(e, w.T).float().mul_((1.0 / total)[:, None])
            d_rows.sub_(weight.float()[t_rows], alpha=1 - smoothing).sub_(mean_weight, alpha=smoothing)
            d_hidden[rows] = d_rows.mul_(ok[:, None])
            d_weight.add(e, scaled)
        del narrow, z, e  # so that the next chunk takes their place
    if d_weight is None:
        return sums, hidden, weight
    by_weight = d_weight.whole()
    subtract_asked_for(by_weight, hidden.float() * valid[:n, None], target[:n], smoothing, prior)
    return sums, d_hidden[:n], by_weight.to(weight.dtype)


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, target: Tensor, smoothing: float, prior: Tensor | None = None
) -> Tensor:
    """The same as `plain_cross_entropy`, without ever holding all logits (after Wijmans et al., 2024).

    Args:
        hidden: float (n, d_model).
        weight: float (vocab_size, d_model).
        target: long (n,); PAD is not counted.
        smoothing: 0 <= smoothing < 1.
        prior: what smoothing mixes in, float (vocab_size,), or None for the uniform distribution.

    Returns:
        float (3,): sum of smoothed losses in nats (differentiable), sum of unsmoothed ones, count of right argmaxes,
        to which ties for the highest logit count where there are gradients.
    """
    return _ChunkedCrossEntropy.apply(hidden, weight, target, smoothing, prior, torch.is_grad_enabled())


class Objective(nn.Module):
    """A model with its loss, label-smoothed cross-entropy: what is wrapped for data-parallel training.

    Other objectives derive from it, differ in training alone, and are validated like this one.

    Args:
        model: the Transformer.
        label_smoothing: 0 <= label_smoothing < 1.
        chunked: compute the loss in chunks, else all logits at once.
        prior: what smoothing mixes in, float (tgt_vocab_size,), or None for the uniform distribution.

    Attributes:
        draws: whether training draws translations, for which each process needs the whole model.
    """

    draws = False

    def __init__(self, model: Transformer, label_smoothing: float, chunked: bool, prior: Tensor | None = None) -> None:
        super().__init__()
        self.model, self.label_smoothing, self.chunked = model, label_smoothing, chunked
        self.cross_entropy = chunked_cross_entropy if chunked else plain_cross_entropy
        self.prior: Tensor | None
        self.register_buffer("prior", prior)

    def supply(self, supplies: Supplies) -> None:
        """Takes what training cannot make itself, before it begins; cross-entropy needs none of it."""

    def forward(self, src: Tensor, src_key_padding_mask: Tensor, tgt_in: Tensor, tgt_out: Tensor) -> Tensor:
        """Teacher-forced sums over the target tokens.

        Args:
            src: long (batch, src_len).
            src_key_padding_mask: bool (batch, src_len), True = padding.
            tgt_in: long (batch, tgt_len).
            tgt_out: long (batch, tgt_len).

        Returns:
            float (3,): sum of smoothed losses in nats (differentiable), of unsmoothed ones, count of right argmaxes.
        """
        memory = self.model.encode(src, src_key_padding_mask)
        hidden = self.model.decode(tgt_in, memory, src_key_padding_mask).flatten(0, 1)
        target = tgt_out.flatten()
        if target.device.type == "cpu":  # elsewhere the row count would have to be waited for
            rows = (target != PAD).nonzero()[:, 0]
            hidden, target = hidden[rows], target[rows]
        return self.cross_entropy(hidden, self.model.output.weight, target, self.label_smoothing, self.prior)
