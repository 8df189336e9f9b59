"""COMET behind its extra: what is said when something is missing, and the adapter to a package of its interface."""

import importlib.machinery
import importlib.util
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from transformer.error import UserError
from transformer.evaluation.comet import Comet


class Judge:
    """A model of COMET's interface: the share of the hypothesis's words that are the reference's."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    def predict(self, rows: list[dict[str, str]], batch_size: int, gpus: int, progress_bar: bool) -> Any:
        assert (batch_size, gpus, progress_bar) == (4, 0, False)
        self.asked += rows
        return SimpleNamespace(scores=[np.mean([w in r["ref"].split() for w in r["mt"].split()]) for r in rows])


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> dict[str, Judge]:
    """A package named comet; which models it has loaded."""
    loaded: dict[str, Judge] = {}
    made: Any = ModuleType("comet")
    made.__spec__ = importlib.machinery.ModuleSpec("comet", None)
    made.load_from_checkpoint = lambda path: loaded.setdefault(path, Judge())
    monkeypatch.setitem(sys.modules, "comet", made)
    return loaded


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "wmt22-comet-da" / "checkpoints" / "model.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "wmt22-comet-da" / "hparams.yaml").touch()
    return str(path)


def test_without_the_package_the_extra_is_named(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^metrics\.comet needs the package unbabel-comet: pip install 'transformer\["):
        Comet(model, 4, 0)


def test_without_a_model_it_is_asked_for(package: dict[str, Judge], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^metrics\.comet\.model names no file"):
        Comet(None, 4, 0)
    with pytest.raises(UserError, match=rf"^metrics\.comet\.model is {tmp_path}, which is no file"):
        Comet(str(tmp_path), 4, 0)
    (tmp_path / "alone.ckpt").touch()
    with pytest.raises(UserError, match=r"hparams\.yaml, which belongs to it, is not there$"):
        Comet(str(tmp_path / "alone.ckpt"), 4, 0)


def test_the_score_is_the_mean_of_the_judgements(package: dict[str, Judge], model: str) -> None:
    comet = Comet(model, 4, 0)
    assert package == {}  # loaded when it is needed
    hypotheses, references = ["a b", "c d", "e"], ["a x", "c d", "f"]
    score = comet.score_with_sources(["1", "2", "3"], hypotheses, references, n_bootstrap=0)
    assert (score.name, score.value, score.low) == ("COMET", pytest.approx(50.0), None)
    assert score.signature == "nrefs:1|model:wmt22-comet-da|version:unknown"
    assert package[model].asked[1] == {"src": "2", "mt": "c d", "ref": "c d"}
    again = comet.score_with_sources(["1", "2", "3"], hypotheses, references, n_bootstrap=200)
    assert again.low is not None
    assert again.high is not None
    assert again.low < again.value < again.high
    assert "|bs:200|seed:12345|" in again.signature
    assert again == comet.score_with_sources(["1", "2", "3"], hypotheses, references, n_bootstrap=200)


def test_what_it_cannot_do_is_said(package: dict[str, Judge], model: str) -> None:
    comet = Comet(model, 4, 0)
    with pytest.raises(UserError, match="needs the source text"):
        comet.score(["a"], ["a"], 0)
    with pytest.raises(UserError, match=r"leave metrics\.comet out of compare"):
        comet.scorer(for_sentences=False)
    with pytest.raises(UserError, match="1 hypotheses but 2 references"):
        comet.score_with_sources(["a", "b"], ["a"], ["a", "b"], 0)


def test_a_package_that_cannot_be_imported_is_told_before_anything_is_translated(
    package: dict[str, Judge], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["comet"], "load_from_checkpoint")
    with pytest.raises(
        UserError, match=r"^metrics\.comet: the package unbabel-comet cannot be used here \(cannot import"
    ):
        Comet(model, 4, 0)


def test_a_file_that_is_no_model_is_told(package: dict[str, Judge], model: str) -> None:
    def load(path: str) -> Judge:
        raise KeyError("hyper_parameters")

    sys.modules["comet"].load_from_checkpoint = load  # type: ignore[attr-defined]
    with pytest.raises(
        UserError, match=r"model\.ckpt cannot be loaded as a COMET model \(KeyError 'hyper_parameters'\)$"
    ):
        Comet(model, 4, 0).score_with_sources(["1"], ["a"], ["a"], 0)
    with pytest.raises(UserError, match=r"^metrics\.comet\.gpus is -1, but must be at least 0$"):
        Comet(model, 4, -1)


def test_what_libraries_say_of_themselves_is_not_heard_and_the_rest_is(
    package: dict[str, Judge], model: str, caplog: pytest.LogCaptureFixture
) -> None:
    def load(path: str) -> Judge:
        logging.getLogger("pytorch_lightning.utilities").warning("try another product of ours")
        logging.getLogger("pytorch_lightning.utilities").error("something is broken")
        warnings.warn("old", stacklevel=1)
        return Judge()

    sys.modules["comet"].load_from_checkpoint = load  # type: ignore[attr-defined]
    assert Comet(model, 4, 0).score_with_sources(["1"], ["a"], ["a"], 0).value == 100
    assert caplog.messages == ["something is broken"]


MAKE = """
import sys
import torch
from comet import load_from_checkpoint
from comet.models import RegressionMetric
from sentencepiece import SentencePieceTrainer
from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer

