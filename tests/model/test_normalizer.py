import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.normalizer import Hard, Soft

INF = float("inf")


@st.composite
def scores(draw):
    """Scores (rows, key_len) with ties, any of them hidden, often a whole row."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    steps = torch.randint(-3, 4, shape, generator=generator) * draw(st.sampled_from([0.5, 30.0]))
    return steps.masked_fill(torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.3, 0.8])), -INF)


@settings(max_examples=50, deadline=None)
@given(scores())
def test_soft_is_the_softmax_and_zero_where_all_is_hidden(scores):
    weights = Soft()(scores)
    for row, weight in zip(scores, weights, strict=True):
        e = row.double().exp()
        expected = e / e.sum() if e.any() else e
        torch.testing.assert_close(weight.double(), expected, atol=1e-6, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(scores())
def test_hard_puts_all_weight_on_the_first_best_key(scores):
    for needs_gradient in (False, True):
        weights = Hard()(scores.clone().requires_grad_(needs_gradient))
        for row, weight in zip(scores.tolist(), weights.tolist(), strict=True):
            best = row.index(max(row))
            assert weight == [float(j == best and row[j] > -INF) for j in range(len(row))]


@settings(max_examples=50, deadline=None)
@given(scores())
def test_hard_passes_the_gradient_of_soft(scores):
    direction = torch.arange(scores.numel(), dtype=torch.float).view_as(scores)
    gradients = []
    for kind in (Soft, Hard):
        leaf = scores.clone().requires_grad_()
        (kind()(leaf) * direction).sum().backward()
        assert torch.isfinite(leaf.grad).all()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("kind", [Soft, Hard])
def test_a_hidden_row_has_no_gradient(kind):
    leaf = torch.tensor([[-INF, -INF, -INF], [1.0, -INF, 2.0]], requires_grad=True)
    (kind()(leaf) * torch.tensor([1.0, 2.0, 5.0])).sum().backward()
    assert leaf.grad[0].tolist() == [0.0, 0.0, 0.0]
    assert leaf.grad[1, 1] == 0.0
    assert leaf.grad[1, 2] > 0.0
