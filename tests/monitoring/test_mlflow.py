"""A real run and its resumption in MLflow's own database. Skipped without the package."""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
ROOT = Path(__file__).parent.parent.parent


def train(folder, *overrides):
    """In a process of its own: MLflow leaves threads, loggers and open files behind."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(folder)}
    command = [sys.executable, "-m", "transformer.commands.train", "monitor=mlflow", *overrides]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def rows(folder, query):
    with closing(sqlite3.connect(folder / "results" / "mlflow.db")) as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A run of one epoch, resumed for a second one and evaluated."""
    folder = tmp_path_factory.mktemp("mlflow")
    for more in (["training.max_epochs=1", "final.splits=[]"], ["resume=true"]):
        ended = train(folder, *tiny, *more)
        assert (ended.returncode, ended.stderr) == (0, "")
    return folder


def test_one_run_has_every_epoch_once_and_the_final_scores(folder):
    ((run_id, name, status),) = rows(folder, "select run_uuid, name, status from runs")
    assert (name, status) == ("run", "FINISHED")
    assert json.loads((folder / "results" / "run" / "mlflow_run.json").read_text()) == {"id": run_id, "step": 16}
    epochs = [json.loads(line) for line in (folder / "results" / "run" / "metrics.jsonl").read_text().splitlines()]
    for tag, field in (("valid/loss", "valid_loss"), ("valid/bleu", "bleu"), ("train/loss", "train_loss")):
        found = rows(folder, f"select step, value from metrics where key = '{tag}' order by step")
        assert found == [(epoch["step"], pytest.approx(epoch[field])) for epoch in epochs]
    scores = json.loads((folder / "results" / "run" / "final" / "test.json").read_text())["results"][0]["scores"]
    ((step, value),) = rows(folder, "select step, value from metrics where key = 'test/chrF2'")
    assert (step, value) == (16, pytest.approx(scores["chrF2"]["value"]))
    ((signature,),) = rows(folder, "select value from tags where key = 'test/chrF2 signature'")
    assert signature == scores["chrF2"]["signature"]


def test_settings_are_parameters_and_changed_ones_tags(folder):
    parameters = dict(rows(folder, "select key, value from params"))
    assert parameters["model.d_model"] == "16"
    assert parameters["schedule"] == "Plateau"
    assert parameters["n_parameters"] == "9216"
    assert parameters["training.max_epochs"] == "1"
    assert dict(rows(folder, "select key, value from tags"))["training.max_epochs"] == "2"


def test_a_run_that_mlflow_does_not_have_is_named(folder, tiny, tmp_path):
    more = ["resume=true", "training.max_epochs=3", f"monitor.mlflow.tracking_uri=sqlite:///{tmp_path}/other.db"]
    ended = train(folder, *tiny, *more)
    assert ended.returncode == 2
    assert ended.stderr.startswith("transformer-train: monitor.mlflow: Run with id=")
    assert ended.stderr.count("\n") == 1
    assert "remove results/run/mlflow_run.json to begin a new run" in ended.stderr
