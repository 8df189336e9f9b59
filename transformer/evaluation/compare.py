"""Several systems on one test set: scores, significance, where they differ, lines to read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from transformer.error import UserError
from transformer.evaluation.bucket import (
    FREQUENCY_EDGES,
    LENGTH_EDGES,
    Breakdown,
    Example,
    breakdown_table,
    largest_differences,
    length_buckets,
    rarity_buckets,
    score_buckets,
    word_counts,
    word_f1,
)
from transformer.evaluation.metrics import Metric
from transformer.evaluation.report import Row, as_data, text_table
from transformer.evaluation.significance import Difference, Significance, significance_table


@dataclass(frozen=True)
class Examples:
    """The lines on which one system gains most over the baseline and loses most. metric: by which."""

    system: str
    baseline: str
    metric: str
    gains: tuple[Example, ...]
    losses: tuple[Example, ...]


@dataclass(frozen=True)
class Comparison:
    """All that is said about systems on one split; the first system is the baseline.

    sources: the source lines, None where they were not given.
    """

    split: str
    rows: tuple[Row, ...]
    significance: Significance
    differences: tuple[Difference, ...]
    breakdowns: tuple[Breakdown, ...]
    examples: tuple[Examples, ...]
    sources: tuple[str, ...] | None

    def text(self) -> str:
        """Return it for a terminal, without the examples' lines of text."""
        said = {(score.name, score.signature) for row in self.rows for score in row.scores}
        parts = [
            text_table([replace(row, split="") for row in self.rows]),
            significance_table(self.differences, self.significance, said),
        ]
        return "\n".join([f"on {self.split}", *parts, *map(breakdown_table, self.breakdowns)])

    def data(self) -> dict[str, object]:
        """Return it as dictionaries, lists, strings and numbers: what `json.dumps` takes."""
        return {
            "split": self.split,
            "scores": as_data(self.rows),
            "test": {"name": self.significance.name, "n_samples": self.significance.n_samples},
            "differences": [
                {**asdict(difference), "difference": difference.difference} for difference in self.differences
            ],
            "breakdowns": [asdict(breakdown) for breakdown in self.breakdowns],
            "examples": [asdict(examples) for examples in self.examples],
        }


def compare(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    metrics: Sequence[Metric],
    significance: Significance,
    split: str,
    sources: Sequence[str] | None,
    counts: Mapping[str, int] | None,
    n_examples: int,
) -> Comparison:
    """Compare systems, the first being the baseline; the first metric is that of the breakdowns and examples.

    systems: name -> hypotheses. counts: how often words occur in the target side of the training text, for the
    breakdowns by frequency; without it they go by the references, and say so. n_examples: lines a system, each way.
    Scores have intervals from as many resamples as the significance test has.

    Raises UserError for fewer than two systems, no metric, or counts of lines that differ.
    """
    if not metrics:
        raise UserError("a comparison needs at least 1 metric, but there is none")
    if sources is not None and len(sources) != len(references):
        raise UserError(f"there are {len(sources)} source lines but {len(references)} references; each needs its own")
    differences = significance.compare(systems, references, metrics)
    n_bootstrap = max(2, significance.n_samples)
    rows = [
        Row(name, split, len(lines), tuple(metric.score(lines, references, n_bootstrap) for metric in metrics))
        for name, lines in systems.items()
    ]
    baseline = next(iter(systems))
    examples = [
        Examples(name, baseline, metrics[0].name, *map(tuple, found))
        for name, lines in systems.items()
        if name != baseline
        for found in [largest_differences(systems[baseline], lines, references, metrics[0], n_examples)]
    ]
    return Comparison(
        split=split,
        rows=tuple(rows),
        significance=significance,
        differences=tuple(differences),
        breakdowns=tuple(_breakdowns(systems, references, metrics[0], counts)),
        examples=tuple(examples),
        sources=None if sources is None else tuple(sources),
    )


def _breakdowns(
    systems: Mapping[str, Sequence[str]], references: Sequence[str], metric: Metric, counts: Mapping[str, int] | None
) -> list[Breakdown]:
    by_length = length_buckets(references, LENGTH_EDGES)
    breakdowns = [score_buckets("by words of the reference", systems, references, by_length, metric)]
    where = "in the references" if counts is None else "in the training text"
    counts = word_counts(references) if counts is None else counts
    by_rarity = rarity_buckets(references, counts, FREQUENCY_EDGES)
    title = f"by frequency of the reference's rarest word {where}"
    breakdowns.append(score_buckets(title, systems, references, by_rarity, metric))
    breakdowns.append(word_f1(f"by frequency of the word {where}", systems, references, counts, FREQUENCY_EDGES))
    return breakdowns
