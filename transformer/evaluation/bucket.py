"""Where systems differ: scores by sentence length and word frequency, and the lines with the largest difference."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from transformer.error import UserError
from transformer.evaluation.metrics import Metric, check_lines
from transformer.evaluation.report import WIDTH

LENGTH_EDGES = (10, 15, 20, 30)
FREQUENCY_EDGES = (1, 2, 5, 10, 100, 1000)
_WORD = re.compile(r"\w+(?:[-'’.,:]\w+)*|[^\w\s]")  # noqa: RUF001

Systems = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Bucket:
    """A part of a test set. label: what its lines have in common. indices: which lines, counted from 0."""

    label: str
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """One row of a breakdown. n: lines or words in it. values: system -> 0-100."""

    label: str
    n: int
    values: dict[str, float]


@dataclass(frozen=True)
class Breakdown:
    """Scores of systems for parts of a test set. unit: what n counts; metric: what the values are."""

    title: str
    unit: str
    metric: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Example:
    """A line on which two systems differ. line: its number, from 1. values: of the sentences alone, 0-100."""

    line: int
    reference: str
    baseline: str
    system: str
    baseline_value: float
    system_value: float


def words(line: str) -> list[str]:
    """Return words and punctuation marks, lower-cased."""
    return _WORD.findall(line.lower())


def word_counts(lines: Iterable[str]) -> Counter[str]:
    """Return how often each word occurs in, usually, the target side of the training text."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(words(line))
    return counts


def length_buckets(lines: Sequence[str], edges: Sequence[int]) -> list[Bucket]:
    """Divide lines by their number of words: below edges[0], from there to below edges[1], ...; no empty parts."""
    return _buckets([len(words(line)) for line in lines], edges)


def rarity_buckets(lines: Sequence[str], counts: Mapping[str, int], edges: Sequence[int]) -> list[Bucket]:
    """Divide lines by how often the rarest of their words occurs in `counts`; a line without words counts as 0."""
    return _buckets([min((counts.get(word, 0) for word in words(line)), default=0) for line in lines], edges)


def score_buckets(
    title: str, systems: Systems, references: Sequence[str], buckets: Sequence[Bucket], metric: Metric
) -> Breakdown:
    """Score every system on every bucket as a corpus of its own.

    Raises UserError where a system's count of lines is not that of the references.
    """
    _check_systems(systems, references)
    parts = []
    for bucket in buckets:
        chosen = [references[i] for i in bucket.indices]
        values = {
            name: metric.score([hypotheses[i] for i in bucket.indices], chosen, n_bootstrap=0).value
            for name, hypotheses in systems.items()
        }
        parts.append(Part(bucket.label, len(bucket.indices), values))
    return Breakdown(title, "lines", metric.name, tuple(parts))


def word_f1(
    title: str, systems: Systems, references: Sequence[str], counts: Mapping[str, int], edges: Sequence[int]
) -> Breakdown:
    """Return how well words of each frequency are translated (as in compare-mt, Neubig et al., 2019).

    A word of a hypothesis is right if the reference of its line has it, as often as it has it there. Value: F1 of
    precision and recall over all words whose frequency in `counts` lies in the part, times 100; case is ignored.

    Raises UserError where a system's count of lines is not that of the references.
    """
    _check_systems(systems, references)
    labels = _labels(edges)
    expected = [Counter(words(line)) for line in references]
    n_expected = _by_part(expected, counts, edges)
    values: dict[str, list[float]] = {}
    for name, hypotheses in systems.items():
        found = [Counter(words(line)) for line in hypotheses]
        n_found = _by_part(found, counts, edges)
        n_right = _by_part([a & b for a, b in zip(found, expected, strict=True)], counts, edges)
        # F1 = 2 right / (found + expected)
        values[name] = [
            100 * 2 * n_right[i] / total if (total := n_found[i] + n_expected[i]) else 0.0 for i in range(len(labels))
        ]
    parts = [
        Part(label, n_expected[i], {name: values[name][i] for name in systems})
        for i, label in enumerate(labels)
        if n_expected[i]
    ]
    return Breakdown(title, "words", "F1", tuple(parts))


