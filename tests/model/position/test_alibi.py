import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.position.alibi import Alibi

CPU = torch.device("cpu")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_the_bias_falls_with_the_distance_at_each_heads_slope(n_heads, query_len, key_len, offset):
    bias = Alibi(d_model=8 * n_heads, n_heads=n_heads, max_len=20).bias(query_len, key_len, CPU, offset)
    assert bias.shape == (n_heads, query_len, key_len)
    for head in range(n_heads):
        slope = 2 ** (-8 * (head + 1) / n_heads)
        for query in range(query_len):
            expected = [-slope * abs(key - (offset + query)) for key in range(key_len)]
            assert bias[head, query].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_papers_slopes_for_eight_heads():
    assert Alibi(64, 8, 20).slopes.tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_the_slopes_are_neither_learned_nor_saved():
    assert list(Alibi(64, 8, 20).parameters()) == []
    assert Alibi(64, 8, 20).state_dict() == {}
