"""Trials that differ in their settings: mean and deviation over seeds, best first, as text, Markdown, CSV and data."""

import csv
import io
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformer.evaluation.report import WIDTH
from transformer.evaluation.significance import Difference

SEED = "seed"
FINISHED, FAILED, PRUNED, UNFINISHED = "finished", "failed", "pruned", "unfinished"
LONGEST_SETTING = 18  # characters; a longer one stands on a line of its own
LOSSES = ("loss", "valid_loss")  # of which less is better
N_COLUMNS = 4


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    name: its folder. overrides: key -> value of what differs between the trials, seed included. state: finished,
    failed, pruned or unfinished. scores: by name, of a finished one. sentence: why it failed or was pruned.
    """

    name: str
    overrides: Mapping[str, str]
    state: str
    scores: Mapping[str, float] = field(default_factory=dict)
    sentence: str = ""

    @property
    def setting(self) -> dict[str, str]:
        """The overrides without the seed."""
        return {key: value for key, value in self.overrides.items() if key.lstrip("+") != SEED}

    @property
    def seed(self) -> str:
        """The seed, or "" where it is not among the overrides."""
        return next((value for key, value in self.overrides.items() if key.lstrip("+") == SEED), "")


@dataclass(frozen=True)
class Setting:
    """Trials that differ in their seed only; at least one of them finished."""

    overrides: Mapping[str, str]
    trials: tuple[Trial, ...]

    def values(self, score: str) -> list[float]:
        """The score of each trial that has it."""
        return [trial.scores[score] for trial in self.trials if score in trial.scores]

    def mean(self, score: str) -> float | None:
        """Over the trials; None where none has the score."""
        values = self.values(score)
        return statistics.fmean(values) if values else None

    def deviation(self, score: str) -> float | None:
        """The standard deviation of a sample (n - 1) over the trials; None for fewer than two."""
        values = self.values(score)
        if len(values) < 2:
            return None
        return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    name: what it is called. trials: all of them. ranked_by: the score that settings are ranked by. lower_is_better: of
    that. significance: the best setting against the second, a line for each pair of translations compared, and what
    was compared. note: why there is none.
    """

    name: str
    trials: Sequence[Trial]
    ranked_by: str
    lower_is_better: bool
    significance: Sequence[tuple[str, Difference]] = ()
    note: str = ""

    def settings(self) -> list[Setting]:
        """Those with a finished trial, best first by the mean; what cannot be ranked comes last."""
        return ranked(self.trials, self.ranked_by, self.lower_is_better)

    def scores(self) -> list[str]:
        """The names of all scores, in order of appearance."""
        return list(dict.fromkeys(score for trial in self.trials for score in trial.scores))


def ranking(trials: Sequence[Trial]) -> tuple[str, bool]:
    """What trials are ranked by, and whether less of it is better: validation BLEU where one has it, else the loss."""
    return ("bleu", False) if any("bleu" in trial.scores for trial in trials) else ("loss", True)


def ranked(trials: Sequence[Trial], score: str, lower_is_better: bool) -> list[Setting]:
    """Finished trials by setting, best mean first, of equals the one with less loss; without the score comes last."""
    groups: dict[tuple[tuple[str, str], ...], list[Trial]] = {}
    for trial in trials:
        if trial.state == FINISHED:
            groups.setdefault(tuple(trial.setting.items()), []).append(trial)
    settings = [Setting(dict(key), tuple(members)) for key, members in groups.items()]

    def place(setting: Setting) -> tuple[float, float]:
        means = [math.inf if mean is None or math.isnan(mean) else mean for mean in map(setting.mean, (score, "loss"))]
        return means[0] if lower_is_better or math.isinf(means[0]) else -means[0], means[1]

    return sorted(settings, key=place)


