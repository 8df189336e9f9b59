from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.model import arithmetic
from transformer.model.arithmetic import FEWEST, ROWS
from transformer.model.linear import Linear

onednn = pytest.mark.skipif(not arithmetic.available(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def _torch():
    arithmetic.use("torch")
    yield
    arithmetic.use("auto")


def through(linear, x, direction, bf16=True):
    """Output and gradients of weight, bias and x."""
    with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext():
        out = linear(x)
    return out, *torch.autograd.grad((out.float() * direction).sum(), [linear.weight, linear.bias, x])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 2**32), st.sampled_from(["float32", "bfloat16"])
)
def test_under_bfloat16_it_is_torchs_but_for_rounding(shape, seed, dtype):
    torch.manual_seed(seed)
    ours = Linear(12, 20)
    theirs = nn.Linear(12, 20)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(*shape, 12).to(getattr(torch, dtype)).requires_grad_()
    direction = torch.randn(*shape, 20)
    found, wanted = through(ours, x, direction), through(theirs, x, direction)
    exact = through(theirs, x, direction, bf16=False) if dtype == "float32" else wanted
    for ours_is, theirs_is, is_exact in zip(found, wanted, exact, strict=True):
        assert ours_is.dtype == theirs_is.dtype
        assert ours_is.shape == theirs_is.shape
        assert (ours_is - is_exact).norm() <= 0.02 * is_exact.norm() + 1e-6


def test_batches_of_all_sizes_make_products_of_few_shapes(monkeypatch):
    linear, product, rows = Linear(4, 6), torch.addmm, set()

    def watched(bias, x, weight):
        rows.add(x.size(0))
        return product(bias, x, weight)

    monkeypatch.setattr(torch, "addmm", watched)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for n in range(1, 2 * ROWS + 1):
            assert linear(torch.ones(n, 4)).shape == (n, 6)
    assert rows == {ROWS, 2 * ROWS}


@pytest.mark.parametrize(("learning", "dtype"), [(True, None), (False, None), (False, torch.bfloat16)])
def test_elsewhere_it_is_torchs_to_the_bit(learning, dtype):
    """In float32 by torch, and without gradients in bfloat16 too."""
    torch.manual_seed(1)
    linear, x = Linear(4, 6), torch.randn(5, 3, 4)
    with torch.set_grad_enabled(learning), torch.autocast("cpu", dtype=dtype) if dtype else nullcontext():
        assert torch.equal(linear(x), nn.functional.linear(x, linear.weight, linear.bias))


def test_a_batch_of_none_has_gradients_of_zero():
    linear = Linear(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear(torch.ones(0, 3, 4)).sum().backward()
    assert not linear.weight.grad.any()
    assert not linear.bias.grad.any()


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(frozen):
    torch.manual_seed(1)
    linear, x = Linear(4, 6), torch.randn(5, 4, requires_grad=True)
    whole = through(linear, x, torch.ones(5, 6))
    leaves = {"weight": linear.weight, "bias": linear.bias, "x": x}
    leaves[frozen].requires_grad_(False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear(x).float().sum().backward()
    assert leaves[frozen].grad is None
    for (name, leaf), gradient in zip(leaves.items(), whole[1:], strict=True):
        assert name == frozen or torch.equal(leaf.grad, gradient)


@onednn
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_by_onednn_it_is_torchs_but_for_rounding(batch, length, n_in, n_out, seed):
    arithmetic.use("onednn")
    torch.manual_seed(seed)
    ours, theirs = Linear(n_in, n_out), nn.Linear(n_in, n_out)
    theirs.load_state_dict(ours.state_dict())
    x, direction = torch.randn(batch, length, n_in, requires_grad=True), torch.randn(batch, length, n_out)
    found, wanted = through(ours, x, direction, bf16=False), through(theirs, x, direction, bf16=False)
    for ours_is, theirs_is in zip(found, wanted, strict=True):
        assert ours_is.dtype == torch.float32
        torch.testing.assert_close(ours_is, theirs_is, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


@onednn
@pytest.mark.parametrize("learning", [True, False])
def test_onednn_sees_few_shapes_and_no_small_ones(learning, monkeypatch):
    arithmetic.use("onednn")
    linear, times, rows = Linear(4, 6), arithmetic.times, set()

    def watched(x, weight, bias=None):
        rows.add(x.size(0))
        return times(x, weight, bias)

    for module in ("linear", "arithmetic"):
        monkeypatch.setattr(f"transformer.model.{module}.times", watched)
    with torch.set_grad_enabled(learning):
        for n in range(1, FEWEST + 2 * ROWS + 1):
            assert linear(torch.ones(n, 4)).shape == (n, 6)
    assert rows == {FEWEST, FEWEST + ROWS, FEWEST + 2 * ROWS}


@onednn
def test_onednn_multiplies_few_rows_by_much_in_shapes_of_their_own(monkeypatch):
    arithmetic.use("onednn")
    torch.manual_seed(1)
    linear, times, rows = Linear(128, 1024), arithmetic.times, {}

    def watched(x, weight, bias=None):
        rows[n] = x.size(0)
        return times(x, weight, bias)

    monkeypatch.setattr("transformer.model.arithmetic.times", watched)
    with torch.no_grad():
        for n in (1, 7, 8, 9, 24, 63, 64, 65):
            x = torch.randn(n, 128)
            torch.testing.assert_close(
                linear(x), nn.functional.linear(x, linear.weight, linear.bias), rtol=1e-4, atol=1e-4
            )
    assert rows == {8: 8, 9: 16, 24: 24, 63: 64, 64: 64, 65: 96}


@onednn
@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_by_onednn_what_is_frozen_gets_no_gradient_and_changes_no_other(frozen):
    arithmetic.use("onednn")
    torch.manual_seed(1)
    linear, x = Linear(4, 6), torch.randn(70, 4, requires_grad=True)
    whole = through(linear, x, torch.ones(70, 6), bf16=False)
    leaves = {"weight": linear.weight, "bias": linear.bias, "x": x}
    leaves[frozen].requires_grad_(False)
    linear(x).sum().backward()
    assert leaves[frozen].grad is None
    for (name, leaf), gradient in zip(leaves.items(), whole[1:], strict=True):
        assert name == frozen or torch.equal(leaf.grad, gradient)


@onednn
def test_weights_by_column_are_weights():
    arithmetic.use("onednn")
    linear, x = Linear(40, 50), torch.randn(70, 40)
    with torch.no_grad():
        by_row = linear(x)
        linear.weight.data = linear.weight.data.t().contiguous().t()
        torch.testing.assert_close(linear(x), by_row, rtol=1e-5, atol=1e-5)
