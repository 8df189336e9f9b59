"""COMET behind its extra: what is said when something is missing, and the adapter to a package of its interface."""

import importlib.machinery
import sys
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
    return str(path)


def test_without_the_package_the_extra_is_named(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^metrics\.comet needs the package unbabel-comet: pip install 'transformer\["):
        Comet(model, 4)


def test_without_a_model_it_is_asked_for(package: dict[str, Judge], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^metrics\.comet\.model names no file"):
        Comet(None, 4)
    with pytest.raises(UserError, match=rf"^metrics\.comet\.model is {tmp_path}, which is no file"):
        Comet(str(tmp_path), 4)


def test_the_score_is_the_mean_of_the_judgements(package: dict[str, Judge], model: str) -> None:
    comet = Comet(model, 4)
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
    comet = Comet(model, 4)
    with pytest.raises(UserError, match="needs the source text"):
        comet.score(["a"], ["a"], 0)
    with pytest.raises(UserError, match=r"leave metrics\.comet out of compare"):
        comet.scorer(for_sentences=False)
    with pytest.raises(UserError, match="1 hypotheses but 2 references"):
        comet.score_with_sources(["a", "b"], ["a"], ["a", "b"], 0)


def test_the_command_says_what_is_missing(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    told = call("evaluate", [f"checkpoint={run.best}", "metrics=comet", "output_dir=out", *calm], tmp_path).sentence
    assert told.startswith("transformer-evaluate: metrics.comet ")
