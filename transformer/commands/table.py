"""What a multirun and a sweep end with: a table of settings, on the terminal and as sweep.csv, sweep.md, sweep.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from transformer import build
from transformer.config import config_dir
from transformer.data.corpus import Corpus
from transformer.data.reader import read_lines
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.evaluation.significance import Bootstrap, Difference
from transformer.evaluation.sweep import (
    Setting,
    Sweep,
    Trial,
    comma_separated,
    data,
    markdown,
    pairs_to_compare,
    ranked,
    ranking,
    text,
)
from transformer.monitoring.outcome import Outcome, read_outcome
from transformer.monitoring.replace import replace


def conclude(folder: Path, trials: Sequence[Trial], ranked_by: tuple[str, bool] | None = None) -> Sweep:
    """Prints the table and writes it.

    Args:
        folder: results/NAME; trials lie in folders of their names below it.
        trials: all that belong to it.
        ranked_by: a score, and whether less of it is better; None for validation BLEU, or the loss where there is none.
    """
    score, lower_is_better = ranked_by or ranking(trials)
    settings = ranked(trials, score, lower_is_better)
    compared, note = _significance(folder, settings, score, lower_is_better)
    sweep = Sweep(folder.name, trials, score, lower_is_better, compared, note)
    replace(folder / "sweep.csv", comma_separated(sweep).encode())
    replace(folder / "sweep.md", markdown(sweep).encode())
    replace(folder / "sweep.json", f"{json.dumps(data(sweep), indent=1, ensure_ascii=False)}\n".encode())
    print(f"\n{text(sweep)}\nwritten: {folder / 'sweep.csv'}, sweep.md and sweep.json beside it")
    return sweep


def _significance(
    folder: Path, settings: Sequence[Setting], score: str, lower_is_better: bool
) -> tuple[list[tuple[str, Difference]], str]:
    """The two best settings compared on the translations of a test split, or one sentence that says why not."""
    if len(settings) < 2:
        return [], "no significance test: fewer than two settings have a finished trial"
    best, second = settings[:2]
    pairs = pairs_to_compare(best, second, score, lower_is_better)
    outcomes = [[read_outcome(folder / trial.name) for trial in pair] for pair in pairs]
    try:
        split, references, metric = _test(outcomes[0])
        test = build.instantiate(_bootstrap(), "significance", Bootstrap)
        compared = []
        for one, other in pairs:
            lines = {trial.name: _translations(folder, trial, split) for trial in (other, one)}  # the baseline first
            [difference] = test.compare(lines, references, [metric])
            told = f"{split}, seed {one.seed}" if one.seed and one.seed == other.seed else split
            compared.append(
                (f"{told} ({one.name} against {other.name})" if one.seed != other.seed else told, difference)
            )
    except (UserError, OSError) as error:
        return [], f"no significance test of the two best settings: {error}"
    return compared, ""


def _bootstrap() -> dict[str, Any]:
    leaf = OmegaConf.load(config_dir() / "significance" / "bootstrap.yaml")
    return cast(dict[str, Any], OmegaConf.to_container(leaf))


def _test(outcomes: Sequence[Outcome | None]) -> tuple[str, list[str], Metric]:
    """The first test split that both were evaluated on, its references, and the metric: the BLEU of validation."""
    one, other = outcomes
    if one is None or other is None:
        raise UserError("a finished trial has no outcome.json any more")
    split = next((name for name in one.tests if name in other.tests), None)
    if split is None:
        raise UserError("they have no test translations in common; final.splits=[test] makes them")
    if one.config["data"] != other.config["data"]:
        raise UserError("they were evaluated on different corpora")
    corpus = build.instantiate(one.config["data"], "data", Corpus)  # type: ignore[type-abstract]
    metric = build.instantiate(one.config["validation_metric"], "validation_metric", Metric)  # type: ignore[type-abstract]
    return split, [pair.tgt for pair in corpus.pairs(split)], metric


def _translations(folder: Path, trial: Trial, split: str) -> list[str]:
    path = folder / trial.name / "final" / f"{split}.hyp.txt"
    if not path.is_file():
        raise UserError(f"{path} is not there any more")
    return list(read_lines(path))
