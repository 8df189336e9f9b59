"""Greedy search: the likeliest token at every step."""

import torch
from torch import Tensor

from transformer.decoding.candidate import best_candidates
from transformer.decoding.search import Hypothesis, Search, StepModel
from transformer.special import BOS, EOS


class Greedy(Search):
    """Takes the likeliest token at every step until EOS; the score is the log-probability."""

    @property
    def width(self) -> int:
        """One."""
        return 1

    def search(
        self, model: StepModel, src: Tensor, src_key_padding_mask: Tensor, max_lengths: Tensor
    ) -> list[list[Hypothesis]]:
        """Search one translation a sentence, see `Search.search`."""
        n_sentences, device = src.size(0), src.device
        capacity = int(max_lengths.max())
        state = model.start(src, src_key_padding_mask, width=1, capacity=capacity)
        # Sentences that have ended leave the batch: row r below belongs to sentence sentences[r].
        sentences, limits = torch.arange(n_sentences, device=device), max_lengths.to(device)
        ids = torch.full((n_sentences, 1), BOS, device=device)
        chosen = torch.full((n_sentences, capacity), EOS, device=device)
        log_probs = torch.zeros(n_sentences, device=device)
        for step in range(capacity):
            tokens, token_log_probs = best_candidates(model.step(ids, state), 1, limits == step + 1)
            ids = tokens[:, :, 0]
            chosen[sentences, step] = ids[:, 0]
            log_probs[sentences] += token_log_probs[:, 0, 0]
            going = (ids[:, 0] != EOS).nonzero().flatten()
            if going.numel() == 0:
                break
            if going.numel() < ids.size(0):
                state.keep(going)
                sentences, limits, ids = sentences[going], limits[going], ids[going]
        rows = zip(chosen.tolist(), log_probs.tolist(), strict=True)
        return [[Hypothesis(row[: row.index(EOS)], log_prob, log_prob)] for row, log_prob in rows]
