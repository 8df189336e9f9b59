"""What may change between a run and its resumption."""

from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from transformer import build
from transformer.commands.resume import MAY_CHANGE, as_before, changes, plain, refuse_changes
from transformer.config import TrainConfig, config_dir, register_schemas
from transformer.error import UserError

BEFORE: dict[str, Any] = {
    "seed": 1,
    "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "betas": [0.9, 0.98]},
    "training": {"max_epochs": 3, "accumulate": 1},
    "final": {"n_shown": 5},
    "final_other": 1,
    "data": {"root": "a", "src_language": "en"},
    "saved_dir": "saved",
    "name": "run",
}


def changed(**values: Any) -> dict[str, Any]:
    return plain(OmegaConf.merge(BEFORE, values))  # type: ignore[arg-type]


def test_the_same_config_has_no_changes() -> None:
    assert changes(BEFORE, changed()) == {}
    refuse_changes(OmegaConf.create(BEFORE), OmegaConf.create(BEFORE))  # type: ignore[arg-type]


def test_a_change_is_told_with_both_values() -> None:
    assert changes(BEFORE, changed(seed=2)) == {"seed": (1, 2)}
    assert changes(BEFORE, changed(optimizer={"betas": [0.9, 0.99]})) == {"optimizer.betas": ([0.9, 0.98], [0.9, 0.99])}


def test_a_key_that_came_or_went_is_a_change() -> None:
    assert changes(BEFORE, changed(optimizer={"eps": 1})) == {"optimizer.eps": (None, 1)}
    assert changes(changed(optimizer={"eps": 1}), BEFORE) == {"optimizer.eps": (1, None)}


def test_what_does_not_decide_the_weights_may_change_with_all_below_it() -> None:
    now = changed(training={"max_epochs": 9}, data={"root": "b"}, final={"n_shown": 1, "new": 2})
    assert changes(BEFORE, now) == {}


def test_a_name_that_only_begins_like_one_that_may_change_may_not() -> None:
    assert changes(BEFORE, changed(final_other=2)) == {"final_other": (1, 2)}


def test_all_changes_are_in_the_refusal() -> None:
    now = OmegaConf.create(changed(seed=2, optimizer={"lr": 0.5}, training={"max_epochs": 9}))
    with pytest.raises(UserError) as caught:
        refuse_changes(OmegaConf.create(BEFORE), now)  # type: ignore[arg-type]
    told = "seed was 1 and is now 2, optimizer.lr was 0.1 and is now 0.5"
    assert str(caught.value) == (
        f"this run cannot be resumed with another config: {told}; change it back, or use another name (with "
        "warm_start.checkpoint=saved/run/last it begins with the weights of this one)"
    )


def test_interpolations_are_resolved() -> None:
    assert plain(OmegaConf.create({"a": 1, "b": "${a}"})) == {"a": 1, "b": 1}  # type: ignore[arg-type]


def test_what_may_change_exists(run: Any) -> None:
    config = OmegaConf.load(run.folder / "results" / "run" / "config.yaml")
    assert [key for key in MAY_CHANGE if OmegaConf.select(config, key, default="absent") == "absent"] == []


