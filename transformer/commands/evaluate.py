"""transformer-evaluate: decode test splits with checkpoints and score them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer import build
from transformer.commands.evaluator import Evaluator
from transformer.commands.launch import launch
from transformer.commands.result import case_note, labels, note, show, shown, write
from transformer.commands.search import differing_note, warn_of_members, way
from transformer.config import CompareConfig, EvaluateConfig
from transformer.data.corpus import Corpus, FilesCorpus, Pair
from transformer.error import UserError
from transformer.evaluation.metrics import check_resamples
from transformer.evaluation.named import named_set
from transformer.evaluation.report import Row, text_table


def names(given: object, what: str) -> list[str]:
    """One name or several, as a list."""
    found = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else [given]
    if not found or not all(isinstance(name, str) and name for name in found):
        raise UserError(f"{what} is {'null' if given is None else given}, but must be a name or a list of names")
    return [str(name) for name in found]


def _file_pair(config: EvaluateConfig | CompareConfig, languages: tuple[str, str]) -> tuple[str, str] | None:
    """The files that are evaluated instead of a split of the checkpoint's corpus, if there are any."""
    if (config.src is None) != (config.ref is None):
        raise UserError(f"src is {config.src} and ref is {config.ref}; give both files or neither")
    if config.src is not None and config.testset is not None:
        raise UserError(f"src is {config.src} and testset is {config.testset}; give one of the two")
    if config.testset is not None:
        source, reference = named_set(config.testset, *languages)
        return str(source), str(reference)
    return (config.src, config.ref) if config.src is not None and config.ref is not None else None


def _moved(data: Mapping[str, Any], root: str) -> Mapping[str, Any]:
    """A corpus's leaf, or the one inside a bidirectional corpus's, with another folder."""
    if isinstance(data.get("corpus"), Mapping):
        return {**data, "corpus": _moved(data["corpus"], root)}
    if "root" not in data:
        raise UserError("data_root does not apply: the checkpoint's corpus is given by files; use src and ref")
    return {**data, "root": root}


def corpus_of(loaded: build.Loaded, data_root: str | None) -> Corpus:
    """The corpus that a checkpoint was trained on, in the folder where it is now."""
    data: Mapping[str, Any] = loaded.config.data
    data = data if data_root is None else _moved(data, data_root)
    return build.instantiate(data, "data", Corpus)  # type: ignore[type-abstract]


def _languages(data: Mapping[str, Any]) -> tuple[str, str]:
    """Source and target of a corpus's leaf, or of the first one inside it; "" where it has none."""
    inside = data.get("corpus") or next(iter(dict(data.get("corpora") or {}).values()), None)
    if isinstance(inside, Mapping):
        return _languages(inside)
    return data.get("src_language", ""), data.get("tgt_language", "")


def texts(config: EvaluateConfig | CompareConfig, loaded: build.Loaded) -> dict[str, list[Pair]]:
    """What a checkpoint is evaluated on: name -> pairs of lines."""
    languages = _languages(loaded.config.data)
    turned = config.into is not None and config.into == languages[0]
    if turned:
        languages = languages[1], languages[0]
    if files := _file_pair(config, languages):
        pair = {"src": files[0], "tgt": files[1], "tsv": None}
        corpus: Corpus = FilesCorpus(*languages, pair, pair, {"test": pair})
        return {config.testset or Path(files[0]).name: list(corpus.pairs("test"))}
    corpus = corpus_of(loaded, config.data_root)
    corpus.prepare()
    wanted = corpus.splits()[2:] if config.split == "all" else names(config.split, "split")
    found = {name: list(corpus.pairs(name)) for name in map(corpus.resolve, wanted)}
    if not turned:
        return found
    return {f"{name}_into_{config.into}": [Pair(p.tgt, p.src) for p in pairs] for name, pairs in found.items()}


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
    folders = names(config.checkpoint, "checkpoint")
    if doubled := {f for f in folders if folders.count(f) > 1} - (set(folders) if config.ensemble else set()):
        raise UserError(f"checkpoint names {', '.join(sorted(doubled))} more than once")
    short = labels(folders)
    systems = {" + ".join(short[f] for f in folders): folders} if config.ensemble else {short[f]: [f] for f in folders}
    for members in systems.values():
        warn_of_members(members)
    ways = {name: way(config, build.stored_config(Path(members[0])), precision) for name, members in systems.items()}
    rows: list[Row] = []
    folder, lowercase = None, False
    for name, members in systems.items():
        loaded = build.load_together(members, config.runtime, world.device).into(config.into)
        lowercase = lowercase or loaded.tokenizers.tgt.lowercase
        folder = folder or _folder(config, loaded)
        facts = {"checkpoint": members if config.ensemble else members[0], "step": loaded.manifest["step"]}
        facts["precision"] = config.runtime.precision
        evaluator = Evaluator(loaded, ways[name], metrics, config.n_bootstrap, world, folder, facts)
        rows += _evaluated(config, name, evaluator)
    print(text_table(rows))
    print(note(case_note(lowercase, rows)), note(differing_note(ways)), sep="", end="")
    if folder and len(rows) > 1:
        write(folder, "evaluation", rows, {"decoding": {name: how.decoding for name, how in ways.items()}})
    print(f"written to {folder}: hypotheses, scores as JSON and Markdown")


def main() -> None:
    """The command line."""
    launch("evaluate", run)


if __name__ == "__main__":
    main()
