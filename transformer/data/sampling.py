"""New segmentations of the same sentences in every epoch (BPE-dropout), and batches that fit their lengths."""

import numpy as np

from transformer.data.batching import by_length, cut, divide
from transformer.data.store import PairStore
from transformer.data.tokenizer.base import TokenizerPair

GROUP = 32
"""Planned batches whose pairs are dealt anew among themselves: sampled lengths are only known once drawn."""

_PROBE = 1000  # pairs from which growth is estimated


def resample(
    store: PairStore, indices: np.ndarray, tokenizers: TokenizerPair, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """New ids of the given pairs, int32; a pair that would be over the store's max_len keeps its stored ids."""
    pairs = [store[i] for i in indices.tolist()]
    src, tgt = tokenizers.sample([src.tolist() for src, _ in pairs], [tgt.tolist() for _, tgt in pairs], seed)
    return [
        (np.asarray(s, dtype=np.int32), np.asarray(t, dtype=np.int32)) if max(len(s), len(t)) <= store.max_len else pair
        for s, t, pair in zip(src, tgt, pairs, strict=True)
    ]


def expected_lengths(store: PairStore, tokenizers: TokenizerPair) -> tuple[np.ndarray, np.ndarray]:
    """The lengths that source and target will have on average once sampled, (pairs,) int64 each, rounded up.

    The growth is measured on 1,000 pairs spread over the store, so that a plan made with these lengths keeps its token
    budget on average.
    """
    indices = np.linspace(0, len(store) - 1, min(_PROBE, len(store))).astype(np.int64)
    probe = resample(store, indices, tokenizers, 0)
    src_growth = sum(len(src) for src, _ in probe) / int(store.src_lengths[indices].sum())
    tgt_growth = sum(len(tgt) for _, tgt in probe) / int(store.tgt_lengths[indices].sum())
    return (
        np.ceil(store.src_lengths * src_growth).astype(np.int64),
        np.ceil(store.tgt_lengths * tgt_growth).astype(np.int64),
    )


def regroup(src_lengths: np.ndarray, tgt_lengths: np.ndarray, n_batches: int, seed: int) -> list[np.ndarray]:
    """Deals pairs into exactly `n_batches` batches of like lengths and of the smallest token budget that allows it.

    Args:
        src_lengths: (pairs,) integers, without EOS.
        tgt_lengths: (pairs,) integers.
        n_batches: how many batches; with fewer pairs than that some are empty.
        seed: decides ties and the order of the batches.

    Returns:
        Arrays of int64 indices; every pair is in exactly one.
    """
    rng = np.random.default_rng(seed)
    order, longest = by_length(src_lengths, tgt_lengths, rng)
    low = int(longest.max(initial=1))
    high = low * max(1, len(longest))  # all pairs in one batch
    while low < high:
        budget = (low + high) // 2
        if len(cut(longest, budget)) <= n_batches:
            high = budget
        else:
            low = budget + 1
    batches = divide(np.split(order, cut(longest, low)[:-1]), n_batches)
    return [batches[i] for i in rng.permutation(n_batches)]
