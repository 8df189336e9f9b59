"""A checkpoint as a folder for CTranslate2: text through it and SentencePiece is what transformer-translate writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from transformer.export import ctranslate2 as exporter

ctranslate2 = pytest.importorskip("ctranslate2")

LINES = ["the big dog runs", "a cat", "green house sees the small red bird", "tree"]


def served(folder: Path, lines: list[str], prefix: list[str]) -> list[str]:
    """What somebody who has the folder alone makes of lines, greedily."""
    source, target = (sentencepiece.SentencePieceProcessor(str(folder / f"{n}.model")) for n in ("source", "target"))
    pieces = [[*prefix, *source.encode(line, out_type=str)] for line in lines]
    results = ctranslate2.Translator(str(folder)).translate_batch(
        pieces, beam_size=1, max_decoding_length=19
    )  # and EOS
    return [target.decode(result.hypotheses[0]) for result in results]


def translated(call: Any, best: Path, folder: Path, calm: list[str], *more: str) -> list[str]:
    words = [f"checkpoint={best}", "decoding=greedy", "translation.max_len_ratio=0", "translation.max_len_offset=20"]
    ended = call("translate", [*words, *calm, *more], folder, "\n".join([*LINES, ""]).encode())
    assert ended.code == 0, ended.err
    return ended.out.splitlines()


def test_the_folder_alone_translates_as_the_checkpoint_does(
    run: Any, call: Any, calm: list[str], tmp_path: Path
) -> None:
    ended = call("export", [f"checkpoint={run.best}", "output=deploy/run"], tmp_path)
    assert (ended.code, ended.err) == (0, "")
    folder = tmp_path / "deploy" / "run"
    assert served(folder, LINES, []) == translated(call, run.best, tmp_path, calm)
    facts = json.loads((folder / "export.json").read_text())
    assert (facts["step"], facts["quantization"], facts["language_token"], facts["lowercase"]) == (
        16,
        "float32",
        None,
        False,
    )
    assert 0 < facts["mean_difference"] <= facts["largest_difference"] < 1e-4
    first, second, third = ended.out.splitlines()
    assert first.startswith("deploy/run: float32, ")
    assert second.startswith("log-probabilities of 64 random pairs, token by token: at most ")
    assert "source.model (SentencePiece) makes its pieces" in third


def test_of_both_directions_one_is_told(quick: list[str], call: Any, calm: list[str], tmp_path: Path) -> None:
    inside = [o.replace("data.", "data.corpus.", 1) if o.startswith("data.") else o for o in quick if o != "data=files"]
    both = [
        "data=bidirectional",
        "+data@data.corpus=files",
        *inside,
        "tokenizer.lowercase=true",
        "training.max_epochs=1",
    ]
    assert call("train", both, tmp_path).code == 0
    best = tmp_path / "saved" / "run" / "best"
    ended = call("export", [f"checkpoint={best}", "output=back", "into=src"], tmp_path)
    assert ended.code == 0, ended.err
    assert "lower-case the text, source.model (SentencePiece) makes its pieces, <2src> goes before them" in ended.out
    assert json.loads((tmp_path / "back" / "export.json").read_text())["language_token"] == "<2src>"
    assert served(tmp_path / "back", LINES, ["<2src>"]) == translated(call, best, tmp_path, calm, "into=src")


def test_what_differs_is_not_written(run: Any, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for gap in (2e-3, float("nan")):
        monkeypatch.setattr(exporter, "difference", lambda *_, gap=gap: (gap, gap))
        told = call("export", [f"checkpoint={run.best}", "output=deploy"], tmp_path).sentence
        assert told.startswith(
            f"transformer-export: what was exported is not the model: log-probabilities differ by {gap:.2g}, "
        )
        assert list(tmp_path.iterdir()) == []
    assert call("export", [f"checkpoint={run.best}", "output=deploy", "quantization=int8"], tmp_path).code == 0


def test_words_have_no_pieces(quick: list[str], call: Any, tmp_path: Path) -> None:
    kept = [o for o in quick if not o.startswith("tokenizer.")]
    assert call("train", [*kept, "tokenizer=word", "model.tying=two", "training.max_epochs=1"], tmp_path).code == 0
    told = call("export", ["checkpoint=saved/run/best", "output=out"], tmp_path).sentence
    assert told == "transformer-export: saved/run/best has a word tokenizer; only SentencePiece is exported"
    assert not (tmp_path / "out").exists()


def test_mistakes_are_one_sentence(run: Any, call: Any, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    cases = {
        "output=there": "there exists; choose another output, or remove it first",
        "output=out quantization=int4": "quantization is int4, but must be null or one of int8, ",
        "output=out into=de": "",
        "output=out checkpoint=nowhere": "",
    }
    for words, expected in cases.items():
        told = call("export", [f"checkpoint={run.best}", *words.split()], tmp_path).sentence
        assert told.startswith(f"transformer-export: {expected}"), told
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
