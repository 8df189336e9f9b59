"""A run that stops and goes on is the run that never stopped: every bit of weights and optimizer, every figure told."""

import contextlib
import json
import os
import random
import shutil
import signal

import numpy as np
import pytest
import torch

from transformer.data.batching import Bucket, Sorted
from transformer.data.corpus import FilesCorpus
from transformer.data.loader import BatchLoader
from transformer.data.store import prepare_store
from transformer.data.tokenizer.subword import SubwordTrainer
from transformer.error import UserError
from transformer.training.checkpoint import newest_intact
from transformer.training.schedule import Cosine, InverseSqrt, Plateau
from transformer.training.signals import Interrupted
from transformer.training.trainer import Decoded


@pytest.fixture(scope="module")
def make_run(toy, tmp_path_factory):
    """Return a function: folder, ... -> a trainer of a run with everything that has a state."""
    folder = tmp_path_factory.mktemp("corpus")
    words, rng = ["red", "green", "blue", "dog", "cat", "tree", "house", "runs", "sees", "the", "a"], random.Random(2)
    for split, size in (("train", 50), ("validation", 9)):
        lines = [[rng.choice(words) for _ in range(rng.randint(1, 6))] for _ in range(size)]
        text = "".join(f"{' '.join(line)}\t{' '.join(line[::-1])}\n" for line in lines)
        (folder / f"{split}.tsv").write_text(text, encoding="utf-8")
    files = {s: {"src": None, "tgt": None, "tsv": str(folder / f"{s}.tsv")} for s in ("train", "validation")}
    corpus = FilesCorpus("en", "ne", files["train"], files["validation"], {})
    tokenizers = SubwordTrainer("bpe", 45, True, False, "identity", 1.0, False, sampling=0.2).train(corpus)
    train, validation = (prepare_store(corpus, split, tokenizers, 15, folder / "cache") for split in files)

    def make(folder, **choices):
        torch.manual_seed(choices.pop("init", 11))
        choices = {
            "dropout": 0.3,
            "accumulate": 2,
            "max_epochs": 3,
            "ema_decay": 0.9,
            "schedule": Plateau(3, "valid_loss", factor=0.5, patience=0, threshold=9.0, min_factor=0.1),
            "batches": BatchLoader(train, Bucket(90), 5, 0, 1, tokenizers),
            "validation": BatchLoader(validation, Sorted(90), 5, 0, 1, None),
            "model": toy.model(0.3, tokenizers.tgt.vocab_size),
            "retention": (100, 1),
        } | choices
        return toy.trainer(folder, **choices)

    return make


@pytest.fixture(scope="module")
def straight(toy, make_run, tmp_path_factory):
    """The run that never stops; it saves nothing but at the ends of epochs."""
    recorder = toy.Recorder()
    trainer = make_run(tmp_path_factory.mktemp("straight"), observers=[recorder])
    trainer.fit("run", {})
    return trainer, recorder


def scramble():
    """What another process would bring."""
    for _ in range(3):
        random.random(), np.random.rand(), torch.rand(1)
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)


def assert_same(toy, trainer, steps, epochs, straight):
    expected, told = straight
    found, wanted = toy.tensors(trainer), toy.tensors(expected)
    assert found.keys() == wanted.keys()
    assert [name for name in found if not torch.equal(found[name], wanted[name])] == []
    assert list(map(toy.without_clock, steps)) == list(map(toy.without_clock, told.steps))
    assert list(map(toy.without_clock, epochs)) == list(map(toy.without_clock, told.epochs))


def test_the_run_has_all_that_could_differ(straight):
    trainer, told = straight
    per_epoch = [sum(end.epoch == epoch for end in told.steps) for epoch in (1, 2, 3)]
    assert min(per_epoch) >= 3
    assert {end.learning_rate for end in told.epochs} == {0.01, 0.005}  # cut by Plateau
    assert len(trainer.batches) % 2 == 1  # the last update of this epoch has one micro-batch


