"""The script that tries levers of training alone: each changes something, and the table says what the runs say."""

import importlib.util
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from transformer import build
from transformer.config import check, config_dir, register_schemas
from transformer.training.schedule import Schedule

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "levers.py"


@pytest.fixture(scope="module")
def levers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("levers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def composed(words: list[str]) -> Any:
    register_schemas()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose("train", words)


def test_each_lever_changes_the_base_in_what_it_says_alone(levers: ModuleType) -> None:
    base = OmegaConf.to_container(composed(levers.words("multi30k_en_de_fast", "base", 1, [])))
    assert isinstance(base, dict)
    for lever, said in levers.LEVERS.items():
        config = composed(levers.words("multi30k_en_de_fast", lever, 1, ["data.root=x"]))
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
