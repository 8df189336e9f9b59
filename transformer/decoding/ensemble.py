"""Several models that decode together."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from transformer.decoding.search import AttendingState, DecoderState, StepModel
from transformer.error import UserError


class EnsembleState:
    """The states of all models; what is done to it is done to each."""

    def __init__(self, states: Sequence[DecoderState]) -> None:
        self.states = list(states)

    @property
    def n_sentences(self) -> int:
        """Sentences still searched."""
        return self.states[0].n_sentences

    @property
    def width(self) -> int:
        """Hypotheses a sentence."""
        return self.states[0].width

    @property
    def attending(self) -> bool:
        """Whether the steps of every model note their attention."""
        return all(isinstance(state, AttendingState) and state.attending for state in self.states)

    @attending.setter
    def attending(self, attending: bool) -> None:
        for state in self.states:
            if not isinstance(state, AttendingState):
                raise UserError("coverage needs models that tell their attention, but one does not; set coverage=0")
            state.attending = attending

    @property
    def attention(self) -> Tensor | None:
        """The mean over the models, see `AttendingState`."""
        found = [state.attention for state in self.states if isinstance(state, AttendingState)]
        tensors = [attention for attention in found if attention is not None]
        return torch.stack(tensors).mean(0) if tensors else None

    def reorder(self, parents: Tensor) -> None:
        """Reorder the hypotheses of every model, see `DecoderState.reorder`."""
        for state in self.states:
            state.reorder(parents)

    def keep(self, sentences: Tensor) -> None:
        """Drop sentences from every model, see `DecoderState.keep`."""
        for state in self.states:
            state.keep(sentences)

    def admit(self, rows: Tensor, fresh: "EnsembleState") -> None:
        """Let other sentences in with every model, see `DecoderState.admit`."""
        for state, fresh_state in zip(self.states, fresh.states, strict=True):
            state.admit(rows, fresh_state)


class Ensemble(nn.Module):
    """Averages the probabilities of models that share their source and target vocabulary.

    log p(token) = log(1/n * sum over models of p_model(token)). A search sees it as one model.

    Args:
        models: at least one, each an nn.Module that steps; they may have different sizes.

    Attributes:
        max_len: the smallest of the models' max_len; None where no model has one.

    Raises UserError without a model.
    """

    def __init__(self, models: Sequence[StepModel]) -> None:
        super().__init__()
        if not models:
            raise UserError("an ensemble needs at least one model, but was given 0")
        self.models: Sequence[StepModel] = nn.ModuleList(models)  # type: ignore[arg-type, assignment]
        limits = [limit for model in models if (limit := getattr(model, "max_len", None)) is not None]
        self.max_len: int | None = min(limits, default=None)

    def start(self, src: Tensor, src_key_padding_mask: Tensor, width: int, capacity: int) -> EnsembleState:
        """Encode with every model, see `StepModel.start`."""
        return EnsembleState(
            [model.start(src, src_key_padding_mask, width=width, capacity=capacity) for model in self.models]
        )

    def step(self, ids: Tensor, state: EnsembleState) -> Tensor:
        """Feed ids, long (n_sentences, width), to every model; return log-probabilities, see `StepModel.step`.

        Raises UserError where the models' vocabularies differ in size.
        """
        total: Tensor | None = None
        for number, (model, part) in enumerate(zip(self.models, state.states, strict=True), start=1):
            log_probs = model.step(ids, part).log_softmax(-1, dtype=torch.float32)
            if total is not None and total.size(-1) != log_probs.size(-1):
                raise UserError(
                    f"model {number} of the ensemble has {log_probs.size(-1)} target tokens, but the first has "
                    f"{total.size(-1)}; models that decode together need the same vocabulary"
                )
            total = log_probs if total is None else torch.logaddexp(total, log_probs)
        assert total is not None  # there is at least one model
        return total - math.log(len(self.models))
