"""The best next tokens of every hypothesis, and their log-probabilities, with little memory traffic.

A log_softmax and a topk over the whole vocabulary of a whole batch read and write the big logits several times, and
topk goes through a row one element at a time. Here the maximum of every block of tokens, which is fast, tells which few
blocks can hold the best tokens, and log_softmax runs over a few rows at a time, whose results stay in the cache.
"""

import torch
from torch import Tensor

from transformer.error import UserError
from transformer.special import BOS, EOS, PAD

BLOCK = 64
CHUNK_ELEMENTS = 2**18
DEAD = float("-inf")


def top_tokens(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return values and ids, long, both (n_rows, min(k, vocab_size)), of the largest logits, (n_rows, vocab_size).

    Largest first; of equal logits the lower id first, always, so that a search gives the same in every batch.
    """
    n_rows, vocab_size = logits.shape
    k = min(k, vocab_size)
    n_blocks = vocab_size // BLOCK
    if n_blocks <= 2 * k:
        ids = _top_positions(logits, k)
        values = logits.gather(1, ids)
    else:
        # The best k tokens lie in the k blocks with the highest maxima, or in the tail that fills no block.
        blocks = logits[:, : n_blocks * BLOCK].unflatten(1, (n_blocks, BLOCK))
        best_blocks = _top_positions(blocks.amax(-1), k)
        found = blocks.gather(1, best_blocks.unsqueeze(-1).expand(-1, -1, BLOCK)).flatten(1)
        offsets = torch.arange(BLOCK, device=logits.device)
        found_ids = (best_blocks.unsqueeze(-1) * BLOCK + offsets).flatten(1)
        tail_ids = torch.arange(n_blocks * BLOCK, vocab_size, device=logits.device)
        found = torch.cat([found, logits[:, n_blocks * BLOCK :]], dim=1)
        found_ids = torch.cat([found_ids, tail_ids.expand(n_rows, -1)], dim=1)
        positions = _top_positions(found, k)
        values, ids = found.gather(1, positions), found_ids.gather(1, positions)
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values, ids.gather(1, order)


def log_probs_at(logits: Tensor, ids: Tensor) -> Tensor:
    """Return log_softmax(logits) at `ids`: logits (n_rows, vocab_size), ids long and result float32 (n_rows, k)."""
    n_rows, vocab_size = logits.shape
    if logits.device.type != "cpu":
        return logits.log_softmax(-1, dtype=torch.float32).gather(1, ids)
    chunk = max(1, CHUNK_ELEMENTS // vocab_size)
    parts = [
        logits[i : i + chunk].log_softmax(-1, dtype=torch.float32).gather(1, ids[i : i + chunk])
        for i in range(0, n_rows, chunk)
    ]
    return torch.cat(parts)


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
    n_sentences, width, vocab_size = logits.shape
    rows, shown = logits.reshape(-1, vocab_size), visible.reshape(-1, vocab_size)
    special = shown[:, : BOS + 1].clone()
    shown[:, PAD] = shown[:, BOS] = DEAD
    values, tokens = top_tokens(shown, k)
    if extra is not None:
        tokens = torch.cat([tokens, extra.flatten(0, 1)], dim=1)
        values = torch.cat([values, _unless_repeated(shown, tokens, values.size(1))], dim=1)
    if must_end.any():
        ending = must_end.repeat_interleave(width)
        tokens[ending, 0] = EOS
        values[ending, 0] = shown[ending, EOS]
        values[ending, 1:] = DEAD
    shown[:, : BOS + 1] = special
    log_probs = log_probs_at(rows, tokens)
    if log_probs.isnan().any():
        raise UserError("the model's log-probabilities are not a number (NaN): its weights are damaged or overflow")
    log_probs.masked_fill_(values == DEAD, DEAD)
    shape = (n_sentences, width, tokens.size(1))
    return tokens.view(shape), log_probs.view(shape)


def _unless_repeated(logits: Tensor, tokens: Tensor, start: int) -> Tensor:
    """Return the logits of tokens[:, start:], -inf for one that stands further left: tokens long (n_rows, n)."""
    same = tokens[:, start:, None] == tokens[:, None, :]
    repeated = same.tril(start - 1).any(-1)
    return logits.gather(1, tokens[:, start:]).masked_fill(repeated, DEAD)


def _top_positions(values: Tensor, k: int) -> Tensor:
    """Return where each row's k largest values, (n_rows, n), are: long (n_rows, k), ascending; ties to the left."""
    if k >= values.size(1):
        return torch.arange(values.size(1), device=values.device).expand(values.size(0), -1)
    top = values.topk(k + 1, dim=1)
    positions = top.indices[:, :k]
    if (top.values[:, k - 1] == top.values[:, k]).any():
        # topk may take any of several equals; a stable sort takes the first.
        positions = values.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return positions.sort(dim=1).values
