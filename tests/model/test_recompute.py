import pytest
import torch

from transformer.model.dropout import drawing_from
from transformer.model.layers import LayerShape
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.transformer import Transformer, Vocabulary


def make(bulk: bool, recompute: bool) -> Transformer:
    torch.manual_seed(4)
    shape = LayerShape(16, 2, 24, "pre", "relu", 0.3, 0.2, 0.1)
    model = Transformer(Vocabulary(30, 30, "three"), shape, 2, 3, Sinusoidal, 16)
    model.use_fast_paths(fused_attention=False, bulk_dropout=bulk)
    model.recompute = recompute
    return model


def learn(model: Transformer) -> tuple[list[torch.Tensor], int]:
    """Two passes one after the other; the gradients, and the bytes that the first kept for its backward pass."""
    src, tgt_in = torch.randint(4, 30, (5, 7)), torch.randint(4, 30, (5, 6))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(src, tgt_in, src == 0)
    logits.log_softmax(-1)[..., 5].sum().backward()
    model(src, tgt_in, src == 0)[..., 3].sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None], sum(kept.values())


@pytest.mark.parametrize("bulk", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_gradients_have_the_same_bits_with_dropout_and_less_is_kept(bulk, own):
    found = []
    for recompute in (False, True):
        model = make(bulk, recompute)
        torch.manual_seed(9)
        if own and bulk:
            with drawing_from(torch.Generator().manual_seed(7)):
                found.append(learn(model))
        else:
            found.append(learn(model))
    (plain, much), (again, little) = found
    assert len(plain) == len(again) > 40
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert little < 0.5 * much


def test_nothing_is_recomputed_where_nothing_is_learned(monkeypatch):
    model = make(True, True)
    begun = []
    monkeypatch.setattr("transformer.model.transformer.recomputed", lambda *_: begun.append(1) or pytest.fail("again"))
    src = torch.randint(4, 30, (2, 3))
    with torch.no_grad():
        model(src, src, src == 0)
    model.eval()
    model(src, src, src == 0)
    assert not begun
