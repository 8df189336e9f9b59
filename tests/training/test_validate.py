import math

import pytest
import torch

from transformer.data.batching import Sorted
from transformer.data.loader import BatchLoader
from transformer.training.distributed import World
from transformer.training.loss import Objective
from transformer.training.precision import Precision
from transformer.training.state import random_state
from transformer.training.validate import perplexity, validate

WORLD = World("cpu")
FP32 = Precision("fp32", WORLD.device)


@pytest.fixture
def objective(toy):
    torch.manual_seed(0)
    return Objective(toy.model(dropout=0.4), label_smoothing=0.3, chunked=True)


def loader(toy, max_tokens):
    return BatchLoader(toy.store(29, seed=4), Sorted(max_tokens), 0, 0, 1, None)


def test_it_is_the_sum_over_pairs_one_by_one(objective, toy):
    found = validate(objective, loader(toy, 50), WORLD, FP32)
    nll = right = n_tokens = 0.0
    model = objective.model.eval()
    for batch in loader(toy, 2):  # every pair is over this budget and comes alone
        assert batch.src.size(0) == 1
        log_p = model(batch.src, batch.tgt_in, batch.src_key_padding_mask)[0].detach().double().log_softmax(dim=-1)
        nll -= float(log_p.gather(1, batch.tgt_out[0][:, None]).sum())
        right += int((log_p.argmax(dim=-1) == batch.tgt_out[0]).sum())
        n_tokens += batch.tgt_out.size(1)
    assert (
        found.n_tgt_tokens
        == n_tokens
        == sum(len(tgt) + 1 for _, tgt in map(toy.store(29, seed=4).__getitem__, range(29)))
    )
    assert found.loss == pytest.approx(nll / n_tokens, rel=1e-5)
    assert found.accuracy == pytest.approx(100 * right / n_tokens)
    assert found.perplexity == pytest.approx(math.exp(found.loss))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back_and_nothing_is_drawn_or_learned(objective, toy, training):
    objective.train(training)
    before, modes = random_state(), [m.training for m in objective.modules()]
    first = validate(objective, loader(toy, 50), WORLD, FP32)
    assert [m.training for m in objective.modules()] == modes
    after = random_state()
    assert torch.equal(after["torch"], before["torch"])
    assert after["python"] == before["python"]
    assert torch.equal(after["numpy"][1], before["numpy"][1])
    assert all(p.grad is None for p in objective.parameters())
    assert validate(objective, loader(toy, 50), WORLD, FP32) == first


def test_the_same_loader_can_be_gone_through_again(objective, toy):
    batches = loader(toy, 50)
    assert validate(objective, batches, WORLD, FP32) == validate(objective, batches, WORLD, FP32)


def test_bfloat16_comes_close(objective, toy):
    exact = validate(objective, loader(toy, 50), WORLD, FP32)
    rounded = validate(objective, loader(toy, 50), WORLD, Precision("bf16", WORLD.device))
    assert rounded.loss == pytest.approx(exact.loss, rel=0.02)
    assert rounded != exact


def test_perplexity_does_not_overflow():
    assert perplexity(0.0) == 1.0
    assert perplexity(1e6) == math.inf
    assert perplexity(math.inf) == math.inf
    assert math.isnan(perplexity(math.nan))
