"""transformer-plot: the curves of several runs on one picture."""

from pathlib import Path

from transformer.commands import entry
from transformer.commands.name import names
from transformer.config import PlotConfig
from transformer.error import UserError
from transformer.monitoring.figure import to_png, to_svg
from transformer.monitoring.plot import draw_runs, read_runs, result

WRITERS = {".png": lambda figure: to_png(figure), ".svg": lambda figure: to_svg(figure).encode()}


def run(config: PlotConfig) -> None:
    """Draws, and says what each run came to."""
    output = Path(config.output)
    if output.suffix not in WRITERS:
        raise UserError(f"output is {output}, but must end in {' or '.join(WRITERS)}")
    runs = read_runs(names(config.runs, "runs"))
    picture = WRITERS[output.suffix](draw_runs(runs, config.x))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(picture)
    for name, epochs in runs.items():
        print(f"{name}: {len(epochs)} epochs, {result(epochs)}")
    print(f"written: {output}")


if __name__ == "__main__":
    entry.plot()
