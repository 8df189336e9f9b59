import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.model import dropout as module
from transformer.model.dropout import Dropout, dropout, keep_mask

RATES = [0.001, 0.1, 0.3, 0.5, 0.9]


class AllLevels:
    """In place of torch, hands out every 16-bit number once."""

    int64, int16, uint8, default_generator = torch.int64, torch.int16, torch.uint8, torch.default_generator
    ge = torch.ge

    @staticmethod
    def empty(n, dtype):
        if dtype == torch.uint8:
            return torch.empty(n, dtype=dtype)
        assert (n, dtype) == (1 << 14, torch.int64)
        return AllLevels

    @staticmethod
    def random_(low, high, generator):
        assert (low, high, generator) == (-(1 << 63), None, torch.default_generator)
        return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(torch.int64)


@pytest.mark.parametrize("p", [1 / 65536, 1 / 3, 0.1, 0.3, 0.5, 0.7, 65535 / 65536])
def test_the_probability_is_exact_to_a_65536th(monkeypatch, p):
    monkeypatch.setattr(module, "torch", AllLevels)
    n_dropped = (1 << 16) - int(keep_mask(1 << 16, p).sum())
    assert n_dropped == round(p * (1 << 16))


@pytest.mark.parametrize("p", RATES)
def test_each_of_the_four_decisions_of_a_draw_has_the_probability(p):
    n = 1 << 18
    kept = keep_mask(4 * n, p).view(n, 4).double()
    assert (kept.mean(dim=0) - (1 - p)).abs().max() < 5 * math.sqrt(p * (1 - p) / n)


def test_the_four_decisions_of_a_draw_are_independent():
    n = 1 << 18
    kept = keep_mask(4 * n, 0.5).view(n, 4).double()
    assert (torch.corrcoef(kept.T) - torch.eye(4)).abs().max() < 5 / math.sqrt(n)


@pytest.mark.parametrize("p", RATES)
def test_mean_and_variance_are_those_of_dropout(p):
    n = 1 << 19
    y = dropout(torch.full((n,), 2.0), p, bulk=True).double()
    # y = 2 / (1 - p) with probability 1 - p, else 0.
    variance = 4 * p / (1 - p)
    assert abs(float(y.mean()) - 2.0) < 5 * math.sqrt(variance / n)
    assert float(y.var()) == pytest.approx(variance, rel=0.06)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.sampled_from(RATES))
def test_each_element_is_dropped_or_scaled(n, p):
    x = torch.randn(n)
    y = dropout(x, p, bulk=True)
    scaled = torch.isclose(y, x / (1 - p), rtol=1e-4)
    assert (scaled | (y == 0)).all()
    assert y.shape == x.shape


def test_the_expectation_is_kept_where_the_rate_is_rounded():
    p = 0.7 / 65536  # rounds to 1/65536
    y = dropout(torch.ones(1 << 12), p, bulk=True)
    assert float(y.max()) == pytest.approx(65536 / 65535, abs=1e-7)


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("p", [1e-9, 0.999999, 1 - 1e-12])
def test_rates_at_the_ends(p, bulk):
    y = dropout(torch.ones(1000), p, bulk)
    assert torch.isfinite(y).all()
    assert int((y != 0).sum()) == (1000 if p < 0.5 else 0)


@pytest.mark.parametrize("shape", [(3, 5, 7), (0, 1, 4), (1,)])
def test_backward_uses_the_mask_of_forward(shape):
    x = torch.randn(shape, requires_grad=True)
    y = dropout(x, 0.4, bulk=True)
    direction = torch.randn(shape)
    (y * direction).sum().backward()
    torch.testing.assert_close(x.grad * x, y * direction)
    torch.testing.assert_close(x.grad == 0, y == 0)


def test_a_transposed_input():
    x = torch.randn(4, 6, requires_grad=True)
    y = dropout(x.T, 0.5, bulk=True)
    y.sum().backward()
    torch.testing.assert_close(x.grad.T * x.T, y)


def test_bfloat16_stays_bfloat16():
    assert dropout(torch.ones(9, dtype=torch.bfloat16), 0.5, bulk=True).dtype == torch.bfloat16


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_the_state_of_torchs_generator_reproduces_it(seed, n):
    torch.manual_seed(seed)
    dropout(torch.ones(n), 0.3, bulk=True)
    state = torch.get_rng_state()
    first = dropout(torch.ones(200), 0.3, bulk=True)
    second = dropout(torch.ones(200), 0.3, bulk=True)
    torch.set_rng_state(state)
    assert torch.equal(dropout(torch.ones(200), 0.3, bulk=True), first)
    assert torch.equal(dropout(torch.ones(200), 0.3, bulk=True), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("bulk", [True, False])
def test_the_module_drops_in_training_only(bulk):
    layer = Dropout(0.5)
    layer.bulk = bulk
    x = torch.randn(100)
    assert 0 < int((layer.train()(x) == 0).sum()) < 100
    assert layer.eval()(x) is x


def test_without_bulk_it_is_torchs_own_dropout():
    x = torch.randn(100)
    torch.manual_seed(1)
    ours = dropout(x, 0.3, bulk=False)
    torch.manual_seed(1)
    assert torch.equal(ours, nn.functional.dropout(x, 0.3))


def test_nothing_is_drawn_for_a_rate_of_zero():
    state = torch.get_rng_state()
    x = torch.randn(5)
    torch.set_rng_state(state)
    assert dropout(x, 0.0, bulk=True) is x
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_an_impossible_rate_is_refused(p):
    with pytest.raises(ValueError, match="at least 0 and below 1, not"):
        Dropout(p)
