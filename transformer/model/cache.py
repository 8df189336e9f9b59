"""What a decoder remembers between steps: projected keys and values, and which hypothesis owns which."""

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one decoder layer.

    The self-attention cache holds, for each sentence, the keys of all its hypotheses side by side, slot after slot
    within each step: reordering hypotheses moves none of them. Who may look at what is told by `DecoderState.visible`.

    Args:
        memory_key: float (n_sentences, n_heads, src_len, d_head), the memory projected once.
        memory_value: the same shape.
        width: hypotheses a sentence.
        capacity: most steps.
    """

    def __init__(self, memory_key: Tensor, memory_value: Tensor, width: int, capacity: int) -> None:
        n_sentences, n_heads, _, d_head = memory_key.shape
        # In one piece each, or every step would copy them.
        self.memory_key, self.memory_value = memory_key.contiguous(), memory_value.contiguous()
        self.key = memory_key.new_empty(n_sentences, n_heads, capacity * width, d_head)
        self.value = torch.empty_like(self.key)

    def append(self, k: Tensor, v: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Stores k, v (n_sentences, n_heads, width, d_head) of step `length`; returns those of all steps so far.

        Returns:
            keys and values, each float (n_sentences, n_heads, (length + 1) * width, d_head), step-major.
        """
        width = k.size(2)
        self.key[:, :, length * width : (length + 1) * width] = k
        self.value[:, :, length * width : (length + 1) * width] = v
        return self.key[:, :, : (length + 1) * width], self.value[:, :, : (length + 1) * width]

    def keep(self, sentences: Tensor, n_filled: int) -> None:
        """Drops all sentences but these, (k,) long; of the columns only the first `n_filled` hold anything."""
        self.memory_key, self.memory_value = self.memory_key[sentences], self.memory_value[sentences]
        self.key, self.value = (_kept(columns, sentences, n_filled) for columns in (self.key, self.value))


class DecoderState:
    """The state of a search: `width` hypotheses for each of `n_sentences`, all `length` tokens long.

    Args:
        layers: one cache a decoder layer.
        memory_visible: bool (n_sentences, 1, 1, src_len), True = may be looked at.
        width: hypotheses a sentence.
        capacity: most steps.

    Attributes:
        attending: whether steps note their attention to the memory, at the price of torch's fast path in one layer.
        attention: of the last step, float (n_sentences, width, src_len): the last layer's, mean over heads.
    """

    def __init__(self, layers: list[LayerCache], memory_visible: Tensor, width: int, capacity: int) -> None:
        self.layers, self.memory_visible = layers, memory_visible
        self.width, self.capacity, self.length = width, capacity, 0
        self.attending = False
        self.attention: Tensor | None = None
        # owner[n, j, t]: the slot whose step t belongs to the history of hypothesis j of sentence n.
        self.owner = memory_visible.new_zeros((memory_visible.size(0), width, capacity), dtype=torch.long)
        self._slots = torch.arange(width, device=memory_visible.device)

    @property
    def n_sentences(self) -> int:
        """Sentences still searched."""
        return self.owner.size(0)

    def visible(self) -> Tensor | None:
        """Which cached keys, the step under way included, each hypothesis may look at.

        Returns:
            bool (n_sentences, 1, width, (length + 1) * width), or None when there is but one hypothesis a sentence.
        """
        if self.width == 1:
            return None
        self.owner[:, :, self.length] = self._slots
        mine = self.owner[:, :, : self.length + 1, None] == self._slots
        return mine.flatten(2).unsqueeze(1)

    def reorder(self, parents: Tensor) -> None:
        """Hypothesis j of each sentence goes on from the history of parents[:, j], (n_sentences, width) long."""
        if self.width > 1:
            self.owner = self.owner.gather(1, parents.unsqueeze(-1).expand_as(self.owner))

    def keep(self, sentences: Tensor) -> None:
        """Drops all sentences but these, (k,) long, in this order."""
        self.owner = self.owner[sentences]
        self.memory_visible = self.memory_visible[sentences]
        for layer in self.layers:
            layer.keep(sentences, self.length * self.width)


def _kept(columns: Tensor, sentences: Tensor, n_filled: int) -> Tensor:
    """Rows of columns (n_sentences, n_heads, capacity, d_head), copied as far as they are filled."""
    kept = columns.new_empty(sentences.size(0), *columns.shape[1:])
    kept[:, :, :n_filled] = columns[:, :, :n_filled].index_select(0, sentences)
    return kept
