"""Minimum risk training: the formula, what goes down, what counts once, and the same bits from the same seed."""

import copy
import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.batch import collate
from transformer.model import arithmetic
from transformer.model.dropout import drawing_from
from transformer.special import BOS, EOS, PAD, UNK
from transformer.training import risk as module
from transformer.training.checkpoint import newest_intact
from transformer.training.distributed import World
from transformer.training.divided import parts
from transformer.training.loss import Objective
from transformer.training.precision import Precision
from transformer.training.risk import Candidates, MinimumRisk, arranged, chunked_log_probs, plain_log_probs, risk
from transformer.training.signals import Interrupted
from transformer.training.supply import Supplies
from transformer.training.update import Updater

PLAIN = Candidates(n_samples=3, temperature=1.0, with_reference=True, max_len_ratio=1.0, max_len_offset=3)


def hamming(candidates, references):
    """The share of positions that differ, EOS counted."""
    return [
        [_apart([*ids, EOS], [*wanted, EOS]) for ids in rows]
        for rows, wanted in zip(candidates, references, strict=True)
    ]


def _apart(one, other):
    return sum(a != b for a, b in itertools.zip_longest(one, other)) / max(len(one), len(other))


def scripted(found):
    """Supplies whose draws are given: by the first source token of a sentence."""

    def draw(model, src, src_key_padding_mask, max_lengths, seed):
        return [found[line[0]] for line in src.tolist()]

    return Supplies(lambda n_samples, temperature: draw, {"hamming": hamming})


def drawn():
    """Supplies that draw from the model."""
    from transformer.build.supply import supplies  # here, because the processes below need none of it

    return Supplies(supplies(None).sampler, {"hamming": hamming})


def made(model, supplied, candidates=PLAIN, alpha=0.4, share=0.7, chunked=True, prior=None):
    objective = MinimumRisk(model, 0.1, chunked, prior, candidates, "hamming", alpha, share)
    objective.supply(supplied)
    return objective.train()


# Source ids; reference; draws, with a duplicate, the reference, and an empty one among them.
SENTENCES = [
    ([5, 6, 7], [8, 9, 10, 11], [[8, 9], [8, 9], [4]]),
    ([6, 5], [12], [[12], [], [4, 4, 4, 4, 4, 4]]),
    ([7], [4, 5], [[4, 6], [4, 6], [4, 6]]),
]
GIVEN = scripted({src[0]: found for src, _, found in SENTENCES})


def batch(sentences=SENTENCES):
    pairs = [(np.array(src), np.array(tgt)) for src, tgt, _ in sentences]
    return collate(pairs, np.arange(len(pairs)))


def inputs(of):
    return of.src, of.src_key_padding_mask, of.tgt_in, of.tgt_out


def log_p(model, source, ids):
    """The distributions from which the tokens of a translation come, (len(ids) + 1, vocab_size)."""
    return model(source, torch.tensor([[BOS, *ids]]), source == PAD)[0].log_softmax(dim=1)


