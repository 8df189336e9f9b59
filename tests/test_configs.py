"""Every YAML file: reached by a command, complete, checked, built."""

import functools
import importlib.util
import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from transformer import build
from transformer.commands.argument import divided
from transformer.config import SCHEMAS, ModelConfig, config_dir, register_schemas
from transformer.data.batching import Batching
from transformer.data.corpus import Corpus
from transformer.data.tokenizer.base import TokenizerTrainer
from transformer.decoding.search import Search
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.evaluation.significance import Significance
from transformer.leaf import check
from transformer.model.normalizer import Normalizer
from transformer.model.position.base import Position
from transformer.model.score import Score
from transformer.training.loss import Objective
from transformer.training.observer import Observer
from transformer.training.schedule import Schedule
from transformer.training.space import Dimension

ROOT = config_dir()
Compose = Callable[..., DictConfig]


@dataclass(frozen=True)
class Group:
    """A choice: the class its leaves have, and whether they are finished by the code."""

    family: type
    partial: bool = False


# Files, a corpus, or a package.
NEED_MORE = {f"data={name}" for name in ("files", "mixture", "bidirectional")}
NEED_MORE |= {"tokenizer=existing", "metrics=comet", "monitor=mlflow", "monitor=wandb"}
if not importlib.util.find_spec("schedulefree"):
    NEED_MORE.add("optimizer=schedule_free_adamw")

# Where leaves stand in a composed config; a group whose value is a mapping of leaves has a star.
LEAVES = {
    "data": Group(Corpus),
    "tokenizer": Group(TokenizerTrainer),
    "batching": Group(Batching),
    "model.position": Group(Position, partial=True),
    "model.score": Group(Score, partial=True),
    "model.normalizer": Group(Normalizer, partial=True),
    "loss": Group(Objective, partial=True),
    "optimizer": Group(torch.optim.Optimizer, partial=True),
    "schedule": Group(Schedule),
    "decoding": Group(Search),
    "validation_decoding": Group(Search),
    "validation_metric": Group(Metric),
    "validation_scores.*": Group(Metric),
    "metrics.*": Group(Metric),
    "significance": Group(Significance),
    "monitor.*": Group(Observer),
    "sweep.*": Group(Dimension),
}


def options() -> list[tuple[str, str]]:
    """(group, option) of every YAML file below the top, help pages and what goes with two choices apart."""
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*.yaml"))
    found = [(file.parent.as_posix(), file.stem) for file in sorted(files) if len(file.parts) > 1]
    return [(group, option) for group, option in found if not group.startswith(("hydra/", "data/"))]


def pairs() -> list[tuple[str, str, str]]:
    """(group, option, corpus) of every YAML file that is taken when both are chosen: data/GROUP/CORPUS_OPTION.yaml."""
    names = [(path.parent.name, path.stem) for path in sorted((ROOT / "data").rglob("*/*.yaml"))]
    return [(group, option, corpus) for group, stem in names for corpus, _, option in [stem.partition("_")]]


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """Composes a command's config; the same arguments give the same object, which tests only read."""
    register_schemas()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT), version_base="1.3"):
        yield functools.cache(lambda command, *overrides: hydra.compose(command, list(overrides)))


@pytest.fixture(scope="module")
def groups(compose: Compose) -> dict[str, set[str]]:
    """The groups that each command chooses from."""
    composed = {name: hydra.compose(name, return_hydra_config=True) for name in SCHEMAS}
    return {name: {key.split("@")[0] for key in config.hydra.runtime.choices} for name, config in composed.items()}


def leaves(config: DictConfig) -> Iterator[tuple[str, Group, Mapping[str, Any]]]:
    """(place, group, leaf) of every leaf of a composed config, interpolations resolved."""
    plain = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    for place, group in LEAVES.items():
        found = OmegaConf.select(plain, place.removesuffix(".*"))
        if found is not None:
            several = OmegaConf.to_container(found)
            assert isinstance(several, dict)
            for name, leaf in several.items() if place.endswith("*") else [("", several)]:
                yield place.replace("*", str(name)), group, leaf


