"""How much of the source a hypothesis has looked at, and the coverage penalty of Wu et al. (2016)."""

from torch import Tensor

from transformer.decoding.search import AttendingState, DecoderState
from transformer.error import UserError

# A source token that nobody looked at has attention 0, whose logarithm is no number to rank by.
LEAST_ATTENTION = 1e-6


def coverage_penalty(sums: Tensor, counts: Tensor) -> Tensor:
    """Return the sum over source tokens of log(min(attention, 1)) (Wu et al., 2016, equation 14): at most 0.

    sums: (..., src_len), the attention that each source token has had from all target tokens together; below
    LEAST_ATTENTION it counts as that much. counts: bool, broadcastable, which source tokens count. Result: (...).
    """
    return sums.clamp(LEAST_ATTENTION, 1.0).log().masked_fill(~counts, 0.0).sum(-1)


class Coverage:
    """The attention so far of `width` hypotheses for each of n_sentences sentences during one search.

    EOS and padding of the source do not count: nothing is left untranslated with them.

    Args:
        state: of a model that tells where it looks; it is asked to do so from now on.
        src_key_padding_mask: bool (n_sentences, src_len), True = padding.

    Raises UserError where the model does not tell.
    """

    def __init__(self, state: DecoderState, src_key_padding_mask: Tensor) -> None:
        if not isinstance(state, AttendingState):
            raise UserError("coverage needs a model that tells its attention, but this one does not; set coverage=0")
        self._state = state
        state.attending = True
        # The last token before the padding is EOS.
        self._counts = ~src_key_padding_mask[:, None].roll(-1, dims=2)
        self._counts[:, :, -1] = False
        self._sums: Tensor | None = None

    def add_step(self) -> None:
        """Take up the attention of the step that was just made."""
        attention = self._state.attention
        assert attention is not None  # `attending` was set before
        self._sums = attention if self._sums is None else self._sums + attention

    def penalty(self) -> Tensor:
        """Return the coverage penalty of every hypothesis, (n_sentences, width)."""
        assert self._sums is not None  # there was a step
        return coverage_penalty(self._sums, self._counts)

    def reorder(self, parents: Tensor) -> None:
        """Let hypothesis j of each sentence go on from hypothesis parents[:, j], long (n_sentences, width)."""
        assert self._sums is not None
        self._sums = self._sums.gather(1, parents.unsqueeze(-1).expand_as(self._sums))

    def keep(self, sentences: Tensor) -> None:
        """Drop all sentences but these, long (k,), in this order."""
        assert self._sums is not None
        self._sums, self._counts = self._sums[sentences], self._counts[sentences]
