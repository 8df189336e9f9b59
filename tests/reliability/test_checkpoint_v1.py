"""A checkpoint of format 1, written by transformer-train, loads and translates in every later version as it did then.

tests/fixtures/checkpoint_v1* are never made anew, whatever changes: when these tests fail, what reads checkpoints must
be mended. The model learnt 16 sentences by heart; the first ten sentences of the source are among them.
"""

from pathlib import Path
from typing import Any

import pytest

from transformer.training.checkpoint import TRAINING, load_tensors, read_manifest, verify

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
V1 = FIXTURES / "checkpoint_v1"
LIMITS = ["translation.max_len_ratio=1", "translation.max_len_offset=10", "format=nbest"]


def rows(text: str) -> list[tuple[str, float, float, str]]:
    """Line number, score, log-probability, text."""
    columns = [line.split("\t") for line in text.splitlines()]
    return [(number, float(score), float(log_prob), text) for number, score, log_prob, text in columns]


@pytest.mark.parametrize("how", ["greedy", "beam"])
def test_it_translates_as_ever(how: str, call: Any, calm: list[str], tmp_path: Path) -> None:
    output = tmp_path / "translations.txt"
    source = FIXTURES / "checkpoint_v1_source.txt"
    arguments = [f"checkpoint={V1}", f"decoding={how}", f"input={source}", f"output={output}", *LIMITS, *calm]
    ended = call("translate", arguments, tmp_path)
    assert ended.code == 0, ended.err
    found = rows(output.read_text(encoding="utf-8"))
    expected = rows((FIXTURES / f"checkpoint_v1_{how}.txt").read_text(encoding="utf-8"))
    assert [(row[0], row[3]) for row in found] == [(row[0], row[3]) for row in expected]
    assert [row[1:3] for row in found] == [pytest.approx(row[1:3], abs=2e-3) for row in expected]


def test_it_is_whole() -> None:
    assert verify(V1) == read_manifest(V1)
    assert read_manifest(V1)["format_version"] == 1
    training = load_tensors(V1 / TRAINING)
    assert {"progress", "optimizer", "schedule", "loader", "scaler", "random"} <= set(training)
    assert sum(path.stat().st_size for path in V1.rglob("*") if path.is_file()) < 200_000
