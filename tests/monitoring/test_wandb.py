"""A real run and its resumption in the files that Weights & Biases writes offline. Skipped without the package."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from transformer.error import UserError
from transformer.monitoring.wandb import WandB

SPEC = importlib.util.find_spec("wandb")
pytestmark = pytest.mark.skipif(SPEC is None or SPEC.origin is None, reason="wandb is not installed")
ROOT = Path(__file__).parent.parent.parent


def train(folder, *overrides, **environment):
    """In a process of its own: wandb starts a service and keeps it."""
    known = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "WANDB_MODE": "offline"} | environment
    command = [sys.executable, "-m", "transformer.commands.train", "monitor=wandb", *overrides]
    alone = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "check": False}
    return subprocess.run(command, cwd=folder, env=known, **alone)


def records(path):
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log format, blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32_768 - at % 32_768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            yield Record.FromString(parts)
            parts = b""


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture(scope="module")
def parts(tiny, tmp_path_factory):
    """The run's folder, and the records of what each process wrote: one epoch, then a second one and the scores."""
    folder = tmp_path_factory.mktemp("wandb")
    for more in (["training.max_epochs=1", "final.splits=[]"], ["resume=true"]):
        ended = train(folder, *tiny, *more)
        assert (ended.returncode, ended.stderr) == (0, "")
    results = folder / "results" / "run"
    return results, [list(records(path)) for path in sorted(results.glob("wandb/offline-run-*/run-*.wandb"))]


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_both_processes_wrote_parts_of_one_run(parts):
    results, files = parts
    kept = json.loads((results / "wandb_run.json").read_text())
    assert kept["step"] == 16
    opened = [record.run for file in files for record in file if record.HasField("run")]
    assert {(run.run_id, run.project, run.display_name) for run in opened} == {(kept["id"], "transformer", "run")}
    assert len(files) == 2
    assert [record.exit.exit_code for file in files for record in file if record.HasField("exit")] == [0, 0]


@pytest.mark.filterwarnings("ignore")
def test_every_epoch_stands_once_at_its_step(parts):
    results, files = parts
    found = [values(record.history.item) for file in files for record in file if record.HasField("history")]
    epochs = [json.loads(line) for line in (results / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in found] == [epoch["step"] for epoch in epochs] == [8, 16]
    for tag, field in (("valid/loss", "valid_loss"), ("valid/bleu", "bleu"), ("train/loss", "train_loss")):
        assert [row[tag] for row in found] == pytest.approx([epoch[field] for epoch in epochs])


@pytest.mark.filterwarnings("ignore")
def test_settings_and_final_scores_are_there(parts):
    results, files = parts
    config, summary = {}, {}
    for record in files[-1]:
        if record.HasField("config"):
            config |= values(record.config.update)
        if record.HasField("summary"):
            summary |= values(record.summary.update)
    assert (config["model.d_model"], config["schedule"], config["training.max_epochs"]) == (16, "Plateau", 2)
    scores = json.loads((results / "final" / "test.json").read_text())["results"][0]["scores"]
    assert summary["test/chrF2"] == pytest.approx(scores["chrF2"]["value"])
    assert summary["test/chrF2 signature"] == scores["chrF2"]["signature"]


def test_without_a_login_it_is_said_what_to_do(tiny, tmp_path):
    ended = train(tmp_path, *tiny, WANDB_MODE="online", WANDB_API_KEY="")
    assert ended.returncode == 2
    assert ended.stderr.startswith("transformer-train: monitor.wandb: ")
    assert ended.stderr.endswith("monitor.wandb.mode=offline\n")
    assert ended.stderr.count("\n") == 1


def test_a_mode_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^monitor\.wandb\.mode is off, but must be online, offline, dis"):
        WandB(str(tmp_path), "transformer", "off")
