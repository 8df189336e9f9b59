"""Trials of a multirun: named by what differs, each in its own folders; one that fails does not end the others."""

import re
from pathlib import Path
from typing import Any

import pytest

from transformer.commands.trial import LONGEST, swept_keys, swept_values, trial_name


def test_only_keys_with_several_values_are_swept() -> None:
    words = ["-m", "model.d_model=128,256", "seed=range(1,4)", "optimizer.lr=1e-3", "betas=[0.9,0.98]", "data=files"]
    assert swept_keys(words) == ["model.d_model", "seed"]
    assert swept_keys(["training.max_epochs=2"]) == []


def test_groups_of_one_name_in_two_places_are_told_apart() -> None:
    words = ["decoding@validation_decoding=greedy,beam", "decoding=beam,greedy", "+data@data.corpora.a=multi30k,files"]
    assert swept_keys(words) == ["decoding@validation_decoding", "decoding", "data@data.corpora.a"]
    trials = [[f"{key}={value}" for key, value in values.items()] for values in swept_values(words)]
    assert len({trial_name(["seed=1", *trial], swept_keys(words)) for trial in trials}) == 8


def test_trials_come_in_the_order_of_the_launcher() -> None:
    words = ["-m", "model=tiny,mini", "name=x", "seed=range(1,3)"]
    assert swept_values(words) == [{"model": m, "seed": s} for m in ("tiny", "mini") for s in ("1", "2")]


def test_a_name_needs_no_quotes_and_tells_trials_apart() -> None:
    swept = ["model.d_model", "model/position", "name with spaces"]
    overrides = ["model.d_model=128", "model/position=rotary", "seed=3", "name with spaces='a b'"]
    name = trial_name(overrides, swept)
    assert re.fullmatch(r"model.d_model-128\+model.position-rotary\+name_with_spaces-_a_b_-[0-9a-f]{8}", name)
    alike = {trial_name([f"data.root={value}"], ["data.root"]) for value in ("a/b", "a.b", "a_b", "'a b'", "'a+b'")}
    assert len(alike) == 5
    assert trial_name(["seed=3"], ["seed"]) == "seed-3"


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    keys = [f"a.very.long.key.number_{i}" for i in range(20)]
    one = trial_name([f"{key}=1" for key in keys], keys)
    other = trial_name([*(f"{key}=1" for key in keys[:-1]), f"{keys[-1]}=2"], keys)
    assert len(one) == len(other) == LONGEST
    assert one != other


def test_each_trial_has_its_own_folders_and_a_failed_one_ends_none(tmp_path: Path, quick: list[str], call: Any) -> None:
    sweep = ["-m", *quick, "seed=1,2", "model.d_model=16,15", "training.max_epochs=1"]
    ended = call("train", sweep, tmp_path)
    assert ended.code == 2
    assert ended.err.count("d_model (15) must be divisible by n_heads") == 2
    trials = {
        path.parent.relative_to(tmp_path / "saved" / "run").as_posix() for path in tmp_path.rglob("saved/**/best")
    }
    assert trials == {"model.d_model-16+seed-1", "model.d_model-16+seed-2"}
    assert (tmp_path / "results" / "run" / "model.d_model-16+seed-1" / "metrics.jsonl").is_file()
    before = (tmp_path / "results" / "run" / "model.d_model-16+seed-1" / "metrics.jsonl").read_bytes()
    other_order = ["-m", *quick, "model.d_model=16,15", "seed=1,2", "training.max_epochs=1"]
    again = call("train", [*other_order, "resume=true"], tmp_path)
    assert again.out.count("was finished before: not trained again\n") == 2
    assert "resumed" not in again.out
    assert (tmp_path / "results" / "run" / "model.d_model-16+seed-1" / "metrics.jsonl").read_bytes() == before
    assert not (tmp_path / "multirun").exists()


@pytest.mark.parametrize("name", ["name=s${seed}", "name=one,two"])
def test_a_rule_for_names_on_the_command_line_stays(name: str, tmp_path: Path, quick: list[str], call: Any) -> None:
    plain = [word for word in quick if not word.startswith("name=")]
    sweep = ["-m", *plain, name, "seed=1,2" if "$" in name else "seed=1", "training.max_epochs=1"]
    ended = call("train", sweep, tmp_path)
    assert ended.code == 0, ended.err
    expected = {"s1", "s2"} if "$" in name else {"one", "two"}
    assert {path.parent.name for path in tmp_path.rglob("saved/*/best")} == expected
