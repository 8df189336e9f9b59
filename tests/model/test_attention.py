import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from transformer.model.attention import CrossAttention, Mix, SelfAttention, hide, merge_heads, split_heads
from transformer.model.masks import causal, from_padding
from transformer.model.normalizer import Hard, Soft
from transformer.model.position.base import Position
from transformer.model.position.rotary import Rotary
from transformer.model.score import Additive, Bilinear, Dot, ScaledDot

BATCH, N_HEADS, QUERY_LEN, KEY_LEN, D_HEAD, D_MODEL = 2, 3, 5, 7, 4, 12


def qkv(query_len=QUERY_LEN, key_len=KEY_LEN):
    return tuple(
        torch.randn(BATCH, N_HEADS, length, D_HEAD, requires_grad=True) for length in (query_len, key_len, key_len)
    )


def padding(length):
    """The second sentence has two positions of padding."""
    mask = torch.zeros(BATCH, length, dtype=torch.bool)
    mask[1, -2:] = True
    return mask


def self_attention(position=None):
    position = position or Position(D_MODEL, N_HEADS, 20)
    return SelfAttention(D_MODEL, N_HEADS, Mix(N_HEADS, D_HEAD, dropout=0.0), position)


def cross_attention():
    return CrossAttention(D_MODEL, N_HEADS, Mix(N_HEADS, D_HEAD, dropout=0.0))


