"""Is one system better than another, or was it luck? Paired tests, by sacrebleu's own functions."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.significance import PairedTest, Result

from transformer.error import UserError
from transformer.evaluation.metrics import Metric, check_lines
from transformer.evaluation.report import LONGEST_LABEL, signature_lines

LUCK = 0.05  # a smaller p-value counts as significant


@dataclass(frozen=True)
class Difference:
    """How one system compares with the baseline by one metric.

    value, baseline_value: 0-100. p_value: probability of a difference at least as large, in either direction, if both
    systems were equally good. higher_is_better: False for error rates. signature: sacrebleu's, with the test, the
    number of samples and the seed.
    """

    system: str
    baseline: str
    metric: str
    value: float
    baseline_value: float
    p_value: float
    higher_is_better: bool
    signature: str

    @property
    def difference(self) -> float:
        """The system's value less the baseline's."""
        return self.value - self.baseline_value

    @property
    def verdict(self) -> str:
        """ "better" or "worse" than the baseline where that is hardly luck, else ""."""
        if self.p_value >= LUCK:
            return ""
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"


class Significance(ABC):
    """A paired significance test. name: what it is called; test_type: sacrebleu's name for it."""

    name: str

    @property
    @abstractmethod
    def test_type(self) -> str:
        """Return sacrebleu's name of the test."""

    def __init__(self, n_samples: int) -> None:
        if n_samples < 1:
            raise UserError(f"a significance test needs at least 1 sample, not {n_samples}")
        self.n_samples = n_samples

    def compare(
        self, systems: Mapping[str, Sequence[str]], references: Sequence[str], metrics: Sequence[Metric]
    ) -> list[Difference]:
        """Compare every system with the first, the baseline: by each metric, the systems in order.

        systems: name -> hypotheses, a line for each reference.

        Raises UserError for fewer than two systems or where a system's count of lines is not that of the references.
        """
        if len(systems) < 2:
            raise UserError(f"a comparison needs at least 2 systems, but there is {len(systems)}: {', '.join(systems)}")
        for name, hypotheses in systems.items():
            try:
                check_lines(hypotheses, references)
            except UserError as error:
                raise UserError(f"system {name}: {error}") from error
        named: list[tuple[str, Sequence[str]]] = [(name, list(hypotheses)) for name, hypotheses in systems.items()]
        return [difference for metric in metrics for difference in self._compare(named, references, metric)]

    def _compare(
        self, named: list[tuple[str, Sequence[str]]], references: Sequence[str], metric: Metric
    ) -> list[Difference]:
        # One metric at a time: sacrebleu tells metrics apart by name, and BLEU and BLEU-lc have the same.
        test = PairedTest(
            named,
            {metric.name: metric.scorer(for_sentences=False)},
            [list(references)],
            test_type=self.test_type,
            n_samples=self.n_samples,
        )
        signatures, columns = test()
        [signature] = signatures.values()
        [column] = [column for name, column in columns.items() if name != "System"]
        baseline, *results = [result for result in column if isinstance(result, Result)]
        names = [name for name, _ in named]
        return [
            Difference(
                system=name,
                baseline=names[0],
                metric=metric.name,
                value=float(result.score),
                baseline_value=float(baseline.score),
                p_value=_p_value(result, baseline),
                higher_is_better=metric.higher_is_better,
                signature=str(signature),
            )
            for name, result in zip(names[1:], results, strict=True)
        ]


class Bootstrap(Significance):
    """Paired bootstrap resampling (Koehn, 2004): how often would another test set of this size say otherwise?"""

    name = "paired bootstrap"

    @property
    def test_type(self) -> str:
        """Return "bs"."""
        return "bs"


class Randomization(Significance):
    """Paired approximate randomisation (Riezler and Maxwell, 2005): swap the systems' lines at random."""

    name = "paired approximate randomisation"

    @property
    def test_type(self) -> str:
        """Return "ar"."""
        return "ar"


def _p_value(result: Result, baseline: Result) -> float:
    """Return sacrebleu's p-value, and 1 for equal scores.

    sacrebleu counts samples that exceed the difference strictly, so that it finds a system significantly different from
    its own copy; but every sample differs by at least nothing.
    """
    if result.score == baseline.score or result.p_value is None:
        return 1.0
    return float(result.p_value)


def significance_table(
    differences: Sequence[Difference], test: Significance, said: Collection[tuple[str, str]] = ()
) -> str:
    """Return plain text of at most 80 columns: a line for each difference, the signatures below.

    A name longer than 24 characters stands on a line of its own, so that nothing is cut.
    said: (metric, signature) pairs that stand elsewhere already.
    """
    if not differences:
        return ""
    names = [difference.system for difference in differences]
    width = max(len(name) for name in ["system", *names] if len(name) <= LONGEST_LABEL)
    metric_width = max(len(name) for name in ["metric", *(difference.metric for difference in differences)])
    lines = [
        f"{test.name}, {test.n_samples} samples, against {differences[0].baseline}",
        f"{'system':<{width}}  {'metric':<{metric_width}}   value  baseline  difference       p",
    ]
    for d in differences:
        mark = f" * {d.verdict}" if d.verdict else ""
        if len(d.system) > LONGEST_LABEL:
            lines.append(d.system)
        label = d.system if len(d.system) <= LONGEST_LABEL else ""
        lines.append(
            f"{label:<{width}}  {d.metric:<{metric_width}}  {d.value:6.2f}  {d.baseline_value:8.2f}"
            f"  {d.difference:+10.2f}  {d.p_value:6.4f}{mark}"
        )
    lines.append(f"* p < {LUCK}: a difference that is hardly luck (which does not mean a large one)")
    signatures = dict.fromkeys((difference.metric, difference.signature) for difference in differences)
    if new := [pair for pair in signatures if pair not in said]:
        lines += ["", *signature_lines(new)]
    return "\n".join(lines) + "\n"
