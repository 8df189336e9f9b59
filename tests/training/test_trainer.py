import dataclasses
import itertools
import json
import math
import os
import signal

import numpy as np
import pytest
import torch

from transformer.data.batching import Bucket, padding_efficiency
from transformer.training.checkpoint import load_tensors, read_manifest, verify
from transformer.training.schedule import Plateau
from transformer.training.signals import Interrupted
from transformer.training.trainer import Decoded, Limits
from transformer.training.validate import validate


def fitted(toy, folder, **choices):
    """A trainer whose run has come to its end, and what it told."""
    recorder = toy.Recorder()
    trainer = toy.trainer(folder, observers=[recorder], **choices)
    trainer.fit("run", {"seed": 7})
    return trainer, recorder


def test_what_is_told(toy, tmp_path):
    trainer, told = fitted(toy, tmp_path, max_epochs=3, accumulate=2)
    per_epoch = math.ceil(len(trainer.batches) / 2)
    (start,) = told.starts
    assert (start.name, start.config, start.max_epochs, start.max_steps) == ("run", {"seed": 7}, 3, None)
    assert (start.resumed_step, start.steps_per_epoch) == (0, per_epoch)
    assert start.n_parameters == trainer.objective.model.n_parameters
    places = [(end.step, end.epoch, end.step_in_epoch) for end in told.steps]
    assert [step for step, _, _ in places] == list(range(1, len(places) + 1))
    assert [end.epoch for end in told.epochs] == [1, 2, 3]
    for epoch, steps in itertools.groupby(places, key=lambda place: place[1]):
        assert [s for _, _, s in steps] == list(
            range(1, told.epochs[epoch - 1].step - (0 if epoch == 1 else told.epochs[epoch - 2].step) + 1)
        )
    assert told.n_ends == 1
    assert [step for _, step in told.checkpoints] == [end.step for end in told.epochs]
    assert told.messages == []


def test_an_epochs_figures_are_its_updates_weighed_by_tokens(toy, tmp_path):
    _, told = fitted(toy, tmp_path, max_epochs=2, clip_norm=1.2)
    store = toy.store()
    for end in told.epochs:
        steps = [step for step in told.steps if step.epoch == end.epoch]
        n_tokens = sum(step.n_tgt_tokens for step in steps)
        assert end.n_tgt_tokens == n_tokens == int(store.tgt_lengths.sum()) + len(store)
        mean = {
            name: sum(getattr(s, name) * s.n_tgt_tokens for s in steps) / n_tokens
            for name in ("loss", "nll", "accuracy")
        }
        assert end.train_loss == pytest.approx(mean["loss"])
        assert end.train_perplexity == pytest.approx(math.exp(mean["nll"]))
        assert end.train_accuracy == pytest.approx(mean["accuracy"])
        assert end.gradient_norm == pytest.approx(np.mean([s.gradient_norm for s in steps]))
        assert end.clipped == pytest.approx(100 * np.mean([s.gradient_norm > 1.2 for s in steps]))
        assert end.learning_rate == steps[-1].learning_rate
        assert end.train_seconds == pytest.approx(sum(s.seconds for s in steps))
        assert end.tokens_per_second == pytest.approx(n_tokens / end.train_seconds)
        assert end.seconds > end.train_seconds
        plan = Bucket(40).plan(store.src_lengths, store.tgt_lengths, 3, end.epoch)
        assert end.padding_efficiency == padding_efficiency(plan, store.src_lengths, store.tgt_lengths)
    assert 0 < told.epochs[0].clipped < 100 or 0 < told.epochs[1].clipped < 100


def test_validation_is_of_the_weights_at_the_epochs_end(toy, tmp_path):
    trainer, told = fitted(toy, tmp_path, max_epochs=2, dropout=0.3)
    found = validate(trainer.objective, trainer.validation, trainer.world, trainer.precision)
    end = told.epochs[-1]
    assert (end.valid_loss, end.valid_perplexity, end.valid_accuracy) == (found.loss, found.perplexity, found.accuracy)
    assert (end.bleu, end.bleu_signature, end.samples) == (None, None, [])


def test_it_learns(toy, tmp_path):
    _, told = fitted(toy, tmp_path, max_epochs=8)
    losses = [end.valid_loss for end in told.epochs]
    assert losses[-1] < losses[0] - 0.2
    assert told.epochs[-1].train_loss < told.epochs[0].train_loss


