"""Beam search."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.decoding.batch import Batch, Flow
from transformer.decoding.candidate import DEAD, best_candidates, best_continuations
from transformer.decoding.coverage import Coverage
from transformer.decoding.demand import start_rules
from transformer.decoding.history import WIDEST, Finished, History
from transformer.decoding.penalty import LengthPenalty
from transformer.decoding.required import Required, in_turn
from transformer.decoding.rows import Rows
from transformer.decoding.rule import Rule
from transformer.decoding.search import Hypothesis, NoTranslationError, Search, StepModel
from transformer.error import UserError
from transformer.special import BOS, EOS


@dataclass(frozen=True)
class Choice:
    """What one step chose, for k sentences.

    parents, tokens: long (k, width), the living hypotheses: slot of the parent and new token.
    log_probs: (k, width), -inf for a slot in which nothing lives.
    ended_parents, ended_log_probs: (k, n), hypotheses that took EOS, -inf where there is none.
    """

    parents: Tensor
    tokens: Tensor
    log_probs: Tensor
    ended_parents: Tensor
    ended_log_probs: Tensor


def choose(
    logits: Tensor,
    visible: Tensor,
    log_probs: Tensor,
    must_end: Tensor,
    width: int,
    required: Required | None = None,
    discount: Tensor | None = None,
) -> Choice:
    """Extend the living hypotheses by one token.

    logits, visible: (k, n_slots, vocab_size), see `best_candidates`. log_probs: (k, n_slots), -inf for a dead slot.
    must_end: bool (k,). width: hypotheses that live on.
    required: the required phrases, among which the beam is then shared out.
    discount: (k, vocab_size), subtracted from a token's log-probability where continuations are compared.

    Of all continuations the best `width` that do not end live on; one that ends counts if it is among the best `width`
    of all. Equal log-probabilities: the lower slot first, then the lower token id.
    """
    if required is None and discount is None:
        # Each hypothesis ends in one way only.
        n = width + logits.size(1)
        parents, tokens, totals = best_continuations(logits, visible, log_probs, n, must_end)
    else:
        parents, tokens, totals = _ranked(logits, visible, log_probs, must_end, required, discount)
    if (n_lacking := width - totals.size(1)) > 0:  # of a small vocabulary
        parents, tokens = F.pad(parents, (0, n_lacking)), F.pad(tokens, (0, n_lacking))
        totals = F.pad(totals, (0, n_lacking), value=DEAD)
    ends = tokens == EOS
    living = ends.long().argsort(dim=1, stable=True)[:, :width]
    return Choice(
        parents=parents.gather(1, living),
        tokens=tokens.gather(1, living),
        log_probs=totals.masked_fill(ends, DEAD).gather(1, living),
        ended_parents=parents[:, :width],
        ended_log_probs=totals[:, :width].masked_fill(~ends[:, :width], DEAD),
    )


def _ranked(
    logits: Tensor,
    visible: Tensor,
    log_probs: Tensor,
    must_end: Tensor,
    required: Required | None,
    discount: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each hypothesis, in the order in which they are to be taken; see `choose`.

    Returns:
        slots of the parents and tokens, both long, and log-probabilities, all (k, n).
    """
    extra = None if required is None else required.next_tokens()
    ranked = visible if discount is None else visible - discount.unsqueeze(1)
    # A hypothesis gives at most its best `width` tokens to the living, and EOS besides.
    tokens, token_log_probs = best_candidates(logits, ranked, logits.size(1) + 1, must_end, extra)
    banks = None if required is None else required.banks(tokens).flatten(1)
    n_tokens = tokens.size(2)
    tokens, totals = tokens.flatten(1), (log_probs.unsqueeze(-1) + token_log_probs).flatten(1)
    merits = totals if discount is None else totals - discount.gather(1, tokens)
    order = merits.sort(dim=1, descending=True, stable=True).indices
    if banks is not None:
        turns = in_turn(banks.gather(1, order), totals.gather(1, order) > DEAD)
        order = order.gather(1, turns)
    return order // n_tokens, tokens.gather(1, order), totals.gather(1, order)


