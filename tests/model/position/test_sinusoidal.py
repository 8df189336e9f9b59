import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.position.sinusoidal import Sinusoidal, sinusoids


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 511), st.integers(2, 70), st.data())
def test_entries_are_the_papers_formula(position, d_model, data):
    column = data.draw(st.integers(0, d_model - 1))
    angle = position / 10000 ** (2 * (column // 2) / d_model)
    expected = math.cos(angle) if column % 2 else math.sin(angle)
    assert float(sinusoids(512, d_model)[position, column]) == pytest.approx(expected, abs=1e-6)


def test_position_0_is_sines_of_0_and_cosines_of_0():
    assert sinusoids(3, 6)[0].tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]


def test_the_table_is_neither_learned_nor_saved():
    position = Sinusoidal(6, 2, 9)
    assert list(position.parameters()) == []
    assert position.state_dict() == {}
    assert position.table.shape == (9, 6)


def test_it_is_added_from_the_offset_on():
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(Sinusoidal(6, 2, 9).embed(x, offset=4), x + sinusoids(9, 6)[4:7])
