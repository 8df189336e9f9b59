"""transformer-sweep: trainings whose settings Optuna chooses; killed, it goes on; several processes share the work."""

import os
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from transformer import build
from transformer.build.run import monitored_is_lower_better
from transformer.commands import entry, train
from transformer.commands.argument import key_of
from transformer.commands.attempt import attempt
from transformer.commands.best import write_best
from transformer.commands.launch import sentence
from transformer.commands.resume import flat, plain
from transformer.commands.study import Plan, Pruned, Pruning, Study, Taken
from transformer.commands.table import conclude
from transformer.commands.trial import NOT_ASKED, finished_before, keep_failure, results_of
from transformer.config import SweepConfig, check
from transformer.error import UserError
from transformer.evaluation.sweep import FAILED, FINISHED, PRUNED, UNFINISHED, Trial
from transformer.monitoring.outcome import Failure, read_outcome, read_trial, score_name, write_failure
from transformer.training.checkpoint import complete
from transformer.training.space import Dimension, check_space, word

OURS = ("name", "resume", "overwrite", "training.monitor")  # settings of training that this command sets itself


def composed(words: Sequence[str]) -> DictConfig:
    """The training config of these overrides.

    Raises:
        UserError: as training itself would say it.
    """
    try:
        return hydra.compose("train", list(words))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(sentence(error, "train")) from error


def space_of(config: SweepConfig, words: Sequence[str]) -> list[Dimension]:
    """What is chosen, checked together with what is fixed: every end of every range composes.

    Raises:
        UserError: naming the key.
    """
    space: list[Dimension] = [
        build.instantiate(leaf, f"sweep.{name}", Dimension)  # type: ignore[type-abstract]
        for name, leaf in config.sweep.items()
    ]
    check_space(space)
    given = [key_of(argument) for argument in words]
    for key in [*given, *(dimension.key for dimension in space)]:
        if key in OURS:
            told = {"training.monitor": "objective=bleu", "name": "name=NAME"}.get(key)
            raise UserError(f"{key} is not for a sweep to set; " + (f"say {told}" if told else "it goes on by itself"))
    for dimension in space:
        if dimension.key in given:
            raise UserError(f"{dimension.key} is on the command line and in the sweep; remove one of them")
        for value in dimension.ends():
            composed([*words, word(dimension.key, value)])
    return space


