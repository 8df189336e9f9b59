"""Evaluating one model: what it translates, what is scored, and what is left on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from transformer import build
from transformer.commands.evaluator import Evaluator
from transformer.commands.resume import plain
from transformer.commands.search import Way
from transformer.config import MachineConfig
from transformer.data.corpus import Pair
from transformer.evaluation.metrics import Bleu, Metric
from transformer.training.precision import Precision

PAIRS = [Pair("the red cat", "the red cat"), Pair("", "a dog"), Pair("a dog sees trees", "a dog sees trees")]


BLEU = Bleu(lowercase=False, tokenize="13a")


class Failing(Bleu):
    """A metric that ends in an error."""

    def score_with_sources(self, *_: Any) -> Any:
        raise ZeroDivisionError


def evaluator(run: Any, folder: Path, metrics: Sequence[Metric], n_members: int = 1) -> Evaluator:
    machine = MachineConfig("cpu", None, "fp32", fused_attention=True, keep_memory=False, arithmetic="auto")
    world = build.runtime(machine)
    loaded = build.load_together([run.best] * n_members, machine, world.device)
    way = Way(plain(loaded.config)["decoding"], loaded.config.translation, Precision("fp32", world.device))
    return Evaluator(loaded, way, metrics, 0, world, folder, {"step": 18})


def test_the_files_hold_what_comes_back(run: Any, tmp_path: Path) -> None:
    row, hypotheses = evaluator(run, tmp_path, [BLEU]).evaluate("mine", "test", PAIRS, "other")
    assert (tmp_path / "other.hyp.txt").read_text() == "".join(f"{line}\n" for line in hypotheses)
    written = json.loads((tmp_path / "other.json").read_text())
    assert written["step"] == 18
    assert written["decoding"]["_target_"].startswith("transformer.decoding.")
    [result] = written["results"]
    assert (result["system"], result["split"], result["n_sentences"]) == ("mine", "test", 3)
    assert {name: score["value"] for name, score in result["scores"].items()} == {s.name: s.value for s in row.scores}
    assert row.scores[0] == BLEU.score(hypotheses, [pair.tgt for pair in PAIRS], 0)


def test_translations_outlive_a_metric_that_fails(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        evaluator(run, tmp_path, [Failing(lowercase=False, tokenize="13a")]).evaluate("mine", "test", PAIRS)
    assert (tmp_path / "test.hyp.txt").read_text().count("\n") == 3
    assert not (tmp_path / "test.json").exists()


def test_a_single_model_has_a_loss_and_an_ensemble_has_none(run: Any, tmp_path: Path) -> None:
    alone, hypotheses = evaluator(run, tmp_path, [BLEU]).evaluate("mine", "test", PAIRS)
    together, same = evaluator(run, tmp_path, [BLEU], n_members=2).evaluate("mine", "test", PAIRS)
    assert [score.name for score in alone.scores] == ["BLEU", "loss", "perplexity"]
    assert [score.name for score in together.scores] == ["BLEU"]
    assert hypotheses == same


def test_without_a_reference_that_fits_there_is_no_loss(run: Any, tmp_path: Path) -> None:
    row, _ = evaluator(run, tmp_path, []).evaluate("mine", "test", [Pair("", "")])
    assert row.scores == ()
