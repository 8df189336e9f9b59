import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.batch import collate
from transformer.model import arithmetic
from transformer.special import PAD
from transformer.training import loss as module
from transformer.training.loss import Objective, chunked_cross_entropy, plain_cross_entropy

D_MODEL, VOCAB_SIZE = 6, 11


def explicit(hidden, weight, target, smoothing, prior=None):
    """The docstring's formula in double precision, row by row."""
    total, nll, right = torch.zeros((), dtype=torch.float64), 0.0, 0
    for h, t in zip(hidden.double(), target.tolist(), strict=True):
        if t == PAD:
            continue
        log_p = (weight.double() @ h).log_softmax(dim=0)
        u = torch.full_like(log_p, 1 / len(log_p)) if prior is None else prior.double()
        q = smoothing * u
        q[t] += 1 - smoothing
        total = total - (q * log_p).sum()
        nll -= float(log_p.detach()[t])
        right += int(log_p.argmax()) == t
    return total, nll, right


def example(n, seed, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = scale * torch.randn(n, D_MODEL, generator=generator)
    weight = torch.randn(VOCAB_SIZE, D_MODEL, generator=generator)
    target = torch.randint(0, VOCAB_SIZE, (n,), generator=generator)  # PAD among them
    return hidden.requires_grad_(), weight.requires_grad_(), target


@pytest.mark.parametrize("cross_entropy", [plain_cross_entropy, chunked_cross_entropy])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("n", [1, 9, 150])
@pytest.mark.parametrize("prior", [None, torch.arange(VOCAB_SIZE) / sum(range(VOCAB_SIZE))], ids=["uniform", "given"])
def test_values_and_gradients_are_the_formulas(monkeypatch, cross_entropy, smoothing, n, prior):
    monkeypatch.setattr(module, "_CPU_LOGITS", 1)  # chunks of 64 rows, the least
    hidden, weight, target = example(n, seed=n)
    sums = cross_entropy(hidden, weight, target, smoothing, prior)
    total, nll, right = explicit(hidden, weight, target, smoothing, prior)
    assert sums.tolist() == pytest.approx([float(total.detach()), nll, right], rel=1e-5, abs=1e-5)
    if float(total.detach()) == 0.0:  # the only target was PAD
        return
    expected = torch.autograd.grad(total, [hidden, weight])
    for found, wanted in zip(torch.autograd.grad(2.5 * sums[0], [hidden, weight]), expected, strict=True):
        torch.testing.assert_close(found, 2.5 * wanted, atol=1e-5, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 200), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([1, 700, 1 << 20]))
def test_chunked_is_plain_whatever_the_chunks(n, seed, smoothing, logits_at_once):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "_CPU_LOGITS", logits_at_once)
        hidden, weight, target = example(n, seed)
        results = []
        for cross_entropy in (plain_cross_entropy, chunked_cross_entropy):
            sums = cross_entropy(hidden, weight, target, smoothing)
            results.append((sums, *torch.autograd.grad(sums[0], [hidden, weight])))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cross_entropy", [plain_cross_entropy, chunked_cross_entropy])
def test_large_scores_do_not_overflow(cross_entropy):
    hidden, weight, target = example(70, seed=1, scale=1000.0)
    sums = cross_entropy(hidden, weight, target, 0.1)
    assert torch.isfinite(torch.stack([g.sum() for g in torch.autograd.grad(sums[0], [hidden, weight])])).all()
    assert sums.tolist() == pytest.approx([float(x) for x in explicit(hidden.detach(), weight.detach(), target, 0.1)])


@pytest.mark.parametrize("cross_entropy", [plain_cross_entropy, chunked_cross_entropy])
def test_padding_alone_gives_zeros(cross_entropy):
    hidden, weight, _ = example(5, seed=2)
    sums = cross_entropy(hidden, weight, torch.full((5,), PAD), 0.1)
    assert sums.tolist() == [0.0, 0.0, 0.0]
    assert not any(g.any() for g in torch.autograd.grad(sums[0], [hidden, weight]))


@pytest.mark.parametrize("cross_entropy", [plain_cross_entropy, chunked_cross_entropy])
def test_token_accuracy_counts_right_argmaxes_less_padding(cross_entropy):
    weight = torch.eye(VOCAB_SIZE)
    hidden = torch.eye(VOCAB_SIZE)[[5, 6, 7, PAD]]
    assert float(cross_entropy(hidden, weight, torch.tensor([5, 8, 7, PAD]), 0.1)[2]) == 2.0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_bfloat16_comes_close(monkeypatch, smoothing):
    monkeypatch.setattr(module, "_CPU_LOGITS", 1)
    hidden, weight, target = example(150, seed=4, scale=1.0)
    exact = chunked_cross_entropy(hidden, weight, target, smoothing)
    wanted = torch.autograd.grad(exact[0], [hidden, weight])
    for cross_entropy in (plain_cross_entropy, chunked_cross_entropy):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            sums = cross_entropy(hidden, weight, target, smoothing)
        assert sums.dtype == torch.float32
        assert sums[:2].tolist() == pytest.approx(exact[:2].tolist(), rel=0.01)
        for found, want in zip(torch.autograd.grad(sums[0], [hidden, weight]), wanted, strict=True):
            assert found.dtype == torch.float32
            assert (found - want).norm() < 0.02 * want.norm()


@pytest.mark.parametrize("cross_entropy", [plain_cross_entropy, chunked_cross_entropy])
def test_autocast_rounds_no_sum(cross_entropy):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = cross_entropy(
            torch.ones(1001, 6), torch.zeros(11, 6), torch.full((1001,), 4), 0.1, torch.full((11,), 1 / 11)
        )
    assert sums[:2].tolist() == pytest.approx([1001 * math.log(11)] * 2, rel=1e-5)


