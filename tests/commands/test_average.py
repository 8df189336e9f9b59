"""Averaging checkpoints: a new checkpoint that every command takes, and what cannot be averaged."""

import json
from pathlib import Path
from typing import Any

import torch

from transformer.training.checkpoint import load_tensors, verify


def test_the_mean_is_a_checkpoint_that_every_command_takes(copied_run: Any, call: Any, calm: list[str]) -> None:
    folder = copied_run.folder
    ended = call("average", ["run=saved/run", "last=2", "output=saved/run/average"], folder)
    assert ended.code == 0, ended.err
    steps = ["saved/run/step_000000008", "saved/run/step_000000016"]
    assert ended.out.split("\n") == ["saved/run/average: the mean of 2 checkpoints", *(f"  {s}" for s in steps), ""]
    manifest = verify(folder / "saved/run/average")
    assert [part["folder"] for part in manifest["average_of"]] == steps
    states = [load_tensors(folder / name / "model.pt") for name in [*steps, "saved/run/average"]]
    for name, value in states[2].items():
        torch.testing.assert_close(value, (states[0][name].double() + states[1][name].double()).div(2).float())
    checkpoint = "checkpoint=saved/run/average"
    assert call("translate", [checkpoint, *calm], folder, b"the dog\n").code == 0
    evaluated = call("evaluate", [checkpoint, "output_dir=out", "n_bootstrap=0", *calm], folder)
    assert evaluated.code == 0, evaluated.err
    assert json.loads((folder / "out" / "test.json").read_text())["step"] == 16
    resumed = call("train", [*copied_run.overrides, "resume=true", "training.max_epochs=3", "monitor=none"], folder)
    assert "resumed from saved/run/step_000000016" in resumed.out  # never from the average, which has no optimizer


def test_training_does_not_go_on_from_an_average(copied_run: Any, call: Any) -> None:
    folder = copied_run.folder
    assert call("average", ["run=saved/run", "last=2", "output=saved/mean"], folder).code == 0
    for more in ("resume=true", "overwrite=true", "seed=1"):
        told = call("train", [*copied_run.overrides, "name=mean", more], folder).sentence
        assert told.startswith("transformer-train: saved/mean is itself a checkpoint, not a run's folder, ")
    assert verify(folder / "saved" / "mean")["step"] == 16


def test_the_best_come_by_what_was_monitored(copied_run: Any, call: Any) -> None:
    folder = copied_run.folder
    assert call("average", ["run=saved/run", "best=1", "output=one"], folder).code == 0
    best = load_tensors(folder / "saved" / "run" / "best" / "model.pt")
    one = load_tensors(folder / "one" / "model.pt")
    assert all(torch.equal(best[name], one[name]) for name in best)


def test_mistakes_are_one_sentence(copied_run: Any, call: Any) -> None:
    folder = copied_run.folder
    other = Path(__file__).parent.parent / "fixtures" / "checkpoint_v1"
    cases = {
        "last=2": "last is given, but not the run whose checkpoints are meant; say run=saved/NAME",
        "run=saved/run": "give one of last=N, best=N and checkpoints=[FOLDER,...], not none",
        "run=saved/run last=2 best=1": "give one of last=N, best=N and checkpoints=[FOLDER,...], not last, best",
        "run=saved/run last=0": "last is 0, but must be at least 1",
        "run=saved/run last=9": "saved/run has 2 such checkpoints, not 9; ask for fewer, or train with a higher ",
        "run=nothing last=1": "run nothing does not exist; name the folder of a run, such as saved/NAME",
        f"checkpoints=[saved/run/last,{other}]": f"{other} is another model: model.d_ff is 24 but 16 in saved/run",
        "checkpoints=[saved/run/last,data]": "data is no checkpoint: ",
        "checkpoints=[saved/run/last,saved/run/step_000000016]": "saved/run/last is given more than once, as step_0000",
        "run=saved/run last=2 output=saved/run/step_000000099": "saved/run/step_000000099 would be taken for a step ",
        "checkpoints=[saved/run/last] output=/proc/x/y": "checkpoint /proc/x/y could not be written ([Errno 2] No such",
        "checkpoints=[saved/run/last] output=saved": "saved exists; choose another output, or remove it first",
    }
    before = sorted(folder.rglob("*"))
    for arguments, sentence in cases.items():
        given = arguments.split()
        output = [] if "output=" in arguments else ["output=new"]
        assert call("average", [*given, *output], folder).sentence.startswith(f"transformer-average: {sentence}")
    assert sorted(folder.rglob("*")) == before
