"""Weights, gradients, graph and embeddings in the files of a real run, and that looking changes nothing."""

import warnings

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch.utils.tensorboard import SummaryWriter

from transformer.data.tokenizer.base import TokenizerPair
from transformer.model.layers import LayerShape
from transformer.model.position.alibi import Alibi
from transformer.model.position.learned import Learned
from transformer.model.position.relative import Relative
from transformer.model.position.rotary import Rotary
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.transformer import Transformer, Vocabulary
from transformer.monitoring.inside import LastGradients, visible_values
from transformer.monitoring.tensorboard import write_graph
from transformer.training.checkpoint import load_tensors


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"histograms": 0, "tensors": 0}).Reload()


def test_every_weight_and_its_gradient_has_a_histogram_each_epoch(looked_at):
    events = read(looked_at / "results" / "run")
    weights = load_tensors(looked_at / "saved" / "run" / "last" / "model.pt")
    names = {name for name, _ in model().named_parameters()}
    tags = events.Tags()["histograms"]
    assert set(tags) == {f"{kind}/{name.replace('.', '/')}" for kind in ("weights", "gradients") for name in names}
    for name in names:
        for kind in ("weights", "gradients"):
            points = events.Histograms(f"{kind}/{name.replace('.', '/')}")
            assert [(p.step, p.histogram_value.num) for p in points] == [(s, weights[name].numel()) for s in (8, 16)]
        # The last epoch's weights are those of its checkpoint.
        last = events.Histograms(f"weights/{name.replace('.', '/')}")[-1].histogram_value
        assert (last.min, last.max) == pytest.approx((weights[name].min().item(), weights[name].max().item()))


def test_what_is_frozen_has_no_gradient_to_be_seen():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    layers[0].requires_grad_(False)
    seen = LastGradients(layers)
    layers(torch.ones(1, 2)).sum().backward()
    assert {name for name, _ in seen.items()} == {"1.weight", "1.bias"}


def test_the_graph_is_that_of_the_model(looked_at):
    graph = GraphDef.FromString(read(looked_at / "results" / "run").Graph().SerializeToString())
    names = {node.name for node in graph.node}
    for part in ("src_embedding", "encoder_layers", "decoder_layers", "cross_attention", "output"):
        assert any(part in name for name in names), part


def test_the_projector_shows_the_embeddings_of_the_best_checkpoint_under_their_pieces(looked_at):
    results = looked_at / "results" / "run"
    best = looked_at / "saved" / "run" / "best"
    config = text_format.Parse((results / "projector_config.pbtxt").read_text(), ProjectorConfig())
    weights, tokenizers = load_tensors(best / "model.pt"), TokenizerPair.load(best / "tokenizer")
    for entry, side in zip(config.embeddings, ("src", "tgt"), strict=True):
        vectors = np.fromfile(results / entry.tensor_path, dtype="float32").reshape(290, 16)
        np.testing.assert_array_equal(vectors, weights[f"{side}_embedding.tokens.weight"])
        labels = (results / entry.metadata_path).read_text().splitlines()
        assert labels == getattr(tokenizers, side).tokens(range(290))
    assert [entry.tensor_name for entry in config.embeddings] == ["source", "target"]


def test_looking_changes_no_bit(looked_at, run):
    one, other = (load_tensors(folder / "saved" / "run" / "last" / "model.pt") for folder in (looked_at, run.folder))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert not read(run.folder / "results" / "run").Tags()["histograms"]
    assert not (run.folder / "results" / "run" / "projector_config.pbtxt").exists()


def model(position=Sinusoidal):
    shape = LayerShape(16, 2, 16, "pre", "relu", 0.1, 0.1, 0.1)
    return Transformer(Vocabulary(30, 30, "three"), shape, 1, 1, position, 8)


def test_gradients_are_those_of_the_last_update_clipped_and_given_up_at_the_end():
    made = model()
    gradients = LastGradients(made)
    assert not gradients.items()
    ids = torch.full((1, 3), 5)
    for scale in (3.0, 1.0):
        for _ in range(2):  # two micro-batches
            (made(ids, ids, ids == 0).square().sum() * scale).backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 0.01)
        expected = {name: parameter.grad.clone() for name, parameter in made.named_parameters()}
        for parameter in made.parameters():
            parameter.grad = None
    found = dict(gradients.items())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    gradients.close()
    made(ids, ids, ids == 0).sum().backward()
    assert not gradients.items()


def test_what_has_no_histogram_is_left_out():
    tensors = [("nan", torch.tensor([1.0, torch.nan])), ("none", torch.zeros(0)), ("half", torch.ones(2).bfloat16())]
    ((name, values),) = visible_values(tensors)
    assert (name, values.dtype) == ("half", torch.float32)


@pytest.mark.parametrize("position", [Alibi, Learned, Relative, Rotary, Sinusoidal])
def test_every_kind_of_model_has_a_graph_and_training_goes_on_unchanged(position, tmp_path):
    made = model(position).train()
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in made.state_dict().items()}
    writer = SummaryWriter(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_graph(writer, made)
    writer.close()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in made.modules())
    assert all(torch.equal(v, weights[k]) for k, v in made.state_dict().items())
    assert len(read(tmp_path).Graph().node) > 30