def torchs(attention, weights, biases):
    """torch's MultiheadAttention with the same projections."""
    theirs = nn.MultiheadAttention(D_MODEL, N_HEADS, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat(weights))
        theirs.in_proj_bias.copy_(torch.cat(biases).normal_())
        theirs.out_proj.load_state_dict(attention.out.state_dict())
        for bias, part in zip(biases, theirs.in_proj_bias.split([b.numel() for b in biases]), strict=True):
            bias.copy_(part)
    return theirs


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_self_attention_is_torchs(fused, is_causal, padded):
    ours = self_attention()
    ours.mix.fused = fused
    theirs = torchs(ours, [ours.qkv.weight], [ours.qkv.bias])
    x, mask = torch.randn(BATCH, QUERY_LEN, D_MODEL), padding(QUERY_LEN) if padded else None
    hidden = ~causal(QUERY_LEN) if is_causal else None
    expected, weights = theirs(x, x, x, mask, True, hidden, average_attn_weights=False)
    if not fused:
        ours.mix.recorded = []
    found = ours(x, from_padding(mask) if padded else None, causal=is_causal)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    if not fused:
        torch.testing.assert_close(ours.mix.recorded[0], weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_cross_attention_is_torchs(fused, padded):
    ours = cross_attention()
    ours.mix.fused = fused
    theirs = torchs(ours, [ours.query.weight, ours.key_value.weight], [ours.query.bias, ours.key_value.bias])
    x, memory = torch.randn(BATCH, QUERY_LEN, D_MODEL), torch.randn(BATCH, KEY_LEN, D_MODEL)
    mask = padding(KEY_LEN) if padded else None
    expected, _ = theirs(x, memory, memory, mask)
    found = ours(x, memory, from_padding(mask) if padded else None)
    assert found.shape == (BATCH, QUERY_LEN, D_MODEL)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_worked_example(fused):
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    scores = x @ x.T / math.sqrt(2)  # [[5, 11], [11, 25]] / sqrt(2)
    by_hand = torch.tensor([[math.exp(-6 / math.sqrt(2)), 1.0], [math.exp(-14 / math.sqrt(2)), 1.0]])
    by_hand /= by_hand.sum(dim=1, keepdim=True)
    torch.testing.assert_close(scores.softmax(dim=-1), by_hand, atol=1e-6, rtol=0)

    attention = SelfAttention(2, 1, Mix(1, 2, dropout=0.0), Position(2, 1, 2))
    with torch.no_grad():
        attention.qkv.weight.copy_(torch.eye(2).repeat(3, 1))
        attention.out.weight.copy_(torch.eye(2))
        attention.qkv.bias.zero_()
        attention.out.bias.zero_()
    attention.mix.fused = fused
    torch.testing.assert_close(attention(x[None])[0], by_hand @ x, atol=1e-6, rtol=0)
    torch.testing.assert_close(attention(x[None])[0], torch.tensor([[2.972, 3.972], [3.0, 4.0]]), atol=5e-4, rtol=0)
    attention.mix.recorded = []
    attention(x[None])
    torch.testing.assert_close(attention.mix.recorded[0][0, 0], by_hand, atol=1e-6, rtol=0)
    torch.testing.assert_close(by_hand, torch.tensor([[0.0142, 0.9858], [0.0001, 0.9999]]), atol=5e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    key_len=st.integers(1, KEY_LEN),
    is_causal=st.booleans(),
    mask=st.sampled_from(["none", "keys", "each", "some rows hidden", "all hidden"]),
    bias=st.sampled_from(["none", "fixed", "learned"]),
)
def test_the_fused_path_is_the_explicit_one(seed, key_len, is_causal, mask, bias):
    torch.manual_seed(seed)
    q, k, v = qkv(key_len if is_causal else QUERY_LEN, key_len)
    query_len = q.size(-2)
    visible = {
        "none": None,
        "keys": torch.rand(BATCH, 1, 1, key_len) < 0.6,
        "each": torch.rand(BATCH, N_HEADS, query_len, key_len) < 0.6,
        "some rows hidden": (torch.rand(BATCH, 1, query_len, 1) < 0.5).expand(-1, -1, -1, key_len),
        "all hidden": torch.zeros(BATCH, 1, 1, key_len, dtype=torch.bool),
    }[mask]
    added = None if bias == "none" else torch.randn(N_HEADS, query_len, key_len, requires_grad=bias == "learned")
    leaves = [q, k, v] + ([added] if bias == "learned" else [])
    direction = torch.randn(BATCH, N_HEADS, query_len, D_HEAD)
    results = []
    for fused in (True, False):
        mix = Mix(N_HEADS, D_HEAD, dropout=0.0)
        mix.fused = fused
        mixed = mix(q, k, v, visible, is_causal, added)
        results.append((mixed, *torch.autograd.grad((mixed * direction).sum(), leaves)))
    with torch.no_grad():  # a third path where no gradient is wanted and the queries are few
        without_gradients = [mix(q, k, v, visible, is_causal, added), *results[1][1:]]
        mix.fused = True
        few = [mix(q, k, v, visible, is_causal, added), *results[1][1:]]
    for ours, theirs in [*zip(*results, strict=True), *zip(without_gradients, few, strict=True)]:
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)
    if visible is not None:
        nothing_to_see = ~(visible & causal(key_len) if is_causal else visible).any(dim=-1, keepdim=True)
        assert not (results[0][0] * nothing_to_see).any()
        assert not (results[0][1] * nothing_to_see).any()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_hidden_row_stays_finite_with_dropout(fused, with_bias):
    q, k, v = qkv()
    mix = Mix(N_HEADS, D_HEAD, dropout=0.4).train()
    mix.fused = fused
    visible = torch.ones(BATCH, 1, QUERY_LEN, KEY_LEN, dtype=torch.bool)
    visible[0, 0, 2] = False
    mixed = mix(q, k, v, visible, bias=torch.randn(N_HEADS, QUERY_LEN, KEY_LEN) if with_bias else None)
    assert not mixed[0, :, 2].any()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(mixed.sum(), [q, k, v]))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("is_causal", [True, False])
def test_attention_of_a_batch_of_none_has_gradients(fused, is_causal):
    """In a run of several processes one may have no sentences in a step, and must still take part."""
    bias = torch.zeros(N_HEADS, 1, 1, requires_grad=True)
    attention = self_attention()
    attention.mix.fused = fused
    x = torch.zeros(0, 1, D_MODEL, requires_grad=True)
    q, k, v = attention.project(x)
    mixed = attention.mix(q, k, v, torch.ones(0, 1, 1, 1, dtype=torch.bool), is_causal, bias)
    attention.out(merge_heads(mixed)).sum().backward()
    assert mixed.shape == (0, N_HEADS, 1, D_HEAD)
    assert bias.grad.tolist() == [[[0.0]]] * N_HEADS
    assert not attention.qkv.weight.grad.any()

    cross = cross_attention()
    assert cross(x, torch.zeros(0, 3, D_MODEL), torch.ones(0, 1, 1, 3, dtype=torch.bool)).shape == (0, 1, D_MODEL)


