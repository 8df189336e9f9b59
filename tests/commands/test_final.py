"""What ends a training."""

from pathlib import Path
from typing import Any


def test_without_a_test_split_nothing_is_evaluated(call: Any, tiny: list[str], tmp_path: Path) -> None:
    arguments = [word for word in tiny if not word.startswith("data.tests.")]
    ended = call("train", [*arguments, "monitor=none", "training.max_steps=1", "final.splits=[test]"], tmp_path)
    assert ended.code == 0, ended.err
    assert "no test split: nothing is evaluated; transformer-evaluate takes any files\n" in ended.out
    refused = call("train", [*arguments, "overwrite=true", "final.splits=[dev]"], tmp_path)
    assert "there is no split 'dev'; this corpus has train, validation" in refused.sentence
