"""Greedy search: the likeliest token at every step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer.decoding.candidate import DEAD, best_candidates
from transformer.decoding.demand import Demand, start_rules_without_required
from transformer.decoding.rule import Bounds, Rule
from transformer.decoding.search import Hypothesis, NoTranslationError, Search, StepModel
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

    def search(
        self,
        model: StepModel,
        src: Tensor,
        src_key_padding_mask: Tensor,
        max_lengths: Tensor,
        demands: Sequence[Demand] | None = None,
    ) -> list[list[Hypothesis]]:
        """Search one translation a sentence, see `Search.search`; required phrases are refused, they need a beam."""
        n_sentences, device = src.size(0), src.device
        capacity = int(max_lengths.max())
        state = model.start(src, src_key_padding_mask, width=1, capacity=capacity)
        # Sentences that have ended leave the batch: row r below belongs to sentence sentences[r].
        sentences, limits = torch.arange(n_sentences, device=device), max_lengths.to(device)
        bounds = Bounds((~src_key_padding_mask).sum(1) - 1, limits, width=1)
        rules = start_rules_without_required(self.rules, demands, bounds)
        ids = torch.full((n_sentences, 1), BOS, device=device)
        root = torch.zeros_like(ids)
        chosen = torch.full((n_sentences, capacity), EOS, device=device)
        log_probs = torch.zeros(n_sentences, device=device)
        for step in range(capacity):
            logits = model.step(ids, state)
            tokens, token_log_probs = best_candidates(logits, rules.visible(logits), 1, limits == step + 1)
            dead = (token_log_probs[:, 0, 0] == DEAD).nonzero().flatten()
            if dead.numel():
                raise NoTranslationError(int(sentences[dead[0]]), int(limits[dead[0]]))
            ids = tokens[:, :, 0]
            chosen[sentences, step] = ids[:, 0]
            log_probs[sentences] += token_log_probs[:, 0, 0]
            going = (ids[:, 0] != EOS).nonzero().flatten()
            if going.numel() == 0:
                break
            if going.numel() < ids.size(0):
                state.keep(going)
                rules.keep(going)
                sentences, limits, ids = sentences[going], limits[going], ids[going]
            rules.advance(root[: going.numel()], ids)
        rows = zip(chosen.tolist(), log_probs.tolist(), strict=True)
        return [[Hypothesis(row[: row.index(EOS)], log_prob, log_prob)] for row, log_prob in rows]