def test_weights_are_dropped_not_values():
    q, k, v = qkv()
    v = torch.ones_like(v)
    for fused in (True, False):
        mix = Mix(N_HEADS, D_HEAD, dropout=0.5).train()
        mix.fused = fused
        mixed = torch.stack([mix(q, k, v) for _ in range(200)])
        torch.testing.assert_close(mixed, mixed[..., :1].expand_as(mixed))  # one sum of weights for all of d_head
        assert float(mixed.detach().mean()) == pytest.approx(1.0, abs=0.1)
        assert float(mixed.detach().std()) > 0.1
        assert torch.equal(mix.eval()(q, k, v), mix(q, k, v))


@pytest.mark.parametrize("score", [Dot, ScaledDot, Bilinear, Additive])
@pytest.mark.parametrize("normalizer", [Soft, Hard])
def test_mixing_is_weights_times_values_for_every_score_and_normalizer(score, normalizer):
    q, k, v = qkv()
    mix = Mix(N_HEADS, D_HEAD, 0.0, score, normalizer)
    bias, visible = torch.randn(N_HEADS, QUERY_LEN, KEY_LEN), from_padding(padding(KEY_LEN))
    weights = mix.normalizer(hide(mix.score(q, k) + bias, visible))
    torch.testing.assert_close(mix(q, k, v, visible, bias=bias), weights @ v, atol=1e-5, rtol=1e-5)


def test_recording_keeps_the_weights_before_dropout():
    q, k, v = qkv()
    mix = Mix(N_HEADS, D_HEAD, dropout=0.5).train()
    mix.recorded = []
    mix(q, k, v)
    mix(q, k, v)
    assert [w.shape for w in mix.recorded] == [(BATCH, N_HEADS, QUERY_LEN, KEY_LEN)] * 2
    assert torch.equal(*mix.recorded)
    assert not mix.recorded[0].requires_grad
    torch.testing.assert_close(mix.recorded[0].sum(dim=-1), torch.ones(BATCH, N_HEADS, QUERY_LEN))


def test_positions_turn_queries_and_keys_but_not_values():
    attention = self_attention(Rotary(D_MODEL, N_HEADS, 20))
    x = torch.randn(BATCH, QUERY_LEN, D_MODEL)
    q, k, v = attention.project(x, offset=3)
    plain = self_attention()
    plain.load_state_dict(attention.state_dict())
    for turned, straight in zip((q, k), plain.project(x), strict=False):
        torch.testing.assert_close(turned, attention.position.rotate(straight, 3))
    torch.testing.assert_close(v, plain.project(x)[2])


def unbound(projected, n_parts):
    """The merged projections taken apart by one view and one permutation."""
    batch, length, _ = projected.shape
    return projected.view(batch, length, n_parts, N_HEADS, D_HEAD).permute(2, 0, 3, 1, 4).unbind(0)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("which", ["self", "cross"])
def test_merged_projections_come_apart_with_the_bits_and_strides_of_one_view(fused, which):
    """Values, gradients and the layout that the kernels see; a step's caches see the same."""
    found = []
    for plain in (False, True):
        torch.manual_seed(5)
        attention, n_parts = (self_attention(), 3) if which == "self" else (cross_attention(), 2)
        attention.mix.fused = fused
        x = torch.randn(BATCH, KEY_LEN, D_MODEL, requires_grad=True)
        projection = attention.qkv if which == "self" else attention.key_value
        project = attention.project if which == "self" else attention.project_memory
        parts = unbound(projection(x), n_parts) if plain else project(x)
        q = parts[0] if which == "self" else split_heads(attention.query(x), N_HEADS)
        mixed = attention.out(merge_heads(attention.mix(q, *parts[-2:], from_padding(padding(KEY_LEN)))))
        mixed.square().sum().backward()
        gradients = [p.grad for p in attention.parameters()]
        found.append(([*parts, mixed, x.grad, *gradients], [part.stride() for part in parts]))
    assert found[0][1] == found[1][1]
    assert all(torch.equal(one, other) for one, other in zip(found[0][0], found[1][0], strict=True))


