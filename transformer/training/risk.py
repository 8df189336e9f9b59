"""Minimum risk training: the model's own translations, the better ones made likelier (Shen et al., 2016)."""

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.model.arithmetic import OuterSum, exp_, linear
from transformer.model.dropout import generator_in_use
from transformer.model.transformer import Transformer
from transformer.special import BOS, EOS, PAD
from transformer.training.loss import Objective, product_dtype, rows_at_once
from transformer.training.supply import Cost, Draw, Ids, Supplies

_SEEDS = 1 << 62
_GROUPS = 4  # of rows of like length
# Logits held at a time, as for the cross-entropy.
_CPU_LOGITS, _ACCELERATOR_LOGITS = 1 << 22, 1 << 27


def plain_log_probs(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The log-probability of each target token, all logits in memory.

    Args:
        hidden: the decoder's output, float (n, d_model).
        weight: of the output projection, float (vocab_size, d_model).
        target: long (n,).

    Returns:
        float32 (n,).
    """
    return F.linear(hidden, weight).float().log_softmax(dim=1).gather(1, target[:, None])[:, 0]


class _ChunkedLogProbs(torch.autograd.Function):
    """Keeps the sums of the logits' exponentials alone; backward, which knows the gradient, computes logits again.

    d log p(t) / d z = onehot(t) - softmax(z).
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        dtype = product_dtype(hidden)
        log_sums = torch.empty(hidden.size(0), device=hidden.device)
        of_target = torch.empty_like(log_sums)
        with torch.autocast(hidden.device.type, enabled=False):
            w = weight.to(dtype)
            for rows in _chunks(hidden.size(0), weight):
                z = linear(hidden[rows].to(dtype), w).float()
                log_sums[rows] = z.logsumexp(dim=1)
                of_target[rows] = z.gather(1, target[rows, None])[:, 0]
        ctx.save_for_backward(hidden, weight, target, log_sums)
        ctx.dtype = dtype
        return of_target - log_sums

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        hidden, weight, target, log_sums = ctx.saved_tensors
        w = weight.to(ctx.dtype)
        d_hidden = torch.empty_like(hidden)
        d_weight = OuterSum(weight, ctx.dtype)
        for rows in _chunks(hidden.size(0), weight):
            h = hidden[rows].to(ctx.dtype)
            d_z = exp_(linear(h, w).float().sub_(log_sums[rows, None])).mul_(-grad[rows, None])
            d_z.scatter_add_(1, target[rows, None], grad[rows, None])
            d_z = d_z.to(ctx.dtype)
            d_hidden[rows] = linear(d_z, w.T).to(hidden.dtype)
            d_weight.add(d_z, h)
        return d_hidden, d_weight.whole().to(weight.dtype), None


def _chunks(n: int, weight: Tensor) -> list[slice]:
    n_rows = rows_at_once(weight, _CPU_LOGITS, _ACCELERATOR_LOGITS)
    return [slice(begin, min(begin + n_rows, n)) for begin in range(0, n, n_rows)]


def chunked_log_probs(hidden: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The same as `plain_log_probs`, without ever holding all logits."""
    return _ChunkedLogProbs.apply(hidden, weight, target)


def risk(log_probs: Tensor, costs: Tensor, alpha: float) -> Tensor:
    """The expected cost of each sentence: sum_y Q(y) cost(y), Q = softmax(alpha log p) over its candidates.

    Args:
        log_probs: of whole candidates, float (n_sentences, n_candidates); -inf where a sentence has fewer.
        costs: the same shape.
        alpha: sharpness; 0 would make all candidates alike.

    Returns:
        float (n_sentences,).
    """
    return ((alpha * log_probs).softmax(dim=1) * costs).sum(dim=1)


@dataclass(frozen=True)
class Candidates:
    """Which translations are weighed against each other.

    Attributes:
        n_samples: draws a sentence, at least 1; the same translation drawn twice counts once.
        temperature: logits are divided by it before drawing; below 1 nearer to the likeliest token.
        with_reference: whether the reference is a candidate too.
        max_len_ratio: a drawn translation has at most max_len_ratio * source tokens + max_len_offset tokens, EOS
            counted.
        max_len_offset: see there; at least 1.

    Raises:
        ValueError: an impossible number, or nothing to weigh.
    """

    n_samples: int
    temperature: float
    with_reference: bool
    max_len_ratio: float
    max_len_offset: int

    def __post_init__(self) -> None:
        if self.n_samples < (least := 1 if self.with_reference else 2):
            raise ValueError(
                f"n_samples must be at least {least} with with_reference={str(self.with_reference).lower()}, "
                f"not {self.n_samples}: a candidate is weighed against others"
            )
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, not {self.temperature}")
        if not 0 <= self.max_len_ratio < math.inf:
            raise ValueError(f"max_len_ratio must be at least 0 and finite, not {self.max_len_ratio}")
        if self.max_len_offset < 1:
            raise ValueError(f"max_len_offset must be at least 1, not {self.max_len_offset}")

    def max_lengths(self, src_key_padding_mask: Tensor, max_len: int) -> Tensor:
        """Most tokens of each translation, EOS counted, long (n_sentences,), given the mask (n_sentences, src_len)."""
        n_src = (~src_key_padding_mask).sum(dim=1) - 1
        return ((self.max_len_ratio * n_src).clamp_max(max_len).long() + self.max_len_offset).clamp_max(max_len)


@dataclass(frozen=True)
class Rows:
    """What goes through the decoder in one pass, and which of it are whose candidates.

    Attributes:
        ids: one translation a row: the references in order, then the candidates that are none.
        sentences: whose each row is.
        candidates: the rows of each sentence's candidates, all different.
    """

    ids: list[Ids]
    sentences: list[int]
    candidates: list[list[int]]


def arranged(references: Sequence[Ids], drawn: Sequence[Sequence[Ids]], with_reference: bool) -> Rows:
    """The rows of some sentences; a translation drawn several times, or equal to the reference, has one."""
    rows = Rows(list(references), list(range(len(references))), [])
    for sentence, (reference, samples) in enumerate(zip(references, drawn, strict=True)):
        known = {tuple(reference): sentence}
        candidates = dict.fromkeys([sentence] if with_reference else [])
        for ids in samples:
            row = known.setdefault(tuple(ids), len(rows.ids))
            if row == len(rows.ids):
                rows.ids.append(ids)
                rows.sentences.append(sentence)
            candidates[row] = None
        rows.candidates.append(list(candidates))
    return rows


class MinimumRisk(Objective):
    """(1 - share) CE + share risk: cross-entropy mixed with the expected cost of sampled translations.

    risk of a sentence = sum over its distinct candidates y of Q(y) cost(y), Q(y) = softmax(alpha log p(y)) over them
    (Shen et al., 2016); the mixture is that of Edunov et al. (2018). All sums are over sentences, and the trainer
    divides them by the number of target tokens; therefore a sentence's risk, 0 to 1, is multiplied by its target
    tokens, so that what remains is a mean over sentences, each as heavy as it is long, on the scale of one token's
    loss, whatever the batch.

    Candidates are drawn in evaluation mode, without gradients, in fp32; their log-probabilities come from one
    teacher-forced pass with dropout, together with the references'. In evaluation mode the objective is the plain
    label-smoothed cross-entropy. It is meant for a model that translates already.

    Args:
        model: the Transformer.
        label_smoothing: of the cross-entropy, 0 <= label_smoothing < 1.
        chunked: compute losses in chunks, else all logits at once.
        prior: what smoothing mixes in, float (tgt_vocab_size,), or None for the uniform distribution.
        candidates: which translations are weighed.
        cost: name of what they cost, see `supply`.
        alpha: sharpness of Q, above 0.
        share: of the risk, 0 < share <= 1.
    """

    draws = True

    def __init__(
        self,
        model: Transformer,
        label_smoothing: float,
        chunked: bool,
        prior: Tensor | None,
        candidates: Candidates,
        cost: str,
        alpha: float,
        share: float,
    ) -> None:
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be above 0 and finite, not {alpha}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {share}; without risk it is loss=cross_entropy")
        super().__init__(model, label_smoothing, chunked, prior)
        self.candidates, self.cost, self.alpha, self.share = candidates, cost, alpha, share
        self.log_probs = chunked_log_probs if chunked else plain_log_probs
        # The same weights in modules of their own, for evaluation mode while other threads train. In a tuple, so that
        # nobody trains, saves or counts them twice.
        shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
        self._calm = (copy.deepcopy(model, shared).eval(),)
        self._draw: Draw
        self._cost: Cost

    def supply(self, supplies: Supplies) -> None:
        """Takes what draws translations, and what tells their cost.

        Raises:
            ValueError: there is no cost of that name.
        """
        if self.cost not in supplies.costs:
            raise ValueError(f"cost must be one of {', '.join(supplies.costs)}, not {self.cost}")
        self._draw = supplies.sampler(self.candidates.n_samples, self.candidates.temperature)
        self._cost = supplies.costs[self.cost]

    def forward(self, src: Tensor, src_key_padding_mask: Tensor, tgt_in: Tensor, tgt_out: Tensor) -> Tensor:
        """As `Objective.forward`; the first sum is that of the objective, the others are of the references."""
        if not self.training or not src.size(0):
            return super().forward(src, src_key_padding_mask, tgt_in, tgt_out)
        references = [[i for i in line if i not in (EOS, PAD)] for line in tgt_out.tolist()]
        rows = arranged(references, self._drawn(src, src_key_padding_mask), self.candidates.with_reference)
        told = [[rows.ids[row] for row in candidates] for candidates in rows.candidates]
        costs = _table(self._cost(told, references), 0.0).to(src.device)
        places = _table(rows.candidates, -1).to(src.device)

        hidden, target, row = self._teacher_forced(rows, src, src_key_padding_mask)
        own = row < len(references)
        weight = self.model.output.weight
        sums = self.cross_entropy(hidden[own], weight, target[own], self.label_smoothing, self.prior)
        # A reference that is no candidate needs no log-probability.
        weighed = torch.zeros(len(rows.ids), dtype=torch.bool, device=src.device)
        weighed = weighed.index_fill(0, places[places >= 0], True)[row]
        tokens = self.log_probs(hidden[weighed], weight, target[weighed])
        of_rows = torch.zeros(len(rows.ids), device=src.device).index_add(0, row[weighed], tokens)
        log_probs = of_rows[places.clamp_min(0)].masked_fill(places < 0, -math.inf)
        n_tokens = (tgt_out != PAD).sum(dim=1)
        loss = (n_tokens * risk(log_probs, costs, self.alpha)).sum()
        return torch.cat((((1 - self.share) * sums[0] + self.share * loss)[None], sums[1:].detach()))

    def _teacher_forced(self, rows: Rows, src: Tensor, src_key_padding_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's output for every token of every row, float (n, d_model); the token, long (n,); its row."""
        memory = self.model.encode(src, src_key_padding_mask)
        # Draws differ in length: rows of like length go together, so that there is little padding.
        order = sorted(range(len(rows.ids)), key=lambda row: len(rows.ids[row]))
        found = []
        for group in np.array_split(np.array(order), min(_GROUPS, len(order))):
            lines = [rows.ids[row] for row in group]
            numbers = torch.from_numpy(group).to(src.device)
            sentences = torch.tensor([rows.sentences[row] for row in group], device=src.device)
            tgt_in, target = (
                _table(ids, PAD).to(src.device) for ids in ([[BOS, *x] for x in lines], [[*x, EOS] for x in lines])
            )
            hidden = self.model.decode(tgt_in, memory[sentences], src_key_padding_mask[sentences])
            real = target != PAD
            found.append((hidden[real], target[real], numbers[:, None].expand_as(target)[real]))
        hidden, target, row = (torch.cat(parts) for parts in zip(*found, strict=True))
        return hidden, target, row

    @torch.no_grad()
    def _drawn(self, src: Tensor, src_key_padding_mask: Tensor) -> Sequence[Sequence[Ids]]:
        """Translations drawn for each sentence, by a seed from the generator that decides on dropout."""
        (model,) = self._calm
        seed = int(torch.randint(_SEEDS, (1,), generator=generator_in_use()))
        max_lengths = self.candidates.max_lengths(src_key_padding_mask, model.max_len)
        # Autocast would keep the weights that it rounds here, without their gradients, for the pass that needs them.
        with torch.autocast(src.device.type, enabled=False):
            return self._draw(model, src, src_key_padding_mask, max_lengths, seed)


def _table(rows: Sequence[Sequence[int]] | Sequence[Sequence[float]], filling: float) -> Tensor:
    """(n_rows, longest), filled up behind short rows; long if the filling is an integer."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row, dtype=torch.long if isinstance(filling, int) else torch.float32) for row in rows],
        batch_first=True,
        padding_value=filling,
    )