class Beam(Search):
    """Beam search: at every step the `beam_size` likeliest unfinished hypotheses live on.

    Args:
        beam_size: living hypotheses a sentence; 1 with early_stopping is greedy search.
        n_best: translations returned a sentence, at most beam_size.
        penalty: makes the scores that ended hypotheses are ranked by.
        early_stopping: True stops a sentence once beam_size hypotheses have ended, as most toolkits do. False stops
            it only when no living hypothesis can still beat the worst of the n_best kept ones, whatever tokens follow
            up to the maximum length: the result is that of never stopping.
        rules: what a translation may not do, see transformer.decoding.rule.
        coverage: how much it counts against an ended hypothesis that it looked at parts of the source too little
            (beta of Wu et al., 2016, equation 14): its score gains `coverage` times `coverage_penalty`, which is at
            most 0, of the last decoder layer's attention, mean over heads. Living hypotheses compete without it.
            0: off, at no cost.

    Raises UserError for a beam_size, n_best or coverage that is impossible.
    """

    n_groups = 1

    def __init__(
        self,
        beam_size: int,
        n_best: int,
        penalty: LengthPenalty,
        early_stopping: bool,
        rules: Sequence[Rule] = (),
        coverage: float = 0.0,
    ) -> None:
        if not 0 <= coverage < math.inf:
            raise UserError(f"coverage must be a finite number and not negative, but is {coverage}")
        if beam_size < 1:
            raise UserError(f"beam_size must be at least 1, not {beam_size}")
        if beam_size > WIDEST:
            raise UserError(f"beam_size must be at most {WIDEST}, not {beam_size}")
        if not 1 <= n_best <= beam_size:
            raise UserError(f"n_best ({n_best}) must be at least 1 and at most beam_size ({beam_size})")
        self.beam_size = beam_size
        self.n_best = n_best
        self.penalty = penalty
        self.early_stopping = early_stopping
        self.rules = rules
        self.coverage = coverage

    @property
    def width(self) -> int:
        """The beam size."""
        return self.beam_size

    def _search(self, model: StepModel, batch: Batch, flow: Flow) -> list[list[Hypothesis]]:
        """Search the n_best translations of each sentence.

        A sentence has fewer where the vocabulary and the maximum length do not allow as many, and where groups of a
        diverse beam find the same ones.
        """
        width, device = self.beam_size, batch.src.device
        rows = Rows(model, batch, width, flow)
        rules, required = start_rules(self.rules, batch.demands, rows.bounds)
        coverage = Coverage(rows.state, batch.src_key_padding_mask) if self.coverage else None
        history = History(len(batch), width, rows.capacity, device)
        finished = Finished(len(batch), self.n_groups, min(self.n_best, width // self.n_groups), device)
        # All slots hold the same empty hypothesis, so only the first (of each group) may live.
        root = torch.full((width,), DEAD, device=device)
        root[:: width // self.n_groups] = 0.0
        log_probs = root.repeat(rows.sentences.size(0), 1)
        ids = torch.full_like(log_probs, BOS, dtype=torch.long)
        if self.n_groups == 1 and not rules and coverage is None:
            # Where the first slot alone lives, and nothing else is kept of each slot, it is stepped alone.
            ids, log_probs = ids[:, :1], log_probs[:, :1]
        while True:
            logits = model.step(ids, rows.state)
            choice = self._choose(logits, rules.visible(logits), log_probs, rows.must_end(), required)
            history.record(rows.ages, rows.sentences, choice.parents, choice.tokens)
            bonus = None if coverage is None else self._bonus(coverage, choice.ended_parents)
            ended = choice.ended_parents, choice.ended_log_probs
            finished.add(rows.ages, rows.sentences, *ended, self.penalty, bonus)
            rows.state.reorder(choice.parents)
            rules.advance(choice.parents, choice.tokens)
            if coverage is not None:
                coverage.reorder(choice.parents)
            turn = rows.turn(self._going(choice.log_probs, rows, finished))
            if turn is None:
                break
            if turn.kept is not None:
                rules.keep(turn.kept)
                if coverage is not None:
                    coverage.keep(turn.kept)
            ids, log_probs = turn.carry(choice.tokens, BOS), turn.carry(choice.log_probs, root)
            if not rows.all_alive:
                log_probs = log_probs.masked_fill(~rows.alive.unsqueeze(1), DEAD)
        found = finished.hypotheses(history, self.n_best)
        for i, hypotheses in enumerate(found):
            if not hypotheses:
                raise NoTranslationError(i, int(batch.max_lengths[i]))
        return found

    def _refills(self, batch: Batch) -> bool:
        return super()._refills(batch) and not self.coverage

    def _bonus(self, coverage: Coverage, parents: Tensor) -> Tensor:
        """Return what coverage adds to the scores of hypotheses that end behind the slots `parents`, long (k, n)."""
        coverage.add_step()
        return self.coverage * coverage.penalty().gather(1, parents)

    def _choose(
        self, logits: Tensor, visible: Tensor, log_probs: Tensor, must_end: Tensor, required: Required | None
    ) -> Choice:
        return choose(logits, visible, log_probs, must_end, self.beam_size, required)

    def _going(self, log_probs: Tensor, rows: Rows, finished: Finished) -> Tensor:
        """Return which rows to search on, bool (k,); log_probs: (k, width), of their living hypotheses."""
        best = log_probs.unflatten(1, (self.n_groups, -1)).amax(2)
        if self.early_stopping:
            wanted = finished.counts[rows.sentences] < self.beam_size // self.n_groups
        else:
            shortest, longest = (rows.ages + 2).unsqueeze(1), rows.limits.unsqueeze(1)
            wanted = self.penalty.best_attainable(best, shortest, longest) > finished.worst(rows.sentences)
        return (wanted & (best > DEAD)).any(1) & (rows.limits > rows.ages + 1)
