"""What ends a training."""

import json
from pathlib import Path
from typing import Any


def test_without_a_test_split_nothing_is_evaluated(call: Any, tiny: list[str], tmp_path: Path) -> None:
    arguments = [word for word in tiny if not word.startswith("data.tests.")]
    ended = call("train", [*arguments, "monitor=none", "training.max_steps=1", "final.splits=[test]"], tmp_path)
    assert ended.code == 0, ended.err
    assert "no test split: nothing is evaluated; transformer-evaluate takes any files\n" in ended.out
    refused = call("train", [*arguments, "overwrite=true", "final.splits=[dev]"], tmp_path)
    assert "there is no split 'dev'; this corpus has train, validation" in refused.sentence


def test_all_test_splits_can_be_asked_for(call: Any, tiny: list[str], tiny_text: Path, tmp_path: Path) -> None:
    more = [f"+data.tests.more.{side}={tiny_text}/valid.{side}" for side in ("src", "tgt")]
    ended = call("train", [*tiny, *more, "training.max_steps=1", "final.splits=[all]", "final.n_bootstrap=0"], tmp_path)
    assert ended.code == 0, ended.err
    final = tmp_path / "results" / "run" / "final"
    assert sorted(path.stem for path in final.glob("*.json")) == ["more", "test"]
    outcome = json.loads((tmp_path / "results" / "run" / "outcome.json").read_text())
    assert list(outcome["tests"]) == ["test", "more"]
