import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.score import Additive, Bilinear, Dot, ScaledDot

BATCH, N_HEADS, QUERY_LEN, KEY_LEN, D_HEAD = 2, 3, 4, 5, 6


def definition(score, q, k, head):
    """The formula of a score, for one query and one key, both (d_head,)."""
    if isinstance(score, Dot):
        return q @ k
    if isinstance(score, ScaledDot):
        return q @ k / math.sqrt(D_HEAD)
    if isinstance(score, Bilinear):
        return q @ score.weight[head] @ k
    return score.vector[head] @ torch.tanh(q @ score.query_weight[head] + k @ score.key_weight[head])


@pytest.mark.parametrize("kind", [Dot, ScaledDot, Bilinear, Additive])
@torch.no_grad()
def test_scores_are_the_formula_for_every_query_and_key(kind):
    score = kind(n_heads=N_HEADS, d_head=D_HEAD)
    for parameter in score.parameters():
        parameter.add_(torch.randn_like(parameter))
    q, k = torch.randn(BATCH, N_HEADS, QUERY_LEN, D_HEAD), torch.randn(BATCH, N_HEADS, KEY_LEN, D_HEAD)
    scores = score(q, k)
    assert scores.shape == (BATCH, N_HEADS, QUERY_LEN, KEY_LEN)
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist():
        assert float(scores[b, h, i, j]) == pytest.approx(float(definition(score, q[b, h, i], k[b, h, j], h)), abs=1e-5)


def test_bilinear_starts_as_scaled_dot():
    q, k = torch.randn(BATCH, N_HEADS, QUERY_LEN, D_HEAD), torch.randn(BATCH, N_HEADS, KEY_LEN, D_HEAD)
    torch.testing.assert_close(Bilinear(N_HEADS, D_HEAD)(q, k), ScaledDot(N_HEADS, D_HEAD)(q, k))


@pytest.mark.parametrize("kind", [Bilinear, Additive])
def test_every_parameter_of_a_score_is_learned(kind):
    score = kind(N_HEADS, D_HEAD)
    q, k = torch.randn(BATCH, N_HEADS, QUERY_LEN, D_HEAD), torch.randn(BATCH, N_HEADS, KEY_LEN, D_HEAD)
    score(q, k).square().sum().backward()
    for parameter in score.parameters():
        assert parameter.size(0) == N_HEADS
        assert (parameter.grad.flatten(1).abs().amax(dim=1) > 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 64))
def test_additive_starts_within_its_bound(n_heads, d_head):
    score = Additive(n_heads, d_head)
    assert all(float(p.detach().abs().max()) <= math.sqrt(3 / d_head) for p in score.parameters())
