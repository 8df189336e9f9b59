"""Everything at once: a tiny model, trained as any other, learns a task that needs all of its parts."""

import pytest
import torch

from transformer.data.batching import Bucket, Sorted
from transformer.data.loader import BatchLoader
from transformer.model.layers import LayerShape
from transformer.model.position.learned import Learned
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import BOS, EOS, PAD
from transformer.training.checkpoint import MODEL, load_tensors
from transformer.training.schedule import Constant


@torch.inference_mode()
def translated(model, src, n_steps):
    """Greedily, by cached steps; ids (n_sentences, n_steps)."""
    state = model.eval().start(src, src == PAD, 1, n_steps)
    ids = [torch.full((src.size(0), 1), BOS)]
    for _ in range(n_steps):
        ids.append(model.step(ids[-1], state).argmax(dim=-1))
    return torch.cat(ids[1:], dim=1)


def learn_to_copy(folder, toy, norm="pre", position=Sinusoidal, max_steps=240, **choices):
    """Return how many of 50 sentences it copies without a mistake, freely translating."""
    torch.manual_seed(1)
    shape = LayerShape(32, 4, 64, norm, "relu", 0.0, 0.0, 0.0)
    model = Transformer(Vocabulary(toy.vocab_size, toy.vocab_size, "three"), shape, 1, 1, position, 16)
    trainer = toy.trainer(
        folder,
        model=model,
        max_epochs=None,
        max_steps=max_steps,
        schedule=Constant(30),
        batches=BatchLoader(toy.store(2000, seed=5, turned=False), Bucket(400), 1, 0, 1, None),
        **choices,
    )
    trainer.fit("run", {})
    (batch,) = BatchLoader(toy.store(50, seed=6, turned=False), Sorted(10_000), 1, 0, 1, None)
    model.load_state_dict(load_tensors(folder / "last" / MODEL))  # as every command does
    found = translated(model, batch.src, batch.tgt_out.size(1))
    assert batch.src.size(0) == 50
    right = ((found == batch.tgt_out) | (batch.tgt_out == PAD)).all(dim=1)
    assert (found[right] == EOS).any(dim=1).all()
    return int(right.sum())


@pytest.mark.parametrize(("norm", "position"), [("pre", Sinusoidal), ("post", Learned)])
def test_a_tiny_model_learns_to_copy(tmp_path, toy, norm, position):
    assert learn_to_copy(tmp_path, toy, norm, position) >= 30


def test_it_learns_with_each_optimizer(tmp_path, toy, own_optimizer):
    assert learn_to_copy(tmp_path, toy, optimizer=own_optimizer, max_steps=120) >= 30