def assert_sound(config: DictConfig, schema: type) -> None:
    """Nothing is missing but what the user must give, and every leaf is what it must be."""
    given = {"checkpoint", "systems", "src", "tgt", "output", "output_dir", "runs", "tokenizer.folder"}
    assert OmegaConf.missing_keys(config) <= given
    assert set(config) == {field.name for field in fields(schema)}
    for place, group, leaf in leaves(config):
        check(leaf, place, group.family, group.partial)


@pytest.mark.parametrize("command", SCHEMAS)
def test_a_command_s_own_config_is_sound(command: str, compose: Compose) -> None:
    assert_sound(compose(command), SCHEMAS[command])


def test_only_what_starts_from_a_checkpoint_misses_it(compose: Compose) -> None:
    assert {name: OmegaConf.missing_keys(compose(name)) for name in SCHEMAS} == {
        "train": set(),
        "translate": {"checkpoint"},
        "evaluate": {"checkpoint"},
        "average": {"output"},
        "compare": {"systems", "output_dir"},
        "score": {"checkpoint", "src", "tgt"},
        "distill": {"checkpoint", "output"},
        "plot": {"runs", "output"},
        "export": {"checkpoint", "output"},
        "sweep": set(),
    }


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_is_reached_and_sound(
    group: str, option: str, compose: Compose, groups: dict[str, set[str]]
) -> None:
    commands = [command for command in SCHEMAS if group in groups[command]]
    assert commands, f"no command has the group {group}"
    for command in commands:
        key = {"machine": "machine@runtime"}.get(group, group)
        assert_sound(compose(command, f"{key}={option}"), SCHEMAS[command])


@pytest.mark.parametrize(("group", "option", "corpus"), pairs())
def test_what_goes_with_two_choices_is_taken_with_both_and_not_otherwise(
    group: str, option: str, corpus: str, compose: Compose
) -> None:
    special = yaml.safe_load((ROOT / "data" / group / f"{corpus}_{option}.yaml").read_text())
    assert special
    with_both = compose("train", f"data={corpus}", f"{group}={option}")[group]
    without = compose("train", "data=files", f"{group}={option}")[group]
    for key, value in special.items():
        assert with_both[key] == value
        assert without[key] != value


def test_an_experiment_named_by_hand_takes_the_place_of_the_corpus_s(compose: Compose) -> None:
    assert compose("train").name == "bundled"
    assert compose("train", "data=files").name == "run"
    assert compose("train", "experiment=multi30k_en_de_fast").data._target_.endswith("Multi30kCorpus")
    assert compose("train", "experiment=multi30k_en_de_fast").name == "multi30k_en_de_fast"