def pairs_to_compare(best: Setting, second: Setting, score: str, lower_is_better: bool) -> list[tuple[Trial, Trial]]:
    """Trials of both with the same seed; where there are none, the better trial of each by the score."""
    by_seed = {trial.seed: trial for trial in second.trials}
    pairs = [(trial, by_seed[trial.seed]) for trial in best.trials if trial.seed in by_seed]
    if pairs:
        return pairs
    sign = 1 if lower_is_better else -1

    def place(trial: Trial) -> float:
        return sign * trial.scores.get(score, math.inf * sign)

    return [(min(best.trials, key=place), min(second.trials, key=place))]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last part, or as many parts as tell it from the others."""
    parts = {key: key.lstrip("+~").replace("/", ".").split(".") for key in keys}
    for n in range(1, max(map(len, parts.values()), default=1)):
        short = {key: ".".join(path[-n:]) for key, path in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {key: ".".join(path) for key, path in parts.items()}


def label(overrides: Mapping[str, str], short: Mapping[str, str]) -> str:
    """ "d_model=128 dropout=0.1"."""
    return " ".join(f"{short[key]}={value}" for key, value in overrides.items()) or "(all)"


def text(sweep: Sweep) -> str:
    """At most 80 columns, but for single words that are longer."""
    settings = sweep.settings()
    n_finished = sum(trial.state == FINISHED for trial in sweep.trials)
    plural = "s" * (len(settings) != 1)
    lines = [f"{sweep.name}: {len(sweep.trials)} trials, {n_finished} finished, {len(settings)} setting{plural}"]
    if settings:
        order = "least" if sweep.lower_is_better else "most"
        told = f"validation scores of each best checkpoint; {order} {sweep.ranked_by} first; mean (standard deviation)"
        lines += textwrap.wrap(told, WIDTH)
        lines += ["", *_table(settings, sweep)]
    lines += _comparison(sweep)
    for state in (FAILED, PRUNED, UNFINISHED):
        lines += _others(sweep, state)
    return "\n".join(lines) + "\n"


def _table(settings: Sequence[Setting], sweep: Sweep) -> list[str]:
    short = short_keys([key for setting in settings for key in setting.overrides])
    labels = [label(setting.overrides, short) for setting in settings]
    width = max(len(name) for name in ["setting", *labels] if len(name) <= LONGEST_SETTING)
    columns = [[name, *(cell(setting, name) for setting in settings)] for name in shown_scores(sweep)]
    while len(columns) > 1 and width + 3 + sum(2 + max(map(len, column)) for column in columns) > WIDTH:
        del columns[-2 if len(columns) > 2 else -1]  # neither what is ranked by nor, if there is room, the test's
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for i, name in enumerate(["setting", *labels]):
        if len(name) > LONGEST_SETTING:
            lines += textwrap.wrap(name, WIDTH, break_long_words=False, break_on_hyphens=False)
            name = ""
        count = "n" if i == 0 else str(len(settings[i - 1].trials))
        cells = "".join(f"  {column[i]:<{w}}" for column, w in zip(columns, widths, strict=True))
        lines.append(f"{name:<{width}} {count:>2}{cells}".rstrip())
    return lines


def _comparison(sweep: Sweep) -> list[str]:
    if not sweep.significance:
        return ["", *textwrap.wrap(sweep.note, WIDTH)] if sweep.note else []
    first = sweep.significance[0][1]
    lines = ["", f"best against second best by {first.metric}, paired bootstrap"]
    for what, d in sweep.significance:
        verdict = f": {d.verdict}, hardly luck" if d.verdict else ": may be luck"
        told = (
            f"{what}: {d.value:.2f} against {d.baseline_value:.2f}, {d.difference:+.2f}, p = {d.p_value:.4f}{verdict}"
        )
        lines += textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return [*lines, *textwrap.wrap(first.signature, WIDTH, initial_indent="  ", subsequent_indent="    ")]


def _others(sweep: Sweep, state: str) -> list[str]:
    trials = [trial for trial in sweep.trials if trial.state == state]
    if not trials:
        return []
    lines = ["", f"{state}: {len(trials)} of {len(sweep.trials)} trials"]
    for trial in trials:
        told = f"{trial.name}: {trial.sentence}" if trial.sentence else trial.name
        lines += textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return lines


def shown_scores(sweep: Sweep) -> list[str]:
    """The scores that a terminal has room for: what is ranked by, others of the validation split, the first test's."""
    names = sweep.scores()
    validation = [name for name in names if " " not in name]
    tests = [name for name in names if " " in name]
    first = [sweep.ranked_by] if sweep.ranked_by in names else []
    chosen = [*first, *(name for name in validation if name != sweep.ranked_by)]
    n_tests = min(1, len(tests))
    return [*chosen[: N_COLUMNS - n_tests], *tests[:n_tests]]


