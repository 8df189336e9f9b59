import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.position.relative import Relative, distances

CPU = torch.device("cpu")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_distances_are_key_less_query(query_len, key_len, offset):
    expected = [[key - (offset + query) for key in range(key_len)] for query in range(query_len)]
    assert distances(query_len, key_len, offset, CPU).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 80))
def test_the_bias_is_a_learned_number_for_head_and_clipped_distance(query_len, key_len, offset):
    position = Relative(d_model=6, n_heads=2, max_len=200)
    with torch.no_grad():
        position.table.copy_(torch.randn(2, 65))
    bias = position.bias(query_len, key_len, CPU, offset)
    assert bias.shape == (2, query_len, key_len)
    query, key = query_len - 1, key_len // 2
    clipped = max(-32, min(32, key - (offset + query)))
    assert torch.equal(bias[:, query, key], position.table[:, clipped + 32])


def test_it_starts_without_an_opinion_and_learns():
    position = Relative(6, 2, 200)
    bias = position.bias(3, 4, CPU)
    assert not bias.any()
    bias.sum().backward()
    # distances -2 .. 3, as often as they occur in 3 x 4
    assert position.table.grad[0, 30:36].tolist() == [1.0, 2.0, 3.0, 3.0, 2.0, 1.0]