def run(training: Sequence[str], config: SweepConfig) -> int:
    """Works on trials until there are enough; prints and writes the table and the best config.

    Args:
        training: overrides for all trials.
        config: of the sweep.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise UserError("a sweep is no multirun; leave out -m, or give the values to transformer-train -m")
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("each trial trains in one process; start the same command several times instead of torchrun")
    for key, least in (("n_trials", 1), ("n_random", 1), ("n_warmup_epochs", 0), ("sampler_seed", 0)):
        if config[key] < least:  # type: ignore[index]
            raise UserError(f"{key} is {config[key]}, but must be at least {least}")  # type: ignore[index]
    space = space_of(config, training)
    words = [*training, f"training.monitor={config.objective}", "resume=true"]
    base = composed([*words, f"name={config.name}"])
    check(base)  # type: ignore[arg-type]
    try:
        lower = monitored_is_lower_better(base)  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(str(error).replace("training.monitor", "objective")) from error
    plan = Plan(config.n_trials, config.n_random, config.sampler_seed, lower, config.prune, config.n_warmup_epochs)
    study = Study(results_of(base), space, plan, _setup(config, base), partial(_step_of, base))
    while taken := study.take():
        with taken.claim:  # given up whatever ends the work, not when its traceback is collected
            code = _work_on(study, taken, words, config)
        if code:
            print("the sweep stops here; the same command goes on")
            return code
    with study.alone():  # several may end at the same time
        return _conclude(study, words, config, base, lower)


def _conclude(study: Study, words: Sequence[str], config: SweepConfig, base: DictConfig, lower: bool) -> int:
    """Prints and writes the table and the best config; returns the exit code."""
    trials = _trials(study, results_of(base))
    if left := sum(trial.state == UNFINISHED for trial in trials):
        print(f"\n{left} trials are under way in other processes; the last to end writes the table of all")
    sweep = conclude(results_of(base), trials, (score_name(config.objective), lower))
    settings = sweep.settings()
    if not settings:
        return 2
    best = settings[0].trials[0]
    told = f"the best of {len(trials)} trials, {best.name}, {sweep.ranked_by} {best.scores.get(sweep.ranked_by)}"
    chosen = [f"{key}={value}" for key, value in best.overrides.items()]
    write_best(results_of(base), composed([*words, *chosen, f"name={config.name}"]), told)
    print(f"its checkpoint: {Path(base.saved_dir) / config.name / best.name / 'best'}")
    return 0


def _setup(config: SweepConfig, base: DictConfig) -> dict[str, object]:
    """What must be the same when the command is given again: it decides what comes out."""
    common = {key: value for key, value in plain(base).items() if key not in NOT_ASKED}
    own = {key: config[key] for key in ("prune", "n_warmup_epochs", "n_random", "sampler_seed")}  # type: ignore[index]
    return {**own, **flat({"sweep": plain(config)["sweep"]}), **flat(common)}


def _step_of(base: DictConfig, name: str) -> int:
    checkpoints = complete(Path(base.saved_dir) / base.name / name)
    return int(checkpoints[-1].name.rpartition("_")[2].partition(".")[0]) if checkpoints else 0


def _work_on(study: Study, taken: Taken, words: Sequence[str], sweep: SweepConfig) -> int:
    """Trains one trial to whatever end; returns 0, or the exit code of an interruption."""
    chosen = [word(key, value) for key, value in taken.values.items()]
    print(f"\n{taken.name} {'goes on' if taken.resumed else 'begins'}: {' '.join(chosen)}")
    config: DictConfig | None = None
    try:
        config = composed([*words, *chosen, f"name={sweep.name}/{taken.name}"])
        code, message = _trained(study, taken, config, sweep)
    except Pruned as end:
        write_failure(study.folder / taken.name, Failure(PRUNED, str(end)))
        study.prune(taken)
        print(f"{taken.name} pruned: {end}")
        return 0
    except UserError as error:
        code, message = 2, str(error)
    except Exception as error:  # the others are trained, and the table says what became of this one
        traceback.print_exc()
        code, message = 1, f"{type(error).__name__}: {error}".partition("\n")[0]
    if code > 128:
        study.leave(taken)
        return code
    if code:
        if config is not None:
            keep_failure(config, message)
        study.fail(taken, message)
        print(f"{taken.name} failed: {message}")
    return 0


def _trained(study: Study, taken: Taken, config: DictConfig, sweep: SweepConfig) -> tuple[int, str]:
    """The exit code of the training, and the sentence of its failure; the study knows of its success."""
    pruning = Pruning(taken, sweep.objective, sweep.prune)
    if not finished_before(config):
        code, message = attempt(lambda c: train.run(c, [pruning]), config, "train")
        if code:
            return code, message
    outcome = read_outcome(results_of(config))
    if outcome is None or outcome.monitored is None:
        return 2, f"it ended without a finite {sweep.objective}"
    study.finish(taken, outcome.monitored)
    print(f"{taken.name} finished: {sweep.objective} {outcome.monitored:.4f}")
    return 0, ""


def _trials(study: Study, folder: Path) -> list[Trial]:
    """All of them, as their folders and the study tell them."""
    found = []
    for name, values, failure in study.chosen():
        overrides = dict(word(key, value).split("=", 1) for key, value in values.items())
        trial = read_trial(folder / name, name, overrides)
        if failure and trial.state != FINISHED:
            trial = Trial(name, overrides, FAILED, sentence=failure)
        found.append(trial)
    return found


if __name__ == "__main__":
    entry.sweep()
