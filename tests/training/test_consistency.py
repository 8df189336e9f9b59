import contextlib
import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model import arithmetic
from transformer.model.dropout import drawing_from
from transformer.special import BOS, EOS, PAD
from transformer.training import consistency as module
from transformer.training.consistency import (
    Cutoff,
    Pairing,
    RDrop,
    SimCut,
    chunked_two_views,
    cut_mask,
    jeffreys,
    jensen_shannon,
    kullback_leibler,
    plain_two_views,
)
from transformer.training.loss import Objective, plain_cross_entropy

D_MODEL, VOCAB_SIZE = 6, 11
DIVERGENCES = [kullback_leibler, jeffreys, jensen_shannon]
PRIOR = torch.arange(VOCAB_SIZE) / sum(range(VOCAB_SIZE))


def kl(p, q):
    return F.kl_div(q.log(), p, reduction="none").sum(dim=1)


def by_the_book(divergence, p, q):
    if divergence is kullback_leibler:
        return kl(p, q)
    middle = (p + q) / 2
    return 0.5 * (kl(p, q) + kl(q, p)) if divergence is jeffreys else 0.5 * (kl(p, middle) + kl(q, middle))


def example(n, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = 2.0 * torch.randn(2, n, D_MODEL, generator=generator)
    weight = torch.randn(VOCAB_SIZE, D_MODEL, generator=generator)
    target = torch.randint(0, VOCAB_SIZE, (n,), generator=generator)  # PAD among them
    return [x.requires_grad_() for x in (first, second, weight)], target


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_divergences_and_their_gradients_are_the_formulas(divergence):
    logits = torch.randn(2, 7, VOCAB_SIZE, dtype=torch.float64).requires_grad_()
    p, q = logits.softmax(dim=-1)
    wanted = by_the_book(divergence, p, q)
    (by_logits,) = torch.autograd.grad(wanted.sum(), logits)
    with torch.no_grad():
        value, d_p, d_q = divergence(p, q, p.log() - q.log())
    torch.testing.assert_close(value, wanted.detach())
    torch.testing.assert_close(torch.stack((d_p, d_q)), by_logits)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_equal_views_do_not_differ(divergence):
    p = torch.rand(3, VOCAB_SIZE).softmax(dim=1)
    assert all(x.abs().max() < 1e-7 for x in divergence(p, p, torch.zeros_like(p)))


@pytest.mark.parametrize("two_views", [plain_two_views, chunked_two_views])
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["uniform", "given"])
def test_values_and_gradients_are_those_of_whole_tensors(monkeypatch, two_views, divergence, prior):
    monkeypatch.setattr(module, "_CPU_LOGITS", 1)  # chunks of 64 rows, the least
    inputs, target = example(150, seed=1)
    first, second, weight = inputs
    sums = two_views(*inputs, target, Pairing(divergence, 1.5, (0.3, 0.7), 0.1, prior))
    losses = [plain_cross_entropy(hidden, weight, target, 0.1, prior) for hidden in (first, second)]
    probabilities = [F.linear(hidden[target != PAD], weight).softmax(dim=1) for hidden in (first, second)]
    wanted = 0.3 * losses[0][0] + 0.7 * losses[1][0] + 1.5 * by_the_book(divergence, *probabilities).sum()
    told = 0.5 * (losses[0] + losses[1])[1:]
    torch.testing.assert_close(sums, torch.cat((wanted[None], told)))
    expected = torch.autograd.grad(wanted, inputs)
    for found, want in zip(torch.autograd.grad(2.5 * sums[0], inputs), expected, strict=True):
        torch.testing.assert_close(found, 2.5 * want, atol=1e-4, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 150), st.integers(0, 2**32), st.sampled_from(DIVERGENCES), st.sampled_from([1, 700, 1 << 20]))
