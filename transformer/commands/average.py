"""transformer-average: several checkpoints of a run to one with the mean of their weights."""

from collections.abc import Sequence
from pathlib import Path

from transformer import build
from transformer.commands import entry
from transformer.commands.name import names
from transformer.config import AverageConfig
from transformer.error import UserError
from transformer.training.average import average, best, newest


def _chosen(config: AverageConfig) -> list[Path]:
    given = {"last": config.last, "best": config.best, "checkpoints": config.checkpoints}
    said = [key for key, value in given.items() if value is not None]
    if len(said) != 1:
        raise UserError(f"give one of last=N, best=N and checkpoints=[FOLDER,...], not {', '.join(said) or 'none'}")
    if config.checkpoints is not None:
        return [Path(name) for name in names(config.checkpoints, "checkpoints")]
    if config.run is None:
        raise UserError(f"{said[0]} is given, but not the run whose checkpoints are meant; say run=saved/NAME")
    n = given[said[0]]
    if not isinstance(n, int) or n < 1:
        raise UserError(f"{said[0]} is {n}, but must be at least 1")
    run = Path(config.run)
    if not run.is_dir():
        raise UserError(f"run {run} does not exist; name the folder of a run, such as saved/NAME")
    return newest(run, n) if config.last is not None else best(run, n)


def _check_models(folders: Sequence[Path]) -> None:
    """Weights of the same shape may mean something else: of more heads, behind another activation."""
    first, *others = [(folder, build.stored_config(folder)) for folder in folders]
    for folder, stored in others:
        if differing := build.models_differ(stored, first[1]):
            told = ", ".join(f"{key} is {there} but {here} in {first[0]}" for key, (there, here) in differing.items())
            raise UserError(f"{folder} is another model: {told}; average checkpoints of one model")


def run(config: AverageConfig) -> None:
    """Averages, and says what of."""
    chosen = _chosen(config)
    places = [path.resolve() for path in chosen]
    if doubled := next((path for path in chosen if places.count(path.resolve()) > 1), None):
        raise UserError(f"{doubled} is given more than once, as {doubled.resolve().name}; name each checkpoint once")
    _check_models(chosen)
    average(chosen, Path(config.output))
    print(f"{config.output}: the mean of {len(chosen)} checkpoint{'s' if len(chosen) > 1 else ''}")
    for path in chosen:
        print(f"  {path}")


if __name__ == "__main__":
    entry.average()
