"""What ends a training: its best checkpoint on the test splits."""

import collections
from collections.abc import Sequence
from pathlib import Path

from transformer import build
from transformer.commands.argument import override
from transformer.commands.evaluator import Evaluator
from transformer.commands.result import case_note, labels, note, show, shown
from transformer.commands.resume import plain
from transformer.commands.search import Way
from transformer.config import TrainConfig
from transformer.evaluation.metrics import check_resamples
from transformer.evaluation.report import Row, text_table
from transformer.training.distributed import World
from transformer.training.observer import Observer
from transformer.training.precision import Precision


def splits(config: TrainConfig, source: build.Data) -> list[str]:
    """What is evaluated on in the end; "test", which is asked for by default, only where there is a test split."""
    wanted, tests = list(config.final.splits), source.corpus.splits()[2:]
    if wanted == ["all"]:
        return tests
    return [] if wanted == ["test"] and not tests else wanted


def try_final(config: TrainConfig, source: build.Data) -> None:
    """Tries what is used only when training has ended, so that no mistake in it shows only then."""
    build.search(config.decoding)
    build.metrics(config.metrics)
    check_resamples(config.final.n_bootstrap)
    for name in splits(config, source):
        collections.deque(source.corpus.pairs(name), maxlen=0)  # reads every line


def evaluate_best(config: TrainConfig, source: build.Data, world: World, observers: Sequence[Observer]) -> list[Row]:
    """Translates and scores the run's test splits with its best checkpoint; writes, prints and tells what came out."""
    best = Path(config.saved_dir) / config.name / "best"
    loaded = build.load(best, config.runtime, world.device)
    way = Way(plain(config)["decoding"], config.translation, Precision("fp32", world.device))
    folder = Path(config.results_dir) / config.name / "final"
    facts = {"checkpoint": str(best), "step": loaded.manifest["step"]}
    metrics = build.metrics(config.metrics)
    evaluator = Evaluator(loaded, way, metrics, config.final.n_bootstrap, world, folder, facts)
    rows: list[Row] = []
    samples: list[tuple[str, str, str]] = []
    wanted = splits(config, source)
    for name in wanted:
        split = source.corpus.resolve(name)
        pairs = list(source.corpus.pairs(split))
        row, hypotheses = evaluator.evaluate(labels([str(best)])[str(best)], split, pairs)
        rows.append(row)
        if name == wanted[0]:
            samples = shown(pairs, hypotheses, config.final.n_shown)
            show(samples)
    for observer in observers if config.final.splits else ():  # where they are none, some still wait for an end
        observer.on_scores(rows, samples)
    if not wanted and config.final.splits:
        print("\nno test split: nothing is evaluated; transformer-evaluate takes any files")
    if rows:
        print(f"\n{text_table(rows)}")
        print(note(case_note(loaded.tokenizers.tgt.lowercase, rows)), end="")
    else:
        print()
    print(f"now: echo '...' | transformer-translate {override('checkpoint', str(best))}")
    return rows