def test_chunked_is_plain_whatever_the_chunks(n, seed, divergence, logits_at_once):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "_CPU_LOGITS", logits_at_once)
        inputs, target = example(n, seed)
        results = []
        for two_views in (plain_two_views, chunked_two_views):
            sums = two_views(*inputs, target, Pairing(divergence, 3.0, (1.0, 0.0), 0.1, None))
            results.append((sums, *torch.autograd.grad(sums[0], inputs)))
    for found, want in zip(*results, strict=True):
        torch.testing.assert_close(found, want, atol=1e-4, rtol=1e-4)


def test_bfloat16_comes_close():
    inputs, target = example(150, seed=2)
    pairing = Pairing(jeffreys, 1.0, (0.5, 0.5), 0.1, None)
    exact = chunked_two_views(*inputs, target, pairing)
    wanted = torch.autograd.grad(exact[0], inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = chunked_two_views(*inputs, target, pairing)
    assert sums.dtype == torch.float32
    assert sums.tolist() == pytest.approx(exact.tolist(), rel=0.02, abs=1.0)
    for found, want in zip(torch.autograd.grad(sums[0], inputs), wanted, strict=True):
        assert found.dtype == torch.float32
        assert (found - want).norm() < 0.03 * want.norm()


@pytest.mark.parametrize("two_views", [plain_two_views, chunked_two_views])
@pytest.mark.parametrize("prior", [None, PRIOR], ids=["uniform", "given"])
def test_autocast_rounds_no_sum(two_views, prior):
    n, told = 1001, Pairing(jeffreys, 1.0, (0.5, 0.5), 0.1, prior)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = two_views(*torch.ones(2, n, D_MODEL), torch.zeros(VOCAB_SIZE, D_MODEL), torch.full((n,), 4), told)
    assert sums[:2].tolist() == pytest.approx([n * math.log(VOCAB_SIZE)] * 2, rel=1e-5)


def batch():
    src = torch.tensor([[4, 5, 6, EOS], [7, EOS, PAD, PAD]])
    tgt_in = torch.tensor([[BOS, 8, 9], [BOS, 10, PAD]])
    tgt_out = torch.tensor([[8, 9, EOS], [10, EOS, PAD]])
    return src, src == PAD, tgt_in, tgt_out


def objectives(model, prior=None):
    return [
        RDrop(model, 0.1, True, prior, alpha=5.0),
        SimCut(model, 0.1, True, prior, alpha=3.0, p_cut=0.3),
        Cutoff(model, 0.1, True, prior, alpha=1.0, beta=1.0, p_cut=0.3),
    ]


def test_they_are_validated_by_the_plain_loss(toy):
    model = toy.model(dropout=0.4)
    for objective in objectives(model):
        assert torch.equal(objective.eval()(*batch()), Objective(model, 0.1, True).eval()(*batch()))


def test_without_dropout_and_cuts_two_views_are_one(toy):
    model = toy.model(dropout=0.0).train()
    wanted = Objective(model, 0.1, True)(*batch())
    sums = RDrop(model, 0.1, True, None, alpha=5.0)(*batch())
    torch.testing.assert_close(sums, wanted)


def test_dropout_and_cuts_part_the_views(toy):
    dropped = RDrop(toy.model(dropout=0.4).train(), 0.1, True, None, alpha=5.0)
    alone = RDrop(dropped.model, 0.1, True, None, alpha=0.0)
    losses = []
    for objective in (dropped, alone):
        torch.manual_seed(1)  # of what torch's own kernel of attention drops
        with drawing_from(torch.Generator().manual_seed(1)):
            losses.append(float(objective(*batch())[0].detach()))
    assert losses[0] > losses[1]
    model = toy.model(dropout=0.0).train()
    whole = float(Objective(model, 0.1, True)(*batch())[0].detach())
    for objective in objectives(model)[1:]:
        assert float(objective(*batch())[0].detach()) != pytest.approx(whole, rel=1e-6)


def test_chunked_and_plain_objectives_agree(toy):
    model = toy.model(dropout=0.3).train()
    for kind, arguments in ((RDrop, {"alpha": 5.0}), (SimCut, {"alpha": 3.0, "p_cut": 0.3})):
        found = []
        for chunked in (True, False):
            torch.manual_seed(1)  # of what torch's own kernel of attention drops
            with drawing_from(torch.Generator().manual_seed(1)):
                sums = kind(model, 0.1, chunked, None, **arguments)(*batch())
            found.append((sums, *torch.autograd.grad(sums[0], model.parameters())))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chunked", [True, False])
def test_they_run_on_a_device_that_tells_nothing(toy, monkeypatch, chunked):
    """A meta tensor has no values at all, so whatever waited for one would fail."""
    monkeypatch.setattr("torch.is_autocast_enabled", lambda device: False)
    monkeypatch.setattr("torch.autocast", lambda device, enabled: contextlib.nullcontext())
    for objective in objectives(toy.model(dropout=0.1).train().to("meta")):
        objective.chunked = chunked
        sums = objective(*(ids.to("meta") for ids in batch()))
        sums[0].backward()
        assert sums.shape == (3,)
        assert all(p.grad is not None for p in objective.parameters())


def test_every_parameter_is_trained(toy):
    for make in range(3):
        model = toy.model(dropout=0.1).train()
        objectives(model)[make](*batch())[0].backward()
        assert all(p.grad is not None for p in model.parameters())


def test_a_batch_of_none_is_zero(toy):
    none = torch.zeros(0, 1, dtype=torch.long)
    for objective in objectives(toy.model(dropout=0.1).train()):
        sums = objective(none, none.bool(), none, none)
        sums[0].backward()
        assert sums.tolist() == [0.0, 0.0, 0.0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.05, 0.3, 0.9]))
