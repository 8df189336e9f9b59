import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.batch import collate
from transformer.error import UserError
from transformer.special import PAD
from transformer.training.distributed import World
from transformer.training.loss import Objective
from transformer.training.optimizer import optimizer_of
from transformer.training.precision import Precision
from transformer.training.update import Updater, out_of_memory


class Sometimes(Objective):
    """An objective with a memory of so many rows, whose loss is wrong on request."""

    rows = 10**9
    wrong: float | None = None

    def forward(self, src, src_key_padding_mask, tgt_in, tgt_out):
        if src.size(0) > self.rows:
            raise MemoryError
        sums = super().forward(src, src_key_padding_mask, tgt_in, tgt_out)
        return sums if self.wrong is None else sums * self.wrong


@pytest.fixture
def make(toy):
    """Return a function that makes the same Updater every time."""

    def make(clip_norm=None, precision="fp32", lr=1.0, momentum=0.0, dropout=0.0, own=None):
        torch.manual_seed(3)
        objective = Sometimes(toy.model(dropout), 0.1, chunked=True)
        world = World("cpu")
        optimizer = torch.optim.SGD(objective.parameters(), lr=lr, momentum=momentum)
        if own:
            optimizer = optimizer_of(objective.model, own)
        return Updater(objective, optimizer, world, Precision(precision, world.device), clip_norm)

    return make


@pytest.fixture
def batch(toy):
    """Return a function: indices of pairs -> Batch."""
    store = toy.store(40, seed=2)
    return lambda *indices: collate([store[i] for i in indices], np.asarray(indices))


def weights(update):
    return torch.cat([p.detach().flatten() for p in update.objective.parameters()])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 3))
def test_micro_batches_are_one_big_batch(toy, sizes, seed):
    """Of unequal numbers of pairs and tokens; for plain SGD of rate 1 the weights' change is the gradient."""
    store = toy.store(40, seed)
    order = np.random.default_rng(seed).permutation(40)
    ends = np.cumsum([0, *sizes])
    results = []
    for groups in ([order[a:b] for a, b in itertools.pairwise(ends)], [order[: ends[-1]]]):
        torch.manual_seed(3)
        objective = Objective(toy.model(), 0.1, chunked=True)
        world = World("cpu")
        update = Updater(
            objective, torch.optim.SGD(objective.parameters(), lr=1.0), world, Precision("fp32", world.device), None
        )
        before = weights(update)
        done = update([collate([store[i] for i in group], group) for group in groups], 1.0)
        results.append((weights(update) - before, done))
    (accumulated, one), (whole, other) = results
    torch.testing.assert_close(accumulated, whole, atol=1e-6, rtol=1e-5)
    assert one.n_tgt_tokens == other.n_tgt_tokens
    for figure in ("loss", "nll", "accuracy", "gradient_norm"):
        assert getattr(one, figure) == pytest.approx(getattr(other, figure), rel=1e-4)


def test_after_several_updates_the_weights_are_the_same_too(make, batch):
    one, other = make(clip_norm=0.5, lr=0.1, momentum=0.9), make(clip_norm=0.5, lr=0.1, momentum=0.9)
    for first in range(0, 30, 6):
        numbers = range(first, first + 6)
        one([batch(*numbers[:1]), batch(*numbers[1:4]), batch(*numbers[4:])], 1.0)
        other([batch(*numbers)], 1.0)
    torch.testing.assert_close(weights(one), weights(other), atol=1e-6, rtol=1e-5)


def test_what_an_update_tells(make, batch):
    update = make(clip_norm=1e-3, lr=0.5)
    b = batch(1, 2, 3)
    logits = update.objective.model(b.src, b.tgt_in, b.src_key_padding_mask).detach().double()
    log_p, valid = logits.log_softmax(dim=-1), b.tgt_out != PAD
    nll = -log_p.gather(-1, b.tgt_out.unsqueeze(-1)).squeeze(-1)[valid].mean()
    before = weights(update)
    done = update([b], 0.25)
    assert done.n_tgt_tokens == b.n_tgt_tokens == int(valid.sum())
    assert done.nll == pytest.approx(float(nll), rel=1e-5)
    assert done.loss == pytest.approx(0.9 * float(nll) - 0.1 * float(log_p.mean(dim=-1)[valid].mean()), rel=1e-5)
    assert done.accuracy == pytest.approx(100 * float((log_p.argmax(dim=-1) == b.tgt_out)[valid].double().mean()))
    assert done.learning_rate == 0.125
    assert (done.finite, done.n_splits) == (True, 0)
    # The gradient was longer than the bound: the step is bound times rate.
    assert done.gradient_norm > 0.1
    assert float((weights(update) - before).norm()) == pytest.approx(0.125 * 1e-3, rel=1e-3)
    assert all(p.grad is None for p in update.parameters)


