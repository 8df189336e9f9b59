"""What a decoder remembers between steps: projected keys and values, and which hypothesis owns which."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.model.masks import as_bias
from transformer.model.position.base import Offset

NOBODY = -1
COLUMNS = 16  # the memory's length is a multiple: torch's softmax of fewer numbers is four times as slow
TRIM = 0.85  # of a memory's width in use; below it the memory is copied into a narrower one


class LayerCache:
    """Keys and values of one decoder layer.

    The self-attention cache holds, for each sentence, the keys of all its hypotheses side by side, slot after slot
    within each step: reordering hypotheses moves none of them. Who may look at what is told by `DecoderState.visible`.

    Args:
        memory_key: float (n_sentences, n_heads, src_len, d_head), the memory projected once.
        memory_value: the same shape.
        width: hypotheses a sentence.
        capacity: steps to have room for.

    Attributes:
        memory_key, memory_value: the same, filled up with zeros to a multiple of COLUMNS, which nobody may look at.
    """

    def __init__(self, memory_key: Tensor, memory_value: Tensor, width: int, capacity: int) -> None:
        n_sentences, n_heads, _, d_head = memory_key.shape
        # In one piece each, or every step would copy them.
        self.memory_key = _by_column(_filled(memory_key, 2))
        self.memory_value = _filled(memory_value, 2).contiguous()
        self.width = width
        self.key = memory_key.new_empty(n_sentences, n_heads, capacity * width, d_head)
        self.value = torch.empty_like(self.key)

    def append(self, k: Tensor, v: Tensor, first: int, length: int) -> tuple[Tensor, Tensor]:
        """Stores k, v (n_sentences, n_heads, width or 1, d_head) in column `length`; returns those from `first` on.

        Those of one slot are stored for all.

        Returns:
            keys and values, each float (n_sentences, n_heads, (length + 1 - first) * width, d_head), step-major.
        """
        width = self.width
        begin, end, after = first * width, length * width, (length + 1) * width
        self.key[:, :, end:after] = k
        self.value[:, :, end:after] = v
        return self.key[:, :, begin:after], self.value[:, :, begin:after]

    def keep(self, sentences: Tensor, begin: int, end: int) -> None:
        """Drops all sentences but these, (k,) long; keys `begin` to `end` are those that somebody looks at."""
        # Turned, for rows that are one piece of memory are copied fastest.
        self.memory_key = _by_column(self.memory_key.transpose(2, 3).index_select(0, sentences).transpose(2, 3))
        self.memory_value = self.memory_value.index_select(0, sentences)
        self.key, self.value = (_kept(keys, sentences, begin, end) for keys in (self.key, self.value))

    def move(self, begin: int, end: int, n_keys: int) -> None:
        """Moves keys `begin` to `end` to the front of a store of n_keys."""
        self.key, self.value = (_moved(keys, begin, end, n_keys) for keys in (self.key, self.value))

    def admit(self, rows: Tensor, fresh: "LayerCache", n_sentences: int, src_len: int, end: int) -> None:
        """Lets the sentences of `fresh` take the rows `rows`, (k,) long, of n_sentences altogether.

        src_len: tokens of the memory, as many as before unless it is to be copied. end: keys stored so far.
        """
        n_old, _, old_len, _ = self.memory_key.shape
        if n_sentences > n_old:
            # Zeros, for nobody may look there, but a weight of zero times what memory happened to hold may be NaN.
            self.key, self.value = (_grown(keys, n_sentences, end) for keys in (self.key, self.value))
        if n_sentences > n_old or src_len != old_len:
            self.memory_key = _by_column(_widened(self.memory_key, n_sentences, src_len))
            self.memory_value = _widened(self.memory_value, n_sentences, src_len)
        common = min(src_len, fresh.memory_key.size(2))
        self.memory_key[rows, :, :common] = fresh.memory_key[:, :, :common]
        self.memory_value[rows, :, :common] = fresh.memory_value[:, :, :common]


class DecoderState:
    """The state of a search: `width` hypotheses for each of `n_sentences` sentences.

    All sentences are stepped together, each step in the next column of the caches. One that is admitted later begins
    in a later column and sees none before it.

    Args:
        layers: one cache a decoder layer.
        memory_visible: bool (n_sentences, 1, 1, src_len), True = may be looked at.
        width: hypotheses a sentence.
        capacity: most steps of a sentence.

    Attributes:
        memory_visible: the same, filled up to a multiple of COLUMNS as the layers' memory is.
        memory_bias: float, of that shape, what it adds to scores.
        first, length: the columns in use, first <= column < length.
        offset: the position of the step under way: an int while all sentences began together, then long
            (n_sentences * width,).
        attending: whether steps note their attention to the memory, at the price of torch's fast path in one layer.
        attention: of the last step, float (n_sentences, width, src_len): the last layer's, mean over heads. Like
            src_len, without what was filled up, it is of a search that admits no sentence.
    """

    def __init__(self, layers: list[LayerCache], memory_visible: Tensor, width: int, capacity: int) -> None:
        self.layers, self.src_len = layers, memory_visible.size(-1)
        self.memory_visible = _filled(memory_visible, 3)
        self.memory_bias = as_bias(self.memory_visible)
        self.width, self.capacity, self.first, self.length = width, capacity, 0, 0
        self.offset: Offset = 0
        self.attending = False
        self.attention: Tensor | None = None
        # owner[n, j, t]: the slot whose column t belongs to the history of hypothesis j of sentence n.
        self.owner = memory_visible.new_zeros((memory_visible.size(0), width, capacity), dtype=torch.long)
        self._slots = torch.arange(width, device=memory_visible.device)
        self._begun: Tensor | None = None  # the first column of every sentence, long (n_sentences,); None: all 0

    @property
    def n_sentences(self) -> int:
        """Sentences still searched."""
        return self.owner.size(0)

    def open_step(self) -> None:
        """Makes room for a step and reckons its position; a sentence that has ended but stays stops counting."""
        if self.length == self.owner.size(2):
            first, n_used = self.first, self.length - self.first
            n_columns = self.length if 4 * first >= self.length else 2 * self.length
            for layer in self.layers:
                layer.move(first * self.width, self.length * self.width, n_columns * self.width)
            owner = self.owner.new_full((*self.owner.shape[:2], n_columns), NOBODY)
            owner[:, :, :n_used] = self.owner[:, :, first:]
            self.owner, self.first, self.length = owner, 0, n_used
            self._begun = None if self._begun is None else self._begun - first
        if self._begun is None:
            self.offset = self.length
        else:
            ages = (self.length - self._begun).clamp(max=self.capacity - 1)
            self.offset = ages.repeat_interleave(self.width)

    def visible(self) -> Tensor | None:
        """Which cached keys, the step under way included, each hypothesis may look at.

        Returns:
            bool (n_sentences, 1, width, (length + 1 - first) * width), or None when each sees all: where there is but
            one hypothesis a sentence, and none was admitted later.
        """
        if self.width == 1 and self._begun is None:
            return None
        self.owner[:, :, self.length] = self._slots
        mine = self.owner[:, :, self.first : self.length + 1, None] == self._slots
        return mine.flatten(2).unsqueeze(1)

    def bias(self) -> Tensor | None:
        """What `visible` adds to scores: float of its shape, or None."""
        visible = self.visible()
        return None if visible is None else as_bias(visible)

    def reorder(self, parents: Tensor) -> None:
        """Hypothesis j of each sentence goes on from the history of parents[:, j], (n_sentences, width) long."""
        if self.width > 1:
            self.owner = self.owner.gather(1, parents.unsqueeze(-1).expand_as(self.owner))

    def keep(self, sentences: Tensor) -> None:
        """Drops all sentences but these, (k,) long, in this order."""
        self.owner = self.owner[sentences]
        self.memory_visible, self.memory_bias = self.memory_visible[sentences], self.memory_bias[sentences]
        if self._begun is not None:
            self._begun = self._begun[sentences]
            self.first = int(self._begun.min())
        for layer in self.layers:
            layer.keep(sentences, self.first * self.width, self.length * self.width)

    def admit(self, rows: Tensor, fresh: "DecoderState") -> None:
        """Lets the sentences of `fresh`, which has made no step, take the places of those in `rows`.

        rows: (k,) long; n_sentences and the numbers after it are new places. Each sentence of `fresh` gets one.
        """
        n_old, _, _, old_len = self.memory_visible.shape
        n_sentences = max(n_old, int(rows.max()) + 1)
        visible = self.memory_visible.new_zeros(n_sentences, 1, 1, max(old_len, fresh.memory_visible.size(3)))
        visible[:n_old, :, :, :old_len] = self.memory_visible
        visible[rows] = False
        visible[rows, :, :, : fresh.memory_visible.size(3)] = fresh.memory_visible
        needed = _up(int(visible.any(0).flatten().nonzero().max()) + 1)
        src_len = old_len if TRIM * old_len <= needed <= old_len else needed
        self.memory_visible = visible[:, :, :, :src_len]
        self.memory_bias = as_bias(self.memory_visible)
        for layer, fresh_layer in zip(self.layers, fresh.layers, strict=True):
            layer.admit(rows, fresh_layer, n_sentences, src_len, self.length * self.width)
        begun = self.owner.new_zeros(n_sentences)
        if self._begun is not None:
            begun[:n_old] = self._begun
        begun[rows] = self.length
        owner = self.owner.new_full((n_sentences, *self.owner.shape[1:]), NOBODY)
        owner[:n_old] = self.owner
        owner[rows] = NOBODY
        self.owner, self._begun, self.first = owner, begun, int(begun.min())


def _up(n: int) -> int:
    """The next multiple of COLUMNS."""
    return -(-n // COLUMNS) * COLUMNS


def _filled(x: Tensor, dim: int) -> Tensor:
    """x, filled up with zeros along a dimension to a multiple of COLUMNS."""
    n_more = _up(x.size(dim)) - x.size(dim)
    return F.pad(x, (*[0] * (2 * (x.dim() - 1 - dim)), 0, n_more)) if n_more else x


def _by_column(keys: Tensor) -> Tensor:
    """The same keys, (n_sentences, n_heads, n_keys, d_head), in the order in which a CPU multiplies them fastest."""
    if keys.device.type != "cpu":  # where kernels want the numbers of a key side by side
        return keys.contiguous()
    return keys.transpose(2, 3).contiguous().transpose(2, 3)


def _kept(keys: Tensor, sentences: Tensor, begin: int, end: int) -> Tensor:
    """Rows of keys (n_sentences, n_heads, n_keys, d_head), copied as far as they are used."""
    kept = keys.new_empty(sentences.size(0), *keys.shape[1:])
    kept[:, :, begin:end] = keys[:, :, begin:end].index_select(0, sentences)
    return kept


def _moved(keys: Tensor, begin: int, end: int, n_keys: int) -> Tensor:
    """Keys `begin` to `end` of (n_sentences, n_heads, any, d_head) at the front of n_keys."""
    n_sentences, n_heads, _, d_head = keys.shape
    moved = keys.new_empty(n_sentences, n_heads, n_keys, d_head)
    moved[:, :, : end - begin] = keys[:, :, begin:end]
    return moved


def _grown(keys: Tensor, n_sentences: int, end: int) -> Tensor:
    """Keys (n_old, n_heads, n_keys, d_head) with more sentences, whose first `end` keys are zero."""
    grown = keys.new_empty(n_sentences, *keys.shape[1:])
    grown[: keys.size(0), :, :end] = keys[:, :, :end]
    grown[keys.size(0) :, :, :end] = 0.0
    return grown


def _widened(keys: Tensor, n_sentences: int, src_len: int) -> Tensor:
    """Keys (n_old, n_heads, old_len, d_head) as (n_sentences, n_heads, src_len, d_head), new ones zero."""
    n_old, n_heads, old_len, d_head = keys.shape
    common = min(old_len, src_len)
    widened = keys.new_zeros(n_sentences, n_heads, src_len, d_head)
    widened[:n_old, :, :common] = keys[:, :, :common]
    return widened
