import torch

from transformer.model.position.base import Position


def test_the_base_tells_nothing():
    position, x = Position(6, 2, 9), torch.randn(2, 3, 6)
    assert position.embed(x, 4) is x
    assert position.rotate(x, 4) is x
    assert position.bias(3, 5, torch.device("cpu"), 4) is None


def test_every_family_member_tells_positions_apart(position):
    made = position(d_model=12, n_heads=3, max_len=20)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x, heads = torch.ones(1, 1, 12), torch.ones(1, 3, 1, 4)

    def told(offset):
        bias = made.bias(1, 12, torch.device("cpu"), offset)
        parts = [made.embed(x, offset), made.rotate(heads, offset), torch.zeros(1) if bias is None else bias]
        return torch.cat([part.flatten() for part in parts])

    assert not torch.allclose(told(2), told(9), atol=1e-3)
