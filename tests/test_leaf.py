"""What a config may build, and with what: refused leaves name the key, and nothing runs."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from transformer import build
from transformer.data.corpus import Corpus
from transformer.decoding.penalty import LengthPenalty
from transformer.decoding.search import Search
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.leaf import check

BEAM = {
    "_target_": "transformer.decoding.beam.Beam",
    "beam_size": 5,
    "n_best": 1,
    "early_stopping": True,
    "penalty": {"_target_": "transformer.decoding.penalty.Wu", "alpha": 1.0},
}
ADAM = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 3e-3, "betas": [0.9, 0.98]}
FILES = {
    "_target_": "transformer.data.corpus.FilesCorpus",
    "src_language": "a",
    "tgt_language": "b",
    "train": {"src": ["one", "two"], "tgt": ["eins", "zwei"], "tsv": None},
    "validation": {"tsv": "v"},
    "tests": {"first": {"src": "x", "tgt": "y", "tsv": None}},
}


def refusal(leaf: Any, family: type = Search, partial: bool = False) -> str:
    """What a leaf is refused with."""
    with pytest.raises(UserError) as caught:
        check(leaf, "decoding", family, partial)
    message = str(caught.value)
    assert message.startswith("decoding")
    assert "\n" not in message
    return message


def test_good_leaves_pass() -> None:
    check(BEAM, "decoding", Search)
    check(ADAM, "optimizer", torch.optim.Optimizer, partial=True)
    check(FILES, "data", Corpus)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "os.mkdir",
        "builtins.eval",
        "subprocess.run",
        "torch.load",
        "torch.hub.load",
        "hydra.utils.instantiate",
        "transformerx.decoding.beam.Beam",
        "",
        "transformer",
        None,
        7,
        ["transformer.decoding.beam.Beam"],
        {"_target_": "os.getcwd"},
    ],
)
def test_a_target_outside_the_allow_list_is_refused(target: object) -> None:
    message = refusal({"_target_": target})
    assert (
        message
        == f"decoding._target_ is {target}; only classes of transformer. and torch.optim. may be built from a config"
    )


@pytest.mark.parametrize(
    "target",
    [
        "transformer.training.checkpoint.shutil.rmtree",  # a module that one of ours has imported
        "transformer.training.checkpoint.torch.load",
        "transformer.leaf.importlib.import_module",
        "transformer.nowhere.Thing",
        "transformer.decoding.beam.Bream",
        "transformer.decoding.beam.Beam.search",
        "transformer.",
        "transformer..beam",
        "torch.optim.",
    ],
)
def test_a_target_that_is_reached_through_no_module_of_ours_does_not_exist(target: str) -> None:
    assert refusal({"_target_": target}) == f"decoding._target_ names {target}, which does not exist"


@pytest.mark.parametrize(
    "target",
    [
        "transformer.training.checkpoint.load_tensors",  # a function of ours
        "transformer.training.checkpoint.torch",  # a module
        "transformer.training.checkpoint.Path",  # a class, but not of ours
        "transformer.build.part.DictConfig",
        "transformer.training.checkpoint.MANIFEST",
        "torch.optim.lr_scheduler.Tensor",
    ],
)
def test_what_is_no_class_of_ours_is_refused(target: str) -> None:
    assert "only classes of" in refusal({"_target_": target})


def test_the_wrong_family_is_refused() -> None:
    leaf = {"_target_": "transformer.monitoring.record.Record", "folder": "x"}
    assert refusal(leaf) == "decoding._target_ is transformer.monitoring.record.Record, which is no Search"


@pytest.mark.parametrize("value", [None, "beam", 5, {}, {"beam_size": 5}, []])
def test_what_is_no_leaf_is_refused(value: object) -> None:
    assert refusal(value) == f"decoding must be a mapping with _target_, not {value!r}; choose one of its group"


def test_a_misspelt_argument_is_named_beside_those_there_are() -> None:
    message = refusal({**BEAM, "beam_sice": 5})
    assert message.startswith("decoding has no argument 'beam_sice'; transformer.decoding.beam.Beam takes: beam_size,")
    assert message.endswith("; where an experiment sets it, ~decoding.beam_sice takes it out")
    assert "self" not in message


@pytest.mark.parametrize("name", ["self", "_args_", "_recursive_", "_convert_", "args", "kwargs"])
def test_what_is_no_argument_of_its_own_is_refused(name: str) -> None:
    assert f"has no argument {name!r}" in refusal({**BEAM, name: []})


def test_a_class_without_arguments_takes_none() -> None:
    leaf = {"_target_": "transformer.training.observer.Observer", "args": [1]}
    with pytest.raises(UserError, match=r"^m has no argument 'args'; .* takes: none; where"):
        check(leaf, "m", object)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("beam_size", 2.5, "int"),
        ("beam_size", True, "int"),
        ("beam_size", "five", "int"),
        ("beam_size", None, "int"),
        ("beam_size", [5], "int"),
        ("early_stopping", 1, "bool"),
        ("early_stopping", "yes", "bool"),
        ("penalty", "wu", "LengthPenalty"),
        ("penalty", {"alpha": 1.0}, "LengthPenalty"),
        ("penalty", None, "LengthPenalty"),
        ("rules", 3, "Sequence[Rule]"),
        ("rules", ["no_repeat"], "Sequence[Rule]"),
    ],
)
def test_a_wrong_type_is_named_with_the_right_one(name: str, value: object, expected: str) -> None:
    assert refusal({**BEAM, name: value}) == f"decoding.{name} is {value!r}, but must be {expected}"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lr", "lots", "float or Tensor"),
        ("lr", True, "float or Tensor"),
        ("betas", [0.9], "tuple[float | Tensor, float | Tensor]"),
        ("betas", [0.9, "x"], "tuple[float | Tensor, float | Tensor]"),
        ("fused", "yes", "bool or null"),
    ],
)
def test_a_wrong_type_of_an_optimizer(name: str, value: object, expected: str) -> None:
    message = refusal({**ADAM, name: value}, torch.optim.Optimizer, partial=True)
    assert message.replace("torch.", "") == f"decoding.{name} is {value!r}, but must be {expected}"


@pytest.mark.parametrize("train", [{"src": 3}, {"src": ["a", 3]}, "a file", ["a"], {"src": {"a": "b"}}])
def test_a_wrong_type_deep_inside_is_refused(train: object) -> None:
    assert refusal({**FILES, "train": train}, Corpus).startswith(f"decoding.train is {train!r}, but must be Mapping[")


def test_a_whole_number_is_a_float() -> None:
    check({"_target_": "transformer.decoding.penalty.Wu", "alpha": 1}, "penalty", LengthPenalty)


def test_a_leaf_inside_is_checked_as_a_leaf() -> None:
    inside = {"_target_": "transformer.decoding.penalty.Wu", "alpha": "x"}
    assert refusal({**BEAM, "penalty": inside}) == "decoding.penalty.alpha is 'x', but must be float"
    inside = {"_target_": "transformer.decoding.greedy.Greedy"}
    assert refusal({**BEAM, "penalty": inside}).endswith("which is no LengthPenalty")


def test_leaves_in_a_list_are_checked_as_leaves() -> None:
    rules = [{"_target_": "transformer.decoding.rule.NoRepeat", "n_tokens": 3}]
    check({**BEAM, "rules": rules}, "decoding", Search)
    rules.append({"_target_": "transformer.decoding.rule.NoRepeat", "n_tokens": 2.5})
    assert refusal({**BEAM, "rules": rules}) == "decoding.rules[1].n_tokens is 2.5, but must be int"
    rules[1] = {"_target_": "transformer.decoding.penalty.Wu", "alpha": 1.0}
    assert refusal({**BEAM, "rules": rules}).endswith("which is no Rule")


@pytest.mark.parametrize("partial", [True, "yes", 1])
def test_an_unfinished_object_is_refused_where_a_finished_one_is_needed(partial: object) -> None:
    assert refusal({**BEAM, "_partial_": partial}) == f"decoding._partial_ must be false, not {partial!r}"


def test_a_finished_object_is_refused_where_an_unfinished_one_is_needed() -> None:
    leaf = {**ADAM, "_partial_": False}
    assert refusal(leaf, torch.optim.Optimizer, partial=True) == "decoding._partial_ must be true, not False"


def evil_leaves(folder: str) -> list[dict[str, Any]]:
    """Leaves that make a folder when they are built, in every place of an argument."""
    evil = {"_target_": "os.mkdir", "_args_": [folder]}
    hidden = f"${{oc.create:{{_target_: os.mkdir, _args_: ['{folder}']}}}}"
    return [
        evil,
        {**BEAM, "penalty": evil},
        {**BEAM, "penalty": hidden},
        {**BEAM, "penalty": "\\" + hidden},
        {**BEAM, "rules": [evil]},
        {**BEAM, "rules": ["\\" + hidden]},
        {**BEAM, "rules": hidden},
        {**BEAM, "beam_size": evil},
        {**BEAM, "unknown": evil},
        {**BEAM, "_args_": [evil]},
        {"_target_": evil},
        {"_target_": "\\" + hidden},
    ]


@pytest.mark.parametrize("place", range(12))
def test_nothing_runs_wherever_it_hides(place: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    leaf = evil_leaves(str(trace))[place]
    with pytest.raises(UserError):
        build.instantiate(OmegaConf.create(leaf), "decoding", Search)
    assert not trace.exists()


@pytest.mark.parametrize("hidden", [False, True])
def test_nothing_runs_in_an_argument_that_takes_text(hidden: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = f"\\${{oc.create:{{_target_: os.mkdir, _args_: ['{trace}']}}}}"
    bad = evil if hidden else {"_target_": "os.mkdir", "_args_": [str(trace)]}
    for leaf in ({**FILES, "src_language": bad}, {**FILES, "train": {"src": bad, "tgt": "x"}}):
        with pytest.raises(UserError, match=r"^data\.(src_language|train)"):
            build.instantiate(OmegaConf.create(leaf), "data", Corpus)
    assert not trace.exists()


def test_asking_for_a_module_that_is_not_ours_does_not_import_it() -> None:
    refusal({"_target_": "antigravity.Thing"})
    assert "antigravity" not in sys.modules


def test_an_interpolation_in_a_leaf_is_resolved_before_it_is_checked() -> None:
    config = OmegaConf.create({"size": 3, "decoding": {**BEAM, "beam_size": "${size}"}})
    assert build.instantiate(config.decoding, "decoding", Search).width == 3
    config.size = 2.5
    with pytest.raises(UserError, match=r"^decoding\.beam_size is 2\.5, but must be int$"):
        build.instantiate(config.decoding, "decoding", Search)


def test_a_partial_leaf_gives_a_factory() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    factory: Any = build.instantiate(ADAM, "optimizer", torch.optim.Optimizer, partial=True)
    assert factory([weight]).param_groups[0]["betas"] == (0.9, 0.98)


def test_a_constructor_s_own_complaint_is_passed_on() -> None:
    with pytest.raises(UserError, match=r"^beam_size must be at least 1, not 0$"):
        build.instantiate({**BEAM, "beam_size": 0}, "decoding", Search)
    with pytest.raises(UserError, match=r"^decoding: .*missing 1 required positional argument: 'n_best'$"):
        build.instantiate({k: v for k, v in BEAM.items() if k != "n_best"}, "decoding", Search)
    with pytest.raises(UserError, match=r"^metrics\.x: .*abstract"):
        build.instantiate({"_target_": "transformer.evaluation.metrics.Metric"}, "metrics.x", Metric)  # type: ignore[type-abstract]


def test_this_file_would_notice_a_folder_made(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "trace")
    assert (tmp_path / "trace").exists()
