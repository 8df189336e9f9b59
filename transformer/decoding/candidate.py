"""The best next tokens of every hypothesis, and their log-probabilities, with little memory traffic.

A log_softmax and a topk over the whole vocabulary of a whole batch read and write the big logits several times, and
topk goes through a row one element at a time. Here the maximum of every block of tokens, which is fast, tells which few
blocks can hold the best tokens, and exponentials are summed a few rows at a time, so that they stay in the cache.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.error import UserError
from transformer.model.arithmetic import exp_sums
from transformer.special import BOS, EOS, PAD

BLOCK = 64
CHUNK_ELEMENTS = 2**18
SIFTED = 64  # times k values or more: torch's topk of k sifts them
MOST_LACKING = 40  # times k values: more would have to be made up to pay
DEAD = float("-inf")


def top_tokens(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return values and ids, long, both (n_rows, min(k, vocab_size)), of the largest logits, (n_rows, vocab_size).

    Largest first; of equal logits, unless they are -inf, the lower id first, so that a search gives the same in every
    batch.
    """
    return _top_tokens(logits, _block_maxima(logits), k)


def log_sums(logits: Tensor, largest: Tensor) -> Tensor:
    """Return log(sum(exp(logits - largest))) of every row, float32 (n_rows, 1).

    logits: (n_rows, vocab_size). largest: (n_rows, 1), each row's largest. A token's log-probability is its logit less
    both.
    """
    n_at_once = CHUNK_ELEMENTS if logits.device.type == "cpu" else logits.numel()
    return exp_sums(logits, largest.float(), n_at_once).log_()


def log_probs_at(logits: Tensor, ids: Tensor) -> Tensor:
    """Return log_softmax(logits) at `ids`: logits (n_rows, vocab_size), ids long and result float32 (n_rows, k)."""
    largest = logits.amax(1, keepdim=True)
    return logits.gather(1, ids).float() - largest - log_sums(logits, largest)


def refuse_nan(log_probs: Tensor) -> None:
    """Raise UserError where the model gives NaN."""
    if log_probs.isnan().any():
        raise UserError("the model's log-probabilities are not a number (NaN): its weights are damaged or overflow")


def hide_all_but_eos(logits: Tensor, ending: Tensor) -> None:
    """Set all but EOS to -inf, in place, in the rows `ending`, bool (n_rows,), of (n_rows, vocab_size)."""
    ends = logits[ending, EOS]
    logits[ending] = DEAD
    logits[ending, EOS] = ends


