"""transformer-evaluate: decode test splits with checkpoints and score them."""

from pathlib import Path

from transformer import build
from transformer.commands import entry
from transformer.commands.evaluator import Evaluator
from transformer.commands.name import names
from transformer.commands.result import case_note, files_of, keep_earlier, labels, note, show, shown, write
from transformer.commands.search import differing_note, warn_of_members, way
from transformer.commands.stream import check_files
from transformer.commands.text import check_choice, texts
from transformer.config import EvaluateConfig
from transformer.error import UserError
from transformer.evaluation.metrics import check_resamples
from transformer.evaluation.report import Row, text_table

TABLE = "evaluation"  # what the files of all systems together are called


def _folder(config: EvaluateConfig, loaded: build.Loaded) -> Path:
    """Where everything goes; made now, so that no decoding is lost to a folder that cannot be written."""
    beside = Path(loaded.config.results_dir) / loaded.config.name / "evaluation"
    folder = Path(config.output_dir) if config.output_dir else beside
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _evaluated(config: EvaluateConfig, name: str, evaluator: Evaluator) -> list[Row]:
    """The rows of one checkpoint or ensemble; its name stands in those of its files where there are several."""
    alone = config.ensemble or len(names(config.checkpoint, "checkpoint")) == 1
    rows = []
    for split, pairs in texts(config, evaluator.loaded).items():
        file = split if alone else f"{split}.{name.replace('/', '_').replace(' ', '')}"
        written = files_of(evaluator.folder, file) + ([] if alone else files_of(evaluator.folder, TABLE))
        check_files([config.src, config.ref], written)
        row, hypotheses = evaluator.evaluate(name, split, pairs, file)
        show(shown(pairs, hypotheses, config.n_shown))
        rows.append(row)
    return rows


def run(config: EvaluateConfig) -> None:
    """Evaluates and prints."""
    world = build.runtime(config.runtime)
    precision = build.precision_with_caution(config.runtime, world.device)
    metrics = build.metrics(config.metrics)  # no mistake in what follows the search shows only then
    check_resamples(config.n_bootstrap)
    check_choice(config, "data_root")
    if config.n_shown < 0:
        raise UserError(f"n_shown is {config.n_shown}, but must be at least 0")
    folders = names(config.checkpoint, "checkpoint")
    if doubled := {f for f in folders if folders.count(f) > 1} - (set(folders) if config.ensemble else set()):
        raise UserError(f"checkpoint names {', '.join(sorted(doubled))} more than once")
    short = labels(folders)
    systems = {" + ".join(short[f] for f in folders): folders} if config.ensemble else {short[f]: [f] for f in folders}
    for members in systems.values():
        warn_of_members(members)
    ways = {name: way(config, build.stored_config(Path(members[0])), precision) for name, members in systems.items()}
    rows: list[Row] = []
    folder, lowercase, told = None, False, {}
    for name, members in systems.items():
        loaded = build.load_together(members, config.runtime, world.device).into(config.into)
        lowercase = lowercase or loaded.tokenizers.tgt.lowercase
        folder = folder or _folder(config, loaded)
        facts = {"checkpoint": members if config.ensemble else members[0], "step": loaded.manifest["step"]}
        facts["precision"] = config.runtime.precision
        evaluator = Evaluator(loaded, ways[name], metrics, config.n_bootstrap, world, folder, facts, keep=True)
        rows += _evaluated(config, name, evaluator)
        told[name] = {**facts, **ways[name].facts()}
    print(text_table(rows))
    print(note(case_note(lowercase, rows)), note(differing_note(ways)), sep="", end="")
    if folder and len(rows) > 1:
        keep_earlier(folder, TABLE, {"systems": told})
        write(folder, TABLE, rows, {"systems": told})
    print(f"written to {folder}: hypotheses, scores as JSON and Markdown")


if __name__ == "__main__":
    entry.evaluate()
