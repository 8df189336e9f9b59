import torch

from transformer.model.position.learned import Learned


def test_its_vectors_are_added_from_the_offset_on():
    position = Learned(d_model=6, n_heads=2, max_len=9)
    x = torch.randn(2, 3, 6)
    assert position.table.shape == (9, 6)
    torch.testing.assert_close(position.embed(x, offset=4), x + position.table[4:7])


def test_the_vectors_used_are_learned():
    position = Learned(6, 2, 9)
    position.embed(torch.randn(2, 3, 6), offset=4).sum().backward()
    assert (position.table.grad != 0).any(dim=1).tolist() == [False] * 4 + [True] * 3 + [False] * 2
