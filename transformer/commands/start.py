"""How a training begins: what it must not overwrite, what it goes on from, what is told of it."""

import difflib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from omegaconf import OmegaConf

from transformer import build
from transformer.commands.override import asked
from transformer.commands.resume import as_before, flat, plain, refuse_changes, refuse_other_texts
from transformer.config import TrainConfig
from transformer.data.tokenizer.base import TokenizerPair
from transformer.error import UserError
from transformer.monitoring.record import METRICS_FILE
from transformer.training.checkpoint import TOKENIZER, complete, is_checkpoint, newest_intact, read_manifest
from transformer.training.distributed import World
from transformer.training.environment import differences
from transformer.training.inventory import describe
from transformer.training.lock import LOCK
from transformer.training.trainer import Trainer


def refuse(config: TrainConfig, saved: Path) -> None:
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
    results = Path(config.results_dir) / config.name
    if config.overwrite and (path := text_inside(config, (saved, results))):
        raise UserError(f"{path} is read by this run, but overwrite=true would delete it; move it, or use another name")
    if config.overwrite and (others := runs_inside(config, saved)):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"overwrite=true would delete other runs that lie inside {saved}: {others[0]}{more}; move or delete them, "
            "or use another name"
        )
    if config.resume or config.overwrite:
        return
    if any(path.name != LOCK for path in saved.glob("*")):
        raise UserError(f"{saved} exists; use resume=true to go on, overwrite=true to start anew, or another name")
    if (results / METRICS_FILE).exists():  # though its checkpoints are elsewhere, or gone
        raise UserError(
            f"{results} has the record of an earlier run; use overwrite=true to start anew, or another name"
        )


def text_inside(config: TrainConfig, folders: Sequence[Path]) -> str | None:
    """A path among the settings of data and tokenizer that lies in one of the folders."""
    for group in ("data", "tokenizer"):
        for leaf in flat(plain(config)[group]).values():
            for path in leaf if isinstance(leaf, list) else [leaf]:
                if isinstance(path, str) and any(Path(path).resolve().is_relative_to(f.resolve()) for f in folders):
                    return path
    return None


def runs_inside(config: TrainConfig, saved: Path) -> list[str]:
    """The names of other runs whose checkpoints or results lie inside this run's, as trials of a multirun do."""
    results = Path(config.results_dir) / config.name
    found = {path.parent.relative_to(saved) for path in saved.glob("*/**/step_*") if is_checkpoint(path)}
    found |= {path.parent.relative_to(results) for path in results.glob(f"*/**/{METRICS_FILE}")}
    return sorted(str(Path(config.name) / path) for path in found)


def clear(config: TrainConfig, saved: Path) -> None:
    """Makes room for a run that starts anew; first of all the folder of its results is tried.

    Raises:
        OSError: that folder cannot be made or written; nothing has been deleted.
    """
    results = Path(config.results_dir) / config.name
    results.mkdir(parents=True, exist_ok=True)
    tried = results / ".tried"
    tried.write_text("room for more than nothing\n", encoding="utf-8")
    tried.unlink()
    for path in saved.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    shutil.rmtree(results, ignore_errors=True)


def continued(config: TrainConfig, saved: Path) -> TrainConfig:
    """The config that a run goes on with, see `as_before`; the given one where no checkpoint tells its own.

    Raises:
        UserError: there is no checkpoint, and the command line says no more of the run than its name.
    """
    keys, checkpoints = [override.key for override in asked()], complete(saved)
    for path in reversed(checkpoints):
        with suppress(UserError):  # a damaged one; that is told when it would be loaded
            return as_before(build.stored_config(path), config, keys)
    if not checkpoints and "name" in keys and {*keys} <= {"name", "resume"}:
        close = difflib.get_close_matches(saved.name, [path.name for path in saved.parent.glob("*")], n=1)
        meant = f"; did you mean name={close[0]}?" if close and close[0] != saved.name else ""
        raise UserError(f"{saved} has no checkpoint to go on from{meant or '; say all settings to begin a run'}")
    return config


def resumed(config: TrainConfig, saved: Path) -> tuple[Path | None, TrainConfig]:
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


def data(config: TrainConfig, world: World, newest: Path | None, start: build.Loaded | None) -> build.Data:
    """Prepared on the main process first, then opened by all; a resumed run keeps the tokenizers of its checkpoint."""
    tokenizers = TokenizerPair.load(newest / TOKENIZER) if newest else None
    if start and build.keeps_tokenizer(config):
        tokenizers = start.tokenizers
    source = build.data(config, tokenizers) if world.is_main else None
    world.any(False)
    source = source or build.data(config, tokenizers)
    if newest:
        refuse_other_texts(newest, source.texts)
    return source


def caution_of_updates(config: TrainConfig, trainer: Trainer) -> None:
    """Warns where training is over before the learning rate has risen to its peak, or come down to its end."""
    planned = trainer.limits.last_update(len(trainer.batches))
    warmup, total = config.schedule.get("warmup_steps"), config.schedule.get("total_steps")
    if isinstance(warmup, int) and planned < warmup:
        print(
            f"caution: training ends with update {planned:,}, before schedule.warmup_steps={warmup} have raised the "
            "learning rate to its peak; take more epochs, smaller batches (batching.max_tokens) or fewer warm-up steps"
        )
    elif isinstance(total, int) and planned < 0.99 * total:  # epochs differ by a batch or two
        print(
            f"caution: training ends with update {planned:,}, before schedule.total_steps={total} have brought the "
            "learning rate down; null stands for the last update of the training"
        )


def tell(
    config: TrainConfig, source: build.Data, trainer: Trainer, newest: Path | None, start: build.Loaded | None
) -> None:
    """Says what is trained on what, and keeps the resolved config with the results."""
    if newest:
        print(f"resumed from {newest}, step {trainer.progress.step}")
        for change in differences(read_manifest(newest).get("environment", {}), trainer.environment):
            print(f"since then {change}: the bits may come out differently")
        if trainer.at_its_end:
            print("the run had come to its end: nothing is trained (a higher training.max_epochs or max_steps goes on)")
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
    for sentence in batches.told:
        print(sentence)
    caution_of_updates(config, trainer)
    results = Path(config.results_dir) / config.name
    results.mkdir(parents=True, exist_ok=True)
    (results / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
