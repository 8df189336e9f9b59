"""Random sampling, the same for a sentence in whatever batch it stands."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from transformer.decoding.batch import Batch, Flow
from transformer.decoding.candidate import (
    BLOCK,
    CHUNK_ELEMENTS,
    DEAD,
    hide_all_but_eos,
    log_probs_at,
    refuse_nan,
    top_tokens,
)
from transformer.decoding.demand import start_rules_without_required
from transformer.decoding.rows import Rows, Turn
from transformer.decoding.rule import Rule
from transformer.decoding.search import Hypothesis, Search, StepModel
from transformer.error import UserError
from transformer.special import BOS, EOS, PAD

LEAST_TEMPERATURE = 1e-6
_MASK = 2**63 - 1


class Sample(Search):
    """Draws translations token by token from the model's distribution.

    One number between 0 and 1 decides a token. It is computed from the seed, the source ids, the number of the draw
    and the position, so a sentence gets the same translations alone as in any batch, and the same line twice gets the
    same translations (up to rounding of the probabilities, which differs a little between batches).

    Args:
        temperature: logits are divided by it before drawing; below 1 nearer to the likeliest token.
        top_k: draw from this many likeliest tokens only; 0: from all.
        top_p: draw from the likeliest tokens that together have this probability (nucleus, Holtzman et al., 2020), of
            what top_k leaves; 1: all.
        seed: another seed, other translations.
        n_best: draws a sentence, sorted by log-probability; the same translation may be drawn twice. Log-probability
            and score are the model's, untouched by temperature, top_k and top_p.
        rules: what a translation may not do, see transformer.decoding.rule.

    Raises UserError for impossible settings.
    """

    def __init__(
        self, temperature: float, top_k: int, top_p: float, seed: int, n_best: int, rules: Sequence[Rule] = ()
    ) -> None:
        if not LEAST_TEMPERATURE <= temperature < math.inf:
            raise UserError(
                f"temperature must be at least {LEAST_TEMPERATURE} and finite, not {temperature}; for the likeliest "
                "token use greedy search"
            )
        if top_k < 0:
            raise UserError(f"top_k must be 0 (all tokens) or more, not {top_k}")
        if not 0 < top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1 (all tokens), not {top_p}")
        if n_best < 1:
            raise UserError(f"n_best must be at least 1, not {n_best}")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.seed = seed
        self.n_best = n_best
        self.rules = rules

    @property
    def width(self) -> int:
        """Draws a sentence."""
        return self.n_best

    def _search(self, model: StepModel, batch: Batch, flow: Flow) -> list[list[Hypothesis]]:
        """Draw n_best translations a sentence; required phrases are refused, they need a beam."""
        width, device = self.n_best, batch.src.device
        rows = Rows(model, batch, width, flow)
        rules = start_rules_without_required(self.rules, batch.demands, rows.bounds)
        keys = _keys(batch.src, batch.src_key_padding_mask, width, self.seed)
        ids = torch.full((rows.sentences.size(0), width), BOS, device=device)
        ended = torch.zeros_like(ids, dtype=torch.bool)
        drawn = torch.full((len(batch), width, rows.capacity), EOS, device=device)
        log_probs = torch.zeros((len(batch), width), device=device)
        turn: Turn | None = Turn(rows.sentences.size(0))
        while turn is not None:
            logits = model.step(ids, rows.state)
            numbers = _uniform(keys[rows.sentences], rows.ages.unsqueeze(1))
            tokens, found = self._draw(logits, rules.visible(logits), numbers, rows.must_end())
            found = found.masked_fill(ended, 0.0)
            rows.check((found > DEAD).all(1))
            ids = tokens.masked_fill(ended, EOS)
            drawn[rows.sentences, :, rows.ages] = ids
            log_probs[rows.sentences] += found
            ended = ended | (ids == EOS)
            rules.advance(torch.arange(width, device=device).expand_as(ids), ids)
            turn = rows.turn((~ended).any(1))
            if turn is not None:
                if turn.kept is not None:
                    rules.keep(turn.kept)
                ids, ended = turn.carry(ids, BOS), turn.carry(ended, False)
        return [
            _ranked([line[: line.index(EOS)] for line in lines], numbers)
            for lines, numbers in zip(drawn.tolist(), log_probs.tolist(), strict=True)
        ]

    def _draw(self, logits: Tensor, visible: Tensor, numbers: Tensor, must_end: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens, long, and their log-probabilities, both (n_sentences, width), -inf where there is none.

        logits, visible: (n_sentences, width, vocab_size). numbers: double (n_sentences, width), from 0 to 1.
        """
        vocab_size = logits.size(-1)
        rows = visible.reshape(-1, vocab_size).clone()
        rows[:, PAD] = rows[:, BOS] = DEAD
        if must_end.any():
            hide_all_but_eos(rows, must_end.repeat_interleave(logits.size(1)))
        tokens = draw(rows, numbers.flatten(), self.temperature, self.top_k, self.top_p).unsqueeze(1)
        log_probs = log_probs_at(logits.reshape(-1, vocab_size), tokens)
        refuse_nan(log_probs)
        log_probs = log_probs.masked_fill(rows.gather(1, tokens) == DEAD, DEAD)
        return tokens.view(logits.shape[:2]), log_probs.view(logits.shape[:2])


