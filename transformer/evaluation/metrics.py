"""BLEU, chrF and TER through sacrebleu: strings in, numbers with a signature out."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import chrf, ter
from sacrebleu.metrics.base import Metric as SacrebleuMetric
from sacrebleu.metrics.bleu import BLEU

from transformer.error import UserError


@dataclass(frozen=True)
class Score:
    """One number about one system on one split.

    name: "BLEU", "BLEU-zh", "BLEU-lc", "chrF2", "chrF2++", "TER"; "-lc" at the end says that case was ignored. Or
        "loss", in nats per token, and "perplexity".
    value: 0-100 (TER may exceed 100: more edits than reference words); loss and perplexity have no bound.
    signature: sacrebleu's, to be quoted with the number.
    low, high: 95% bootstrap interval, None where none was asked for.
    n_digits: decimals that it is shown with.
    """

    name: str
    value: float
    signature: str
    low: float | None
    high: float | None
    n_digits: int = 2


class Metric(ABC):
    """A corpus metric over detokenised lines; it keeps no state between calls.

    name: see `Score`.
    higher_is_better: False for error rates.
    """

    name: str
    higher_is_better: bool = True

    @abstractmethod
    def scorer(self, for_sentences: bool) -> SacrebleuMetric:
        """Return a sacrebleu metric of these settings, for whole corpora or for single sentences."""

    def score(self, hypotheses: Sequence[str], references: Sequence[str], n_bootstrap: int) -> Score:
        """Score a corpus: line i of `hypotheses` against line i of `references`.

        n_bootstrap: resamples for the 95% interval, 0 for none. The resampling is sacrebleu's (Koehn, 2004), seeded
        with its fixed seed, and the interval is the one its command line prints: the resamples' mean +- half the
        distance between the 2.5% and the 97.5% quantile.

        Raises UserError where the counts differ, nothing is there to score, or n_bootstrap is 1 or negative.
        """
        check_lines(hypotheses, references)
        check_resamples(n_bootstrap)
        scorer = self.scorer(for_sentences=False)
        result = scorer.corpus_score(list(hypotheses), [list(references)], n_bootstrap=max(1, n_bootstrap))
        low = high = None
        if n_bootstrap:
            mean, half = float(result._mean), float(result._ci)  # sacrebleu gives NumPy numbers, of chrF float32
            low, high = mean - half, mean + half
        return Score(self.name, float(result.score), str(scorer.get_signature()), low, high)

    def score_with_sources(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], n_bootstrap: int
    ) -> Score:
        """Score a corpus as `score` does; a metric that reads the source text overrides this."""
        return self.score(hypotheses, references, n_bootstrap)

    def sentence_scores(self, hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
        """Score each line alone, 0-100, to find lines worth reading; their mean is not the corpus score.

        Raises UserError where the counts differ or there are no lines.
        """
        check_lines(hypotheses, references)
        scorer = self.scorer(for_sentences=True)
        pairs = zip(hypotheses, references, strict=True)
        return [float(scorer.sentence_score(hypothesis, [reference]).score) for hypothesis, reference in pairs]


class Bleu(Metric):
    """BLEU (Papineni et al., 2002).

    lowercase: ignore case ("BLEU-lc"). tokenize: sacrebleu's tokeniser: 13a, intl, char, zh, none, ...; any but 13a is
    part of the name ("BLEU-zh").
    Raises UserError for a tokeniser that sacrebleu does not have or whose packages are missing.
    """

    def __init__(self, lowercase: bool, tokenize: str) -> None:
        if tokenize not in BLEU.TOKENIZERS:
            raise UserError(f"tokenize is {tokenize!r}, but sacrebleu has {', '.join(BLEU.TOKENIZERS)}")
        self.name = _named("BLEU" if tokenize == "13a" else f"BLEU-{tokenize}", lowercase)
        try:
            self._corpus = BLEU(lowercase=lowercase, tokenize=tokenize)
            self._sentence = BLEU(lowercase=lowercase, tokenize=tokenize, effective_order=True)
        except (ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"sacrebleu's tokeniser {tokenize!r} cannot be used here: {reason}") from error

    def scorer(self, for_sentences: bool) -> SacrebleuMetric:
        """Return sacrebleu's BLEU; single sentences use the effective n-gram order, as `sacrebleu -sl` does."""
        return copy.copy(self._sentence if for_sentences else self._corpus)


class CHRF(chrf.CHRF):  # sacrebleu reads the metric's name out of the class
    """sacrebleu's, all of its numbers plain floats: where some resamples score 0 it mixes two kinds, and fails."""

    def _compute_f_score(self, statistics: list[int]) -> float:
        return float(super()._compute_f_score(statistics))


class TER(ter.TER):
    """sacrebleu's, its number a plain float, for the same reason."""

    def _compute_score_from_stats(self, stats: list[float]) -> ter.TERScore:
        score = super()._compute_score_from_stats(stats)
        score.score = float(score.score)
        return score


class ChrF(Metric):
    """Character n-gram F-score: chrF2 with word_order 0 (Popović, 2015), chrF2++ with word_order 2 (Popović, 2017).

    Raises UserError for a negative word_order.
    """

    def __init__(self, word_order: int, lowercase: bool) -> None:
        if word_order < 0:
            raise UserError(f"word_order must be 0 (chrF) or more (2: chrF++), not {word_order}")
        self._scorer = CHRF(word_order=word_order, lowercase=lowercase)
        self.name = _named(f"chrF{self._scorer.beta}" + "+" * word_order, lowercase)

    def scorer(self, for_sentences: bool) -> SacrebleuMetric:
        """Return sacrebleu's chrF, which is the same for corpora and sentences."""
        return copy.copy(self._scorer)


class Ter(Metric):
    """Translation edit rate (Snover et al., 2006), lower is better.

    lowercase: True is what Tercom and sacrebleu do unless told otherwise ("TER-lc"), False keeps case ("TER").
    """

    higher_is_better = False

    def __init__(self, lowercase: bool) -> None:
        self._scorer = TER(case_sensitive=not lowercase)
        self.name = _named("TER", lowercase)

    def scorer(self, for_sentences: bool) -> SacrebleuMetric:
        """Return sacrebleu's TER, which is the same for corpora and sentences."""
        return copy.copy(self._scorer)


def check_resamples(n_bootstrap: int) -> None:
    """Raise UserError unless the number of resamples is 0 or at least 2."""
    if n_bootstrap < 0 or n_bootstrap == 1:
        raise UserError(f"n_bootstrap must be 0 (no interval) or at least 2 resamples, not {n_bootstrap}")


def check_lines(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raise UserError, with both counts, unless there is one hypothesis for each reference and at least one."""
    if len(hypotheses) != len(references):
        raise UserError(
            f"there are {len(hypotheses)} hypotheses but {len(references)} references; each line needs its own"
        )
    if not references:
        raise UserError("there is nothing to score: 0 hypotheses and 0 references")


def _named(name: str, lowercase: bool) -> str:
    return f"{name}-lc" if lowercase else name