def test_every_group_keeps_its_own_peak(toy, batch):
    objective = Objective(toy.model(), 0.1, chunked=True)
    first, *rest = objective.parameters()
    optimizer = torch.optim.SGD([{"params": [first], "lr": 2.0}, {"params": rest}], lr=0.3)
    world = World("cpu")
    update = Updater(objective, optimizer, world, Precision("fp32", world.device), None)
    for factor in (0.5, 0.1):
        assert update([batch(1)], factor).learning_rate == 2.0 * factor
        assert [group["lr"] for group in optimizer.param_groups] == [2.0 * factor, 0.3 * factor]


def test_dropout_is_on_whatever_mode_validation_left(make, batch):
    update = make(dropout=0.5)
    update.objective.eval()
    update([batch(1)], 1.0)
    assert all(module.training for module in update.objective.modules())


def scaled(update, scale=1024.0):
    """With the loss scaling of float16, whose arithmetic works on a CPU as well."""
    update.precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return update


def test_gradients_are_unscaled_then_clipped_then_applied(make, batch):
    for clip_norm in (1e-2, None):
        plain, with_scale = make(clip_norm), scaled(make(clip_norm))
        for i in range(5):  # the scale grows on the way
            one, other = plain([batch(i, i + 9)], 1.0), with_scale([batch(i, i + 9)], 1.0)
            assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-5)
            assert other.loss == pytest.approx(one.loss, rel=1e-5)
        torch.testing.assert_close(weights(with_scale), weights(plain), atol=1e-6, rtol=1e-5)
        assert with_scale.precision.scaler.get_scale() == 2048.0


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("with_scale", [False, True])
def test_an_update_that_is_not_finite_is_left_out(make, batch, wrong, with_scale):
    update = make(clip_norm=1.0, momentum=0.9)
    if with_scale:
        scaled(update)
    update([batch(1)], 0.1)
    before, momentum = weights(update), [dict(s) for s in update.optimizer.state.values()]
    momentum = [s["momentum_buffer"].clone() for s in momentum]
    update.objective.wrong = wrong
    done = update([batch(2)], 0.1)
    assert not done.finite
    assert torch.equal(weights(update), before)
    for state, then in zip(update.optimizer.state.values(), momentum, strict=True):
        assert torch.equal(state["momentum_buffer"], then)
    assert all(p.grad is None for p in update.parameters)
    update.objective.wrong = None
    assert update([batch(2)], 0.1).finite
    assert not torch.equal(weights(update), before)
    if with_scale:
        assert update.precision.scaler.get_scale() == 512.0


def states(update):
    """Every tensor and number of weights and optimizer, copied."""
    kept = update.optimizer.state_dict()
    numbers = [value for group in kept["param_groups"] for value in group.values() if isinstance(value, (int, float))]
    found = [value for state in kept["state"].values() for value in state.values()]
    return [weights(update), torch.tensor(numbers, dtype=torch.float64), *(torch.as_tensor(v).clone() for v in found)]


def test_each_optimizer_works_with_all_that_an_update_does(make, batch, own_optimizer):
    """Micro-batches, clipping, loss scaling: as one batch without; what is not finite leaves no trace."""
    plain, divided = make(0.5, own=own_optimizer), scaled(make(0.5, own=own_optimizer))
    for i in range(5):
        one = plain([batch(i, i + 9, i + 20)], 0.5)
        other = divided([batch(i, i + 9), batch(i + 20)], 0.5)
        assert other.loss == pytest.approx(one.loss, rel=1e-3)
        assert one.learning_rate == other.learning_rate == own_optimizer.keywords["lr"] * 0.5
    # A key's bias has no gradient but rounding, which both make into steps.
    moved = [update.objective.model.output.weight.detach() for update in (plain, divided)]
    torch.testing.assert_close(*moved, atol=1e-4, rtol=1e-3)
    before, divided.objective.wrong = states(divided), math.nan
    assert not divided([batch(1, 2)], 0.5).finite
    assert all(map(torch.equal, states(divided), before))
    divided.objective.wrong = None
    assert divided([batch(1, 2)], 0.5).finite
    assert not torch.equal(states(divided)[0], before[0])