def test_checkpoints_change_nothing(toy, make_run, straight, tmp_path):
    recorder = toy.Recorder()
    trainer = make_run(tmp_path, observers=[recorder], every=1)
    trainer.fit("run", {})
    assert_same(toy, trainer, recorder.steps, recorder.epochs, straight)


@pytest.fixture(scope="module")
def saved_everywhere(make_run, tmp_path_factory):
    """A folder with a checkpoint of every step; those in mid-epoch are as a kill right behind them leaves them."""
    folder = tmp_path_factory.mktemp("everywhere")
    make_run(folder, every=1).fit("run", {})
    return folder


def test_going_on_from_every_checkpoint(toy, make_run, straight, saved_everywhere, tmp_path):
    told = straight[1]
    for path in sorted(saved_everywhere.glob("step_*")):
        recorder = toy.Recorder()
        trainer = make_run(tmp_path / path.name, init=12, observers=[recorder])
        scramble()
        trainer.load(path)
        trainer.fit("run", {})
        step = int(path.name[-9:])
        n_epochs = sum(end.step <= step for end in told.epochs)
        assert recorder.starts[0].resumed_step == step
        assert_same(
            toy, trainer, told.steps[:step] + recorder.steps, told.epochs[:n_epochs] + recorder.epochs, straight
        )


@pytest.mark.parametrize("stop_after", range(1, 10))
def test_going_on_after_a_signal_at_any_step(toy, make_run, straight, tmp_path, stop_after):
    stopped = toy.Recorder(stop_after=stop_after, number=signal.SIGTERM)
    with pytest.raises(Interrupted):
        make_run(tmp_path, observers=[stopped]).fit("run", {})
    assert stopped.steps[-1].step == stop_after
    resumed = toy.Recorder()
    trainer = make_run(tmp_path, init=12, observers=[resumed])
    scramble()
    newest, complaints = newest_intact(tmp_path)
    assert complaints == []
    trainer.load(newest)
    trainer.fit("run", {})
    assert_same(toy, trainer, stopped.steps + resumed.steps, stopped.epochs + resumed.epochs, straight)
    assert os.readlink(tmp_path / "best") == os.readlink(straight[0].checkpoints.folder / "best")


def test_stopping_again_and_again(toy, make_run, straight, tmp_path):
    steps, epochs = [], []
    for stop_after in range(1, len(straight[1].steps) + 1):
        recorder = toy.Recorder(stop_after=stop_after)
        trainer = make_run(tmp_path, init=12 if steps else 11, observers=[recorder])
        if steps:
            scramble()
            trainer.load(newest_intact(tmp_path)[0])
        with pytest.raises(Interrupted):
            trainer.fit("run", {})
        steps, epochs = steps + recorder.steps, epochs + recorder.epochs
    recorder = toy.Recorder()
    trainer = make_run(tmp_path, init=12, observers=[recorder])
    trainer.load(newest_intact(tmp_path)[0])
    trainer.fit("run", {})
    assert recorder.steps == []
    assert_same(toy, trainer, steps, epochs + recorder.epochs, straight)


