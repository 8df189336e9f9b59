"""What ends a training: its best checkpoint on the test splits."""

import collections
from collections.abc import Sequence
from pathlib import Path

from transformer import build
from transformer.commands.result import (
    case_note,
    loss_scores,
    note,
    scored,
    show,
    shown,
    translated,
    write,
    write_hypotheses,
)
from transformer.commands.resume import plain
from transformer.config import TrainConfig
from transformer.evaluation.metrics import check_resamples
from transformer.evaluation.report import Row, text_table
from transformer.training.distributed import World
from transformer.training.observer import Observer
from transformer.training.precision import Precision


def try_final(config: TrainConfig, source: build.Data) -> None:
    """Tries what is used only when training has ended, so that no mistake in it shows only then."""
    build.search(config.decoding)
    build.metrics(config.metrics)
    check_resamples(config.final.n_bootstrap)
    for name in config.final.splits:
        collections.deque(source.corpus.pairs(name), maxlen=0)  # reads every line


def evaluate_best(config: TrainConfig, source: build.Data, world: World, observers: Sequence[Observer]) -> list[Row]:
    """Translates and scores the run's test splits with its best checkpoint; writes, prints and tells what came out."""
    best = Path(config.saved_dir) / config.name / "best"
    loaded = build.load(best, config.runtime, world.device)
    how = build.search(config.decoding)
    translator = build.translator(loaded.model, loaded.tokenizers, how, config.translation, world.device)
    metrics, rows = build.metrics(config.metrics), list[Row]()
    samples: list[tuple[str, str, str]] = []
    for name in config.final.splits:
        split = source.corpus.resolve(name)
        pairs = list(source.corpus.pairs(split))
        hypotheses = translated((pair.src for pair in pairs), translator)
        folder = Path(config.results_dir) / config.name / "evaluation"
        write_hypotheses(folder, split, hypotheses)  # whatever becomes of the metrics
        row = scored(str(best), split, pairs, hypotheses, metrics, config.final.n_bootstrap)
        scores = (*row.scores, *loss_scores(loaded, pairs, config.translation, world, Precision("fp32", world.device)))
        rows.append(Row(row.system, row.split, row.n_sentences, scores))
        facts = {"checkpoint": str(best), "step": loaded.manifest["step"], "decoding": plain(config)["decoding"]}
        write(folder, split, rows[-1:], facts)
        if name == config.final.splits[0]:
            samples = shown(pairs, hypotheses, config.final.n_shown)
            show(samples)
    for observer in observers if rows else ():
        observer.on_scores(rows, samples)
    if rows:
        print(f"\n{text_table(rows)}")
        print(note(case_note(loaded.tokenizers.tgt.lowercase, rows)), end="")
    print(f"\nnow: echo '...' | transformer-translate checkpoint={best}")
    return rows
