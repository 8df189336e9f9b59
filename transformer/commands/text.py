"""What a checkpoint is evaluated on: splits of the corpus that it was trained on, files, or a named test set."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer import build
from transformer.commands.name import names
from transformer.config import CompareConfig, EvaluateConfig
from transformer.data.corpus import Corpus, FilesCorpus, Pair
from transformer.error import UserError
from transformer.evaluation.named import named_set


def check_choice(config: EvaluateConfig | CompareConfig, *more: str) -> None:
    """Refuses several answers to what is evaluated on; more: keys that mean something for a split alone.

    Raises:
        UserError: with both.
    """
    given = {key: getattr(config, key) for key in ("src", "ref", "testset")}
    said = [f"{key} is {value}" for key, value in given.items() if value is not None]
    if said and config.split != "test":
        raise UserError(f"{said[0]} and split is {config.split}; give one of the two")
    for key in ("testset", *more):
        if (value := getattr(config, key)) is not None and said and said != [f"{key} is {value}"]:
            raise UserError(f"{said[0]} and {key} is {value}; give one of the two")


def _file_pair(config: EvaluateConfig | CompareConfig, languages: tuple[str, str]) -> tuple[str, str] | None:
    """The files that are evaluated instead of a split of the checkpoint's corpus, if there are any."""
    if (config.src is None) != (config.ref is None):
        raise UserError(f"src is {config.src or 'null'} and ref is {config.ref or 'null'}; give both files or neither")
    if config.testset is not None:
        source, reference = named_set(config.testset, *languages)
        return str(source), str(reference)
    return (config.src, config.ref) if config.src is not None and config.ref is not None else None


def _moved(data: Mapping[str, Any], root: str) -> Mapping[str, Any] | None:
    """A corpus's leaf, or those inside one, with another folder; None where there is none to change."""
    if isinstance(data.get("corpus"), Mapping):
        corpus = _moved(data["corpus"], root)
        return corpus and {**data, "corpus": corpus}
    if isinstance(data.get("corpora"), Mapping):
        moved = {name: _moved(corpus, root) for name, corpus in data["corpora"].items()}
        if not any(moved.values()):
            return None
        return {**data, "corpora": {name: moved[name] or corpus for name, corpus in data["corpora"].items()}}
    return {**data, "root": root} if "root" in data else None


def corpus_of(loaded: build.Loaded, data_root: str | None) -> Corpus:
    """The corpus that a checkpoint was trained on, in the folder where it is now."""
    data: Mapping[str, Any] = loaded.config.data
    if data_root is not None:
        moved = _moved(data, data_root)
        if moved is None:
            raise UserError("data_root does not apply: the checkpoint's corpus is given by files; use src and ref")
        data = moved
    return build.instantiate(data, "data", Corpus)  # type: ignore[type-abstract]


def prepare(corpus: Corpus, splits: Sequence[str], instead: str) -> None:
    """Makes splits of a checkpoint's corpus readable; the others need not be there any more.

    instead: what may be said in their place.

    Raises:
        UserError: they cannot be had; with this command's keys, not those of training.
    """
    try:
        corpus.prepare(splits)
    except UserError as error:
        told = re.sub(r"data\.[\w.]*root=", "data_root=", str(error))
        raise UserError(f"{told}; or start the command where the run was started, or say {instead}") from error


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
    wanted = corpus.splits()[2:] if config.split == "all" else names(config.split, "split")
    if not wanted:
        raise UserError("the checkpoint's corpus has no test split; say split=validation, or src=FILE ref=FILE")
    splits = [corpus.resolve(name) for name in wanted]
    prepare(corpus, splits, "src=FILE ref=FILE")
    found = {name: list(corpus.pairs(name)) for name in splits}
    if not turned:
        return found
    return {f"{name}_into_{config.into}": [Pair(p.tgt, p.src) for p in pairs] for name, pairs in found.items()}