def test_cuts_are_as_many_as_asked_for_and_never_padding(seed, p):
    ids = torch.full((100, 50), 7)
    ids[:, 40:] = PAD
    with drawing_from(torch.Generator().manual_seed(seed)):
        cut = cut_mask(ids, p)
    assert not cut[:, 40:].any()
    assert abs(float(cut[:, :40].float().mean()) - p) < 5 * math.sqrt(p * (1 - p) / 4000)


def test_a_cut_token_leaves_its_position_alone(toy):
    embedding = toy.model(dropout=0.0).src_embedding
    ids, cut = torch.tensor([[5, 6, 7]]), torch.tensor([[False, True, False]])
    whole, seen = embedding(ids), embedding(ids, cut=cut)
    assert torch.equal(whole[0, [0, 2]], seen[0, [0, 2]])
    assert torch.equal(seen[0, 1], embedding.position.embed(torch.zeros(1, 3, 8), 0)[0, 1])


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (RDrop, {"alpha": -1.0}, "alpha must be at least 0 and finite, not -1.0"),
        (SimCut, {"alpha": 1.0, "p_cut": 0.0}, "p_cut must be above 0 and below 1, not 0.0"),
        (Cutoff, {"alpha": 1.0, "beta": math.inf, "p_cut": 0.1}, "beta must be at least 0 and finite, not inf"),
    ],
)
def test_what_makes_no_sense_is_refused(toy, kind, arguments, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        kind(toy.model(), 0.1, True, None, **arguments)


@pytest.mark.skipif(not arithmetic.available(), reason="this torch has no oneDNN")
def test_by_onednn_they_are_what_they_are_by_torch(monkeypatch, computed_by):
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn(n, 24, generator=generator).requires_grad_() for n in (300, 300, 101)]
    target, results = torch.randint(0, 101, (300,), generator=generator), []
    monkeypatch.setattr(module, "_CPU_LOGITS", 128 * 101)
    for engine in ("torch", "onednn"):
        computed_by(engine)
        sums = chunked_two_views(*inputs, target, Pairing(jensen_shannon, 1.5, (0.3, 0.7), 0.1, None))
        results.append((sums, *torch.autograd.grad(sums[0], inputs)))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