def by_the_book(model, sentences, with_reference, alpha, share, smoothing, prior):
    """The loss, one sentence and one candidate at a time, from whole distributions, in the precision of the model."""
    total = 0.0
    for src, reference, samples in sentences:
        source = torch.tensor([[*src, EOS]])
        of_reference = log_p(model, source, reference)
        at = torch.tensor([*reference, EOS])
        uniform = torch.full((logits_size := of_reference.size(1),), 1.0 / logits_size).double()
        q = (1 - smoothing) * F.one_hot(at, logits_size) + smoothing * (uniform if prior is None else prior.double())
        cross_entropy = -(q * of_reference).sum()
        ys = {tuple(y) for y in ([*samples, reference] if with_reference else samples)}
        found = [log_p(model, source, y)[range(len(y) + 1), [*y, EOS]].sum() for y in sorted(ys)]
        weights = torch.stack([(alpha * one).exp() for one in found])
        costs = torch.tensor([_apart([*y, EOS], [*reference, EOS]) for y in sorted(ys)]).double()
        expected = (weights * costs).sum() / weights.sum()
        total = total + (1 - share) * cross_entropy + share * (len(reference) + 1) * expected
    return total


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_value_and_gradient_are_the_formula(toy, chunked, with_reference, share):
    model = toy.model(dropout=0.0)
    prior = torch.arange(toy.vocab_size) / sum(range(toy.vocab_size)) if share < 1 else None
    objective = made(model, GIVEN, replace(PLAIN, with_reference=with_reference), 0.4, share, chunked, prior)
    sums = objective(*inputs(batch()))
    found, sums = torch.autograd.grad(sums[0], list(model.parameters())), sums.detach()
    exact = copy.deepcopy(model).double()
    wanted = by_the_book(exact, SENTENCES, with_reference, 0.4, share, 0.1, prior)
    assert float(sums[0]) == pytest.approx(float(wanted.detach()), rel=1e-5)
    for one, other in zip(found, torch.autograd.grad(wanted, list(exact.parameters())), strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(sums[1:], Objective(model, 0.1, True)(*inputs(batch()))[1:])


def test_what_a_pair_adds_does_not_depend_on_the_batch(toy):
    """So accumulated, divided among processes or halved when memory runs out, an update is the same."""
    model = toy.model(dropout=0.0)
    for supplied in (GIVEN, drawn()):
        objective = made(model, supplied)
        whole, *single = [batch(), *parts(batch(), 3)]
        found = []
        for pieces in ([whole], single):
            sums = torch.zeros(3)
            for piece in pieces:
                with drawing_from(torch.Generator().manual_seed(4)):  # a draw depends on the seed and the source
                    sums = sums + objective(*inputs(piece))
            found.append((sums, *torch.autograd.grad(sums[0], list(model.parameters()))))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


# What each of two processes does; the second has two pairs, then none.
WORKER = """
import runpy, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
toy, risk = runpy.run_path(sys.argv[1]), runpy.run_path(str(Path(sys.argv[1]).with_name("test_risk.py")))
from transformer.training.distributed import World

world, sentences = World("cpu"), risk["SENTENCES"]
batches = (sentences[:1], sentences[:1]) if world.is_main else (sentences[1:], [])
torch.save(risk["updated"](toy["make_model"], world, batches), f"{sys.argv[2]}/{world.rank}.pt")
world.close()
"""

ONEDNN = pytest.mark.skipif(not arithmetic.available(), reason="this torch has no oneDNN")


def updated(make_model, world, batches):
    """Losses and weights of a model that always begins alike."""
    torch.manual_seed(3)
    objective = made(make_model(), GIVEN)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
    update = Updater(objective, optimizer, world, Precision("fp32", world.device), 1.0)
    losses = [update([batch(sentences)], 1.0).loss for sentences in batches]
    return losses, [p.detach() for p in objective.parameters()]


def test_two_processes_do_what_one_does(toy, tmp_path):
    toy.two_processes(WORKER, tmp_path)
    alone = updated(toy.model, World("cpu"), (SENTENCES, SENTENCES[:1]))
    for rank in range(2):
        losses, weights = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert losses == pytest.approx(alone[0], rel=1e-5)
        for one, other in zip(weights, alone[1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_duplicates_are_one_candidate():
    rows = arranged([[5, 6], [7]], [[[5], [5, 6], [5]], [[8], [8], []]], with_reference=True)
    assert rows.ids == [[5, 6], [7], [5], [8], []]
    assert rows.sentences == [0, 1, 0, 1, 1]
    assert rows.candidates == [[0, 2], [1, 3, 4]]
    without = arranged([[5, 6], [7]], [[[5], [5, 6], [5]], [[8], [8], []]], with_reference=False)
    assert (without.ids, without.candidates) == (rows.ids, [[2, 0], [3, 4]])


def test_a_duplicate_changes_nothing(toy):
    model = toy.model(dropout=0.0)
    twice = scripted({src[0]: found + found[::-1] for src, _, found in SENTENCES})
    one, other = (made(model, supplied)(*inputs(batch())) for supplied in (GIVEN, twice))
    assert torch.equal(one, other)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32), st.sampled_from([0.01, 1.0, 30.0]))
def test_risk_lies_between_the_least_and_the_greatest_cost(n, seed, alpha):
    generator = torch.Generator().manual_seed(seed)
    log_probs, costs = -50 * torch.rand(4, n, generator=generator), torch.rand(4, n, generator=generator)
    log_probs[0, 1:] = -math.inf  # one candidate alone
    found = risk(log_probs, costs, alpha)
    assert float(found[0]) == pytest.approx(float(costs[0, 0]))
    assert ((found >= costs.amin(1) - 1e-5) & (found <= costs.amax(1) + 1e-5)).all()


@pytest.mark.parametrize("n", [0, 1, 150])
@pytest.mark.parametrize("vocab_size", [11, 101])
@pytest.mark.parametrize("engine", ["torch", pytest.param("onednn", marks=ONEDNN)])
def test_log_probs_in_chunks_are_those_of_whole_tensors(monkeypatch, computed_by, n, vocab_size, engine):
    monkeypatch.setattr(module, "_CPU_LOGITS", 1)  # chunks of 64 rows, the least
    computed_by(engine)
    generator = torch.Generator().manual_seed(n)
    hidden, weight = (torch.randn(*shape, generator=generator).requires_grad_() for shape in ((n, 6), (vocab_size, 6)))
    target, upstream = torch.randint(0, vocab_size, (n,), generator=generator), torch.randn(n, generator=generator)
    results = []
    for log_probs in (chunked_log_probs, plain_log_probs):
        found = log_probs(hidden, weight, target)
        results.append((found, *torch.autograd.grad((upstream * found).sum(), (hidden, weight))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_the_expected_cost_goes_down(toy):
    """Computed exactly, over all translations that can be drawn: up to two of UNK and two tokens, then EOS."""
    torch.manual_seed(2)
    model = toy.model(dropout=0.0, vocab_size=6)
    data = batch([([4, 5], [5, 4], []), ([5, 4], [4], []), ([4], [4, 4], [])])
    every = [list(y) for n in range(3) for y in itertools.product((UNK, 4, 5), repeat=n)]

    @torch.no_grad()
    def expected():
        total = 0.0
        for src, mask, tgt_out in zip(data.src, data.src_key_padding_mask, data.tgt_out.tolist(), strict=True):
            probabilities = torch.zeros(len(every))
            for place, ids in enumerate(every):
                logits = model(src[None], torch.tensor([[BOS, *ids]]), mask[None])[0]
                logits[:, [PAD, BOS]] = -math.inf
                log_p = logits.log_softmax(1)[range(len(ids) + 1), [*ids, EOS]]
                probabilities[place] = log_p[:2].sum().exp()  # the third token can only be EOS
            assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
            reference = [i for i in tgt_out if i not in (EOS, PAD)]
            total += float(probabilities @ torch.tensor(hamming([every], [reference])[0]))
        return total / 3

    candidates = Candidates(6, 1.0, with_reference=False, max_len_ratio=0.0, max_len_offset=3)
    objective = made(model, drawn(), candidates, alpha=0.5, share=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = expected()
    for _ in range(40):
        objective(*inputs(data))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert before > 0.6
    assert expected() < 0.4


def test_candidates_are_drawn_without_dropout_and_gradients(toy):
    seen = []

    def draw(model, src, src_key_padding_mask, max_lengths, seed):
        seen.append((torch.is_grad_enabled(), any(part.training for part in model.modules()), max_lengths.tolist()))
        return [found for _, _, found in SENTENCES]

    objective = made(toy.model(dropout=0.5), Supplies(lambda n, t: draw, {"hamming": hamming}))
    objective(*inputs(batch()))
    assert seen == [(False, False, [6, 5, 4])]
    assert all(part.training for part in objective.model.modules())


def test_it_draws_with_the_weights_that_are_trained(toy):
    objective = made(toy.model(dropout=0.5), drawn())
    plain = Objective(toy.model(dropout=0.5), 0.1, True)
    assert objective.state_dict().keys() == plain.state_dict().keys()
    assert len(list(objective.parameters())) == len(list(plain.parameters()))
    objective.model.load_state_dict(plain.model.state_dict())
    (calm,) = objective._calm
    for one, other in zip(calm.parameters(), objective.parameters(), strict=True):
        assert one is other


def test_it_is_validated_by_the_plain_loss(toy):
    model = toy.model(dropout=0.4)
    objective = made(model, GIVEN).eval()
    assert torch.equal(objective(*inputs(batch())), Objective(model, 0.1, True).eval()(*inputs(batch())))


def test_a_batch_of_none_is_zero(toy):
    objective = made(toy.model(), drawn())
    sums = objective(*inputs(batch([])))
    sums[0].backward()
    assert sums.tolist() == [0.0, 0.0, 0.0]


def updater(toy, n_workers, precision="fp32"):
    torch.manual_seed(3)
    objective = made(toy.model(0.3), drawn(), share=0.9)
    objective.model.use_fast_paths(fused_attention=False, bulk_dropout=True)
    world = World("cpu", n_workers)
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.5)
    return Updater(objective, optimizer, world, Precision(precision, world.device), 1.0)


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_the_same_seed_gives_the_same_bits_and_another_state_others(toy, n_workers):
    found = []
    store = toy.store(40, seed=2)
    data = collate([store[i] for i in range(11)], np.arange(11))
    for n_draws in (0, 0, 1):
        update = updater(toy, n_workers)
        assert (update.divided is None) == (n_workers == 1)
        torch.rand(n_draws)
        losses = [update([data], 1.0).loss for _ in range(4)]
        found.append((losses, torch.cat([p.detach().flatten() for p in update.parameters])))
    assert found[0][0] == found[1][0] != found[2][0]
    assert torch.equal(found[0][1], found[1][1])


def test_stopped_and_resumed_is_never_stopped(toy, tmp_path):
    def trainer(folder, **choices):
        plain = toy.trainer(folder, dropout=0.3, accumulate=2, every=1, max_epochs=1, **choices)
        return replace(plain, objective=made(plain.objective.model, drawn()))

    straight = trainer(tmp_path / "straight")
    straight.fit("run", {})
    with pytest.raises(Interrupted):
        trainer(tmp_path / "cut", observers=[toy.Recorder(stop_after=3)]).fit("run", {})
    resumed = trainer(tmp_path / "cut", seed=99)
    folder, _ = newest_intact(tmp_path / "cut")
    resumed.load(folder)
    resumed.fit("run", {})
    one, other = toy.tensors(straight), toy.tensors(resumed)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_bfloat16_trains_every_weight(toy):
    """Drawing must not leave rounded weights without gradients behind in autocast's cache."""
    model = toy.model(dropout=0.0)
    gradients = []
    for precision in ("fp32", "bf16"):
        with drawing_from(torch.Generator().manual_seed(1)), Precision(precision, torch.device("cpu")).autocast():
            sums = made(model, drawn())(*inputs(batch()))
        assert sums.dtype == torch.float32
        gradients.append(torch.autograd.grad(sums[0], list(model.parameters())))
    exact, rounded = (torch.cat([gradient.flatten() for gradient in found]) for found in gradients)
    assert (rounded - exact).norm() < 0.05 * exact.norm()
    assert all(gradient.abs().sum() > 0 for gradient in gradients[1])
    assert math.isfinite(updater(toy, 1, "bf16")([batch()], 1.0).loss)
    assert math.isfinite(updater(toy, 2, "bf16")([batch()], 1.0).loss)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"n_samples": 0}, "n_samples must be at least 1 with with_reference=true, not 0"),
        ({"n_samples": 1, "with_reference": False}, "n_samples must be at least 2 with with_reference=false, not 1"),
        ({"temperature": 0.0}, "temperature must be above 0 and finite, not 0.0"),
        ({"max_len_ratio": math.nan}, "max_len_ratio must be at least 0 and finite, not nan"),
        ({"max_len_offset": 0}, "max_len_offset must be at least 1, not 0"),
    ],
)
def test_candidates_that_make_no_sense_are_refused(changed, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        replace(PLAIN, **changed)


def test_numbers_that_make_no_sense_are_refused(toy):
    for alpha, share, told in (
        (0.0, 0.5, "alpha must be above 0"),
        (0.1, 0.0, "share must be above 0"),
        (1, 1.5, "1.5"),
    ):
        with pytest.raises(ValueError, match=told):
            made(toy.model(), GIVEN, alpha=alpha, share=share)
    with pytest.raises(ValueError, match=re.escape("cost must be one of hamming, not ter")):
        MinimumRisk(toy.model(), 0.1, True, None, PLAIN, "ter", 0.1, 0.5).supply(GIVEN)


def test_the_length_of_a_draw_is_bounded_by_the_source_and_the_model():
    padding = torch.arange(6) > torch.tensor([[1], [3], [5]])
    lengths = Candidates(2, 1.0, True, max_len_ratio=1.5, max_len_offset=2).max_lengths(padding, max_len=8)
    assert lengths.tolist() == [3, 6, 8]
