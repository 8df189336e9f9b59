"""From a config to objects."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from transformer import build
from transformer.build.supply import supplies
from transformer.config import ModelConfig, RuntimeConfig
from transformer.data.tokenizer.base import Pretrained
from transformer.error import UserError
from transformer.evaluation.metrics import Bleu, ChrF

RUNTIME: Any = SimpleNamespace(
    device="cpu", threads=None, precision="fp32", fused_attention=True, chunked_loss=True, bulk_dropout=True,
    keep_memory=False, arithmetic="auto", workers=None, recompute=False, deferred=None, sharded=False, compile=False,
)  # fmt: skip


def runtime(**changed: Any) -> RuntimeConfig:
    return RuntimeConfig(**{**vars(RUNTIME), **changed})


def model_config(**changed: Any) -> ModelConfig:
    leaf = "transformer.model"
    values: dict[str, Any] = {
        "d_model": 16,
        "n_heads": 2,
        "d_ff": 24,
        "n_encoder_layers": 1,
        "n_decoder_layers": 2,
        "max_len": 40,
        "norm": "pre",
        "activation": "relu",
        "tying": "three",
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "position": {"_target_": f"{leaf}.position.sinusoidal.Sinusoidal", "_partial_": True},
        "score": {"_target_": f"{leaf}.score.ScaledDot", "_partial_": True},
        "normalizer": {"_target_": f"{leaf}.normalizer.Soft", "_partial_": True},
    }
    return ModelConfig(**{**values, **changed})


def tokenizers(joint: bool = True) -> Any:
    return SimpleNamespace(src=SimpleNamespace(vocab_size=30), tgt=SimpleNamespace(vocab_size=50), joint=joint)


def joint() -> Any:
    side = SimpleNamespace(vocab_size=30)
    return SimpleNamespace(src=side, tgt=side, joint=True)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"d_model": 250, "n_heads": 8}, "model: d_model (250) must be divisible by n_heads (8)"),
        ({"d_model": 0}, "model.d_model must be at least 1, not 0"),
        ({"n_heads": 0}, "model.n_heads must be at least 1, not 0"),
        ({"n_encoder_layers": 0}, "model.n_encoder_layers must be at least 1, not 0"),
        ({"n_decoder_layers": -1}, "model.n_decoder_layers must be at least 1, not -1"),
        ({"max_len": 0}, "model.max_len must be at least 1, not 0"),
        ({"norm": "prenorm"}, "model: norm must be pre or post, not prenorm"),
        ({"activation": "relux"}, "model.activation must be one of relu, gelu, silu, not relux"),
        ({"tying": "four"}, "model: tying must be one of none, two, three, not four"),
        ({"dropout": 1.5}, "model: a dropout rate must be at least 0 and below 1, not 1.5"),
        ({"attention_dropout": -0.1}, "model: a dropout rate must be at least 0 and below 1, not -0.1"),
        ({"activation_dropout": 1.0}, "model: a dropout rate must be at least 0 and below 1, not 1.0"),
        ({"position": {"_target_": "torch.optim.Adam", "_partial_": True}}, "model.position._target_ is torch.optim."),
        ({"score": {"_target_": "transformer.model.score.Dot"}}, "model.score._partial_ must be true, not False"),
    ],
)
def test_a_model_that_cannot_be_is_refused_with_both_values(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        build.model(model_config(**changed), joint(), runtime())
    assert str(caught.value).startswith(sentence)


def test_three_tables_cannot_be_one_with_two_vocabularies() -> None:
    with pytest.raises(UserError, match=r"^model\.tying is three, but .* use model\.tying=two$"):
        build.model(model_config(), tokenizers(joint=False), runtime())
    built = build.model(model_config(tying="two"), tokenizers(joint=False), runtime())
    assert built.src_embedding.tokens.weight.shape == (30, 16)
    assert built.output.weight.shape == (50, 16)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"device": "tpu"}, "runtime.device is tpu, but must be one of auto, cpu, cuda"),
        ({"arithmetic": "mkl"}, "runtime: arithmetic is mkl, but must be one of auto, torch, onednn"),
        ({"threads": 0}, "runtime.threads must be at least 1 or null, not 0"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        build.runtime(runtime(**changed))
    assert str(caught.value) == sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_refused_and_auto_does_without() -> None:
    with pytest.raises(UserError, match=r"torch sees no CUDA device; use runtime\.device=cpu"):
        build.runtime(runtime(device="cuda"))
    assert build.runtime(runtime(device="auto")).device == torch.device("cpu")


def test_the_number_of_threads_is_set() -> None:
    before = torch.get_num_threads()
    try:
        build.runtime(runtime(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_ways_to_compute_give_the_same_model() -> None:
    src, padding = torch.tensor([[5, 6, 7, 3, 0]]), torch.tensor([[False] * 4 + [True]])
    memories = []
    for fused in (True, False):
        torch.manual_seed(0)
        built = build.model(model_config(), joint(), runtime(fused_attention=fused)).eval()
        memories.append(built.encode(src, padding))
    torch.testing.assert_close(*memories)


class Vectors:
    """A tokenizer trainer with vectors for the given ids of the target side."""

    def __init__(self, dimension: int, found: list[int]) -> None:
        mask = torch.zeros(50, dtype=torch.bool)
        mask[found] = True
        self.vectors = Pretrained(torch.arange(50.0)[:, None].expand(50, dimension).clone(), mask)

    def pretrained(self, pair: Any) -> tuple[None, Pretrained]:
        return None, self.vectors


def test_pretrained_vectors_are_what_an_embedding_gives(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    built = build.model(model_config(tying="two"), tokenizers(joint=False), runtime())
    before = built.tgt_embedding.tokens.weight.detach().clone()
    build.load_pretrained(built, tokenizers(joint=False), Vectors(16, [4, 9]))  # type: ignore[arg-type]
    after = built.tgt_embedding.tokens.weight.detach()
    # What is read from the table is multiplied by the root of d_model.
    torch.testing.assert_close(after[[4, 9]] * 4.0, torch.tensor([[4.0] * 16, [9.0] * 16]))
    others = [i for i in range(50) if i not in (4, 9)]
    assert torch.equal(after[others], before[others])
    assert caplog.messages == ["target vocabulary: 2 of 50 tokens begin with a pretrained vector"]


def test_pretrained_vectors_of_another_width_are_refused_with_both_widths() -> None:
    built = build.model(model_config(tying="two"), tokenizers(joint=False), runtime())
    with pytest.raises(UserError, match=r"the pretrained target vectors have 20 dimensions, model\.d_model is 16"):
        build.load_pretrained(built, tokenizers(joint=False), Vectors(20, [4]))  # type: ignore[arg-type]


def test_a_loss_is_handed_draws_and_costs() -> None:
    words = ["", "", "", "", "the", "dog", "sleeps", "here", "now", "."]
    tokenizer: Any = SimpleNamespace(decode=lambda ids: " ".join(words[i] for i in ids))
    given = supplies(tokenizer)
    candidates, references = [[[4, 5, 6, 9], [4, 5]], [[]]], [[4, 5, 6, 9], [7, 8]]
    for name, metric in (("bleu", Bleu(False, "13a")), ("chrf", ChrF(0, False))):
        (same, short), (empty,) = given.costs[name](candidates, references)
        score = metric.sentence_scores(["the dog"], ["the dog sleeps ."])[0]
        assert (same, empty, short) == (pytest.approx(0), 1, 1 - score / 100)
        assert 0 < short < 1
    built = build.model(model_config(), joint(), runtime()).eval()
    src = torch.tensor([[5, 6, 7, 3], [8, 3, 0, 0]])
    draw = given.sampler(4, 1.0)
    with torch.no_grad():
        found = [draw(built, src, src == 0, torch.tensor([6, 3]), seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert [len(rows) for rows in found[0]] == [4, 4]
    assert max(map(len, found[0][0])) <= 5
    assert max(map(len, found[0][1])) <= 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.cost=ter", "loss: cost must be one of bleu, chrf, not ter"),
        ("loss.share=1.5", "loss: share must be above 0 and at most 1, not 1.5; without risk it is loss=cross_entropy"),
        ("loss.candidates.temperature=0", "loss: temperature must be above 0 and finite, not 0"),
        ("loss.candidates.n_sample=3", "there is no loss.candidates.n_sample to change"),
    ],
)
def test_an_impossible_minimum_risk_is_refused(
    override: str, sentence: str, call: Any, quick: list[str], tmp_path: Path
) -> None:
    assert call("train", [*quick, "loss=mrt", override], tmp_path).sentence.startswith(f"transformer-train: {sentence}")
