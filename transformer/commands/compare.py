"""transformer-compare: several systems on one test set, as a table and as a page."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformer import build
from transformer.commands import entry
from transformer.commands.name import names
from transformer.commands.override import asked
from transformer.commands.result import labels, note, translated, write_hypotheses
from transformer.commands.search import Way, differing_note, way
from transformer.commands.stream import check_files
from transformer.commands.text import check_choice, corpus_of, texts
from transformer.config import CompareConfig
from transformer.data.reader import read_aligned, read_lines
from transformer.error import UserError
from transformer.evaluation.bucket import word_counts
from transformer.evaluation.compare import compare
from transformer.evaluation.html import page
from transformer.evaluation.significance import Significance

PAGES = ("comparison.html", "comparison.json")


def _lines(config: CompareConfig, first: build.Loaded | None) -> tuple[str, list[str] | None, list[str]]:
    """What is translated: its name, sources if they are known, references."""
    if first is None or (config.src is None and config.ref is not None):
        if config.ref is None:
            raise UserError("no system is a checkpoint, so its test split is not known; say ref=FILE, and src=FILE too")
        if config.src is None:
            return Path(config.ref).name, None, list(read_lines(Path(config.ref)))
        pairs = list(read_aligned(Path(config.src), Path(config.ref)))
        return Path(config.ref).name, [pair.src for pair in pairs], [pair.tgt for pair in pairs]
    if not isinstance(config.split, str) or config.split == "all":
        raise UserError(f"split is {config.split}, but systems are compared on one split at a time")
    [(name, pairs)] = texts(config, first).items()
    return name, [pair.src for pair in pairs], [pair.tgt for pair in pairs]


def _counts(config: CompareConfig, first: build.Loaded | None) -> dict[str, int] | None:
    """How often each word occurs in the target side of the training text, if that is there."""
    if config.train_tgt is not None:
        return word_counts(read_lines(Path(config.train_tgt)))
    if first is None:
        return None
    try:
        corpus = corpus_of(first, config.data_root).for_vocabulary()  # one direction, as it is written
        side = 0 if config.into == corpus.src_language else 1
        return word_counts(pair[side] for pair in corpus.pairs("train"))
    except UserError as error:
        print(f"words are counted in the references, not in the training text: {error}")
        return None


def _translated(how: Way, name: str, loaded: build.Loaded, sources: Sequence[str]) -> list[str]:
    found = translated(sources, how.translator(loaded))
    print(f"translated {len(found)} lines with {name}")
    return found


def run(config: CompareConfig) -> None:
    """Compares, prints, writes."""
    world = build.runtime(config.runtime)
    precision = build.precision_with_caution(config.runtime, world.device)
    systems = names(config.systems, "systems")
    if len(set(systems)) < max(2, len(systems)):
        raise UserError(f"systems names {', '.join(systems)}; name two or more different ones")
    metrics = build.metrics(config.metrics)
    for metric in metrics:
        metric.scorer(False)  # not every one can be tested; so it is said before anything is translated
    if config.n_examples < 0:
        raise UserError(f"n_examples is {config.n_examples}, but must be at least 0")
    check_choice(config)
    significance = build.instantiate(config.significance, "significance", Significance)  # type: ignore[type-abstract]
    folders = [name for name in systems if Path(name).is_dir()]
    loaded = {name: build.load(name, config.runtime, world.device).into(config.into) for name in folders}
    if not loaded:
        for key in ("testset", "into", "data_root"):
            if (value := getattr(config, key)) is not None:
                raise UserError(f"{key} is {value}, but no system is a checkpoint; leave it out and say ref=FILE")
        for override in asked():
            if override.key.split(".")[0] in ("decoding", "translation"):
                raise UserError(f"{override.key} is given, but no system is a checkpoint: nothing is translated")
    ways = {name: way(config, system.config, precision) for name, system in loaded.items()}
    first = next(iter(loaded.values()), None)
    split, sources, references = _lines(config, first)
    given = {name: list(read_lines(Path(name))) for name in systems if name not in loaded}
    for name, lines in given.items():
        if len(lines) != len(references):
            raise UserError(f"system {name} has {len(lines)} lines, but there are {len(references)} references")
    if loaded and sources is None:
        raise UserError(f"system {next(iter(loaded))} is a checkpoint, so it needs source text; say src=FILE")
    counts = _counts(config, first)  # before anything is translated: a file of it may be missing
    folder = Path(config.output_dir)
    if folder.is_file():
        raise UserError(f"output_dir is {folder}, which is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    targets = [f"system{number}.hyp.txt" for number, name in enumerate(systems, 1) if name in loaded]
    check_files([*given, config.src, config.ref], [str(folder / name) for name in (*targets, *PAGES)])
    hypotheses = {
        name: given[name] if name in given else _translated(ways[name], name, loaded[name], sources or [])
        for name in systems
    }
    for number, name in enumerate(systems, 1):
        if name in loaded:
            write_hypotheses(folder, f"system{number}", hypotheses[name])
    short = labels(systems)
    named = {short[name]: lines for name, lines in hypotheses.items()}
    found = compare(named, references, metrics, significance, split, sources, counts, config.n_examples)
    differing = differing_note({short[name]: how for name, how in ways.items()})
    (folder / PAGES[0]).write_text(page(found, differing), encoding="utf-8")
    text = json.dumps(found.data(), indent=1, ensure_ascii=False)
    (folder / PAGES[1]).write_text(text + "\n", encoding="utf-8")
    print(found.text())
    print(note(differing), end="")
    print(f"written: {folder / PAGES[0]}, {PAGES[1]} beside it")


if __name__ == "__main__":
    entry.compare()
