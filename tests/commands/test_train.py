"""Training from the command line to the end: what lies on disk agrees; stopped and resumed is never stopped."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from transformer.evaluation.metrics import Bleu
from transformer.processes import Processes, can_fork
from transformer.training.checkpoint import load_tensors, verify

# One run, all its files.


def test_it_says_what_it_does(run: Any) -> None:
    assert run.ended.err == ""
    lines = run.ended.out.splitlines()
    assert lines[:3] == [
        "train: 60 of 60 pairs used, left out: none",
        "validation: 12 of 12 pairs used, left out: none",
        "vocabulary: 290 joint",
    ]
    assert "model: 9,216 parameters" in lines
    assert run.ended.out.count("\nreference ") == 2
    assert lines[-1] == "now: echo '...' | transformer-translate checkpoint=saved/run/best"


def test_each_checkpoint_is_whole_and_the_links_point_to_them(run: Any, epochs: Any) -> None:
    saved = run.folder / "saved" / "run"
    assert sorted(path.name for path in saved.iterdir()) == ["best", "last", "step_000000008", "step_000000016"]
    for path in saved.iterdir():
        assert {file.name for file in path.iterdir()} == {
            "config.yaml",
            "manifest.json",
            "model.pt",
            "tokenizer",
            "training.pt",
        }
        verify(path)
    assert (saved / "last").resolve().name == "step_000000016"
    best = min(epochs(run.folder), key=lambda epoch: epoch["valid_loss"])
    assert verify(saved / "best")["step"] == best["step"]
    assert verify(saved / "best")["monitored"] == best["valid_loss"]


def test_all_records_of_a_run_agree(run: Any, epochs: Any) -> None:
    results = run.folder / "results" / "run"
    told = epochs(run.folder)
    assert [(epoch["epoch"], epoch["step"]) for epoch in told] == [(1, 8), (2, 16)]
    for name in ("train_loss", "valid_loss", "bleu"):
        assert [float(line) for line in (results / f"{name}.txt").read_text().splitlines()] == [e[name] for e in told]
    events = EventAccumulator(str(results)).Reload()
    for tag, name in (("valid/loss", "valid_loss"), ("valid/bleu", "bleu"), ("valid/accuracy", "valid_accuracy")):
        points = {event.step: event.value for event in events.Scalars(tag)}
        assert points == pytest.approx({epoch["step"]: epoch[name] for epoch in told})
    assert (results / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (results / "report.html").read_text()


def test_the_config_with_the_results_is_the_one_in_the_checkpoints(run: Any) -> None:
    text = (run.folder / "results" / "run" / "config.yaml").read_text()
    assert text == (run.best / "config.yaml").read_text()
    config = OmegaConf.create(text)
    assert config.model.d_model == 16
    assert config.validation_metric.lowercase is False
    assert "${" not in text


def test_the_best_checkpoint_is_evaluated(run: Any) -> None:
    folder = run.folder / "results" / "run" / "final"
    assert sorted(path.name for path in folder.iterdir()) == ["test.hyp.txt", "test.json", "test.md"]
    assert (folder / "test.hyp.txt").read_text().count("\n") == 12
    content = json.loads((folder / "test.json").read_text())
    assert content["checkpoint"] == "saved/run/best"
    assert content["step"] == verify(run.best)["step"]
    assert content["decoding"]["beam_size"] == 5
    (row,) = content["results"]
    assert (row["split"], row["n_sentences"]) == ("test", 12)
    assert list(row["scores"]) == ["BLEU", "BLEU-lc", "chrF2", "loss", "perplexity"]
    assert row["scores"]["chrF2"]["low"] < row["scores"]["chrF2"]["value"] < row["scores"]["chrF2"]["high"]


def test_further_scores_are_told_and_can_be_monitored(tmp_path: Path, quick: list[str], call: Any, epochs: Any) -> None:
    ended = call("train", [*quick, "training.monitor=chrf", "training.keep_last=5"], tmp_path)
    assert ended.code == 0, ended.err
    values = [epoch["scores"]["chrf"] for epoch in epochs(tmp_path)]
    assert all(0 <= value <= 100 for value in values)
    assert verify(tmp_path / "saved" / "run" / "best")["monitored"] == max(values)
    told = call("train", [*quick, "name=other", "training.monitor=lots"], tmp_path).sentence
    assert told == (
        "transformer-train: training.monitor is lots, but must be one of valid_loss, valid_accuracy, bleu, chrf"
    )


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
def test_validation_may_translate_in_processes(
    tmp_path: Path, quick: list[str], call: Any, epochs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Processes[Any, Any]] = []
    run = Processes.run
    monkeypatch.setattr(Processes, "run", lambda self, tasks, done: (calls.append(self), run(self, tasks, done)))
    told = {}
    for value in ("null", "true"):
        here = tmp_path / value
        here.mkdir()
        ended = call(
            "train", [*quick, "runtime.threads=2", "runtime.workers=1", f"translation.processes={value}"], here
        )
        assert ended.code == 0, ended.err
        told[value] = [(epoch["valid_loss"], epoch["bleu"]) for epoch in epochs(here)]
        assert len(calls) == (0 if value == "null" else len(told[value]))
    assert told["null"] == told["true"]


def test_a_budget_that_was_found_stays_with_the_run(tmp_path: Path, quick: list[str], call: Any, epochs: Any) -> None:
    auto = [*quick, "batching.max_tokens=auto"]
    first = call("train", [*auto, "training.max_epochs=1"], tmp_path)
    assert first.code == 0, first.err
    found = re.match(r"batching\.max_tokens=auto: (\d+) \(", first.out)
    assert found, first.out
    saved = OmegaConf.load(tmp_path / "saved" / "run" / "best" / "config.yaml")
    assert saved.batching.max_tokens == int(found[1])
    second = call("train", [*auto, "training.max_epochs=2", "resume=true"], tmp_path)
    assert second.code == 0, second.err
    assert "auto" not in second.out
    number = call("train", [*quick, f"batching.max_tokens={found[1]}", "name=number"], tmp_path)
    assert number.code == 0, number.err
    lines = [epochs(tmp_path, name)[-1]["valid_loss"] for name in ("run", "number")]
    assert lines[0] == lines[1]


# Validating, resuming.


def test_validation_scores_count_the_pairs_that_its_loss_counts(
    quick: list[str], call: Any, tmp_path: Path, tiny_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[list[str]] = []
    score = Bleu.score

    def noted(self: Bleu, hypotheses: Sequence[str], references: Sequence[str], n_bootstrap: int) -> Any:
        scored.append(list(references))
        return score(self, hypotheses, references, n_bootstrap)

    monkeypatch.setattr(Bleu, "score", noted)
    texts = {side: (tiny_text / f"valid.{side}").read_text() for side in ("src", "tgt")}
    for side, more in (("src", "dog\n"), ("tgt", "\n")):
        (tmp_path / side).write_text(more + texts[side] + "dog " * 70 + "\n")
    files = [f"data.validation.{side}={tmp_path / side}" for side in ("src", "tgt")]
    ended = call("train", [*quick, *files, "training.max_epochs=1"], tmp_path)
    assert "left out: 1 empty side, 1 over max_len\n" in ended.out
    assert scored == [texts["tgt"].splitlines()]


def test_a_run_of_two_epochs_and_then_a_third_is_one_of_three(
    copied_run: Any, call: Any, tmp_path: Path, quick: list[str], assert_same_run: Any
) -> None:
    ended = call("train", [*copied_run.overrides, "resume=true", "training.max_epochs=3"], copied_run.folder)
    assert ended.code == 0
    whole = tmp_path / "whole"
    whole.mkdir()
    assert call("train", [*quick, "training.max_epochs=3"], whole).code == 0
    assert_same_run(copied_run.folder, whole)
    assert (copied_run.folder / "results" / "run" / "curves.png").exists()
    events = EventAccumulator(str(copied_run.folder / "results" / "run")).Reload()
    assert [event.step for event in events.Scalars("valid/loss")][-1] == 24


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    run: Any, call: Any, quick: list[str], tmp_path: Path, weights: Any, assert_same_run: Any
) -> None:
    assert call("train", quick, tmp_path).code == 0
    assert_same_run(run.folder, tmp_path)
    assert call("train", [*quick, "name=other", "seed=2"], tmp_path).code == 0
    assert not torch.equal(weights(tmp_path)["output.weight"], weights(tmp_path, "other")["output.weight"])


# Every choice trains.

CHOICES = [
    "schedule=constant model/position=learned tokenizer=word model.tying=two",
    "schedule=cosine schedule.total_steps=9 model/position=relative model.norm=post optimizer=adamw",
    "schedule=inverse_sqrt model/position=rotary tokenizer=word tokenizer.joint=true model.d_model=32",
    "schedule=noam model/position=alibi tokenizer.joint=false model.tying=none tokenizer.vocab_size=280",
    "schedule=wsd schedule.total_steps=9 schedule.decay_steps=5 tokenizer.algorithm=unigram tokenizer.sampling=0.1",
    "schedule=plateau schedule.monitor=bleu training.monitor=bleu batching=pool training.accumulate=2",
    "runtime.fused_attention=false runtime.bulk_dropout=false runtime.chunked_loss=false model/score=additive",
    "runtime.precision=bf16 runtime.workers=2 training.bleu_every_epochs=0 model/normalizer=hard",
    "loss=rdrop runtime.workers=2 model.dropout=0.3 training.smoothing_prior=unigram",
    "loss=simcut runtime.chunked_loss=false tokenizer.sampling=0.1",
    "loss=cutoff runtime.precision=bf16 training.accumulate=2",
    "loss=mrt runtime.workers=2 model.dropout=0.3 training.accumulate=2 loss.candidates.n_samples=2",
    "loss=mrt runtime.precision=bf16 runtime.chunked_loss=false loss.cost=chrf",
    "runtime.workers=2 runtime.recompute=true model.dropout=0.3 training.clip_norm=null",
    "runtime.deferred=true batching.round_to=8 training.ema_decay=0.9",
    "tokenizer.lowercase=true decoding@validation_decoding=beam training.max_epochs=null training.max_steps=8",
    "optimizer=muon runtime.precision=bf16 model/score=additive model/position=relative model.tying=none",
    "optimizer=schedule_free_adamw schedule=constant runtime.workers=2 training.accumulate=2",
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_trains(choice: str, call: Any, quick: list[str], tmp_path: Path, epochs: Any) -> None:
    if "schedule_free" in choice:
        pytest.importorskip("schedulefree")
    kept = [o for o in quick if not ("tokenizer=word" in choice and o.startswith("tokenizer."))]
    ended = call("train", [*kept, "training.max_epochs=1", *choice.split()], tmp_path)
    assert ended.code == 0, ended.err
    (told,) = epochs(tmp_path)
    batches = int(re.findall(r"batches: (\d+) an epoch", ended.out)[0])
    assert told["step"] == (-(-batches // 2) if "accumulate" in choice else batches)
    assert 0 < told["valid_loss"] < 8
    assert 0 < told["learning_rate"] <= OmegaConf.load(tmp_path / "results" / "run" / "config.yaml").optimizer.lr
    assert (told["bleu"] is None) == ("bleu_every_epochs=0" in choice)


@pytest.mark.parametrize("optimizer", ["muon", "schedule_free_adamw"])
def test_with_each_optimizer_a_run_goes_on_as_if_never_stopped(
    optimizer: str, call: Any, quick: list[str], tmp_path: Path, epochs: Any, weights: Any
) -> None:
    """Stopped in the middle of an epoch; batches are divided among threads."""
    if optimizer == "schedule_free_adamw":
        pytest.importorskip("schedulefree")
    arguments = [
        *quick,
        f"optimizer={optimizer}",
        "model.dropout=0.1",
        "runtime.workers=2",
        "training.bleu_every_epochs=0",
    ]
    for folder in (one := tmp_path / "one", other := tmp_path / "other"):
        folder.mkdir()
    assert call("train", arguments, one).code == 0
    for until in ("training.max_steps=3", "training.max_steps=null"):
        ended = call("train", [*arguments, "resume=true", until], other)
        assert ended.code == 0, ended.err
    paths = [folder / "saved" / "run" / "last" / "training.pt" for folder in (one, other)]
    expected, found = (load_tensors(path)["optimizer"] for path in paths)
    assert expected["param_groups"] == found["param_groups"]
    torch.testing.assert_close(found["state"], expected["state"], atol=0, rtol=0)
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())
    assert epochs(one)[-1] == epochs(other)[-1]


def test_two_averages_of_the_weights_are_refused(call: Any, quick: list[str], tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    ended = call("train", [*quick, "optimizer=schedule_free_adamw", "training.ema_decay=0.9"], tmp_path)
    assert ended.sentence == (
        "transformer-train: training.ema_decay is 0.9, but ScheduleFreeAdamW averages the weights by itself; "
        "set training.ema_decay=null or choose another optimizer"
    )


def test_pairs_left_out_are_counted_and_told(call: Any, quick: list[str], tmp_path: Path, tiny_text: Path) -> None:
    for side in ("src", "tgt"):
        lines = (tiny_text / f"train.{side}").read_text().splitlines()
        lines[3] = "" if side == "src" else lines[3]
        lines[7] = "house " * 50
        (tmp_path / side).write_text("".join(f"{line}\n" for line in lines))
    files = [f"data.train.{side}={tmp_path / side}" for side in ("src", "tgt")]
    ended = call("train", [*quick, *files, "training.max_steps=1", "training.max_len=30"], tmp_path)
    assert ended.code == 0
    assert "train: 58 of 60 pairs used, left out: 1 empty side, 1 over max_len\n" in ended.out


# Real processes.

LONG = ["training.max_epochs=8", "training.checkpoint_every_steps=3", "batching.max_tokens=100", "runtime.workers=2"]


def start(arguments: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "transformer.commands.train", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def interrupt(arguments: Sequence[str], folder: Path, step: int, number: int) -> tuple[int, str]:
    """Starts a run, sends it a signal once it has a checkpoint of `step` or later; returns exit code and output."""
    with start(arguments, folder) as process:
        deadline = time.monotonic() + 120
        while not any(int(path.name[5:]) >= step for path in folder.glob("saved/run/step_*")):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.1))
        process.send_signal(number)
        out, _ = process.communicate(timeout=100)
        return process.returncode, out


@pytest.fixture(scope="module")
def uninterrupted(quick: list[str], call: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of LONG that was never stopped."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert call("train", [*quick, *LONG], folder).code == 0
    return folder


def test_a_run_that_is_killed_and_resumed_is_as_if_never_stopped(
    uninterrupted: Path, call: Any, quick: list[str], tmp_path: Path, epochs: Any, assert_same_run: Any
) -> None:
    last = epochs(uninterrupted)[-1]["step"]
    arguments = [*quick, *LONG]
    for step in (random.randint(3, last // 3), random.randint(last // 2, last - last // 4)):
        code, out = interrupt(arguments, tmp_path, step, signal.SIGKILL)
        assert code == -signal.SIGKILL, out
        assert not (tmp_path / "saved" / "run" / f"step_{last:09d}").exists()
        arguments = [*quick, *LONG, "resume=true"]
    ended = call("train", arguments, tmp_path)
    assert ended.code == 0, ended.err
    assert "resumed from saved/run/step_" in ended.out
    assert [epoch["epoch"] for epoch in epochs(tmp_path)] == list(range(1, 9))
    assert_same_run(tmp_path, uninterrupted)


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_as_if_never_stopped(
    uninterrupted: Path, call: Any, quick: list[str], tmp_path: Path, assert_same_run: Any
) -> None:
    code, out = interrupt([*quick, *LONG], tmp_path, 10, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; a checkpoint is saved, go on with resume=true" in out
    step = verify(tmp_path / "saved" / "run" / "last")["step"]
    assert not (tmp_path / "saved" / "run" / ".lock").exists()
    ended = call("train", [*quick, *LONG, "resume=true"], tmp_path)
    assert f"resumed from saved/run/step_{step:09d}, step {step}\n" in ended.out
    assert_same_run(tmp_path, uninterrupted)


def test_pairs_of_an_update_that_stands_out_are_told_by_file_and_line(
    quick: list[str], call: Any, tmp_path: Path, tiny_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer.training.progress.Progress.spike", lambda self, loss: True)
    for side in ("src", "tgt"):
        lines = (tiny_text / f"train.{side}").read_text().splitlines(keepends=True)
        for name, own in (("a", lines[:30]), ("b", lines[30:])):
            (tmp_path / f"{name}.{side}").write_text("".join(own))
    files = [f"data.train.{side}=[{tmp_path}/a.{side},{tmp_path}/b.{side}]" for side in ("src", "tgt")]
    messages = "+monitor.messages._target_=transformer.monitoring.messages.Messages"
    call("train", [*quick, *files, "training.max_epochs=1", messages, "+monitor.messages.folder=kept"], tmp_path)
    kept = (tmp_path / "kept/messages.txt").read_text()
    told = re.findall(r"step \d+: loss .*; the longest, line (\d+) of (\S+): '(.*)' = '(.*)'", kept)
    assert {Path(file).name for _, file, _, _ in told} == {"a.src", "b.src"}
    for line, file, src, tgt in told:
        assert Path(file).read_text().splitlines()[int(line) - 1] == src
        assert Path(file).with_suffix(".tgt").read_text().splitlines()[int(line) - 1] == tgt
    for numbers, file in re.findall(r"((?:\d+, )*\d+) of (\S+/[ab]\.src)", kept):
        assert all(1 <= int(n) <= 30 for n in numbers.split(", ")), file