folder = sys.argv[1]
SentencePieceTrainer.train(input=f"{folder}/text", model_prefix=f"{folder}/pieces", vocab_size=30, minloglevel=2)
tokenizer = XLMRobertaTokenizer(f"{folder}/pieces.model")
tokenizer.save_pretrained(f"{folder}/encoder")
torch.manual_seed(0)
shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
config = XLMRobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=80, **shape)
XLMRobertaModel(config).save_pretrained(f"{folder}/encoder")
model = RegressionMetric(encoder_model="XLM-RoBERTa", pretrained_model=f"{folder}/encoder", hidden_sizes=[16])
settings = {**model.hparams, "class_identifier": "regression_metric"}
path = f"{folder}/tiny/checkpoints/model.ckpt"
torch.save({"state_dict": model.state_dict(), "hyper_parameters": settings, "pytorch-lightning_version": "2.0.0"}, path)
open(f"{folder}/tiny/hparams.yaml", "w").write("class_identifier: regression_metric\\n")
rows = [dict(zip(("src", "mt", "ref"), line.split("|"))) for line in sys.argv[2:]]
print(*load_from_checkpoint(path).predict(rows, gpus=0, progress_bar=False).scores)
"""


@pytest.mark.skipif(importlib.util.find_spec("comet") is None, reason="unbabel-comet is not installed")
def test_a_real_model_of_the_real_package_says_what_it_says_by_itself(tmp_path: Path) -> None:
    """Of COMET's architecture and next to no size, with random weights."""
    rows = ["a dog|ein hund|der Hund", "two cats sleep|zwei Katzen|zwei Katzen schlafen", "b|c|d"]
    (tmp_path / "text").write_text("".join(f"{row}\n".replace("|", " ") * 40 for row in rows))
    (tmp_path / "tiny" / "checkpoints").mkdir(parents=True)
    command = [sys.executable, "-W", "ignore", "-c", MAKE, str(tmp_path), *rows]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert told.returncode == 0, told.stderr
    expected = np.mean([float(number) for number in told.stdout.split()[-3:]])
    comet = Comet(str(tmp_path / "tiny" / "checkpoints" / "model.ckpt"), 2, 0)
    sources, hypotheses, references = zip(*(row.split("|") for row in rows), strict=True)
    score = comet.score_with_sources(sources, hypotheses, references, 0)
    assert score.value == pytest.approx(100 * expected, abs=1e-4)
    assert "|model:tiny|version:2." in score.signature


def test_the_command_says_what_is_missing(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    told = call("evaluate", [f"checkpoint={run.best}", "metrics=comet", "output_dir=out", *calm], tmp_path).sentence
    assert told.startswith("transformer-evaluate: metrics.comet ")