@pytest.mark.parametrize(
    ("key", "may"),
    [
        ("data.root", True),
        ("data.url", True),
        ("data.train.src", True),
        ("data.tests.new.tsv", True),
        ("data.corpus.root", True),
        ("data.corpora.real.validation.tgt", True),
        ("data.corpora.both.corpus.splits_root", True),
        ("data.src_language", False),
        ("data.weights.root", False),
        ("data.temperature", False),
        ("data.rooted", False),
        ("tokenizer.root", False),
    ],
)
def test_where_the_text_lies_may_change_and_what_it_is_may_not(key: str, may: bool) -> None:
    before, after = ({"data": {}, **OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={v}"]))} for v in "ab")  # type: ignore[dict-item]
    assert changes(before, after) == ({} if may else {key: ("a", "b")})


def test_a_setting_that_is_newer_than_the_checkpoint_must_be_off() -> None:
    before = changed(training={"new": "???"})
    assert changes(before, changed(training={"new": None})) == {}
    assert changes(before, changed(training={"new": False})) == {}
    assert changes(before, changed(training={"new": 0.9})) == {"training.new": ("???", 0.9)}


def test_a_checkpoint_of_the_first_format_can_be_resumed() -> None:
    """Every setting that came since then is off by default."""
    path = Path(__file__).parent.parent / "fixtures" / "checkpoint_v1"
    saved = build.checkpoint_config(path)
    register_schemas()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        now = OmegaConf.merge(OmegaConf.structured(TrainConfig), hydra.compose("train"))
    known = set(changes(plain(saved), plain(now)))  # type: ignore[arg-type]
    missing = {str(key) for key in OmegaConf.missing_keys(saved)}
    assert not known & missing


SAVED = {**BEFORE, "results_dir": "results", "resume": False, "overwrite": True, "seed": 7}
COMPOSED = {**BEFORE, "results_dir": "results", "resume": True, "overwrite": False, "training": {"max_epochs": 9}}


def together(asked: list[str], **composed: Any) -> dict[str, Any]:
    saved, now = OmegaConf.create(SAVED), OmegaConf.create({**COMPOSED, **composed})
    return plain(as_before(saved, now, asked))  # type: ignore[arg-type]


def test_a_run_goes_on_as_it_was_but_for_what_is_said() -> None:
    expected = {**SAVED, "resume": True, "overwrite": False}
    assert together(["name", "resume"]) == expected
    longer = {**expected, "training": {"max_epochs": 9, "accumulate": 1}}
    assert together(["name", "resume", "training.max_epochs"]) == longer
    assert together(["seed"])["seed"] == 1  # and is refused later


@pytest.mark.parametrize("asked", ["experiment", "data@data.corpora.a", "n_trials", "optimizer.eps"])
def test_with_an_experiment_or_what_is_not_there_the_command_line_says_all(asked: str) -> None:
    assert together([asked]) == COMPOSED


@pytest.mark.parametrize(("asked", "path"), [("optimizer", "optimizer"), ("data@training.data", "training.data")])
def test_a_part_that_is_chosen_by_name_is_taken_as_a_whole_and_nothing_else(asked: str, path: str) -> None:
    now = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 1}, "training": {"max_epochs": 9, "data": {"root": "b"}}}
    got = together([asked], **now)
    assert OmegaConf.select(OmegaConf.create(got), path) == OmegaConf.select(OmegaConf.create(now), path)
    before = OmegaConf.create({**SAVED, "resume": True, "overwrite": False})
    OmegaConf.update(before, path, OmegaConf.select(OmegaConf.create(now), path), merge=False)
    assert got == before


def test_a_part_that_may_change_is_chosen_by_name_and_leaves_nothing_of_what_was_there() -> None:
    saved = {**SAVED, "monitor": {"curves": {"folder": "results/run"}}, "metrics": {"ter": {"case": True}}}
    new = {"mine": {"folder": "elsewhere"}}
    now = {**COMPOSED, "monitor": new, "metrics": {}}
    own = as_before(OmegaConf.create(saved), OmegaConf.create(now), ["name", "monitor.mine.folder", "monitor"])  # type: ignore[arg-type]
    assert plain(own) == {**saved, "resume": True, "overwrite": False, "monitor": new}


@pytest.mark.parametrize("key", ["name", "saved_dir", "results_dir"])
def test_a_run_that_lies_elsewhere_now_goes_on_there(key: str) -> None:
    expected = {**SAVED, "resume": True, "overwrite": False, key: "other"}
    assert together(["resume"], **{key: "other"}) == expected


def test_what_is_made_of_the_place_moves_with_it() -> None:
    monitor = {"curves": {"folder": "results/run", "every": 2}, "mine": {"folder": "elsewhere"}}
    saved, now = ({**config, "name": "run", "monitor": monitor} for config in (SAVED, COMPOSED))
    moved = as_before(OmegaConf.create(saved), OmegaConf.create({**now, "name": "b"}), ["name"])  # type: ignore[arg-type]
    expected = {"curves": {"folder": "results/b", "every": 2}, "mine": {"folder": "elsewhere"}}
    assert plain(moved)["monitor"] == expected
