"""Runs whose loss or gradient is not finite, or whose memory runs out."""

import math
import os

import numpy as np
import pytest
import torch

from transformer.data.batching import Bucket
from transformer.data.loader import BatchLoader
from transformer.error import UserError
from transformer.training.checkpoint import CheckpointFolder, Retention, complete, load_tensors
from transformer.training.trainer import MAX_ROLLBACKS, MAX_SKIPPED_IN_A_ROW, RATE_CUT


class Spoiler:
    """Spoils the gradient of chosen updates, counted from 1 over the process's life."""

    def __init__(self, trainer, updates):
        self.n_updates, self.updates = 0, updates
        self.weights = []
        self.inner, self.trainer = trainer.update, trainer
        self.parameters = trainer.update.parameters
        trainer.update = self
        trainer.objective.model.output.weight.register_hook(self.hook)

    def __call__(self, micro_batches, factor):
        self.n_updates += 1
        done = self.inner(micro_batches, factor)
        self.weights.append(torch.cat([p.detach().flatten() for p in self.parameters]))
        return done

    def hook(self, gradient):
        return gradient * math.inf if self.n_updates in self.updates else gradient


def spoiled(toy, folder, updates, **choices):
    """A run of long epochs whose updates of these numbers are spoiled."""
    recorder = toy.Recorder()
    batches = BatchLoader(toy.store(300), Bucket(40), 3, 0, 1, None)
    trainer = toy.trainer(folder, observers=[recorder], batches=batches, **choices)
    assert len(batches) > 40
    trainer.identify = lambda indices: f"{len(indices)} pairs"
    return trainer, Spoiler(trainer, updates), recorder


def test_the_pairs_named_are_those_of_all_processes(toy, tmp_path, monkeypatch):
    trainer, _, told = spoiled(toy, tmp_path, {2}, max_steps=2)
    trainer.identify = lambda indices: f"{sorted(indices.tolist())[-2:]}"
    monkeypatch.setattr(trainer.world, "gather", lambda value: [value, np.array([998, 999])])
    trainer.fit("run", {})
    assert told.messages[0].endswith("; [998, 999]")


def test_a_bad_update_is_left_out_counted_and_told(toy, tmp_path):
    trainer, spoiler, told = spoiled(toy, tmp_path, {2, 4}, max_steps=6)
    trainer.fit("run", {})
    assert torch.equal(spoiler.weights[1], spoiler.weights[0])
    assert torch.equal(spoiler.weights[3], spoiler.weights[2])
    assert not torch.equal(spoiler.weights[4], spoiler.weights[3])
    assert [end.step for end in told.steps] == [1, 3, 5, 6]
    assert trainer.progress.step == 6
    assert trainer.progress.skipped_in_a_row == 0
    assert len(told.messages) == 2
    assert told.messages[0].startswith("step 2: loss is ")
    assert "gradient norm nan: the update is left out; " in told.messages[0] or "norm inf" in told.messages[0]
    assert told.messages[0].endswith(" pairs")
    # What was left out is in no figure.
    assert told.epochs[0].n_tgt_tokens == sum(end.n_tgt_tokens for end in told.steps)
    assert math.isfinite(told.epochs[0].gradient_norm)


def test_a_run_that_stays_bad_without_a_checkpoint_ends(toy, tmp_path):
    trainer, spoiler, told = spoiled(toy, tmp_path, range(3, 999), max_epochs=9)
    with pytest.raises(UserError, match=r"not finite 10 times in a row, last at step 12, .*lower optimizer.lr"):
        trainer.fit("run", {})
    assert spoiler.n_updates == 2 + MAX_SKIPPED_IN_A_ROW == 12
    assert torch.equal(spoiler.weights[-1], spoiler.weights[1])
    assert told.n_ends == 1


def test_it_goes_back_to_a_checkpoint_with_a_lower_rate(toy, tmp_path):
    bad = range(6, 6 + MAX_SKIPPED_IN_A_ROW)
    trainer, spoiler, told = spoiled(toy, tmp_path, bad, max_steps=20, max_epochs=None, every=4)
    trainer.fit("run", {})
    # While updates are left out no checkpoint is written: at 8 and 12 the weights are those of step 5.
    assert [step for _, step in told.checkpoints] == [4, 8, 12, 16, 20, 20]
    assert len(told.messages) == MAX_SKIPPED_IN_A_ROW + 1
    path = tmp_path / "step_000000004"
    assert told.messages[-1] == f"step 15: back to {path} with 0.5 of the learning rate"
    assert [end.step for end in told.steps] == [1, 2, 3, 4, 5, *range(5, 21)]
    assert [end.learning_rate for end in told.steps[5:]] == [0.01 * RATE_CUT] * 16
    # Step 5 is done again, from the weights of step 4, on the same pairs.
    first, again = told.steps[4:6]
    assert (again.loss, again.n_tgt_tokens) == (first.loss, first.n_tgt_tokens)
    change = [spoiler.weights[at] - spoiler.weights[3] for at in (4, 15)]
    torch.testing.assert_close(change[1], RATE_CUT * change[0], atol=1e-5, rtol=1e-3)
    progress = load_tensors(tmp_path / "last" / "training.pt")["progress"]
    assert (progress["n_rollbacks"], progress["rate_cut"]) == (1, RATE_CUT)


def test_it_goes_back_a_few_times_then_ends(toy, tmp_path):
    trainer, spoiler, told = spoiled(toy, tmp_path, range(6, 9999), max_epochs=99, every=4)
    with pytest.raises(UserError, match=f"after going back {MAX_ROLLBACKS} times; look at the pairs named above"):
        trainer.fit("run", {})
    rates = [float(m.split("with ")[1].split(" of")[0]) for m in told.messages if "back to" in m]
    assert rates == [RATE_CUT**n for n in range(1, MAX_ROLLBACKS + 1)]
    assert spoiler.n_updates == 5 + (MAX_ROLLBACKS + 1) * MAX_SKIPPED_IN_A_ROW