def best_candidates(
    logits: Tensor, visible: Tensor, k: int, must_end: Tensor, extra: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the k best continuations of every hypothesis: tokens, long, and their log-probabilities.

    logits: (n_sentences, width, vocab_size). visible: the same tensor, or one like it with -inf where a token may not
    be taken. must_end: bool (n_sentences,), True where EOS is the only choice. extra: long (n_sentences, width,
    n_extra), tokens that are candidates however unlikely, PAD for none.
    Both results: (n_sentences, width, min(k, vocab_size) + n_extra), the k in order, best first; the log-probability is
    that of `logits` over the whole vocabulary, and -inf marks what is no candidate (PAD and BOS never are one).

    Raises UserError where the model gives NaN.
    """
    with _looked_at(logits, visible, must_end) as (shown, maxima, largest, sums):
        values, tokens = _top_tokens(shown, maxima, k)
        if extra is not None:
            tokens = torch.cat([tokens, extra.flatten(0, 1)], dim=1)
            values = torch.cat([values, _unless_repeated(shown, tokens, values.size(1))], dim=1)
    log_probs = logits.flatten(0, 1).gather(1, tokens).float() - largest - sums
    log_probs.masked_fill_(values == DEAD, DEAD)
    shape = (*logits.shape[:2], tokens.size(1))
    return tokens.view(shape), log_probs.view(shape)


def best_continuations(
    logits: Tensor, visible: Tensor, log_probs: Tensor, k: int, must_end: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k best continuations of every sentence, of whichever of its hypotheses.

    logits, visible, must_end: see `best_candidates`. log_probs: (n_sentences, width), of the hypotheses so far.
    Results: the slots of the continued hypotheses and the tokens, both long, and the log-probabilities, all
    (n_sentences, min(k, width * vocab_size)), best first; of equals the lower slot, then the lower token id. -inf marks
    what is no continuation.

    Raises UserError where the model gives NaN.
    """
    n_sentences, width, vocab_size = logits.shape
    k = min(k, width * vocab_size)
    with _looked_at(logits, visible, must_end) as (shown, maxima, largest, sums):
        # Rounding keeps the order, so that a block's best continuation is that of its largest logit.
        totals = log_probs.reshape(-1, 1) + (maxima - largest - sums)
        n_blocks = maxima.size(1)
        best = _top_positions(totals.view(n_sentences, -1), k)
        slots, blocks = best // n_blocks, best % n_blocks
        values = _of_blocks(shown.view(n_sentences, width, vocab_size), slots, blocks)
    so_far, largest, sums = (
        x.reshape(n_sentences, width).gather(1, slots).unsqueeze(2) for x in (log_probs, largest, sums)
    )
    totals = (so_far + (values - largest - sums)).flatten(1)
    positions = _top_positions(totals, k)
    totals, order = totals.gather(1, positions).sort(dim=1, descending=True, stable=True)
    positions = positions.gather(1, order)
    return slots.gather(1, positions // BLOCK), _tokens_at(blocks, positions, vocab_size), totals


class _Look(NamedTuple):
    """What the best tokens are taken from.

    shown: (n_rows, vocab_size), the logits that may be taken, -inf elsewhere. maxima: (n_rows, n_blocks), of them.
    largest, sums: (n_rows, 1), of all logits, see `log_sums`.
    """

    shown: Tensor
    maxima: Tensor
    largest: Tensor
    sums: Tensor


@contextmanager
def _looked_at(logits: Tensor, visible: Tensor, must_end: Tensor) -> Iterator[_Look]:
    """Inside this context PAD and BOS are hidden as well, and all but EOS in sentences that must end."""
    rows, shown = logits.flatten(0, 1), visible.flatten(0, 1)
    maxima = _block_maxima(rows)
    largest = maxima.amax(1, keepdim=True).float()
    sums = log_sums(rows, largest)
    refuse_nan(sums)
    if must_end.any():
        shown = shown.clone()
        hide_all_but_eos(shown, must_end.repeat_interleave(logits.size(1)))
    if shown.data_ptr() != rows.data_ptr():
        maxima = _block_maxima(shown)
    special = shown[:, : BOS + 1].clone()
    try:
        shown[:, PAD] = shown[:, BOS] = DEAD
        maxima[:, 0] = shown[:, :BLOCK].amax(1)
        yield _Look(shown, maxima, largest, sums)
    finally:
        shown[:, : BOS + 1] = special


def _block_maxima(logits: Tensor) -> Tensor:
    """Return the largest of every BLOCK tokens, the last block being shorter: (n_rows, n_blocks)."""
    n_whole = logits.size(1) // BLOCK * BLOCK
    maxima = [logits[:, :n_whole].unflatten(1, (-1, BLOCK)).amax(2)] if n_whole else []
    if n_whole < logits.size(1):
        maxima.append(logits[:, n_whole:].amax(1, keepdim=True))
    return maxima[0] if len(maxima) == 1 else torch.cat(maxima, dim=1)


def _of_blocks(logits: Tensor, slots: Tensor, blocks: Tensor) -> Tensor:
    """Return the logits of blocks of slots, (n_sentences, k, BLOCK), -inf for tokens that the last block does not have.

    logits: (n_sentences, width, vocab_size). slots, blocks: long (n_sentences, k).
    """
    n_sentences, width, vocab_size = logits.shape
    if vocab_size % BLOCK == 0:  # whole blocks are copied faster than token by token
        rows = torch.arange(n_sentences, device=slots.device).unsqueeze(1) * width + slots
        places = (rows * (vocab_size // BLOCK) + blocks).flatten()
        return logits.reshape(-1, BLOCK).index_select(0, places).view(*blocks.shape, BLOCK)
    tokens = blocks.unsqueeze(2) * BLOCK + torch.arange(BLOCK, device=blocks.device)
    places = slots.unsqueeze(2) * vocab_size + tokens.clamp(max=vocab_size - 1)
    found = logits.flatten(1).gather(1, places.flatten(1)).view(*blocks.shape, BLOCK)
    return found.masked_fill_(tokens >= vocab_size, DEAD)


def _tokens_at(blocks: Tensor, positions: Tensor, vocab_size: int) -> Tensor:
    """Return the tokens at positions, long (n_rows, n), of blocks, long (n_rows, k), laid side by side."""
    tokens = blocks.gather(1, positions // BLOCK) * BLOCK + positions % BLOCK
    return tokens.clamp_(max=vocab_size - 1)


def _top_tokens(logits: Tensor, maxima: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `top_tokens`; maxima: of the blocks."""
    vocab_size = logits.size(1)
    # The best k tokens lie in the k blocks with the highest maxima.
    blocks = _top_positions(maxima, k)
    found = _of_blocks(logits.unsqueeze(1), torch.zeros_like(blocks), blocks).flatten(1)
    positions = _top_positions(found, min(k, vocab_size))
    values, order = found.gather(1, positions).sort(dim=1, descending=True, stable=True)
    return values, _tokens_at(blocks, positions.gather(1, order), vocab_size)


def _unless_repeated(logits: Tensor, tokens: Tensor, start: int) -> Tensor:
    """Return the logits of tokens[:, start:], -inf for one that stands further left: tokens long (n_rows, n)."""
    same = tokens[:, start:, None] == tokens[:, None, :]
    repeated = same.tril(start - 1).any(-1)
    return logits.gather(1, tokens[:, start:]).masked_fill(repeated, DEAD)


def _lacking(n: int, k: int) -> int:
    """Return how many values to put behind n so that torch's topk of k of them becomes faster on a CPU.

    Of 64 k values or more it keeps the best k while it goes through them once; fewer it takes apart and sorts, which
    for few of many takes up to four times as long.
    """
    n_lacking = SIFTED * k - n
    return n_lacking if 0 < n_lacking <= MOST_LACKING * k else 0


def _top_positions(values: Tensor, k: int) -> Tensor:
    """Return where each row's k largest values, (n_rows, n), are: long (n_rows, k), ascending.

    Of equal values those to the left, unless they are -inf.
    """
    n = values.size(1)
    if k >= n:
        return torch.arange(n, device=values.device).expand(values.size(0), -1)
    n_lacking = _lacking(n, k + 1) if values.device.type == "cpu" else 0
    top = (F.pad(values, (0, n_lacking), value=DEAD) if n_lacking else values).topk(k + 1, dim=1)
    positions = top.indices[:, :k]
    least, next_best = top.values[:, k - 1], top.values[:, k]
    if ((least == next_best) & (least > DEAD)).any():
        # topk may take any of several equals; a stable sort takes the first. It is not done for a sentence that has
        # ended, of which nothing is possible.
        positions = _first_positions(values, k)
    positions = positions.sort(dim=1).values
    if n_lacking and (beyond := positions[:, -1] >= n).any():  # where fewer than k are possible
        positions[beyond] = _first_positions(values[beyond], k).sort(dim=1).values
    return positions


def _first_positions(values: Tensor, k: int) -> Tensor:
    """Return where each row's k largest values are, long (n_rows, k), largest first, of equals those to the left."""
    return values.sort(dim=1, descending=True, stable=True).indices[:, :k]
