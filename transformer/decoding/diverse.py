"""Diverse beam search: groups of the beam that avoid one another's words."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from transformer.decoding.batch import Batch, Flow
from transformer.decoding.beam import Beam, Choice, choose
from transformer.decoding.candidate import DEAD
from transformer.decoding.penalty import LengthPenalty
from transformer.decoding.required import Required
from transformer.decoding.rule import Rule
from transformer.decoding.search import Hypothesis, StepModel
from transformer.error import UserError


class DiverseBeam(Beam):
    """Beam search in groups (Vijayakumar et al., 2018), with the Hamming diversity of the paper.

    At each step the groups choose one after the other; a token counts less by `strength` for each living hypothesis
    of an earlier group that has just taken it. The discount counts only for that choice: it is not carried along, and
    log-probabilities and scores are the model's. The first group does what a beam of its size does.

    Args:
        beam_size, n_best, penalty, early_stopping, rules: see `Beam`; beam_size counts all groups. Each group gives its
            best translation, then its second best, and so on, until n_best distinct ones are found.
        n_groups: groups, a divisor of beam_size.
        strength: log-probability that a token loses for each use beside it; the paper takes 0.2 to 0.8.

    Raises UserError for impossible settings.
    """

    def __init__(
        self,
        beam_size: int,
        n_groups: int,
        strength: float,
        n_best: int,
        penalty: LengthPenalty,
        early_stopping: bool,
        rules: Sequence[Rule] = (),
    ) -> None:
        super().__init__(beam_size, n_best, penalty, early_stopping, rules)
        if n_groups < 1 or beam_size % n_groups:
            raise UserError(f"beam_size ({beam_size}) must be divisible by n_groups ({n_groups})")
        if not 0 <= strength < math.inf:
            raise UserError(f"strength must be a finite number and not negative, but is {strength}")
        self.n_groups = n_groups
        self.strength = strength

    def _search(self, model: StepModel, batch: Batch, flow: Flow) -> list[list[Hypothesis]]:
        if any(demand.required for demand in batch.demands or ()):
            raise UserError("required phrases need an ordinary beam: choose decoding=beam, or leave them out")
        return super()._search(model, batch, flow)

    def _choose(
        self, logits: Tensor, visible: Tensor, log_probs: Tensor, must_end: Tensor, required: Required | None
    ) -> Choice:
        if self.n_groups == 1:
            return super()._choose(logits, visible, log_probs, must_end, required)
        size = self.beam_size // self.n_groups
        choices: list[Choice] = []
        discount: Tensor | None = None
        for start in range(0, self.beam_size, size):
            group = slice(start, start + size)
            choice = choose(logits[:, group], visible[:, group], log_probs[:, group], must_end, size, None, discount)
            choices.append(choice)
            discount = torch.zeros_like(logits[:, 0]) if discount is None else discount
            used = self.strength * (choice.log_probs > DEAD).to(discount.dtype)
            discount = discount.scatter_add(1, choice.tokens, used)
        offsets = range(0, self.beam_size, size)
        return Choice(
            parents=torch.cat([choice.parents + start for choice, start in zip(choices, offsets, strict=True)], 1),
            tokens=torch.cat([choice.tokens for choice in choices], 1),
            log_probs=torch.cat([choice.log_probs for choice in choices], 1),
            ended_parents=torch.cat(
                [choice.ended_parents + start for choice, start in zip(choices, offsets, strict=True)], 1
            ),
            ended_log_probs=torch.cat([choice.ended_log_probs for choice in choices], 1),
        )
