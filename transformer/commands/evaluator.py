"""Evaluating one model: it translates a text, and what comes out is scored and written down."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformer import build
from transformer.commands.result import keep_earlier, translated, write, write_hypotheses
from transformer.commands.search import Way
from transformer.data.corpus import Pair
from transformer.decoding.translator import Translator
from transformer.evaluation.metrics import Metric, Score
from transformer.evaluation.report import Row
from transformer.model.transformer import Transformer
from transformer.training.distributed import World


@dataclass(frozen=True)
class Evaluator:
    """A model, how it searches, and how what it finds is scored.

    Attributes:
        loaded: the model, or an ensemble.
        way: how is searched.
        metrics: what scores the translations.
        n_bootstrap: resamples for the 95% interval, 0 = none.
        world: the device.
        folder: where hypotheses and scores are written.
        facts: what is written beside the scores, besides the search.
        keep: whether files of an earlier evaluation with other facts stay, under another name.
    """

    loaded: build.Loaded
    way: Way
    metrics: Sequence[Metric]
    n_bootstrap: int
    world: World
    folder: Path
    facts: Mapping[str, object]
    keep: bool = False

    @cached_property
    def _translator(self) -> Translator:
        return self.way.translator(self.loaded)

    def evaluate(
        self, system: str, split: str, pairs: Sequence[Pair], file: str | None = None
    ) -> tuple[Row, list[str]]:
        """Translates the source side and scores the translations against the target side.

        Args:
            system: the model's name in the row.
            split: the text's name in the row.
            pairs: source and reference lines.
            file: what the files in the folder are called, before .hyp.txt, .json and .md; None: as the split.

        Returns:
            the scores, and the best translation of each line.
        """
        file = file or split
        sources, references = [pair.src for pair in pairs], [pair.tgt for pair in pairs]
        text = "\n".join(line for pair in pairs for line in pair)
        facts = {**self.facts, **self.way.facts(), "text_sha256": hashlib.sha256(text.encode()).hexdigest()}
        hypotheses = translated(sources, self._translator)
        if self.keep:
            keep_earlier(self.folder, file, facts)
        write_hypotheses(self.folder, file, hypotheses)  # whatever becomes of the metrics
        scores = [m.score_with_sources(sources, hypotheses, references, self.n_bootstrap) for m in self.metrics]
        row = Row(system, split, len(hypotheses), (*scores, *self._losses(pairs)))
        write(self.folder, file, [row], facts)
        return row, hypotheses

    def _losses(self, pairs: Sequence[Pair]) -> tuple[Score, ...]:
        """Loss and perplexity of the references under a single model; nothing for an ensemble."""
        model, tokenizers = self.loaded.model, self.loaded.tokenizers
        if not isinstance(model, Transformer):
            return ()
        max_tokens = self.way.translation.max_tokens
        found = build.reference_loss(model, tokenizers, pairs, max_tokens, self.world, self.way.precision)
        if found is None:
            return ()
        how = f"tokens:{found.n_tgt_tokens}|eos:counted|smoothing:none"
        return (
            Score("loss", found.loss, how, None, None, n_digits=4),
            Score("perplexity", found.perplexity, how, None, None),
        )
