import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.model.position.rotary import Rotary, rotation_angles

MAX_LEN = 60


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 30), st.sampled_from([(12, 2), (12, 3), (8, 1)]))
def test_the_product_of_query_and_key_depends_on_their_distance_alone(query, key, shift, sizes):
    d_model, n_heads = sizes
    rotary = Rotary(d_model, n_heads, MAX_LEN)
    q, k = torch.randn(2, n_heads, 1, d_model // n_heads), torch.randn(2, n_heads, 1, d_model // n_heads)
    here = rotary.rotate(q, query) @ rotary.rotate(k, key).mT
    there = rotary.rotate(q, query + shift) @ rotary.rotate(k, key + shift).mT
    torch.testing.assert_close(here, there, atol=1e-4, rtol=1e-4)


def test_the_product_differs_from_distance_to_distance():
    rotary = Rotary(12, 3, MAX_LEN)
    q, k = torch.randn(1, 3, 1, 4), torch.randn(1, 3, 1, 4)
    products = [float((rotary.rotate(q, 5) @ rotary.rotate(k, key).mT)[0, 0]) for key in range(10)]
    assert len({round(p, 4) for p in products}) == 10


def test_each_pair_is_turned_by_its_angle():
    rotary, x = Rotary(d_model=12, n_heads=2, max_len=MAX_LEN), torch.randn(1, 2, 5, 6)
    turned = rotary.rotate(x, offset=7)
    assert turned.shape == x.shape
    for place in range(5):
        for pair in range(3):
            angle = (7 + place) / 10000 ** (2 * pair / 6)
            first, second = x[0, 1, place, pair], x[0, 1, place, pair + 3]
            expected = [
                float(first * math.cos(angle) - second * math.sin(angle)),
                float(first * math.sin(angle) + second * math.cos(angle)),
            ]
            assert turned[0, 1, place, pair::3].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_turn_keeps_the_length():
    x = torch.randn(3, 2, 5, 6)
    torch.testing.assert_close(Rotary(12, 2, MAX_LEN).rotate(x, 9).norm(dim=-1), x.norm(dim=-1))


def test_angles():
    assert rotation_angles(4, 6).shape == (4, 3)
    assert rotation_angles(4, 6)[3].tolist() == pytest.approx([3, 3 / 10000 ** (1 / 3), 3 / 10000 ** (2 / 3)])


def test_an_odd_head_width_is_refused():
    with pytest.raises(ValueError, match="even head width, but d_model / n_heads is 3"):
        Rotary(12, 4, MAX_LEN)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 7), st.sampled_from([2, 6, 32]), st.booleans())
def test_gradients_are_those_that_torch_would_record(batch, n_heads, length, d_head, by_row):
    rotary = Rotary(n_heads * d_head, n_heads, MAX_LEN)
    offset = torch.randint(0, 9, (batch,)) if by_row else 3
    projected = torch.randn(batch, length, 3, n_heads, d_head, requires_grad=True)  # as merged projections lie
    direction = torch.randn(batch, n_heads, length, d_head)
    places = (offset[:, None] if by_row else offset) + torch.arange(length)
    cos, sin = ((table[places][:, None] if by_row else table[places]) for table in (rotary.cos, rotary.sin))
    x = projected[:, :, 1].transpose(1, 2)
    first, second = x.chunk(2, dim=-1)
    recorded = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    found = rotary.rotate(x, offset)
    torch.testing.assert_close(found, recorded)
    torch.testing.assert_close(
        *(torch.autograd.grad((out * direction).sum(), projected, retain_graph=True)[0] for out in (found, recorded))
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_numbers_keep_their_type_and_are_rounded_once(dtype):
    rotary, x = Rotary(12, 2, MAX_LEN), torch.randn(3, 2, 5, 6).to(dtype).requires_grad_()
    turned, exact = rotary.rotate(x, 4), rotary.rotate(x.detach().double(), 4)
    assert turned.dtype == dtype
    torch.testing.assert_close(turned.double(), exact, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    assert torch.autograd.grad(turned.sum(), x)[0].dtype == dtype