def largest_differences(
    baseline: Sequence[str], system: Sequence[str], references: Sequence[str], metric: Metric, n: int
) -> tuple[list[Example], list[Example]]:
    """Return the n lines on which the system gains most over the baseline, and the n on which it loses most.

    A single sentence's score is a rough guide to what is worth reading, no more. Lines translated alike are left out.

    Raises UserError where the counts of lines differ.
    """
    check_lines(system, references)
    before = metric.sentence_scores(baseline, references)
    after = metric.sentence_scores(system, references)
    sign = 1 if metric.higher_is_better else -1
    gains = [sign * (b - a) for a, b in zip(before, after, strict=True)]

    def examples(wanted: Callable[[float], float]) -> list[Example]:
        order = sorted((i for i in range(len(gains)) if wanted(gains[i]) > 0), key=lambda i: (-wanted(gains[i]), i))
        return [Example(i + 1, references[i], baseline[i], system[i], before[i], after[i]) for i in order[:n]]

    return examples(lambda gain: gain), examples(lambda gain: -gain)


def breakdown_table(breakdown: Breakdown) -> str:
    """Return plain text: a line for each part, a column for each system, by number where names exceed 80 columns."""
    systems = list(breakdown.parts[0].values) if breakdown.parts else []
    width = max([len(part.label) for part in breakdown.parts], default=0)
    headings = systems
    if width + 8 + sum(2 + max(6, len(name)) for name in systems) > WIDTH:
        headings = [f"({i})" for i, _ in enumerate(systems, start=1)]
    widths = [max(6, len(name)) for name in headings]
    header = " " * width + f"  {breakdown.unit:>6}"
    header += "".join(f"  {name:>{column}}" for name, column in zip(headings, widths, strict=True))
    legend = [f"{number} {name}" for number, name in zip(headings, systems, strict=True) if number != name]
    lines = [f"{breakdown.metric} {breakdown.title}", *legend, header.rstrip()]
    for part in breakdown.parts:
        cells = zip(systems, widths, strict=True)
        numbers = "".join(f"  {part.values[name]:>{column}.2f}" for name, column in cells)
        lines.append(f"{part.label:<{width}}  {part.n:>6}{numbers}")
    return "\n".join(lines) + "\n"


def _labels(edges: Sequence[int]) -> list[str]:
    """Return one label for each part: "< 10", "10-14", "15", ">= 20"."""
    if not edges or list(edges) != sorted(set(edges)):
        raise UserError(f"the edges of buckets must rise, but are {', '.join(map(str, edges)) or 'none'}")
    between = [f"{low}-{high - 1}" if high - low > 1 else str(low) for low, high in itertools.pairwise(edges)]
    return [f"< {edges[0]}" if edges[0] != 1 else "0", *between, f">= {edges[-1]}"]


def _part(value: int, edges: Sequence[int]) -> int:
    return sum(value >= edge for edge in edges)


def _buckets(values: Sequence[int], edges: Sequence[int]) -> list[Bucket]:
    labels = _labels(edges)
    parts: list[list[int]] = [[] for _ in labels]
    for i, value in enumerate(values):
        parts[_part(value, edges)].append(i)
    return [Bucket(label, tuple(indices)) for label, indices in zip(labels, parts, strict=True) if indices]


def _by_part(lines: Iterable[Counter[str]], counts: Mapping[str, int], edges: Sequence[int]) -> list[int]:
    numbers = [0] * (len(edges) + 1)
    for line in lines:
        for word, n in line.items():
            numbers[_part(counts.get(word, 0), edges)] += n
    return numbers


def _check_systems(systems: Systems, references: Sequence[str]) -> None:
    for name, hypotheses in systems.items():
        try:
            check_lines(hypotheses, references)
        except UserError as error:
            raise UserError(f"system {name}: {error}") from error