@pytest.mark.parametrize("only", ["loss", "gradient"])
def test_either_loss_or_gradient_is_enough(make, batch, only):
    update = make()
    before = weights(update)
    if only == "loss":
        update.objective.register_forward_hook(lambda module, inputs, sums: sums + torch.tensor([math.inf, 0.0, 0.0]))
    else:
        update.objective.model.output.weight.register_hook(lambda gradient: gradient * math.nan)
    done = update([batch(1)], 1.0)
    assert (math.isfinite(done.loss), math.isfinite(done.gradient_norm)) == (only != "loss", only != "gradient")
    assert not done.finite
    assert torch.equal(weights(update), before)


def test_one_bad_micro_batch_spoils_the_update(make, batch):
    update = make()
    before = weights(update)
    calls = iter([1.0, math.nan, 1.0])
    forward = update.objective.forward

    def forward_sometimes(*args):
        return forward(*args) * next(calls)

    update.objective.forward = forward_sometimes
    assert not update([batch(1), batch(2), batch(3)], 1.0).finite
    assert torch.equal(weights(update), before)


def test_gradients_are_exchanged_at_the_last_micro_batch_alone(make, batch, monkeypatch):
    update, asked = make(), []
    no_sync = update.world.no_sync
    monkeypatch.setattr(update.world, "no_sync", lambda m, wanted: (asked.append(wanted), no_sync(m, wanted))[1])
    update([batch(1), batch(2), batch(3)], 1.0)
    assert asked == [True, True, False]


def test_bfloat16_comes_close(make, batch):
    exact, rounded = make(), make(precision="bf16")
    before = weights(exact)
    one, other = exact([batch(1, 2, 3)], 1.0), rounded([batch(1, 2, 3)], 1.0)
    assert other.loss == pytest.approx(one.loss, rel=0.02)
    assert other.loss != one.loss
    difference = (weights(rounded) - weights(exact)).norm()
    assert difference < 0.05 * (weights(exact) - before).norm()


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_a_batch_that_does_not_fit_is_halved_with_the_same_result(make, batch, rows):
    whole, halved = make(), make()
    halved.objective.rows = rows
    micro_batches = [batch(1, 2), batch(*range(3, 11))]
    one, other = whole(micro_batches, 1.0), halved(micro_batches, 1.0)
    torch.testing.assert_close(weights(halved), weights(whole), atol=1e-6, rtol=1e-5)
    assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert other.n_tgt_tokens == one.n_tgt_tokens
    assert other.n_splits == {1: 8, 2: 3, 3: 3, 5: 1}[rows]
    assert one.n_splits == 0


def test_a_pair_that_does_not_fit_is_told(make, batch):
    update = make()
    update.objective.rows = 0
    b = batch(1)
    told = f"single pair of {b.src.size(1)} and {b.tgt_in.size(1)} tokens; lower training.max_len"
    with pytest.raises(UserError, match=told):
        update([b], 1.0)


def test_several_processes_cannot_split(make, batch):
    update = make()
    update.objective.rows = 1
    update.world.size = 2
    update.world.sum = lambda values: values
    with pytest.raises(UserError, match=r"one of several processes; lower batching.max_tokens"):
        update([batch(2, 3)], 1.0)


def test_other_errors_are_not_hidden(make, batch):
    update = make()

    def broken(*args):
        raise RuntimeError("shapes do not match")

    update.objective.forward = broken
    with pytest.raises(RuntimeError, match="shapes do not match"):
        update([batch(1, 2)], 1.0)


def test_a_cpu_without_memory_is_known_by_its_message():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("DefaultCPUAllocator"))
