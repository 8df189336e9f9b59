"""What a decoder remembers between steps: projected keys and values, and which hypothesis owns which."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.model.masks import as_bias
from transformer.model.position.base import Offset

NOBODY = -1
COLUMNS = 16  # the memory's length is a multiple: torch's softmax of fewer numbers is four times as slow
TRIM = 0.85  # of a memory's width in use; below it the memory is copied into a narrower one
GATHER_EVERY = 4  # steps, after which keys that nobody sees any more may go
GATHERED = 0.75  # of the keys, at most, are left where it pays to move those


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

    def append(self, k: Tensor, v: Tensor, begin: int, length: int) -> tuple[Tensor, Tensor]:
        """Stores k, v (n_sentences, n_heads, width or 1, d_head) in column `length`; returns all from key `begin` on.

        Those of one slot are stored for all.

        Returns:
            keys and values, each float (n_sentences, n_heads, (length + 1) * width - begin, d_head), step-major.
        """
        end, after = length * self.width, (length + 1) * self.width
        self.key[:, :, end:after] = k
        self.value[:, :, end:after] = v
        return self.key[:, :, begin:after], self.value[:, :, begin:after]

    def keep(self, n_sentences: int, rows: Tensor, sentences: Tensor, begin: int, end: int) -> None:
        """Lets `sentences` take the rows `rows`, both (k,) long, and drops those from n_sentences on.

        begin, end: keys `begin` to `end` are those that somebody looks at. Nothing else is copied.
        """
        # Turned, for rows that are one piece of memory are copied fastest.
        self.memory_key = _placed(self.memory_key.transpose(2, 3), n_sentences, rows, sentences).transpose(2, 3)
        self.memory_value = _placed(self.memory_value, n_sentences, rows, sentences)
        for keys in (self.key, self.value):
            used = keys[:, :, begin:end]
            used[rows] = used[sentences]
        self.key, self.value = self.key[:n_sentences], self.value[:n_sentences]

    def gather(self, rows: Tensor, begin: int, end: int) -> None:
        """Copies the keys `rows`, long, counted over sentences and heads, to the places `begin` to `end` of each."""
        for keys in (self.key, self.value):
            gathered = keys.flatten(0, 2).index_select(0, rows)
            keys[:, :, begin:end] = gathered.view(*keys.shape[:2], end - begin, keys.size(3))

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
    in a later column and sees none before it. Most keys of a beam are soon seen by nobody, for all its hypotheses
    descend from few: now and then those that are seen are gathered in front of the columns to come.

    Args:
        layers: one cache a decoder layer.
        memory_visible: bool (n_sentences, 1, 1, src_len), True = may be looked at.
        width: hypotheses a sentence.
        capacity: most steps of a sentence.
        gathers: whether keys may be gathered; not where what is added to scores depends on a key's column.

    Attributes:
        memory_visible: the same, filled up to a multiple of COLUMNS as the layers' memory is.
        memory_bias: float, of that shape, what it adds to scores.
        first, length: the columns in use, first <= column < length.
        gathered: bool (n_sentences, width, n), which hypothesis sees which of the keys that were gathered, and stand
            before the first column.
        offset: the position of the step under way: an int while all sentences began together, then long
            (n_sentences * width,).
        attending: whether steps note their attention to the memory, at the price of torch's fast path in one layer.
        attention: of the last step, float (n_sentences, width, src_len): the last layer's, mean over heads. Like
            src_len, without what was filled up, it is of a search that admits no sentence.
    """

    def __init__(
        self, layers: list[LayerCache], memory_visible: Tensor, width: int, capacity: int, gathers: bool = False
    ) -> None:
        self.layers, self.src_len = layers, memory_visible.size(-1)
        self.memory_visible = _filled(memory_visible, 3)
        self.memory_bias = as_bias(self.memory_visible)
        self.width, self.capacity, self.first, self.length = width, capacity, 0, 0
        self.offset: Offset = 0
        self.attending = False
        self.attention: Tensor | None = None
        # owner[n, j, t]: the slot whose column t belongs to the history of hypothesis j of sentence n.
        self.owner = memory_visible.new_zeros((memory_visible.size(0), width, capacity), dtype=torch.long)
        self.gathered = memory_visible.new_empty((memory_visible.size(0), width, 0))
        self._gathers, self._look_at = gathers, GATHER_EVERY
        self._slots = torch.arange(width, device=memory_visible.device)
        self._begun: Tensor | None = None  # the first column of every sentence, long (n_sentences,); None: all 0

    @property
    def n_sentences(self) -> int:
        """Sentences still searched."""
        return self.owner.size(0)

    def open_step(self) -> None:
        """Makes room for a step and reckons its position; a sentence that has ended but stays stops counting."""
        if self.length == self.owner.size(2):
            free = 0 if self._begun is None else self.begin // self.width
            n_columns, n_used = self.length if 4 * free >= self.length else 2 * self.length, self.length - free
            for layer in self.layers:
                layer.move(free * self.width, self.length * self.width, n_columns * self.width)
            owner = self.owner.new_full((*self.owner.shape[:2], n_columns), NOBODY)
            owner[:, :, :n_used] = self.owner[:, :, free:]
            self.owner, self.first, self.length = owner, self.first - free, n_used
            self._look_at -= free
            self._begun = None if self._begun is None else self._begun - free
        if self._gathers and self.length >= self._look_at:
            self._gather()
        if self._begun is None:
            self.offset = self.length
        else:
            ages = (self.length - self._begun).clamp(max=self.capacity - 1)
            self.offset = ages.repeat_interleave(self.width)

    @property
    def begin(self) -> int:
        """The first key in use."""
        return self.first * self.width - self.gathered.size(2)

    def visible(self) -> Tensor | None:
        """Which cached keys, the step under way included, each hypothesis may look at.

        Returns:
            bool (n_sentences, 1, width, (length + 1) * width - begin), or None when each sees all: where there is but
            one hypothesis a sentence, and none was admitted later.
        """
        if self.width == 1 and self._begun is None:
            return None
        self.owner[:, :, self.length] = self._slots
        return self._seen(self.length + 1).unsqueeze(1)

    def _seen(self, end: int) -> Tensor:
        """Which keys before column `end` each hypothesis sees: bool (n_sentences, width, end * width - begin)."""
        mine = (self.owner[:, :, self.first : end, None] == self._slots).flatten(2)
        return torch.cat([self.gathered, mine], dim=2) if self.gathered.size(2) else mine

    def _gather(self) -> None:
        """Leaves only keys that somebody sees, and others in sentences that have fewer, if these are few enough."""
        self._look_at = self.length + GATHER_EVERY
        if self.width == 1 and self._begun is None:
            return
        seen = self._seen(self.length)
        wanted = seen.any(dim=1)
        n_wanted = int(wanted.sum(dim=1).max())
        if n_wanted > GATHERED * seen.size(2):
            return
        places = wanted.byte().argsort(dim=1, descending=True, stable=True)[:, :n_wanted]
        n_sentences, n_heads, n_keys, _ = self.layers[0].key.shape
        lists = torch.arange(n_sentences * n_heads, device=places.device).view(n_sentences, n_heads, 1) * n_keys
        rows, end = (lists + self.begin + places.unsqueeze(1)).flatten(), self.length * self.width
        for layer in self.layers:
            layer.gather(rows, end - n_wanted, end)
        self.gathered = seen.gather(2, places.unsqueeze(1).expand(-1, self.width, -1))
        self.first = self.length

    def _begin_at(self, first: int) -> None:
        """Nobody has begun before column `first`."""
        if first > self.first:
            self.first, self.gathered = first, self.gathered[:, :, :0]

    def bias(self) -> Tensor | None:
        """What `visible` adds to scores: float of its shape, or None."""
        visible = self.visible()
        return None if visible is None else as_bias(visible)

    def reorder(self, parents: Tensor) -> None:
        """Hypothesis j of each sentence goes on from the history of parents[:, j], (n_sentences, width) long."""
        if self.width > 1:
            used = self.owner[:, :, self.first : self.length]
            used.copy_(used.gather(1, parents.unsqueeze(-1).expand_as(used)))
            self.gathered = self.gathered.gather(1, parents.unsqueeze(-1).expand_as(self.gathered))

    def keep(self, sentences: Tensor) -> None:
        """Drops all sentences but these, (k,) long, in this order."""
        self.owner, self.gathered = self.owner[sentences], self.gathered[sentences]
        self.memory_visible, self.memory_bias = self.memory_visible[sentences], self.memory_bias[sentences]
        if self._begun is not None:
            self._begun = self._begun[sentences]
            self._begin_at(int(self._begun.min()))
        n_sentences = sentences.size(0)
        rows = (sentences != torch.arange(n_sentences, device=sentences.device)).nonzero().flatten()
        for layer in self.layers:
            layer.keep(n_sentences, rows, sentences[rows], self.begin, self.length * self.width)

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
        gathered = self.gathered.new_zeros((n_sentences, *self.gathered.shape[1:]))
        gathered[:n_old] = self.gathered
        gathered[rows] = False
        self.owner, self.gathered, self._begun = owner, gathered, begun
        self._begin_at(int(begun.min()))


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
