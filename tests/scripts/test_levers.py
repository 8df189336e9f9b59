"""The script that tries levers of training alone: each changes something, and the table says what the runs say."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from transformer import build
from transformer.config import check
from transformer.training.schedule import Schedule

Composed = Callable[[str, list[str]], DictConfig]


@pytest.fixture(scope="module")
def levers(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("levers")


def test_each_lever_changes_the_base_in_what_it_says_alone(levers: ModuleType, composed: Composed) -> None:
    base = OmegaConf.to_container(composed("train", levers.words("multi30k_en_de_fast", "base", 1, [])))
    assert isinstance(base, dict)
    for lever, said in levers.LEVERS.items():
        config = composed("train", levers.words("multi30k_en_de_fast", lever, 1, ["data.root=x"]))
        check(config)
        build.instantiate(config.optimizer, "optimizer", torch.optim.Optimizer, partial=True)
        build.instantiate(config.schedule, "schedule", Schedule)  # type: ignore[type-abstract]
        now = OmegaConf.to_container(config)
        assert isinstance(now, dict)
        differing = {key for key in base if now[key] != base[key]} - {"name", "data"}
        assert differing == {re.split("[=./]", word.removeprefix("~"))[0] for word in said.split()}


def test_finished_runs_are_not_trained_again(
    levers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[list[str]] = []

    class Done:
        returncode = 2

    monkeypatch.setattr(levers.subprocess, "run", lambda command, **_: started.append(command) or Done)
    log = tmp_path / "levers" / "ema_1.log"
    assert levers.train(["a=b"], log) == 2
    assert started == [[sys.executable, "-m", "transformer.commands.train", "a=b"]]
    assert capsys.readouterr().out == f"ema_1: ended with exit code 2, see {log}\n"
    (tmp_path / "levers" / "ema_1").mkdir()
    (tmp_path / "levers" / "ema_1" / "outcome.json").write_text("{}")
    assert levers.train(["a=b"], log) == 0
    assert len(started) == 1


def result(folder: Path, greedy: float, beam: float) -> None:
    folder.mkdir(parents=True)
    scores = {"BLEU-lc": beam, "perplexity": 5.5}
    outcome = {"validation": {"bleu": greedy}, "tests": {"validation": scores}}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    (folder / "metrics.jsonl").write_text('{"seconds": 60}\n{"seconds": 120}\n')


def test_the_table_has_means_and_differences_of_the_same_seeds(levers: ModuleType, tmp_path: Path) -> None:
    result(tmp_path / "base_1", 30.0, 31.0)
    result(tmp_path / "base_2", 32.0, 35.0)
    result(tmp_path / "ema_2", 33.0, 36.5)
    (tmp_path / "rdrop_1").mkdir()  # under way
    head, _, base, ema = levers.table("some", tmp_path, [1, 2]).splitlines()
    assert "experiment=some" in head
    assert base == "| base |  | 31.00 (30.00, 32.00) | 33.00 (31.00, 35.00) |  | 5.50 (5.50, 5.50) | 3 |"
    assert ema == "| ema | `training.ema_decay=0.999` | 33.00 | 36.50 | +1.50 | 5.50 | 3 |"


def test_ctrl_c_starts_no_other_training(levers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def train(overrides: list[str], log: Path) -> int:
        started.append(log.stem)
        time.sleep(0.3)  # the main thread waits by now
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)  # and hears of it before this one ends
        return 130

    monkeypatch.setattr(levers, "train", train)
    monkeypatch.setattr(sys, "argv", ["levers.py", "--levers", "base", "ema", "rdrop"])
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match="stopped; the same command goes on"):
            levers.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert started == ["base_1"]
