"""Greedy search: the likeliest token at every step."""

from collections.abc import Sequence

import torch

from transformer.decoding.batch import Batch, Flow
from transformer.decoding.candidate import DEAD, best_candidates
from transformer.decoding.demand import start_rules_without_required
from transformer.decoding.rows import Rows, Turn
from transformer.decoding.rule import Rule
from transformer.decoding.search import Hypothesis, Search, StepModel
from transformer.special import BOS, EOS


class Greedy(Search):
    """Takes the likeliest token at every step until EOS; the score is the log-probability.

    rules: what a translation may not do, see transformer.decoding.rule.
    """

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self.rules = rules

    @property
    def width(self) -> int:
        """One."""
        return 1

    def _search(self, model: StepModel, batch: Batch, flow: Flow) -> list[list[Hypothesis]]:
        """Search one translation a sentence; required phrases are refused, they need a beam."""
        rows, device = Rows(model, batch, 1, flow), batch.src.device
        rules = start_rules_without_required(self.rules, batch.demands, rows.bounds)
        ids = torch.full((rows.sentences.size(0), 1), BOS, device=device)
        chosen = torch.full((len(batch), rows.capacity), EOS, device=device)
        log_probs = torch.zeros(len(batch), device=device)
        turn: Turn | None = Turn(rows.sentences.size(0))
        while turn is not None:
            logits = model.step(ids, rows.state)
            tokens, token_log_probs = best_candidates(logits, rules.visible(logits), 1, rows.must_end())
            ids, found = tokens[:, :, 0], token_log_probs[:, 0, 0]
            if not rows.all_alive:
                ids, found = ids.masked_fill(~rows.alive.unsqueeze(1), EOS), found.masked_fill(~rows.alive, 0.0)
            rows.check(found > DEAD)
            chosen[rows.sentences, rows.ages] = ids[:, 0]
            log_probs[rows.sentences] += found
            rules.advance(torch.zeros_like(ids), ids)
            turn = rows.turn(ids[:, 0] != EOS)
            if turn is not None:
                if turn.kept is not None:
                    rules.keep(turn.kept)
                ids = turn.carry(ids, BOS)
        lines = zip(chosen.tolist(), log_probs.tolist(), strict=True)
        return [[Hypothesis(line[: line.index(EOS)], log_prob, log_prob)] for line, log_prob in lines]
