import math

import pytest
import torch

from transformer.model.embedding import Embedding, token_table
from transformer.model.position.base import Position
from transformer.model.position.sinusoidal import Sinusoidal, sinusoids
from transformer.special import PAD


def test_tokens_are_scaled_and_positions_added():
    table = token_table(11, 6)
    embedding = Embedding(table, Sinusoidal(6, 2, 20), dropout=0.0)
    ids = torch.tensor([[4, 5, 6], [7, 8, PAD]])
    expected = table.weight[ids] * math.sqrt(6) + sinusoids(20, 6)[9:12]
    torch.testing.assert_close(embedding(ids, offset=9), expected)


def test_tokens_and_positions_have_the_same_size_at_the_start():
    x = token_table(5000, 64).weight.detach() * 8.0
    assert float(x.std()) == pytest.approx(1.0, abs=0.02)
    assert float(sinusoids(512, 64).square().mean()) == pytest.approx(0.5, abs=0.01)


def test_the_sum_is_dropped_from():
    embedding = Embedding(token_table(11, 6), Position(6, 2, 20), dropout=0.5).train()
    ids = torch.randint(4, 11, (30, 40))
    dropped = embedding(ids) == 0
    assert float(dropped.float().mean()) == pytest.approx(0.5, abs=0.03)


def test_the_padding_row_is_zero_and_not_learned_as_input():
    table = token_table(11, 6)
    assert not table.weight[PAD].any()
    Embedding(table, Position(6, 2, 20), dropout=0.0)(torch.tensor([[4, PAD]])).sum().backward()
    assert not table.weight.grad[PAD].any()
    assert table.weight.grad[4].all()