def test_split_and_merge_are_inverse():
    x = torch.randn(BATCH, QUERY_LEN, D_MODEL)
    heads = split_heads(x, N_HEADS)
    assert heads.shape == (BATCH, N_HEADS, QUERY_LEN, D_HEAD)
    assert torch.equal(heads[1, 2, 3], x[1, 3, 8:12])
    assert torch.equal(merge_heads(heads), x)


def test_hide():
    scores = torch.ones(2, 3)
    assert hide(scores, None) is scores
    hidden = hide(scores, torch.tensor([True, False, True]))
    assert hidden.tolist() == [[1.0, -math.inf, 1.0]] * 2


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_under_bfloat16_a_cpu_mixes_in_float32(monkeypatch, masked, biased):
    """The kernel's backward pass is ten times as slow there in bfloat16; what comes out is rounded once."""
    kernel, seen = nn.functional.scaled_dot_product_attention, []

    def watched(q, *rest, **named):
        seen.append(q.dtype)
        return kernel(q, *rest, **named)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", watched)
    narrow = [x.detach().bfloat16().requires_grad_() for x in qkv()]
    wide = [x.detach().float().requires_grad_() for x in narrow]
    visible = torch.rand(BATCH, 1, 1, KEY_LEN) < 0.6 if masked else None
    bias = torch.randn(N_HEADS, QUERY_LEN, KEY_LEN).bfloat16().float() if biased else None
    mix = Mix(N_HEADS, D_HEAD, dropout=0.0)
    wanted = mix(*wide, visible, bias=bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mix(*narrow, visible, bias=bias)
    assert seen == [torch.float32] * 2
    assert torch.equal(found, wanted.bfloat16())
    direction = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, narrow, direction), torch.autograd.grad(wanted, wide, direction.float()), strict=True
    ):
        assert torch.equal(ours, theirs.bfloat16())


@pytest.mark.parametrize("biased", [False, True])
def test_what_the_kernel_gives_for_a_hidden_row_does_not_matter(monkeypatch, biased):
    """Here it happens to be zeros; torch promises nothing."""
    kernel = nn.functional.scaled_dot_product_attention

    def promising_nothing(q, k, v, attn_mask, **rest):
        hidden = ~attn_mask if attn_mask.dtype == torch.bool else attn_mask == -math.inf
        return kernel(q, k, v, attn_mask, **rest).masked_fill(hidden.all(dim=-1, keepdim=True), math.nan)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", promising_nothing)
    visible = torch.zeros(BATCH, 1, 1, KEY_LEN, dtype=torch.bool)
    visible[1:] = True
    bias = torch.zeros(N_HEADS, QUERY_LEN, KEY_LEN) if biased else None
    mixed = Mix(N_HEADS, D_HEAD, dropout=0.0)(*qkv(), visible, bias=bias)
    assert not mixed[0].any()
    assert mixed[1:].isfinite().all()
    assert mixed[1:].all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_few_queries_without_gradients_mix_as_the_explicit_path(n, query_len, key_len, masked, biased, seed):
    torch.manual_seed(seed)
    mix = Mix(n_heads=2, d_head=4, dropout=0.3).eval()
    q = torch.randn(n, query_len, 2, 4).transpose(1, 2)
    k, v = torch.randn(2, n, 2, key_len + 3, 4)[:, :, :, :key_len].unbind(0)
    visible = torch.rand(n, 1, query_len, key_len) > 0.4 if masked else None  # some queries see nothing
    bias = torch.randn(2, query_len, key_len) if biased else None
    with torch.no_grad():
        few = mix(q, k, v, visible, bias=bias)
        mix.fused = False
        torch.testing.assert_close(few, mix(q, k, v, visible, bias=bias), atol=1e-5, rtol=1e-4)


def test_few_queries_are_dropped_out_in_training_without_gradients_too():
    mix = Mix(N_HEADS, D_HEAD, dropout=0.5).train()
    q, k, v = qkv()
    with torch.no_grad():
        assert not torch.equal(mix(q, k, v), mix(q, k, v))
