"""Several processes under torchrun: they train one model, and one of them speaks, of mistakes too."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from transformer.training.checkpoint import load_tensors

Torchrun = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def torchrun(tmp_path: Path) -> Torchrun:
    """Runs transformer-train in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    def started(*words: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*launcher, "-m", "transformer.commands.train", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, env=environment)

    return started


def epochs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results/run/metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_decode_and_freeze_together(
    run: Any, quick: list[str], torchrun: Torchrun, tmp_path: Path, call: Any, calm: list[str]
) -> None:
    warm = [f"warm_start.checkpoint={run.best}", "warm_start.frozen=[encoder_layers]"]
    ended = torchrun(*quick, "training.max_epochs=1", "final.splits=[test]", *warm)
    assert ended.returncode == 0, ended.stderr
    assert {"BLEU", "loss"} <= {*json.loads((tmp_path / "results/run/outcome.json").read_text())["tests"]["test"]}
    assert ended.stdout.count("vocabulary: ") == 1
    (told,), alone = epochs(tmp_path), epochs(run.folder)[0]
    assert list(told) == list(alone)
    assert told["step"] == 4
    assert told["n_tgt_tokens"] == alone["n_tgt_tokens"]
    assert 0 < told["valid_loss"] < 8
    assert {path.name for path in (tmp_path / "saved/run").iterdir()} == {"best", "last", "step_000000004"}
    before, after = load_tensors(run.best / "model.pt"), load_tensors(tmp_path / "saved/run/last/model.pt")
    same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert same == {name for name in after if name.startswith("encoder_layers.")}
    words = [f"checkpoint={tmp_path}/saved/run/last", "split=validation", "decoding=greedy", "output_dir=out", *calm]
    decoded = call("evaluate", words, tmp_path)  # by one process, where each of the two has translated its share
    assert decoded.code == 0, decoded.err
    [row] = json.loads((tmp_path / "out/validation.json").read_text())["results"]
    assert told["scores"]["chrf"] == pytest.approx(row["scores"]["chrF2"]["value"], abs=1e-9)
    assert told["scores"]["chrf"] > 5  # so that sentences in another order would have shown


def test_sharded_weights_make_checkpoints_like_any(
    quick: list[str], torchrun: Torchrun, tmp_path: Path, call: Any
) -> None:
    for n in (1, 2):
        words = [f"training.max_epochs={n}", f"resume={'true' if n == 2 else 'false'}", "runtime.compile=true"]
        ended = torchrun(*quick, "runtime.sharded=true", *words)
        assert ended.returncode == 0, ended.stderr
        assert "layers are left uncompiled: the weights are sharded\n" in ended.stdout
    assert [epoch["step"] for epoch in epochs(tmp_path)] == [4, 8]
    translated = call("translate", [f"checkpoint={tmp_path / 'saved/run/best'}"], tmp_path, b"a\n")
    assert (translated.code, translated.out.count("\n")) == (0, 1)


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("data=nothing", "there is no data=nothing; choose one of"),  # on both
        ("data.train.src=nofile", "nofile"),  # on the first, while the other waits for what it prepares
        ("name=taken", "saved/taken"),  # on the first, which alone looks at what is there
    ],
)
def test_a_mistake_is_told_once_and_without_a_traceback(
    mistake: str, sentence: str, quick: list[str], torchrun: Torchrun, tmp_path: Path
) -> None:
    (tmp_path / "saved/taken/step_000000001").mkdir(parents=True)
    ended = torchrun(*quick, mistake)
    assert ended.returncode != 0
    [told] = re.findall(r"^transformer-train: (.*)$", ended.stderr, re.MULTILINE)
    assert sentence in told
    ours, _, _ = ended.stderr.partition("torch/distributed/elastic")  # from here on it is torchrun that complains
    assert "Traceback" not in ours
    assert "[rank" not in ended.stderr


def test_a_mistake_of_another_process_than_the_first_is_told(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setenv("RANK", "1")
    assert call("train", [*quick, "data=nothing"], tmp_path).sentence.startswith("transformer-train: there is no data")
    assert slept == [3.0]
