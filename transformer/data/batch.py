"""A batch of sentence pairs as the model reads it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from transformer.special import BOS, EOS, PAD


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded sentence pairs.

    Attributes:
        src: (batch, src_len) long; source ids, then EOS, then PAD.
        tgt_in: (batch, tgt_len) long; BOS, then target ids, then PAD: what the decoder reads.
        tgt_out: (batch, tgt_len) long; target ids, then EOS, then PAD: what it is to say.
        src_key_padding_mask: (batch, src_len) bool; True = padding.
        n_tgt_tokens: positions of tgt_out that are not padding, EOS included.
        indices: (batch,) int64; the pairs' positions in the store.
    """

    src: torch.Tensor
    tgt_in: torch.Tensor
    tgt_out: torch.Tensor
    src_key_padding_mask: torch.Tensor
    n_tgt_tokens: int
    indices: np.ndarray

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on `device`."""
        return Batch(
            self.src.to(device),
            self.tgt_in.to(device),
            self.tgt_out.to(device),
            self.src_key_padding_mask.to(device),
            self.n_tgt_tokens,
            self.indices,
        )


def collate(pairs: Sequence[tuple[np.ndarray, np.ndarray]], indices: np.ndarray) -> Batch:
    """Pads pairs of id arrays (no BOS, no EOS) into a Batch.

    No pairs at all give tensors of shape (0, 1): a rank without work in a step.

    Args:
        pairs: source and target ids of each sentence, integer arrays of any lengths.
        indices: (batch,) integers; the pairs' positions in the store.
    """
    src, src_lengths = _pad([src for src, _ in pairs])
    tgt, tgt_lengths = _pad([tgt for _, tgt in pairs])
    inside = np.arange(tgt.shape[1] - 1) < tgt_lengths[:, None]
    tgt_in = np.full_like(tgt, BOS)
    tgt_in[:, 1:] = np.where(inside, tgt[:, :-1], PAD)
    return Batch(
        src=torch.from_numpy(src),
        tgt_in=torch.from_numpy(tgt_in),
        tgt_out=torch.from_numpy(tgt),
        src_key_padding_mask=torch.from_numpy(np.arange(src.shape[1]) > src_lengths[:, None]),
        n_tgt_tokens=int(tgt_lengths.sum()) + len(pairs),
        indices=np.asarray(indices, dtype=np.int64),
    )


def _pad(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ids + EOS + PAD, (batch, longest + 1) int64, and the lengths without EOS, (batch,) int64."""
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    padded = np.full((len(rows), int(lengths.max(initial=0)) + 1), PAD, dtype=np.int64)
    if len(rows):
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(rows)
        padded[np.arange(len(rows)), lengths] = EOS
    return padded, lengths