def cell(setting: Setting, score: str) -> str:
    """ "41.02 (0.31)", without the deviation where there is none, or "-"."""
    mean, deviation = setting.mean(score), setting.deviation(score)
    n_digits = 3 if score.split(" ")[-1] in LOSSES else 2
    if mean is None:
        return "-"
    return f"{mean:.{n_digits}f}" + ("" if deviation is None else f" ({deviation:.{n_digits}f})")


def markdown(sweep: Sweep) -> str:
    """A GitHub Markdown table of all scores, a line a setting, and what is below it on the terminal as lists."""
    settings, scores = sweep.settings(), sweep.scores()
    short = short_keys([key for setting in settings for key in setting.overrides])
    lines = [f"| {' | '.join(['setting', 'n', *scores])} |", f"|---|{'---:|' * (1 + len(scores))}"]
    for setting in settings:
        name = label(setting.overrides, short).replace("|", "\\|")
        cells = [cell(setting, score) for score in scores]
        lines.append(f"| {' | '.join([name, str(len(setting.trials)), *cells])} |")
    lines += ["", f"Mean (standard deviation over seeds), ranked by {sweep.ranked_by}.", ""]
    for what, d in sweep.significance:
        lines.append(f"- {what}: {d.metric} {d.value:.2f} against {d.baseline_value:.2f}, p = {d.p_value:.4f}")
    if sweep.note and not sweep.significance:
        lines.append(f"- {sweep.note}")
    lines += [f"- {t.state}: {t.name} {t.sentence}".rstrip() for t in sweep.trials if t.state != FINISHED]
    return "\n".join(lines).rstrip() + "\n"


def comma_separated(sweep: Sweep) -> str:
    """CSV: a line a setting, best first; a column for each key, the count, mean and deviation of each score."""
    settings, scores = sweep.settings(), sweep.scores()
    keys = list(dict.fromkeys(key for trial in sweep.trials for key in trial.setting))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*keys, "n", *(f"{score} {what}" for score in scores for what in ("mean", "deviation"))])
    for setting in settings:
        numbers = [value for score in scores for value in (setting.mean(score), setting.deviation(score))]
        told = ["" if number is None else repr(number) for number in numbers]
        writer.writerow([*(setting.overrides.get(key, "") for key in keys), len(setting.trials), *told])
    return out.getvalue()


def data(sweep: Sweep) -> dict[str, object]:
    """All of it as dictionaries, lists, strings and numbers; what is not finite as None, as JSON wants it."""
    scores = sweep.scores()
    return {
        "name": sweep.name,
        "ranked_by": sweep.ranked_by,
        "lower_is_better": sweep.lower_is_better,
        "settings": [
            {
                "overrides": dict(setting.overrides),
                "n": len(setting.trials),
                "scores": {
                    s: {"mean": _finite(setting.mean(s)), "deviation": _finite(setting.deviation(s))} for s in scores
                },
            }
            for setting in sweep.settings()
        ],
        "trials": [
            {
                "name": trial.name,
                "overrides": dict(trial.overrides),
                "state": trial.state,
                "sentence": trial.sentence,
                "scores": {name: _finite(value) for name, value in trial.scores.items()},
            }
            for trial in sweep.trials
        ],
        "significance": [
            {
                "what": what,
                "metric": d.metric,
                "value": d.value,
                "baseline": d.baseline_value,
                "p_value": d.p_value,
                "verdict": d.verdict,
                "signature": d.signature,
            }
            for what, d in sweep.significance
        ],
        "note": sweep.note,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
