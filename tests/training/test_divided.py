import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.data.batch import collate
from transformer.model import arithmetic
from transformer.model.attention import Mix
from transformer.model.dropout import Dropout, drawing_from, keep_mask
from transformer.training.distributed import World
from transformer.training.divided import Divided, divisible, parts
from transformer.training.loss import Objective
from transformer.training.precision import Precision
from transformer.training.update import Updater

ONEDNN = pytest.mark.skipif(not arithmetic.available(), reason="this torch has no oneDNN")


@pytest.fixture
def batch(toy):
    store = toy.store(40, seed=2)
    return collate([store[i] for i in range(11)], np.arange(11))


def make(toy, n_workers, dropout=0.0, lr=0.5):
    """An Updater with so many workers, always of the same weights and random state."""
    torch.manual_seed(3)
    objective = Objective(toy.model(dropout), 0.1, chunked=True)
    objective.model.use_fast_paths(fused_attention=False, bulk_dropout=True)
    world = World("cpu", n_workers)
    optimizer = torch.optim.SGD(objective.parameters(), lr=lr)
    return Updater(objective, optimizer, world, Precision("fp32", world.device), 1.0)


def weights(update):
    return torch.cat([p.detach().flatten() for p in update.objective.parameters()])


@pytest.mark.parametrize("n_workers", [2, 3, 20])
def test_a_divided_batch_gives_the_gradient_of_the_whole(toy, batch, n_workers):
    whole, divided = make(toy, 1), make(toy, n_workers)
    assert (whole.divided is None, divided.divided is None) == (True, False)
    for _ in range(3):
        one, other = whole([batch, batch], 1.0), divided([batch, batch], 1.0)
        assert one.n_tgt_tokens == other.n_tgt_tokens
        for figure in ("loss", "nll", "accuracy", "gradient_norm"):
            assert getattr(one, figure) == pytest.approx(getattr(other, figure), rel=1e-5)
    torch.testing.assert_close(weights(whole), weights(divided), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("way", ["torch", pytest.param("onednn", marks=ONEDNN)])
def test_a_fused_optimizer_learns_from_a_divided_batch_as_from_the_whole(toy, computed_by, way):
    """Fused kernels read a gradient as if it lay in memory like its parameter, whatever its strides say."""
    computed_by(way)
    store = toy.store(80, seed=2)
    batch = collate([store[i] for i in range(60)], np.arange(60))  # enough rows for oneDNN in each part
    found = []
    for n_workers in (1, 2):
        update = make(toy, n_workers)
        update.optimizer = torch.optim.Adam(update.objective.parameters(), lr=0.01, eps=1e-3, fused=True)
        for _ in range(3):
            update([batch], 1.0)
        found.append(weights(update))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-3)


