"""Scoring given translations: the same numbers as the search's own, the same loss as evaluation's."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(("decoding", "precision"), [("greedy", "fp32"), ("beam", "fp32"), ("beam", "bf16")])
def test_it_is_the_log_probability_that_the_search_reports(
    decoding: str, precision: str, call: Any, calm: list[str], tmp_path: Path
) -> None:
    fixtures = Path(__file__).parent.parent / "fixtures"
    shutil.copy(fixtures / "checkpoint_v1_source.txt", tmp_path / "src")
    common = [f"checkpoint={fixtures / 'checkpoint_v1'}", f"runtime.precision={precision}", *calm]
    more = [
        "input=src",
        "format=jsonl",
        f"decoding={decoding}",
    ]
    translated = call("translate", [*common, *more], tmp_path).out
    found = [json.loads(line)["translations"][0] for line in translated.splitlines()]
    (tmp_path / "tgt").write_text("".join(f"{best['text']}\n" for best in found))
    ended = call("score", [*common, "src=src", "tgt=tgt", "format=jsonl"], tmp_path)
    assert ended.code == 0, ended.err
    scores = [json.loads(line) for line in ended.out.splitlines()]
    compared = 0
    for best, score in zip(found, scores, strict=True):
        assert score["log_prob"] == pytest.approx(sum(score["token_log_probs"]))
        if best["tokens"] and score["tokens"][:-1] == best["tokens"]:  # else the search wrote the text in other pieces
            # Rounded products depend on what else is in the batch.
            assert score["log_prob"] == pytest.approx(best["log_prob"], abs=1e-3 if precision == "fp32" else 0.05)
            compared += 1
    assert compared > 3


def test_the_corpus_has_the_loss_that_evaluation_reports(
    run: Any, call: Any, calm: list[str], tmp_path: Path, tiny_text: Path
) -> None:
    files = tiny_text / "test.src", tiny_text / "test.tgt"
    scored = call("score", [f"checkpoint={run.best}", f"src={files[0]}", f"tgt={files[1]}", *calm], tmp_path)
    told = re.fullmatch(r"12 pairs, ([\d,]+) tokens: loss (\d+\.\d+), perplexity (\d+\.\d+)\n", scored.err)
    assert told, scored.err
    evaluated = call("evaluate", [f"checkpoint={run.best}", "output_dir=out", "n_bootstrap=0", *calm], tmp_path)
    assert evaluated.code == 0
    scores = json.loads((tmp_path / "out" / "test.json").read_text())["results"][0]["scores"]
    assert float(told[2]) == pytest.approx(scores["loss"]["value"], abs=1e-4)
    assert f"tokens:{told[1].replace(',', '')}|" in scores["loss"]["signature"]
    rows = [line.split("\t") for line in scored.out.splitlines()]
    assert sum(int(row[1]) for row in rows) == int(told[1].replace(",", ""))
    for log_prob, n, mean in rows:
        assert float(log_prob) / int(n) == pytest.approx(float(mean), abs=1e-4)


def test_mistakes_are_one_sentence(run: Any, call: Any, calm: list[str], tmp_path: Path, tiny_text: Path) -> None:
    (tmp_path / "in").write_text("the dog\n")
    cases = {
        "src=in tgt=nofile": "input nofile does not exist; correct the path or put the file there",
        "src=in tgt=in output=in": "input and output are the same file, in; name another output",
        "src=in tgt=in format=xml": "format is xml, but must be one of tsv, jsonl",
        f"src=in tgt={tiny_text}/test.tgt": "in has 1 lines but ",
        "src=in tgt=two output=kept": "in has 1 lines but two has 2; line n of one must translate line n of the other",
        "src=two tgt=long": "the target of pair 2 has ",
        "src=in": "tgt is not given; say tgt=...",
    }
    (tmp_path / "two").write_text("the dog\na cat")
    (tmp_path / "long").write_text(f"the dog\n{'house ' * 100}")
    (tmp_path / "kept").write_text("precious\n")
    for arguments, sentence in cases.items():
        told = call("score", [f"checkpoint={run.best}", *calm, *arguments.split()], tmp_path).sentence
        assert told.startswith(f"transformer-score: {sentence}")
    assert (tmp_path / "in").read_text() == "the dog\n"
    assert (tmp_path / "kept").read_text() == "precious\n"


def test_blank_lines_are_scored_and_nothing_is_no_loss(run: Any, call: Any, calm: list[str], tmp_path: Path) -> None:
    (tmp_path / "blank").write_text("\nthe dog\n")
    (tmp_path / "empty").write_text("")
    common = [f"checkpoint={run.best}", *calm]
    ended = call("score", [*common, "src=blank", "tgt=blank"], tmp_path)
    assert next(line.split("\t")[1] for line in ended.out.splitlines()) == "1"  # EOS alone
    assert ended.err.startswith("2 pairs, 1 of them blank on a side, ")
    ended = call("score", [*common, "src=empty", "tgt=empty"], tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, "", "0 pairs, 0 tokens\n")
