import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.masks import causal, from_padding


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9))
def test_causal_lets_a_query_see_itself_and_what_stands_before(length):
    mask = causal(length)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[key <= query for key in range(length)] for query in range(length)]


def test_from_padding_turns_the_meaning_round_and_broadcasts_over_heads_and_queries():
    padding = torch.tensor([[False, False, True], [False, True, True]])
    visible = from_padding(padding)
    assert visible.shape == (2, 1, 1, 3)
    assert visible[:, 0, 0].tolist() == [[True, True, False], [True, False, False]]
