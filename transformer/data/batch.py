"""A batch of sentence pairs as the model reads it."""

from collections.abc import Callable, Sequence
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

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """src, tgt_in, tgt_out, src_key_padding_mask."""
        return self.src, self.tgt_in, self.tgt_out, self.src_key_padding_mask

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch with its tensors on `device`; non_blocking: out of pinned memory, without waiting."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pinned(self) -> "Batch":
        """The same batch in memory that an accelerator reads by itself."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        src, tgt_in, tgt_out, mask = (change(tensor) for tensor in self.tensors())
        return Batch(src, tgt_in, tgt_out, mask, self.n_tgt_tokens, self.indices)


def collate(pairs: Sequence[tuple[np.ndarray, np.ndarray]], indices: np.ndarray, round_to: int = 1) -> Batch:
    """Pads pairs of id arrays (no BOS, no EOS) into a Batch.

    No pairs at all give tensors of shape (0, 1): a rank without work in a step.

    Args:
        pairs: source and target ids of each sentence, integer arrays of any lengths.
        indices: (batch,) integers; the pairs' positions in the store.
        round_to: what src_len and tgt_len are to be multiples of.
    """
    src, src_lengths = _pad([src for src, _ in pairs], round_to)
    tgt, tgt_lengths = _pad([tgt for _, tgt in pairs], round_to)
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


def _pad(rows: Sequence[np.ndarray], round_to: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids + EOS + PAD, (batch, longest + 1 rounded up) int64, and the lengths without EOS, (batch,) int64."""
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    width = -(-(int(lengths.max(initial=0)) + 1) // round_to) * round_to if len(rows) else 1
    padded = np.full((len(rows), width), PAD, dtype=np.int64)
    if len(rows):
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(rows)
        padded[np.arange(len(rows)), lengths] = EOS
    return padded, lengths
