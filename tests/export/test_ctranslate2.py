"""What CTranslate2 makes of an exported model is what the model makes of it."""

import importlib.util
from pathlib import Path

import pytest
import torch

from transformer.error import UserError
from transformer.export.ctranslate2 import QUANTIZATIONS, difference, save, unfit
from transformer.model.layers import LayerShape
from transformer.model.normalizer import Hard
from transformer.model.position.alibi import Alibi
from transformer.model.position.learned import Learned
from transformer.model.position.relative import Relative
from transformer.model.position.rotary import Rotary
from transformer.model.position.sinusoidal import Sinusoidal
from transformer.model.score import Additive
from transformer.model.transformer import Transformer, Vocabulary
from transformer.special import TOKENS

pytest.importorskip("ctranslate2")

SIZES = {"none": (37, 41), "two": (37, 41), "three": (41, 41)}


def make(position=Sinusoidal, norm="pre", activation="relu", tying="three", **more) -> Transformer:
    torch.manual_seed(3)
    shape = LayerShape(32, 2, 48, norm, activation, 0.3, 0.1, 0.1, **more)
    model = Transformer(Vocabulary(*SIZES[tying], tying), shape, 2, 3, position, 40).eval()
    for parameter in model.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def tokens(size: int) -> list[str]:
    return [*TOKENS, *(f"piece{i}" for i in range(len(TOKENS), size))]


def exported(model: Transformer, folder: Path, quantization: str | None = None) -> tuple[float, float]:
    src, tgt = tokens(model.vocabulary.src_size), tokens(model.vocabulary.tgt_size)
    save(model, src, tgt, folder, quantization)
    return difference(model, src, tgt, folder)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("position", [Sinusoidal, Learned, Rotary])
def test_log_probabilities_are_the_model_s(position, norm, tmp_path):
    largest, mean = exported(make(position, norm), tmp_path)
    assert 0 < mean <= largest < 1e-4


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_with_every_activation(activation, tmp_path):
    assert exported(make(activation=activation), tmp_path)[0] < 1e-4


@pytest.mark.parametrize("tying", ["none", "two"])
def test_with_vocabularies_of_two_sizes(tying, tmp_path):
    assert exported(make(tying=tying), tmp_path)[0] < 1e-4


def test_a_model_laid_out_for_translating(tmp_path):
    model = make(Rotary)
    model.lay_out_by_column()
    assert exported(model, tmp_path)[0] < 1e-4


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_quantized_it_is_smaller_and_near_and_ours_stays_what_it_was(quantization, tmp_path):
    model = make(Rotary)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain, small = tmp_path / "plain", tmp_path / "small"
    plain.mkdir(), small.mkdir()
    exact, _ = exported(model, plain)
    _, mean = exported(model, small, quantization)
    assert exact < 1e-4 < mean < 0.5
    assert (small / "model.bin").stat().st_size < 0.8 * (plain / "model.bin").stat().st_size
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_another_model_is_told_from_it(tmp_path):
    model = make()
    src = tokens(41)
    save(model, src, src, tmp_path, None)
    with torch.no_grad():
        model.encoder_layers[1].feed_forward.inner.bias += 0.1
    assert difference(model, src, src, tmp_path)[0] > 1e-3


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"position": Alibi}, "its positions"),
        ({"position": Relative}, "its positions"),
        ({"score": Additive}, "its scoring function"),
        (
            {"normalizer": Hard, "position": Alibi},
            "its positions (sinusoidal, learned and rotary are) and its normalizer",
        ),
    ],
)
def test_what_the_engine_does_not_know_is_named(model, named, tmp_path):
    made = make(**model)
    assert unfit(made).startswith(named)
    with pytest.raises(UserError, match="cannot be exported: its"):
        save(made, tokens(41), tokens(41), tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_or_with_another_number_format_it_says_so(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^quantization is int4, but must be null or one of int8, int8_float32, "):
        exported(make(), tmp_path, "int4")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'transformer\[ctranslate2\]'"):
        exported(make(), tmp_path)
    assert list(tmp_path.iterdir()) == []