@pytest.mark.parametrize("path", sorted((ROOT / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_changes_something_in_all_it_says(path: Path, compose: Compose) -> None:
    assert path.read_text().startswith("# @package _global_\n# ")
    said = OmegaConf.create({k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "defaults"})
    now = compose("train", f"experiment={path.stem}")
    for key in dotted(OmegaConf.to_container(said)):
        assert OmegaConf.select(now, key) == OmegaConf.select(said, key)


def dotted(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix]
    return [path for key, item in value.items() for path in dotted(item, f"{prefix}.{key}" if prefix else str(key))]


@pytest.mark.parametrize("name", [name for group, name in options() if group == "model"])
def test_every_model_builds(name: str, compose: Compose) -> None:
    config = compose("train", f"model={name}")
    side = SimpleNamespace(vocab_size=1000)
    with torch.device("meta"):
        built = build.model(config.model, SimpleNamespace(src=side, tgt=side, joint=True), config.runtime)  # type: ignore[arg-type]
    assert built.n_parameters > 1000 * config.model.d_model


@pytest.mark.parametrize("group", ["position", "score", "normalizer"])
def test_every_part_of_a_model_builds(group: str, compose: Compose) -> None:
    side = SimpleNamespace(vocab_size=50)
    for option in (option for name, option in options() if name == f"model/{group}"):
        config = compose("train", f"model/{group}={option}", "model.d_model=16", "model.n_encoder_layers=1")
        built = build.model(config.model, SimpleNamespace(src=side, tgt=side, joint=True), config.runtime)  # type: ignore[arg-type]
        assert built.encode(torch.tensor([[5, 6, 3]]), torch.zeros(1, 3, dtype=torch.bool)).shape == (1, 3, 16)


def finished(factory: Callable[..., Any], group: str) -> object:
    """What the code makes of a leaf that it finishes."""
    if group == "loss":
        return factory(torch.nn.Linear(1, 1), 0.1, True, None)
    return factory([torch.nn.Parameter(torch.ones(1))])


def test_every_other_leaf_builds(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built = 0
    for name, option in options():
        # Files must be named, models are built above, and the machine is no leaf.
        if name in ("experiment", "model", "machine") or name.startswith("model/"):
            continue
        if f"{name}={option}" in NEED_MORE:
            continue
        command = {"significance": "compare", "sweep": "sweep"}.get(name, "train")
        config = compose(command, f"{name}={option}")
        for place, group, leaf in leaves(config):
            if place.split(".")[0] == name:
                made: Any = build.instantiate(leaf, place, group.family, group.partial)
                made = finished(made, name) if group.partial else made
                assert isinstance(made, group.family)
                built += 1
    assert built > 20
    assert not list(tmp_path.iterdir())


def test_files_are_asked_for(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"^data\.train names no files; say data\.train\.src=FILE"):
        build.instantiate(compose("train", "data=files").data, "data", Corpus)  # type: ignore[type-abstract]


def all_leaves(value: Any) -> Iterator[dict[str, Any]]:
    """Every leaf of a YAML file, leaves inside leaves too."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for item in value.values():
            yield from all_leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from all_leaves(item)


# Checkpoints of the first version know none of coverage and rounding, and code that builds a part may leave them out.
OPTIONAL = {"rules", "coverage", "round_to"}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.yaml")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_value_stands_once(path: Path) -> None:
    """What a YAML file configures has no second value in the constructor, and nothing is configured half."""
    for leaf in all_leaves(yaml.safe_load(path.read_text(encoding="utf-8"))):
        if not leaf["_target_"].startswith("transformer."):
            continue
        signature = inspect.signature(hydra.utils.get_class(leaf["_target_"])).parameters
        given = set(leaf) - {"_target_", "_partial_"}
        assert given <= set(signature)
        for name in given:
            assert signature[name].default is inspect.Parameter.empty or name in OPTIONAL, name
        needed = {name for name, p in signature.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
        assert "_partial_" in leaf or needed == given - OPTIONAL


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.yaml")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_key_stands_twice_in_a_file(path: Path) -> None:
    assert OmegaConf.load(path) is not None  # its reader, unlike YAML's own, refuses that


@pytest.mark.parametrize("path", sorted((ROOT / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_models_differ_in_values_only(path: Path) -> None:
    parts = {"position", "score", "normalizer"}
    assert set(yaml.safe_load(path.read_text())) == {field.name for field in fields(ModelConfig)} - parts


def examples(command: str) -> list[list[str]]:
    """The commands in the examples of a help page, as lists of words."""
    footer = yaml.safe_load((ROOT / "hydra" / "help" / f"{command}.yaml").read_text())["footer"]
    lines = re.sub(r"\\\n\s*", "", footer).splitlines()
    found = [line[line.index(f"transformer-{command}") :] for line in lines if f"transformer-{command}" in line]
    return [shlex.split(re.split(r"\s{2,}|[<>]", line)[0])[1:] for line in found if "=" in line]


@pytest.mark.parametrize("command", SCHEMAS)
def test_the_examples_of_the_help_page_compose(command: str, compose: Compose) -> None:
    found = examples(command)
    assert len(found) >= 3
    for words in found:
        overrides = [word for word in words if "=" in word or word.startswith("~")]
        assert overrides
        if command == "sweep":  # what it does not know is for the training of its trials
            overrides, training = divided(overrides)
            assert_sound(compose("train", *training), SCHEMAS["train"])
        if "-m" in words:  # the first trial
            overrides = [word.split(",")[0] if "[" not in word else word for word in overrides]
        assert_sound(compose(command, *overrides), SCHEMAS[command])