def draw(logits: Tensor, numbers: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Return for each row the token at which the summed-up probabilities pass a number between 0 and 1.

    logits: (n_rows, vocab_size). numbers: (n_rows,), at least 0 and below 1. Result: long (n_rows,).
    """
    if not top_k and top_p == 1:
        n_rows, vocab_size = logits.shape
        chunk = max(1, CHUNK_ELEMENTS // vocab_size if logits.device.type == "cpu" else n_rows)
        pieces = zip(logits.split(chunk), numbers.split(chunk), strict=True)
        return torch.cat([_draw_from_all(rows, part, temperature) for rows, part in pieces])
    ids: Tensor | None = None
    if top_k:
        logits, ids = top_tokens(logits, top_k)
    elif top_p < 1:
        logits, ids = logits.sort(dim=1, descending=True, stable=True)
    probabilities = (logits.double() / temperature).softmax(1)
    if top_p < 1:
        likelier = probabilities.cumsum(1) - probabilities
        probabilities = probabilities.masked_fill(likelier >= top_p, 0.0)
    sums = probabilities.cumsum(1)
    # The last of equal sums would be a token without probability; `right` passes over those.
    chosen = torch.searchsorted(sums, (numbers.to(sums.dtype) * sums[:, -1]).unsqueeze(1), right=True)
    chosen = chosen.clamp_max(logits.size(1) - 1)
    return (chosen if ids is None else ids.gather(1, chosen)).squeeze(1)


def _draw_from_all(logits: Tensor, numbers: Tensor, temperature: float) -> Tensor:
    """As `draw`, of all tokens: first which block of them, then which token, so that few numbers are summed up."""
    n_rows, vocab_size = logits.shape
    blocks = logits.new_zeros(n_rows, -(-vocab_size // BLOCK), BLOCK, dtype=torch.float32)
    flat = blocks.flatten(1)[:, :vocab_size]
    torch.sub(logits, logits.amax(1, keepdim=True), out=flat).div_(temperature).exp_()
    sums = blocks.sum(2, dtype=torch.float64).cumsum(1)
    wanted = _below(numbers.double().unsqueeze(1) * sums[:, -1:], sums)
    block = torch.searchsorted(sums, wanted, right=True).clamp_max(blocks.size(1) - 1)  # not a number without tokens
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp_min(0)), 0.0)
    inside = blocks.gather(1, block.unsqueeze(2).expand(-1, -1, BLOCK))[:, 0].double().cumsum(1)
    tokens = block * BLOCK + torch.searchsorted(inside, _below(wanted - before, inside), right=True)
    return tokens.squeeze(1).clamp_max(vocab_size - 1)


def _below(wanted: Tensor, sums: Tensor) -> Tensor:
    """Return `wanted`, (n_rows, 1), less than the last of `sums`, (n_rows, n), which rounding may let it reach.

    So there always is a sum above it, and the first such sum has grown by a token that can be drawn.
    """
    last = sums[:, -1:]
    return torch.minimum(wanted, torch.nextafter(last, torch.zeros_like(last)))


def _ranked(rows: list[list[int]], log_probs: list[float]) -> list[Hypothesis]:
    """Return the hypotheses, the likeliest first."""
    hypotheses = [Hypothesis(ids, log_prob, log_prob) for ids, log_prob in zip(rows, log_probs, strict=True)]
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)


def _keys(src: Tensor, src_key_padding_mask: Tensor, width: int, seed: int) -> Tensor:
    """Return a key for each draw of each sentence, long (n_sentences, width), from its ids (not its padding)."""
    key = _mixed(torch.full_like(src[:, :1], seed % _MASK))
    for ids, padding in zip(src.T, src_key_padding_mask.T, strict=True):
        key = torch.where(padding.unsqueeze(1), key, _mixed(key + ids.unsqueeze(1)))
    return _mixed(key + torch.arange(width, device=src.device))


def _uniform(keys: Tensor, steps: Tensor) -> Tensor:
    """Return numbers from 0 up to but not 1, double, of the keys' shape, others at every step (long, broadcastable)."""
    return (_mixed(keys + steps) >> 11).bitwise_and(2**53 - 1).double() / 2**53


def _mixed(x: Tensor) -> Tensor:
    """Return a well mixed permutation of 64-bit integers (the output function of SplitMix64, Steele et al., 2014)."""
    x = x + -0x61C8864680B583EB
    x = (x ^ _shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, n: int) -> Tensor:
    """Return x >> n without the sign."""
    return (x >> n).bitwise_and(2 ** (64 - n) - 1)