def test_with_each_optimizer(toy, make_run, tmp_path, own_optimizer):
    """Stopped in mid-epoch and at the end of one, and with a checkpoint of every step, as if left alone."""
    choices = {"optimizer": own_optimizer, "ema_decay": None, "max_epochs": 2}
    told = toy.Recorder()
    whole = make_run(tmp_path / "whole", observers=[told], **choices)
    whole.fit("run", {})
    n_steps = len(told.steps)
    make_run(tmp_path / "every", every=1, **choices).fit("run", {})
    for step in (1, n_steps // 2, n_steps // 2 + 1):
        recorder = toy.Recorder()
        trainer = make_run(tmp_path / str(step), init=12, observers=[recorder], **choices)
        scramble()
        trainer.load(tmp_path / "every" / f"step_{step:09d}")
        trainer.fit("run", {})
        n_epochs = sum(end.step <= step for end in told.epochs)
        steps, epochs = told.steps[:step] + recorder.steps, told.epochs[:n_epochs] + recorder.epochs
        assert_same(toy, trainer, steps, epochs, (whole, told))


@pytest.mark.parametrize("max_steps", [1, 2, 4, 5, 7])
def test_more_steps_for_a_run_that_had_come_to_its_end(toy, make_run, straight, tmp_path, max_steps):
    """The epoch that max_steps cuts short is gone on with, not begun anew nor left behind."""
    short = toy.Recorder()
    make_run(tmp_path, max_steps=max_steps, observers=[short]).fit("run", {})
    resumed = toy.Recorder()
    trainer = make_run(tmp_path, init=12, observers=[resumed])
    scramble()
    trainer.load(tmp_path / "last")
    trainer.fit("run", {})
    whole = [end for end in short.epochs if toy.without_clock(end) in map(toy.without_clock, straight[1].epochs)]
    assert len(whole) >= len(short.epochs) - 1
    assert_same(toy, trainer, short.steps + resumed.steps, whole + resumed.epochs, straight)


def test_an_epoch_cut_short_is_not_the_best_once_the_run_has_gone_on(toy, make_run, tmp_path):
    make_run(tmp_path, max_steps=1).fit("run", {})
    manifest = tmp_path / "best" / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "monitored": 0.0}))
    assert (tmp_path / "best").resolve().name == "step_000000001"
    recorder = toy.Recorder()
    trainer = make_run(tmp_path, observers=[recorder])
    trainer.load(tmp_path / "last")
    trainer.fit("run", {})
    best = min(recorder.epochs, key=lambda end: end.valid_loss)
    assert (tmp_path / "best").resolve().name == f"step_{best.step:09d}"


