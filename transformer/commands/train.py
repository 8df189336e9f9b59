"""transformer-train: from two text files to a trained, evaluated model."""

import collections
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from omegaconf import OmegaConf

from transformer import build
from transformer.commands.launch import launch
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
from transformer.commands.resume import plain, refuse_changes
from transformer.config import TrainConfig, check
from transformer.data.tokenizer.base import TokenizerPair
from transformer.error import UserError
from transformer.evaluation.metrics import check_resamples
from transformer.evaluation.report import Row, text_table
from transformer.monitoring.outcome import forget, outcome_of, write_outcome
from transformer.training.checkpoint import TOKENIZER, is_checkpoint, newest_intact, read_manifest
from transformer.training.distributed import World
from transformer.training.environment import differences
from transformer.training.lock import LOCK, run_lock
from transformer.training.observer import Observer
from transformer.training.precision import Precision
from transformer.training.signals import Interrupted
from transformer.training.state import seed_everything
from transformer.training.trainer import Trainer, describe


def _refuse(config: TrainConfig, saved: Path) -> None:
    """Refuses a run that is there already, unless told what to do with it."""
    if is_checkpoint(saved):  # one that somebody put there, such as an average
        raise UserError(
            f"{saved} is itself a checkpoint, not a run's folder, and training cannot go on from it; use another name"
        )
    if config.resume and config.overwrite:
        raise UserError("resume and overwrite are both true; choose one")
    start = config.warm_start.checkpoint
    if config.overwrite and start is not None and Path(start).resolve().is_relative_to(saved.resolve()):
        raise UserError(
            f"warm_start.checkpoint={start} lies in {saved}, which overwrite=true deletes; use another name"
        )
    if not config.resume and not config.overwrite and any(path.name != LOCK for path in saved.glob("*")):
        raise UserError(f"{saved} exists; use resume=true to go on, overwrite=true to start anew, or another name")


def _clear(config: TrainConfig, saved: Path) -> None:
    """Makes room for a run that starts anew."""
    for path in saved.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    shutil.rmtree(Path(config.results_dir) / config.name, ignore_errors=True)


def _resumed(config: TrainConfig, saved: Path) -> tuple[Path | None, TrainConfig]:
    """The checkpoint to go on from, if there is any, and the config to go on with."""
    newest, complaints = newest_intact(saved)
    for complaint in complaints:
        print(complaint)
    if newest:
        before = build.checkpoint_config(newest)
        config = build.with_tokenizer_of(before, build.resumed_budget(before, config))
        refuse_changes(before, config)
    elif complaints:
        raise UserError(
            f"{saved} holds no checkpoint that is intact; use overwrite=true to start anew, or another name"
        )
    return newest, config


def _data(config: TrainConfig, world: World, newest: Path | None, start: build.Loaded | None) -> build.Data:
    """Prepared on the main process first, then opened by all; a resumed run keeps the tokenizers of its checkpoint."""
    tokenizers = TokenizerPair.load(newest / TOKENIZER) if newest else None
    if start and build.keeps_tokenizer(config):
        tokenizers = start.tokenizers
    if world.is_main:
        build.data(config, tokenizers)
    world.any(False)
    return build.data(config, tokenizers)