@pytest.mark.parametrize("chunked", [True, False])
def test_bfloat16_trains(toy, tmp_path, chunked):
    _, told = fitted(toy, tmp_path / "a", chunked=chunked)
    rounded, about = fitted(toy, tmp_path / "b", precision="bf16", chunked=chunked)
    assert about.epochs[-1].valid_loss == pytest.approx(told.epochs[-1].valid_loss, rel=0.02)
    assert {value.dtype for value in rounded.objective.model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("max_steps", [1, 3])
def test_max_steps_ends_the_run_in_mid_epoch_with_validation_and_checkpoint(toy, tmp_path, max_steps):
    trainer, told = fitted(toy, tmp_path, max_epochs=None, max_steps=max_steps)
    assert len(trainer.batches) > 3
    assert [end.step for end in told.steps] == list(range(1, max_steps + 1))
    assert [(end.epoch, end.step) for end in told.epochs] == [(1, max_steps)]
    assert told.epochs[0].best
    assert read_manifest(tmp_path / "best")["monitored"] == told.epochs[0].valid_loss
    assert told.epochs[0].n_tgt_tokens == sum(end.n_tgt_tokens for end in told.steps)


def test_the_earlier_limit_counts(toy, tmp_path):
    trainer, told = fitted(toy, tmp_path / "a", max_epochs=1, max_steps=1000)
    per_epoch = len(trainer.batches)
    assert (len(told.steps), len(told.epochs)) == (told.epochs[-1].step, 1)
    _, told = fitted(toy, tmp_path / "b", max_epochs=1, max_steps=len(told.steps))
    assert len(told.epochs) == 1
    assert told.steps[-1].step <= per_epoch + 1


@pytest.mark.parametrize(("patience", "n_epochs"), [(1, 2), (3, 4)])
def test_patience(toy, tmp_path, patience, n_epochs):
    """With a rate of nearly nothing no epoch is better than the first by the figure decoding gives."""
    _, told = fitted(
        toy,
        tmp_path,
        max_epochs=9,
        monitor="bleu",
        bleu_every_epochs=1,
        patience=patience,
        decode=lambda: Decoded(5.0, "constant", []),
    )
    assert [end.best for end in told.epochs] == [True] + [False] * (n_epochs - 1)
    assert told.messages == [f"no better bleu for {n_epochs - 1} epochs: stopping early"]


def test_a_better_epoch_renews_the_patience(toy, tmp_path):
    bleu = iter([1.0, 0.5, 2.0, 1.5, 1.9, 9.0])
    _, told = fitted(
        toy,
        tmp_path,
        max_epochs=9,
        monitor="bleu",
        bleu_every_epochs=1,
        patience=2,
        decode=lambda: Decoded(next(bleu), "scripted", []),
    )
    assert [end.bleu for end in told.epochs] == [1.0, 0.5, 2.0, 1.5, 1.9]
    assert [end.best for end in told.epochs] == [True, False, True, False, False]
    assert read_manifest(tmp_path / "best")["monitored"] == 2.0
    assert os.readlink(tmp_path / "last") == f"step_{told.epochs[-1].step:09d}"


def test_decoding_every_other_epoch(toy, tmp_path):
    samples = [("a b", "b a", "b a")]
    _, told = fitted(toy, tmp_path, max_epochs=5, bleu_every_epochs=2, decode=lambda: Decoded(12.5, "|v1", samples))
    assert [end.bleu for end in told.epochs] == [None, 12.5, None, 12.5, None]
    assert [end.bleu_signature for end in told.epochs] == [None, "|v1", None, "|v1", None]
    assert [end.samples for end in told.epochs] == [[], samples, [], samples, []]


def test_no_decoding_when_switched_off(toy, tmp_path):
    def decode():
        raise AssertionError("decoded")

    fitted(toy, tmp_path, max_epochs=1, bleu_every_epochs=0, decode=decode)


def test_the_schedule_sees_the_epochs_figures(toy, tmp_path):
    schedule = Plateau(0, "bleu", factor=0.5, patience=0, threshold=0.0, min_factor=0.0)
    _, told = fitted(
        toy, tmp_path, max_epochs=3, bleu_every_epochs=1, schedule=schedule, decode=lambda: Decoded(1.0, "", [])
    )
    rates = {end.epoch: end.learning_rate for end in told.steps}
    assert rates == {1: 0.01, 2: 0.01, 3: 0.005}
    assert [end.learning_rate for end in told.epochs] == [0.01, 0.01, 0.005]
    assert told.messages[0] == "bleu gains too little: learning rate cut to 0.5 of its peak"


def test_checkpoints_every_few_steps(toy, tmp_path):
    _, told = fitted(toy, tmp_path, max_epochs=1, every=3, retention=(100, 1))
    last = told.epochs[0].step
    assert [step for _, step in told.checkpoints] == [*range(3, last, 3), last] + [last] * (last % 3 == 0)
    for path, step in told.checkpoints:
        assert verify(tmp_path / path)["step"] == step


def test_checkpoints_by_the_clock(toy, tmp_path, monkeypatch):
    clock = itertools.count(0, 25)  # a look at the clock every 25 seconds
    monkeypatch.setattr("transformer.training.trainer.time.monotonic", lambda: next(clock))
    _, told = fitted(toy, tmp_path, max_steps=6, minutes=1.0)
    # Saved at 75, 200: 60 seconds have passed at the third look after each save.
    assert [step for _, step in told.checkpoints] == [3, 6, 6]


def test_a_checkpoint_tells_where_the_run_stands(toy, tmp_path):
    _, told = fitted(toy, tmp_path, max_epochs=1, accumulate=2, every=2, retention=(100, 1))
    training = load_tensors(tmp_path / "step_000000002" / "training.pt")
    assert set(training) == {"progress", "optimizer", "schedule", "loader", "scaler", "random"}
    assert training["loader"] == {"epoch": 1, "position": 4}
    assert (training["progress"]["step"], training["progress"]["step_in_epoch"]) == (2, 2)
    manifest = read_manifest(tmp_path / "step_000000002")
    assert (manifest["step"], manifest["epoch"], manifest["monitored"]) == (2, 1, None)
    assert read_manifest(tmp_path / "last")["monitored"] == told.epochs[0].valid_loss
    assert load_tensors(tmp_path / "last" / "training.pt")["loader"] == {"epoch": 2, "position": 0}


def test_the_environment_goes_into_the_manifest(toy, tmp_path):
    trainer = toy.trainer(tmp_path, max_epochs=1)
    trainer.environment = {"torch": "2.0"}
    trainer.fit("run", {})
    assert json.loads((tmp_path / "last" / "manifest.json").read_text())["environment"] == {"torch": "2.0"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_run_after_the_update_with_a_checkpoint(toy, tmp_path, number):
    recorder = toy.Recorder(stop_after=2, number=number)
    with pytest.raises(Interrupted) as caught:
        toy.trainer(tmp_path, observers=[recorder]).fit("run", {})
    assert caught.value.exit_code == 128 + number
    assert [end.step for end in recorder.steps] == [1, 2]
    assert [step for _, step in recorder.checkpoints] == [2]
    assert recorder.n_ends == 1
    assert verify(tmp_path / "last")["step"] == 2


def test_a_signal_at_the_last_step_leaves_the_training_finished(toy, tmp_path):
    """It is validated, and ends the process only then: what would follow is not begun."""
    recorder = toy.Recorder(stop_after=3)
    with pytest.raises(Interrupted):
        toy.trainer(tmp_path, max_steps=3, observers=[recorder]).fit("run", {})
    assert [(end.step, end.best) for end in recorder.epochs] == [(3, True)]
    assert read_manifest(tmp_path / "last")["monitored"] == recorder.epochs[0].valid_loss


def test_observers_hear_of_the_end_after_an_error_too(toy, tmp_path):
    def decode():
        raise KeyError("broken")

    recorder = toy.Recorder()
    with pytest.raises(KeyError):
        toy.trainer(tmp_path, observers=[recorder], bleu_every_epochs=1, decode=decode).fit("run", {})
    assert recorder.n_ends == 1


def test_a_validation_without_numbers_is_never_the_best(toy, tmp_path, monkeypatch):
    figures = iter([math.nan, 3.0, math.nan])
    _, told = fitted(
        toy,
        tmp_path,
        max_epochs=3,
        monitor="bleu",
        bleu_every_epochs=1,
        retention=(3, 1),
        decode=lambda: Decoded(next(figures), "", []),
    )
    assert [end.best for end in told.epochs] == [False, True, False]
    assert os.readlink(tmp_path / "best") == f"step_{told.epochs[1].step:09d}"


def test_every_pair_is_trained_on_once_an_epoch(toy, tmp_path):
    trainer = toy.trainer(tmp_path, max_epochs=2, accumulate=3)
    seen = []
    update = trainer.update

    class Watched:
        parameters = update.parameters

        def __call__(self, micro_batches, factor):
            seen.append([int(i) for batch in micro_batches for i in batch.indices])
            return update(micro_batches, factor)

    trainer.update = Watched()
    recorder = toy.Recorder()
    trainer.observers = [recorder]
    trainer.fit("run", {})
    first = recorder.epochs[0].step
    for epoch in (seen[:first], seen[first:]):
        assert sorted(itertools.chain(*epoch)) == list(range(60))
    assert seen[:first] != seen[first:]


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="training would never end: set max_epochs or max_steps"):
        Limits(None, None, 1, None, "valid_loss", None, 0, None, None, True)
    with pytest.raises(ValueError, match="monitor is chrf, so bleu_every_epochs must be 1, not 2"):
        Limits(1, None, 1, None, "chrf", None, 2, None, None, False)
    Limits(1, None, 1, None, "valid_accuracy", None, 2, None, None, False)


@pytest.mark.parametrize(("lower_is_better", "best"), [(True, 2), (False, 3)])
def test_best_goes_by_whatever_score_is_monitored(toy, tmp_path, lower_is_better, best):
    values = iter([50.0, 40.0, 60.0])
    trainer = toy.trainer(tmp_path, max_epochs=3, bleu_every_epochs=1, retention=(9, 1))
    trainer.decode = lambda: Decoded(1.0, "none", [], {"ter": next(values)})
    trainer.limits = dataclasses.replace(trainer.limits, monitor="ter", lower_is_better=lower_is_better)
    trainer.checkpoints.retention = dataclasses.replace(trainer.checkpoints.retention, lower_is_better=lower_is_better)
    trainer.fit("run", {})
    epochs = [read_manifest(path) for path in sorted(tmp_path.glob("step_*"))]
    assert [manifest["monitored"] for manifest in epochs] == [50.0, 40.0, 60.0]
    assert read_manifest(tmp_path / "best")["step"] == epochs[best - 1]["step"]