class Turned(nn.Module):
    """An objective whose gradient comes out by column."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 5))

    def forward(self, src, src_key_padding_mask, tgt_in, tgt_out):
        del src_key_padding_mask, tgt_in, tgt_out
        factor = torch.arange(15.0).view(5, 3).T * src.float().mean()
        return torch.stack(((self.weight * factor).sum(), torch.zeros(()), torch.zeros(())))


def test_gradients_lie_like_their_parameters(batch):
    objective = Turned()
    divided = Divided(objective, list(objective.parameters()), Precision("fp32", torch.device("cpu")), 2)
    divided(batch, torch.tensor(1.0))
    assert objective.weight.grad.stride() == objective.weight.stride()
    wanted = torch.arange(15.0).view(5, 3).T * sum(part.src.float().mean() for part in parts(batch, 2))
    torch.testing.assert_close(objective.weight.grad, wanted)


def test_the_same_seed_gives_the_same_bits_and_another_state_others(toy, batch):
    found = []
    for n_draws in (0, 0, 1):
        update = make(toy, 2, dropout=0.4)
        torch.rand(n_draws)
        for _ in range(4):
            update([batch], 1.0)
        found.append(weights(update))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_parts_draw_masks_of_their_own_at_the_configured_rate(toy, batch, monkeypatch):
    masks = []

    def noted(n, p):
        masks.append(keep_mask(n, p))
        return masks[-1]

    monkeypatch.setattr("transformer.model.dropout.keep_mask", noted)
    half = parts(batch, 2)[0]
    twice = collate([(row[: row.argmin()], row[: row.argmin()]) for row in half.src.numpy()] * 2, np.arange(10))
    make(toy, 2, dropout=0.4)([twice], 1.0)  # both parts alike
    assert len(masks) % 2 == 0
    sizes = sorted({mask.numel() for mask in masks})
    same = [mask for mask in masks if mask.numel() == sizes[-1]]
    assert all(not torch.equal(a, b) for i, a in enumerate(same) for b in same[:i])
    assert float(torch.cat(masks).float().mean()) == pytest.approx(0.6, abs=0.03)


def test_a_frozen_or_unused_parameter_gets_no_gradient(toy, batch):
    update = make(toy, 2)
    objective = update.objective
    unused = nn.Parameter(torch.ones(3))
    divided = Divided(objective, [*update.parameters[1:], unused], update.precision, 2)
    sums = divided(batch, torch.tensor(10.0))
    assert sums.shape == (3,)
    assert unused.grad is None
    assert update.parameters[0].grad is None
    assert all(p.grad is not None for p in update.parameters[1:])


def test_what_torch_draws_itself_is_not_divided(toy):
    objective = Objective(toy.model(0.3), 0.1, chunked=True)
    for fused, bulk, expected in ((False, True, True), (True, True, False), (False, False, False)):
        objective.model.use_fast_paths(fused, bulk)
        assert divisible(objective) is expected
    objective = Objective(toy.model(0.0), 0.1, chunked=True)
    objective.model.use_fast_paths(True, False)
    assert divisible(objective)
    assert not divisible(nn.Sequential(objective, nn.Dropout(0.1)))
    assert any(isinstance(m, Mix) for m in objective.modules())
    assert not divisible(Dropout(1e-9))  # 16 bits do not tell it from 0, so that torch draws


def test_a_thread_s_own_generator_leaves_the_default_one_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with drawing_from(torch.Generator().manual_seed(5)):
        first = keep_mask(1000, 0.3)
    assert torch.equal(torch.get_rng_state(), state)
    with drawing_from(torch.Generator().manual_seed(5)):
        assert torch.equal(keep_mask(1000, 0.3), first)
    assert not torch.equal(keep_mask(1000, 0.3), first)
    assert not torch.equal(torch.get_rng_state(), state)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.data())
def test_parts_are_the_batch(toy, n_pairs, data):
    n = data.draw(st.integers(1, n_pairs))
    store = toy.store(40, seed=2)
    whole = collate([store[i] for i in range(n_pairs)], np.arange(n_pairs))
    found = parts(whole, n)
    sizes = [len(part.indices) for part in found]
    assert len(sizes) == n
    assert max(sizes) - min(sizes) <= 1
    for name in ("src", "tgt_in", "tgt_out", "src_key_padding_mask"):
        assert torch.equal(torch.cat([getattr(part, name) for part in found]), getattr(whole, name))
    assert [i for part in found for i in part.indices] == list(range(n_pairs))
    assert [part.n_tgt_tokens for part in found] == [
        sum(len(store[i][1]) + 1 for i in part.indices.tolist()) for part in found
    ]


def test_one_process_of_many_and_a_single_pair_are_not_divided(toy, batch, monkeypatch):
    update = make(toy, 2)
    monkeypatch.setattr(update, "divided", lambda *_: pytest.fail("divided"))
    store = toy.store(40, seed=2)
    update([collate([store[1]], np.arange(1))], 1.0)
    world = World("cpu", 2)
    world.size = 2
    monkeypatch.setattr(world, "wrap", lambda module: module)
    optimizer = torch.optim.SGD(update.parameters, lr=0.1)
    assert Updater(update.objective, optimizer, world, Precision("fp32", world.device), None).divided is None