class Breaker:
    """Breaks a weight behind one update, counted from 1 over the process's life."""

    def __init__(self, trainer, at):
        self.n_updates, self.at, self.inner = 0, at, trainer.update
        self.parameters = trainer.update.parameters
        trainer.update = self

    def __call__(self, micro_batches, factor):
        self.n_updates += 1
        done = self.inner(micro_batches, factor)
        if self.n_updates == self.at:
            with torch.no_grad():
                self.parameters[0][5] = math.inf
        return done


@pytest.mark.parametrize(
    ("at", "back_to"),
    [
        (12, 10),  # 20, the next end of an epoch, has the broken weights
        (20, 10),  # so has 20 here, though no update had failed yet when it was written
        (9, None),
    ],
)
def test_it_goes_back_behind_the_weights_that_are_broken(toy, tmp_path, at, back_to):
    recorder = toy.Recorder()
    trainer = toy.trainer(tmp_path, observers=[recorder], max_epochs=4)
    Breaker(trainer, at)
    if back_to is None:
        with pytest.raises(UserError, match="after going back 0 times"):
            trainer.fit("run", {})
        return
    trainer.fit("run", {})
    assert next(step for _, step in recorder.checkpoints) == 10
    [back] = [message for message in recorder.messages if "back to" in message]
    assert f"back to {tmp_path / f'step_{back_to:09d}'} with 0.5" in back
    assert torch.isfinite(load_tensors(tmp_path / "last" / "model.pt")["output.weight"]).all()
    assert trainer.progress.epoch == 5


def test_checkpoints_that_are_written_meanwhile_take_no_place_of_those_to_go_back_to(toy, tmp_path):
    checkpoints = CheckpointFolder(tmp_path, Retention(1, 1, lower_is_better=True), toy.write_config)
    for step, monitored, skipped in ((1, 1.0, 0), (2, 2.0, 0), (3, math.nan, 4), (4, math.nan, 9)):
        checkpoints.save(step, {}, {}, {"monitored": monitored, "skipped_in_a_row": skipped})
    assert [path.name[-1] for path in complete(tmp_path)] == ["1", "2", "4"]
    assert (os.readlink(tmp_path / "best")[-1], os.readlink(tmp_path / "last")[-1]) == ("1", "4")


def test_the_best_is_none_that_was_written_meanwhile(toy, tmp_path):
    checkpoints = CheckpointFolder(tmp_path, Retention(1, 1, lower_is_better=True), toy.write_config)
    for step, skipped in ((1, 0), (2, 3)):
        checkpoints.save(step, {}, {}, {"monitored": None, "skipped_in_a_row": skipped})
    assert (os.readlink(tmp_path / "best")[-1], os.readlink(tmp_path / "last")[-1]) == ("1", "2")


def test_of_an_epoch_without_an_update_that_counts_no_figure_is_told(toy, tmp_path):
    recorder = toy.Recorder()
    batches = BatchLoader(toy.store(20), Bucket(40), 3, 0, 1, None)
    trainer = toy.trainer(tmp_path, observers=[recorder], batches=batches, max_epochs=3)
    lengths = [(batches.set_epoch(epoch), len(batches))[1] for epoch in (1, 2)]
    batches.set_epoch(1)
    Spoiler(trainer, range(lengths[0] + 1, sum(lengths) + 2))
    trainer.fit("run", {})
    figures = [(end.train_loss, end.train_perplexity, end.train_accuracy, end.gradient_norm) for end in recorder.epochs]
    assert [all(map(math.isnan, figure)) for figure in figures] == [False, True, False]
    assert all(math.isfinite(end.valid_loss) for end in recorder.epochs)


def test_a_loss_that_stands_out_is_told_with_its_pairs(toy, tmp_path):
    trainer, _, told = spoiled(toy, tmp_path, {}, max_steps=12, max_epochs=None)
    update, calls = trainer.update, iter(range(1, 99))

    class Jumping:
        parameters = update.parameters

        def __call__(self, micro_batches, factor):
            scale = 9.0 if next(calls) == 8 else 1.0
            handle = trainer.objective.register_forward_hook(lambda module, inputs, sums: sums * scale)
            done = update(micro_batches, factor)
            handle.remove()
            return done

    trainer.update = Jumping()
    trainer.fit("run", {})
    (message,) = told.messages
    assert message.startswith("step 8: loss ")
    assert "stands out, the usual is " in message
    assert message.endswith(" pairs")


def test_memory_running_out_is_told_and_changes_nothing(toy, tmp_path):
    plain, _, told = spoiled(toy, tmp_path / "a", {}, max_steps=5, max_epochs=None)
    plain.fit("run", {})
    tight, _, about = spoiled(toy, tmp_path / "b", {}, max_steps=5, max_epochs=None)
    forward = tight.objective.forward

    def small(src, *rest):
        if src.size(0) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(src, *rest)

    tight.objective.forward = small
    tight.validation, plain.validation = plain.validation, tight.validation
    with pytest.raises(torch.OutOfMemoryError):  # validation cannot be split
        tight.fit("run", {})
    assert [end.step for end in about.steps] == [1, 2, 3, 4, 5]
    for one, other in zip(told.steps, about.steps, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-4)
        assert other.n_tgt_tokens == one.n_tgt_tokens
    assert any("memory ran out; micro-batches were halved" in message for message in about.messages)
