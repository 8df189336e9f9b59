"""Runs on other text with the vocabulary of a run before: their models decode together."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from transformer.data.tokenizer.base import TokenizerPair
from transformer.training.checkpoint import load_tensors


@pytest.fixture
def other(copied_run: Any, quick: list[str], tmp_path: Path) -> list[str]:
    """A run on the source side of the corpus alone, which would have another vocabulary of its own."""
    (source,) = (part.split("=")[1] for part in quick if part.startswith("data.train.src="))
    copied = [part for part in quick if not part.startswith("data.train.tgt=")] + [f"data.train.tgt={source}"]
    mine = [part for part in copied if not part.startswith("tokenizer.")]
    return [*mine, "tokenizer=existing", f"tokenizer.folder={copied_run.best}"]


def test_two_models_with_one_vocabulary_decode_together(
    copied_run: Any, other: list[str], call: Any, calm: list[str], tmp_path: Path
) -> None:
    ended = call("train", other, tmp_path)
    assert ended.code == 0, ended.err
    assert "vocabulary: 290 joint" in ended.out
    assert "warm start" not in ended.out
    best = tmp_path / "saved" / "run" / "best"
    pairs = [TokenizerPair.load(folder / "tokenizer") for folder in (copied_run.best, best)]
    assert pairs[0].fingerprint() == pairs[1].fingerprint()
    weights = [load_tensors(folder / "model.pt") for folder in (copied_run.best, best)]
    assert not any(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items() if tensor.ndim > 1)
    told = call("translate", [f"checkpoint=[{copied_run.best},{best}]", *calm], tmp_path, b"the dog\n")
    assert told.code == 0, told.err
    assert told.out.count("\n") == 1


def test_a_stopped_run_goes_on_without_the_folder_and_is_exact(
    copied_run: Any, other: list[str], call: Any, assert_same_run: Any, tmp_path: Path
) -> None:
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    assert call("train", other, tmp_path / "whole").code == 0
    assert call("train", [*other, "training.max_epochs=1"], tmp_path / "parts").code == 0
    shutil.rmtree(copied_run.folder)
    resumed = call("train", [*other, "resume=true"], tmp_path / "parts")
    assert resumed.code == 0, resumed.err
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_anew_says_that_the_folder_is_gone(copied_run: Any, other: list[str], call: Any, tmp_path: Path) -> None:
    shutil.rmtree(copied_run.folder)
    assert f"{copied_run.best} holds no tokenizers" in call("train", other, tmp_path).sentence


def test_what_belongs_to_other_tokenizers_is_refused(other: list[str], call: Any, tmp_path: Path) -> None:
    told = call("train", [*other, "tokenizer.lowercase=true"], tmp_path).sentence
    assert "do not lower-case text; say tokenizer.lowercase=false" in told
    assert "vocab_size" in call("train", [*other, "tokenizer.vocab_size=290"], tmp_path).sentence