def test_a_schedule_that_ends_with_the_training(toy, make_run, tmp_path):
    """It is the same from every checkpoint on, though epochs differ in length; a longer training has another one."""
    whole = toy.Recorder()
    trainer = make_run(tmp_path, schedule=Cosine(1, None, 0.0), max_epochs=4, every=1, observers=[whole])
    trainer.fit("run", {})
    assert len({trainer.batches.n_batches(epoch) for epoch in range(1, 5)}) > 1
    planned = 4 * -(-trainer.batches.n_batches(1) // 2)
    given = Cosine(1, planned, 0.0)
    assert [end.learning_rate for end in whole.steps] == [0.01 * given.factor(end.step) for end in whole.steps]
    assert whole.messages == []
    for path in sorted(tmp_path.glob("step_*"))[::3]:
        for max_epochs, told in (
            (4, []),
            (6, [f"the learning rate comes down until update {planned // 4 * 6}, the la"]),
        ):
            recorder = toy.Recorder()
            schedule = Cosine(1, None, 0.0)
            trainer = make_run(tmp_path / path.name, schedule=schedule, max_epochs=max_epochs, observers=[recorder])
            trainer.load(path)
            trainer.fit("run", {})
            assert [message[: len(start)] for message, start in zip(recorder.messages, told, strict=True)] == told
            if max_epochs == 4:
                assert list(map(toy.without_clock, recorder.steps)) == [
                    toy.without_clock(end) for end in whole.steps[int(path.name[-9:]) :]
                ]


def test_a_run_at_its_end_does_nothing_more(toy, make_run, straight):
    recorder = toy.Recorder()
    trainer = make_run(straight[0].checkpoints.folder, init=12, observers=[recorder])
    trainer.load(newest_intact(trainer.checkpoints.folder)[0])
    trainer.fit("run", {})
    assert (recorder.steps, recorder.epochs, recorder.checkpoints, recorder.n_ends) == ([], [], [], 1)
    assert_same(toy, trainer, straight[1].steps, straight[1].epochs, straight)


def test_patience_is_remembered(toy, make_run, tmp_path):
    """Killed in the middle of every epoch, it still counts those without a better figure."""
    figures = [3.0, 2.0, 1.0, 9.0]
    choices = {"max_epochs": 9, "monitor": "bleu", "bleu_every_epochs": 1, "patience": 2, "schedule": InverseSqrt(3)}
    epochs = []
    for _ in range(9):
        left = iter(figures[len(epochs) :])
        recorder = toy.Recorder()
        trainer = make_run(
            tmp_path, observers=[recorder], decode=lambda left=left: Decoded(next(left), "", []), **choices
        )
        newest, _ = newest_intact(tmp_path)
        if newest:
            trainer.load(newest)
        recorder.stop_after = trainer.progress.step + 2
        with contextlib.suppress(Interrupted):
            trainer.fit("run", {})
        epochs += recorder.epochs
        if recorder.messages:
            break
    assert [end.bleu for end in epochs] == [3.0, 2.0, 1.0]
    assert recorder.messages == ["no better bleu for 2 epochs: stopping early"]


def test_another_number_of_processes_is_refused(make_run, straight, tmp_path):
    trainer = make_run(tmp_path)
    trainer.world.size = 2
    newest = straight[0].checkpoints.folder / "last"
    with pytest.raises(UserError, match="was written by 1 processes, this run has 2; resume with as many"):
        trainer.load(newest)


def test_changed_data_are_refused(toy, make_run, straight, tmp_path):
    shutil.copytree(straight[0].checkpoints.folder, tmp_path / "copy", symlinks=True)
    trainer = make_run(tmp_path / "copy", batches=BatchLoader(toy.store(2), Bucket(90), 5, 0, 1, None), max_epochs=9)
    path = tmp_path / "copy" / "last"
    training = torch.load(path / "training.pt", weights_only=True)
    torch.save(training | {"loader": {"epoch": 2, "position": 5}}, path / "training.pt")
    with pytest.raises(UserError, match="position is batch 5 of epoch 2, which has 2 batches; resume with the data"):
        trainer.load(path)


@pytest.mark.parametrize("max_steps", [4, 5])
def test_killed_in_the_validation_behind_the_last_update_it_is_made_up_for(toy, make_run, tmp_path, max_steps):
    """Whether max_steps cuts an epoch short or ends with one; a checkpoint of the last update is there already."""
    whole = toy.Recorder()
    expected = make_run(tmp_path / "whole", max_steps=max_steps, every=max_steps, observers=[whole])
    expected.fit("run", {})

    class Killed(BaseException):
        pass

    def kill():
        raise Killed

    killed = make_run(tmp_path / "run", max_steps=max_steps, every=max_steps)
    killed._end_epoch = lambda: kill() if killed.progress.step == max_steps else type(killed)._end_epoch(killed)
    with pytest.raises(Killed):
        killed.fit("run", {})
    newest, _ = newest_intact(tmp_path / "run")
    assert newest is not None
    assert newest.name == f"step_{max_steps:09d}"
    resumed = toy.Recorder()
    trainer = make_run(tmp_path / "run", init=12, max_steps=max_steps, observers=[resumed])
    scramble()
    trainer.load(newest)
    trainer.fit("run", {})
    assert [toy.without_clock(end) for end in resumed.epochs] == [toy.without_clock(whole.epochs[-1])]
    assert os.readlink(tmp_path / "run" / "best") == os.readlink(tmp_path / "whole" / "best")
    found, wanted = toy.tensors(trainer), toy.tensors(expected)
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []


def test_a_signal_in_the_last_validation_is_heeded(toy, make_run, tmp_path):
    trainer = make_run(tmp_path, max_epochs=1)
    validated = trainer._end_epoch

    def asked_to_stop():
        os.kill(os.getpid(), signal.SIGTERM)
        validated()

    trainer._end_epoch = asked_to_stop
    with pytest.raises(Interrupted) as caught:
        trainer.fit("run", {})
    assert caught.value.exit_code == 128 + signal.SIGTERM
    again = make_run(tmp_path, init=12, max_epochs=1, observers=[recorder := toy.Recorder()])
    again.load(newest_intact(tmp_path)[0])
    again.fit("run", {})
    assert (recorder.steps, recorder.epochs) == ([], [])
