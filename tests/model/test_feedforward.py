import pytest
import torch
from torch import nn

from transformer.model.feedforward import FeedForward


@pytest.mark.parametrize(("activation", "function"), [("relu", nn.ReLU()), ("gelu", nn.GELU()), ("silu", nn.SiLU())])
def test_it_is_two_linear_maps_with_the_activation_between(activation, function):
    layer = FeedForward(d_model=5, d_ff=7, activation=activation, dropout=0.0)
    x = torch.randn(2, 3, 5)
    inner = function(x @ layer.inner.weight.T + layer.inner.bias)
    assert inner.shape == (2, 3, 7)
    torch.testing.assert_close(layer(x), inner @ layer.out.weight.T + layer.out.bias)


def test_dropout_acts_behind_the_activation():
    layer = FeedForward(d_model=5, d_ff=700, activation="relu", dropout=0.5).train()
    with torch.no_grad():
        layer.inner.weight.zero_()
        layer.inner.bias.fill_(1.0)
        layer.out.weight.fill_(1 / 700)
        layer.out.bias.zero_()
    y = layer(torch.randn(4, 5))
    torch.testing.assert_close(y, y[:, :1].expand(4, 5))  # the same inner units are missing for every output
    assert len(set(y[:, 0].tolist())) > 1
    assert float(y.detach().mean()) == pytest.approx(1.0, abs=0.2)