def _tell(
    config: TrainConfig, source: build.Data, trainer: Trainer, newest: Path | None, start: build.Loaded | None
) -> None:
    """Says what is trained on what, and keeps the resolved config with the results."""
    if newest:
        print(f"resumed from {newest}, step {trainer.progress.step}")
        for change in differences(read_manifest(newest).get("environment", {}), trainer.environment):
            print(f"since then {change}: the bits may come out differently")
    for split, store in (("train", source.train), ("validation", source.validation)):
        left_out = ", ".join(f"{n} {reason}" for reason, n in store.left_out.items() if n) or "none"
        print(f"{split}: {len(store):,} of {store.n_read:,} pairs used, left out: {left_out}")
    if caution := trainer.precision.caution():
        print(caution)
    sizes = source.tokenizers.src.vocab_size, source.tokenizers.tgt.vocab_size
    print(f"vocabulary: {sizes[0]:,} joint" if source.tokenizers.joint else f"vocabulary: {sizes[0]:,} + {sizes[1]:,}")
    for sentence in build.told_of(start, source.tokenizers) if start else ():
        print(sentence)
    model = trainer.objective.model
    n_frozen = sum(p.numel() for p in model.parameters()) - model.n_parameters
    frozen = f", {n_frozen:,} of them frozen" if n_frozen else ""
    print(f"model: {model.n_parameters + n_frozen:,} parameters{frozen}\n{describe(model)}")
    batches = trainer.batches
    n_shapes = batches.n_shapes if config.batching.get("round_to") else None
    shapes = f", {n_shapes:,} shapes" if n_shapes else ""
    print(f"batches: {len(batches):,} an epoch, padding efficiency {batches.padding_efficiency:.1f}%{shapes}")
    results = Path(config.results_dir) / config.name
    results.mkdir(parents=True, exist_ok=True)
    (results / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")


def _try_final(config: TrainConfig, source: build.Data) -> None:
    """Tries what is used only when training has ended, so that no mistake in it shows only then."""
    build.search(config.decoding)
    build.metrics(config.metrics)
    check_resamples(config.final.n_bootstrap)
    for name in config.final.splits:
        collections.deque(source.corpus.pairs(name), maxlen=0)  # reads every line


def _evaluate_best(config: TrainConfig, source: build.Data, world: World, observers: Sequence[Observer]) -> list[Row]:
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


def run(config: TrainConfig, others: Sequence[Observer] = ()) -> int:
    """Trains; evaluates the best checkpoint; returns the exit code.

    Args:
        config: of the run.
        others: are told of the run beside the observers that the config names.
    """
    check(config)
    world = build.runtime(config.runtime, config.runtime.workers)
    folder = Path(config.saved_dir) / config.name
    with run_lock(folder) if world.is_main else nullcontext():
        if world.is_main:
            _refuse(config, folder)
        world.any(False)  # the others wait
        code = _train(config, world, folder, others)
    world.close()
    return code


def _train(config: TrainConfig, world: World, folder: Path, others: Sequence[Observer]) -> int:
    asked, results = plain(config), Path(config.results_dir) / config.name
    newest, config = _resumed(config, folder) if config.resume else (None, config)
    start = None if newest else build.warm_start(config)
    if start:
        config = build.with_tokenizer_of(start.config, config)
    source = _data(config, world, newest, start)
    if world.is_main:
        _try_final(config, source)
    config, told = build.found_budget(config, world, source)
    if told and world.is_main:
        print(told)
    seed_everything(config.seed)
    trainer = build.trainer(config, world, source, start)
    if world.rank:  # the same weights as the others from here on, but dropout of its own
        seed_everything(config.seed, world.rank)
    if newest:
        trainer.load(newest)
        origin = read_manifest(newest).get("environment", {}).get("warm_start")
        trainer.environment |= {"warm_start": origin} if origin else {}
    told = build.compiled(config, trainer, source)
    if told and world.is_main:
        print(told)
    if world.is_main:
        if config.overwrite:  # not before: nothing but the training itself can fail from here on
            _clear(config, folder)
        _tell(config, source, trainer, newest, start)
        forget(results)
        trainer.observers = [*trainer.observers, *others]
    del start  # its weights need not stay in memory
    try:
        trainer.fit(config.name, plain(config))
    except Interrupted as stop:
        if world.is_main:
            print(stop)
        return stop.exit_code
    if world.is_main:
        rows = _evaluate_best(config, source, world, trainer.observers)
        write_outcome(results, outcome_of(results, folder / "best", asked, rows))
    return 0


def main() -> None:
    """The command line."""
    launch("train", run)


if __name__ == "__main__":
    main()