def test_nothing_is_kept_for_a_backward_pass_that_will_not_come(monkeypatch):
    hidden, weight, target = example(9, seed=3)
    with_gradients = []
    sweep = module._sweep
    monkeypatch.setattr(module, "_sweep", lambda *args: (with_gradients.append(args[5]), sweep(*args))[1])
    with torch.no_grad():
        alone = chunked_cross_entropy(hidden, weight, target, 0.1)
    trained = chunked_cross_entropy(hidden, weight, target, 0.1)
    assert not alone.requires_grad
    assert torch.equal(alone, trained.detach())
    assert with_gradients == [False, True]


@pytest.mark.parametrize("loss", [plain_cross_entropy, chunked_cross_entropy])
def test_of_two_tokens_that_tie_one_is_right_where_nothing_is_learned(loss):
    weight = torch.zeros(9, 4)
    weight[[5, 7]] = 1.0
    with torch.no_grad():
        assert loss(torch.ones(2, 4), weight, torch.tensor([5, 7]), 0.1)[2] == 1


def test_the_objective_counts_the_tokens_of_a_padded_batch(toy):
    model = toy.model().eval()
    src = torch.tensor([[4, 5, 3], [6, 3, PAD]])
    tgt_in = torch.tensor([[2, 7, 8, 9], [2, 10, PAD, PAD]])
    tgt_out = torch.tensor([[7, 8, 9, 3], [10, 3, PAD, PAD]])
    logits = model(src, tgt_in, src == PAD).double()
    log_p = logits.log_softmax(dim=-1)
    nll = -log_p.gather(-1, tgt_out.unsqueeze(-1)).squeeze(-1)[tgt_out != PAD].sum()
    uniform = -log_p.mean(dim=-1)[tgt_out != PAD].sum()
    right = ((log_p.argmax(dim=-1) == tgt_out) & (tgt_out != PAD)).sum()
    expected = [float((0.9 * nll + 0.1 * uniform).detach()), float(nll.detach()), float(right)]
    for chunked in (True, False):
        sums = Objective(model, 0.1, chunked)(src, src == PAD, tgt_in, tgt_out)
        assert sums.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chunked", [True, False])
def test_the_objective_trains_every_parameter(toy, chunked):
    model = toy.model()
    src, tgt = torch.tensor([[4, 5, 3]]), torch.tensor([[7, 8, 3]])
    Objective(model, 0.1, chunked)(src, src == PAD, torch.tensor([[2, 7, 8]]), tgt)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("chunked", [True, False])
def test_the_objective_of_a_batch_of_none_is_zero_with_gradients(toy, chunked):
    model = toy.model(dropout=0.1).train()
    none = torch.zeros(0, 1, dtype=torch.long)
    sums = Objective(model, 0.1, chunked)(none, none.bool(), none, none)
    sums[0].backward()
    assert sums.tolist() == [0.0, 0.0, 0.0]
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_a_uniform_guess_costs_the_logarithm_of_the_vocabulary():
    hidden, target = torch.zeros(5, D_MODEL), torch.arange(1, 6)
    for cross_entropy in (plain_cross_entropy, chunked_cross_entropy):
        sums = cross_entropy(hidden, torch.randn(VOCAB_SIZE, D_MODEL), target, 0.3)
        assert sums[:2].tolist() == pytest.approx([5 * math.log(VOCAB_SIZE)] * 2)


def test_rounded_lengths_change_no_loss(toy):
    """What is padded more gives the same sums and gradients, but for rounding."""
    store, model = toy.store(12), toy.model()
    objective = Objective(model, 0.1, chunked=True)
    found = []
    for round_to in (1, 5):
        batch = collate([store[i] for i in range(12)], np.arange(12), round_to)
        sums = objective(batch.src, batch.src_key_padding_mask, batch.tgt_in, batch.tgt_out)
        found.append((batch.src.shape, sums, torch.autograd.grad(sums[0], list(model.parameters()))))
    (narrow, sums, gradients), (wide, others, more) = found
    assert narrow != wide
    torch.testing.assert_close(sums, others, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(gradients, more, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not arithmetic.available(), reason="this torch has no oneDNN")
def test_by_onednn_it_is_what_it_is_by_torch(monkeypatch, computed_by):
    generator = torch.Generator().manual_seed(5)
    hidden, weight = (torch.randn(n, 24, generator=generator).requires_grad_() for n in (300, 101))
    target, results = torch.randint(0, 101, (300,), generator=generator), []
    monkeypatch.setattr(module, "_CPU_LOGITS", 128 * 101)
    for engine in ("torch", "onednn"):
        computed_by(engine)
        sums = chunked_cross_entropy(hidden, weight, target, 0.1)
        results.append((sums, *torch.autograd.grad(sums[0], [hidden, weight])))
    for found, wanted in zip(*results, strict=True):
        assert found.is_contiguous()
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_few_shapes_are_multiplied_on_a_cpu(monkeypatch, computed_by):
    """For each new one oneDNN, which multiplies in bfloat16 too, makes a program."""
    computed_by("torch")
    monkeypatch.setattr(module, "_CPU_LOGITS", 1)
    asked, multiply = set(), torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: asked.add(a.size(0)) or multiply(a, b, out=out))
    for n in range(1, 130):
        chunked_cross_entropy(*(x.detach() for x in example(n, seed=n)), 0.1)
    assert asked == {32, 64}
