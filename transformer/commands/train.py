"""transformer-train: from two text files to a trained, evaluated model."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from transformer import build
from transformer.commands import entry
from transformer.commands.final import evaluate_best, try_final
from transformer.commands.resume import plain
from transformer.commands.start import clear, continued, data, refuse, resumed, tell
from transformer.config import TrainConfig, check
from transformer.monitoring.outcome import forget, outcome_of, write_outcome
from transformer.training.checkpoint import read_manifest
from transformer.training.distributed import World
from transformer.training.lock import run_lock
from transformer.training.observer import Observer
from transformer.training.signals import Interrupted
from transformer.training.state import seed_everything


def run(config: TrainConfig, others: Sequence[Observer] = ()) -> int:
    """Trains; evaluates the best checkpoint; returns the exit code.

    Args:
        config: of the run.
        others: are told of the run beside the observers that the config names.
    """
    folder = Path(config.saved_dir) / config.name
    if config.resume:  # first of all, for the machine's settings are the run's own too
        config = continued(config, folder)
    check(config)
    world = build.runtime(config.runtime, config.runtime.workers)
    with run_lock(folder) if world.is_main else nullcontext():
        if world.is_main:
            refuse(config, folder)
        world.any(False)  # the others wait
        code = _train(config, world, folder, others)
    world.close()
    return code


def _train(config: TrainConfig, world: World, folder: Path, others: Sequence[Observer]) -> int:
    asked, results = plain(config), Path(config.results_dir) / config.name
    newest, config = resumed(config, folder) if config.resume else (None, config)
    if config.resume and not newest and world.is_main:
        print(f"{folder} has no checkpoint to go on from: a new run begins")
    start = None if newest else build.warm_start(config)
    if start:
        config = build.with_tokenizer_of(start.config, config)
    source = data(config, world, newest, start)
    if world.is_main:
        try_final(config, source)
    config, told = build.found_budget(config, world, source)
    if told and world.is_main:
        print(told)
    seed_everything(config.seed)
    trainer = build.trainer(config, world, source, start)
    if world.rank:  # the same weights as the others from here on, but dropout of its own
        seed_everything(config.seed, world.rank)
    if newest:
        newest = trainer.checkpoints.place(newest)
        if world.is_main:
            trainer.checkpoints.tidy(newest)
        world.any(False)
        trainer.load(newest)
        origin = read_manifest(newest).get("environment", {}).get("warm_start")
        trainer.environment |= {"warm_start": origin} if origin else {}
    for told in (trainer.limits.tell_end(trainer.schedule, trainer.batches), build.compiled(config, trainer, source)):
        if told and world.is_main:
            print(told)
    if world.is_main:
        if config.overwrite:  # not before: nothing but the training itself can fail from here on
            clear(config, folder)
        tell(config, source, trainer, newest, start)
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
        rows = evaluate_best(config, source, world.alone(), trainer.observers)  # the others have gone
        write_outcome(results, outcome_of(results, folder / "best", asked, rows))
    return 0


if __name__ == "__main__":
    entry.train()
