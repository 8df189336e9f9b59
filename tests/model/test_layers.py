import pytest
import torch
from torch import nn

from transformer.model.layers import DecoderLayer, EncoderLayer, LayerShape, Residual
from transformer.model.masks import from_padding
from transformer.model.position.base import Position

D_MODEL, N_HEADS, D_FF = 12, 3, 20


def shape(norm="post", activation="relu", dropout=0.0):
    return LayerShape(D_MODEL, N_HEADS, D_FF, norm, activation, dropout, 0.0, 0.0)


def copy_self(ours, theirs):
    with torch.no_grad():
        ours.qkv.bias.normal_()
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def copy_cross(ours, theirs):
    with torch.no_grad():
        ours.key_value.bias.normal_()
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def copy_rest(ours, theirs, norms):
    with torch.no_grad():
        for residual in ours.residuals:
            residual.norm.weight.normal_()
            residual.norm.bias.normal_()
    for residual, norm in zip(ours.residuals, norms, strict=True):
        norm.load_state_dict(residual.norm.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.out.state_dict())


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_encoder_layer_is_torchs(norm, activation):
    ours = EncoderLayer(shape(norm, activation), Position(D_MODEL, N_HEADS, 20))
    theirs = nn.TransformerEncoderLayer(
        D_MODEL, N_HEADS, D_FF, 0.0, activation, batch_first=True, norm_first=norm == "pre"
    )
    copy_self(ours.self_attention, theirs.self_attn)
    copy_rest(ours, theirs, [theirs.norm1, theirs.norm2])
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    x = torch.randn(2, 5, D_MODEL)
    found, expected = ours(x, from_padding(padding)), theirs(x, src_key_padding_mask=padding)
    torch.testing.assert_close(found[~padding], expected[~padding], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("padded", [True, False])
def test_the_decoder_layer_is_torchs(norm, padded):
    ours = DecoderLayer(shape(norm), Position(D_MODEL, N_HEADS, 20))
    theirs = nn.TransformerDecoderLayer(D_MODEL, N_HEADS, D_FF, 0.0, batch_first=True, norm_first=norm == "pre")
    copy_self(ours.self_attention, theirs.self_attn)
    copy_cross(ours.cross_attention, theirs.multihead_attn)
    copy_rest(ours, theirs, [theirs.norm1, theirs.norm2, theirs.norm3])
    x, memory = torch.randn(2, 5, D_MODEL), torch.randn(2, 7, D_MODEL)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[1, 4:] = padded
    future = nn.Transformer.generate_square_subsequent_mask(5)
    expected = theirs(x, memory, future, memory_key_padding_mask=padding.float() * -1e9, tgt_is_causal=True)
    found = ours(x, memory, None, from_padding(padding) if padded else None)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_pre_norm_adds_what_is_made_of_the_normed_input():
    residual, x = Residual(4, dropout=0.0, pre=True), torch.randn(2, 3, 4)
    torch.testing.assert_close(residual(x, lambda y: 2 * y), x + 2 * nn.functional.layer_norm(x, (4,)))


def test_post_norm_norms_the_sum():
    residual, x = Residual(4, dropout=0.0, pre=False), torch.randn(2, 3, 4)
    torch.testing.assert_close(residual(x, torch.sin), nn.functional.layer_norm(x + torch.sin(x), (4,)))


def test_the_sub_layers_output_is_dropped_from_before_it_is_added():
    residual = Residual(4, dropout=0.5, pre=True).train()
    x = torch.full((50, 20, 4), 7.0)
    y = residual(x, torch.ones_like)
    assert set(y.unique().tolist()) == {7.0, 9.0}
    assert float((y == 7.0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_the_shape_reaches_every_part():
    layer = DecoderLayer(LayerShape(D_MODEL, N_HEADS, D_FF, "pre", "silu", 0.1, 0.2, 0.3), Position(D_MODEL, 3, 9))
    assert [residual.dropout.p for residual in layer.residuals] == [0.1] * 3
    assert all(residual.pre for residual in layer.residuals)
    assert layer.self_attention.mix.dropout.p == layer.cross_attention.mix.dropout.p == 0.2
    assert layer.feed_forward.dropout.p == 0.3
    assert layer.feed_forward.activation is nn.functional.silu
    assert layer.self_attention.mix is not layer.cross_attention.mix


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match=r"d_model \(250\) must be divisible by n_heads \(8\)"):
        LayerShape(250, 8, 20, "pre", "relu", 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="norm must be pre or post, not sandwich"):
        LayerShape(256, 8, 20, "sandwich", "relu", 0.0, 0.0, 0.0)
