"""What a decoder remembers between steps: projected keys and values, and which hypothesis owns which."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.model.masks import as_bias
from transformer.model.position.base import Offset

NOBODY = -1
COLUMNS = 16  # keys are a multiple: torch's softmax of fewer numbers is four times as slow
TRIM = 0.85  # of a memory's width in use; below it the memory is copied into a narrower one
ROOM = 8  # steps that there is room for, before keys that nobody sees any more are left behind


class LayerCache:
    """Keys and values of one decoder layer.

    The self-attention cache holds, for each sentence, the keys of all its hypotheses side by side, slot after slot
    within each step: reordering hypotheses moves none of them. Who may look at what is told by `DecoderState.visible`.

    Args:
        memory_key: float (n_sentences, n_heads, src_len, d_head), the memory projected once.
        memory_value: the same shape.
        width: hypotheses a sentence.

    Attributes:
        memory_key, memory_value: the same, filled up with zeros to a multiple of COLUMNS, which nobody may look at.
        key, value: those of the steps, float (n_sentences, n_heads, room, d_head); zeros where nothing was stored.
    """

    def __init__(self, memory_key: Tensor, memory_value: Tensor, width: int) -> None:
        n_sentences, n_heads, _, d_head = memory_key.shape
        # In one piece each, or every step would copy them.
        self.memory_key = _by_column(_filled(memory_key, 2))
        self.memory_value = _filled(memory_value, 2).contiguous()
        self.width = width
        self.key = memory_key.new_empty(n_sentences, n_heads, 0, d_head)
        self.value = torch.empty_like(self.key)

    def append(self, k: Tensor, v: Tensor, end: int, n_shown: int) -> tuple[Tensor, Tensor]:
        """Stores k, v (n_sentences, n_heads, width or 1, d_head) behind the first `end` keys.

        Those of one slot are stored for all.

        Returns:
            the first n_shown keys and values, each float (n_sentences, n_heads, n_shown, d_head).
        """
        after = end + self.width
        self.key[:, :, end:after] = k
        self.value[:, :, end:after] = v
        return self.key[:, :, :n_shown], self.value[:, :, :n_shown]

    def keep(self, n_sentences: int, rows: Tensor, sentences: Tensor) -> None:
        """Lets `sentences` take the rows `rows`, both (k,) long, and drops those from n_sentences on."""
        # Turned, for rows that are one piece of memory are copied fastest.
        self.memory_key, self.key = (
            _placed(keys.transpose(2, 3), n_sentences, rows, sentences).transpose(2, 3)
            for keys in (self.memory_key, self.key)
        )
        self.memory_value, self.value = (
            _placed(values, n_sentences, rows, sentences) for values in (self.memory_value, self.value)
        )

    def gather(self, places: Tensor, n_room: int) -> None:
        """Moves the keys at `places`, long (n_sentences, n), to the front of a store of n_room."""
        n_sentences, n_heads, n_stored, d_head = self.key.shape
        n, shape = places.size(1), (n_sentences, n_heads, n_room, d_head)
        lists = torch.arange(n_sentences * n_heads, device=places.device).view(n_sentences, n_heads, 1)
        rows = (lists * n_stored + places.unsqueeze(1)).flatten()
        value = self.value.new_empty(shape)
        value[:, :, :n] = self.value.flatten(0, 2).index_select(0, rows).view(*shape[:2], n, d_head)
        if self.width > 1 and self.key.device.type == "cpu":  # which multiplies keys by column fastest
            key = self.key.new_empty(*shape[:2], d_head, n_room).transpose(2, 3)
            across = places[:, None, None].expand(*shape[:2], d_head, n)
            key[:, :, :n] = self.key.transpose(2, 3).gather(3, across).transpose(2, 3)
        else:
            key = self.key.new_empty(shape)
            key[:, :, :n] = self.key.flatten(0, 2).index_select(0, rows).view(*shape[:2], n, d_head)
        key[:, :, n:] = value[:, :, n:] = 0.0  # nobody looks there, but what memory happened to hold may be NaN
        self.key, self.value = key, value

    def admit(self, rows: Tensor, fresh: "LayerCache", n_sentences: int, src_len: int) -> None:
        """Lets the sentences of `fresh` take the rows `rows`, (k,) long, of n_sentences altogether.

        src_len: tokens of the memory, as many as before unless it is to be copied.
        """
        n_old, _, old_len, _ = self.memory_key.shape
        if n_sentences > n_old:
            self.key = _widened(self.key.transpose(2, 3), n_sentences).transpose(2, 3)
            self.value = _widened(self.value, n_sentences)
        if n_sentences > n_old or src_len != old_len:
            self.memory_key = _by_column(_widened(self.memory_key, n_sentences, src_len))
            self.memory_value = _widened(self.memory_value, n_sentences, src_len)
        common = min(src_len, fresh.memory_key.size(2))
        self.memory_key[rows, :, :common] = fresh.memory_key[:, :, :common]
        self.memory_value[rows, :, :common] = fresh.memory_value[:, :, :common]


class DecoderState:
    """The state of a search: `width` hypotheses for each of `n_sentences` sentences.

    All sentences are stepped together, each step in the next column of the caches. One that is admitted later begins
    in a later column and sees none before it. Most keys of a beam are soon seen by nobody, for all its hypotheses
    descend from few: every few steps those that are seen are gathered in front.

    Args:
        layers: one cache a decoder layer.
        memory_visible: bool (n_sentences, 1, 1, src_len), True = may be looked at.
        width: hypotheses a sentence.
        capacity: most steps of a sentence.
        in_columns: whether all keys of a step must stay side by side, for what is added to scores depends on how far
            apart the columns of keys are.

    Attributes:
        memory_visible: the same, filled up to a multiple of COLUMNS as the layers' memory is.
        memory_bias: float, of that shape, what it adds to scores.
        length: steps made.
        offset: the position of the step under way: an int while all sentences began together, then long
            (n_sentences * width,).
        gathered: bool (n_sentences, width, n), which hypothesis sees which of the n keys that were gathered.
        owner: long (n_sentences, width, columns): the slot whose key of each step since then belongs to the history of
            this hypothesis.
        attending: whether steps note their attention to the memory, at the price of torch's fast path in one layer.
        attention: of the last step, float (n_sentences, width, src_len): the last layer's, mean over heads. Like
            src_len, without what was filled up, it is of a search that admits no sentence.
    """

    def __init__(
        self, layers: list[LayerCache], memory_visible: Tensor, width: int, capacity: int, in_columns: bool
    ) -> None:
        self.layers, self.src_len = layers, memory_visible.size(-1)
        self.memory_visible = _filled(memory_visible, 3)
        self.memory_bias = as_bias(self.memory_visible)
        self.width, self.capacity, self.length = width, capacity, 0
        self.offset: Offset = 0
        self.attending = False
        self.attention: Tensor | None = None
        self.gathered = memory_visible.new_empty((memory_visible.size(0), width, 0))
        self.owner = self.gathered.long()
        self._in_columns, self._first = in_columns, 0  # the column of the first owner
        self._slots = torch.arange(width, device=memory_visible.device)
        self._begun: Tensor | None = None  # the first column of every sentence, long (n_sentences,); None: all 0

    @property
    def n_sentences(self) -> int:
        """Sentences still searched."""
        return self.owner.size(0)

    @property
    def n_keys(self) -> int:
        """Keys stored a sentence."""
        return self.gathered.size(2) + (self.length - self._first) * self.width

    @property
    def n_shown(self) -> int:
        """Keys that attention is to be reckoned with in this step, those of the step and those filled up included."""
        n_keys = self.n_keys + self.width
        return n_keys if self._all_visible or self.owner.device.type != "cpu" else _up(n_keys)

    @property
    def _all_visible(self) -> bool:
        return self.width == 1 and self._begun is None

    def open_step(self) -> None:
        """Makes room for a step and reckons its position; a sentence that has ended but stays stops counting."""
        if self.length - self._first == self.owner.size(2):
            self._gather()
        if self._begun is None:
            self.offset = self.length
        else:
            ages = (self.length - self._begun).clamp(max=self.capacity - 1)
            self.offset = ages.repeat_interleave(self.width)

    def visible(self) -> Tensor | None:
        """Which cached keys, the step under way included, each hypothesis may look at.

        Returns:
            bool (n_sentences, 1, width, n_shown), or None when each sees all: where there is but one hypothesis a
            sentence, and none was admitted later.
        """
        if self._all_visible:
            return None
        self.owner[:, :, self.length - self._first] = self._slots
        seen = self._seen(self.length + 1)
        return F.pad(seen, (0, self.n_shown - seen.size(2))).unsqueeze(1)

    def _seen(self, end: int) -> Tensor:
        """Which keys before column `end` each hypothesis sees: bool (n_sentences, width, n_keys)."""
        mine = (self.owner[:, :, : end - self._first, None] == self._slots).flatten(2)
        return torch.cat([self.gathered, mine], dim=2)

    def _gather(self) -> None:
        """Leaves only keys that somebody sees (and others in sentences that have fewer), with room for more."""
        seen = self._seen(self.length)
        places = self._wanted(seen)
        n_columns = ROOM if self.width > 1 else 2 * ROOM
        n_room = _up(places.size(1) + n_columns * self.width)
        for layer in self.layers:
            layer.gather(places, n_room)
        self.gathered = seen.gather(2, places.unsqueeze(1).expand(-1, self.width, -1))
        self.owner, self._first = self.owner.new_zeros((*self.owner.shape[:2], n_columns)), self.length

    def _wanted(self, seen: Tensor) -> Tensor:
        """The places of the keys to stay, long (n_sentences, n), ascending; seen: all there are, see `_seen`."""
        n_sentences, _, n_keys = seen.shape
        if self._in_columns or self._all_visible or n_keys == 0:
            n_old = 0 if self._begun is None else int(self._begun.min()) - (self.length - n_keys // self.width)
            return torch.arange(max(0, n_old) * self.width, n_keys, device=seen.device).expand(n_sentences, -1)
        wanted = seen.any(dim=1)
        n_wanted = int(wanted.sum(dim=1).max())
        return wanted.byte().argsort(dim=1, descending=True, stable=True)[:, :n_wanted]

    def bias(self) -> Tensor | None:
        """What `visible` adds to scores: float of its shape, or None."""
        visible = self.visible()
        return None if visible is None else as_bias(visible)

    def reorder(self, parents: Tensor) -> None:
        """Hypothesis j of each sentence goes on from the history of parents[:, j], (n_sentences, width) long."""
        if self.width > 1:
            self.owner, self.gathered = (
                of_slots.gather(1, parents.unsqueeze(-1).expand_as(of_slots))
                for of_slots in (self.owner, self.gathered)
            )

    def keep(self, sentences: Tensor) -> None:
        """Drops all sentences but these, (k,) long, in this order."""
        self.owner, self.gathered = self.owner[sentences], self.gathered[sentences]
        self.memory_visible, self.memory_bias = self.memory_visible[sentences], self.memory_bias[sentences]
        if self._begun is not None:
            self._begun = self._begun[sentences]
        n_sentences = sentences.size(0)
        rows = (sentences != torch.arange(n_sentences, device=sentences.device)).nonzero().flatten()
        for layer in self.layers:
            layer.keep(n_sentences, rows, sentences[rows])

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
            layer.admit(rows, fresh_layer, n_sentences, src_len)
        begun = torch.zeros(n_sentences, dtype=torch.long, device=rows.device)
        if self._begun is not None:
            begun[:n_old] = self._begun
        begun[rows] = self.length
        owner = self.owner.new_full((n_sentences, *self.owner.shape[1:]), NOBODY)
        gathered = self.gathered.new_zeros((n_sentences, *self.gathered.shape[1:]))
        owner[:n_old], gathered[:n_old] = self.owner, self.gathered
        owner[rows], gathered[rows] = NOBODY, False
        self.owner, self.gathered, self._begun = owner, gathered, begun


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


def _placed(x: Tensor, n_sentences: int, rows: Tensor, sentences: Tensor) -> Tensor:
    """The first n_sentences of x, where `sentences` have taken the rows `rows`, both long (k,)."""
    x[rows] = x[sentences]
    return x[:n_sentences]


def _widened(keys: Tensor, n_sentences: int, n_keys: int | None = None) -> Tensor:
    """Keys (n_old, n_heads, any, d_head) as (n_sentences, n_heads, n_keys, d_head), new ones zero; None: as many."""
    n_old, n_heads, old_len, d_head = keys.shape
    n_keys = old_len if n_keys is None else n_keys
    common = min(old_len, n_keys)
    widened = keys.new_zeros(n_sentences, n_heads, n_keys, d_head)
    widened[:n_old, :, :common] = keys[:, :, :common]
    return widened
