"""Comparing systems: the figures are those of the sacrebleu command; checkpoints and text files side by side."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REFERENCES = [
    f"the {a} {b} sees a {c} house and runs" for a in ("red", "big") for b in ("dog", "cat", "bird") for c in "xyz"
]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A reference, a source, and three systems, the second worse than the first, the third its copy."""
    worse = [line.replace("sees", "see").replace("big", "blue") for line in REFERENCES]
    good = [line.replace(" x ", " z ") for line in REFERENCES]
    for name, lines in (("ref", REFERENCES), ("src", REFERENCES), ("good", good), ("worse", worse), ("copy", good)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def compared(call: Any, calm: list[str], folder: Path, *more: str) -> tuple[Any, Any]:
    ended = call("compare", ["output_dir=out", "significance.n_samples=200", *calm, *more], folder)
    assert ended.code == 0, ended.err
    return ended, json.loads((folder / "out" / "comparison.json").read_text())


def test_values_and_p_are_those_of_the_sacrebleu_command(call: Any, calm: list[str], texts: Path) -> None:
    ended, data = compared(call, calm, texts, "systems=[good,worse,copy]", "ref=ref")
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "good", "worse", "--paired-bs", "-f", "json", "-w", "4"]
    env = {"SACREBLEU_SEED": "12345", "PATH": ""}
    told = subprocess.run(
        [*command, "--paired-bs-n", "200"], cwd=texts, env=env, capture_output=True, text=True, check=True
    )
    bleu = json.loads(told.stdout)
    rows = {row["system"]: row for row in bleu}
    [theirs] = [value for name, value in rows.items() if name != next(iter(rows))]
    [ours] = [d for d in data["differences"] if (d["system"], d["metric"]) == ("worse", "BLEU")]
    assert ours["value"] == pytest.approx(theirs["BLEU"]["score"], abs=1e-3)
    assert ours["p_value"] == pytest.approx(theirs["BLEU"]["p_value"], abs=1e-4)
    [copy] = [d for d in data["differences"] if (d["system"], d["metric"]) == ("copy", "BLEU")]
    assert (copy["difference"], copy["p_value"]) == (0, 1)
    assert "F1 by frequency of the word in the references" in ended.out
    assert "worse" in ended.out
    page = (texts / "out" / "comparison.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page.replace("http-equiv", "")


def test_checkpoints_and_files_stand_side_by_side(
    run: Any, call: Any, calm: list[str], tmp_path: Path, tiny_text: Path
) -> None:
    text = tiny_text / "test.tgt"
    ended, data = compared(call, calm, tmp_path, f"systems=[{run.best},{text}]", "significance=randomization")
    assert [row["system"] for row in data["scores"]] == ["run/best", "/".join(text.parts[-2:])]
    assert data["scores"][1]["scores"]["BLEU"]["value"] == pytest.approx(100)
    hypotheses = run.folder / "results" / "run" / "final" / "test.hyp.txt"
    call("evaluate", [f"checkpoint={run.best}", "output_dir=ev", "n_bootstrap=0", *calm], tmp_path)
    assert (tmp_path / "out" / "system1.hyp.txt").read_text() == (tmp_path / "ev" / "test.hyp.txt").read_text()
    assert hypotheses.exists()
    assert "by frequency of the word in the training text" in ended.out
    assert data["test"]["name"] == "paired approximate randomisation"


def test_training_text_can_be_named_for_word_frequencies(call: Any, calm: list[str], texts: Path) -> None:
    ended, _ = compared(call, calm, texts, "systems=[good,worse]", "ref=ref", "src=src", "train_tgt=ref")
    assert "by frequency of the word in the training text" in ended.out


def test_mistakes_are_one_sentence(run: Any, call: Any, calm: list[str], texts: Path) -> None:
    (texts / "short").write_text("one line\n")
    cases = {
        "systems=[good] ref=ref": "systems names good; name two or more different ones",
        "systems=good ref=ref": "systems names good; name two or more different ones",
        "systems=[] ref=ref": "systems is [], but must be a name or a list of names",
        "systems=[good,worse] ref=ref train_tgt=nofile": "nofile does not exist; correct the path or put the file",
        "systems=[good,good] ref=ref": "systems names good, good; name two or more different ones",
        "systems=[good,worse]": "no system is a checkpoint, so its test split is not known; say ref=FILE, and src=FILE",
        "systems=[good,short] ref=ref": "system short has 1 lines, but there are 18 references",
        "systems=[good,nofile] ref=ref": "nofile does not exist; correct the path or put the file there",
        f"systems=[good,{run.best}] ref=ref": f"system {run.best} is a checkpoint, so it needs source text; say ",
        "systems=[good,worse] ref=ref into=de": "into is de, but no system is a checkpoint; leave it out and say ref=",
        "systems=[good,worse] ref=ref decoding.beam_size=3": "decoding.beam_size is given, but no system is a checkpoi",
        "systems=[good,worse] ref=ref translation.max_tokens=9": "translation.max_tokens is given, but no system is ",
        "systems=[good,worse] testset=wmt14": "testset is wmt14, but no system is a checkpoint; leave it out and say ",
        "systems=[good,worse] ref=ref testset=wmt14": "ref is ref and testset is wmt14; give one of the two",
        "systems=[good,worse] ref=ref split=a": "ref is ref and split is a; give one of the two",
        "systems=[good,worse] ref=ref n_examples=-1": "n_examples is -1, but must be at least 0",
        f"systems=[good,{run.best}] split=all": "split is all, but systems are compared on one split at a time",
    }
    for arguments, sentence in cases.items():
        told = call("compare", ["output_dir=out", *calm, *arguments.split()], texts).sentence
        assert told.startswith(f"transformer-compare: {sentence}")
    assert not (texts / "out").exists()


def test_a_file_that_is_compared_is_not_written_over(run: Any, call: Any, calm: list[str], texts: Path) -> None:
    (texts / "pages").mkdir()
    earlier = texts / "pages" / "system2.hyp.txt"
    earlier.write_bytes((texts / "good").read_bytes())
    arguments = [f"systems=[pages/system2.hyp.txt,{run.best}]", f"src={texts / 'ref'}", "ref=ref", *calm]
    assert call("compare", [*arguments, "output_dir=pages"], texts).sentence == (
        "transformer-compare: input and output are the same file, pages/system2.hyp.txt; name another output"
    )
    assert earlier.read_bytes() == (texts / "good").read_bytes()
    assert call("compare", [*arguments, "output_dir=ref"], texts).sentence == (
        "transformer-compare: output_dir is ref, which is a file; name a folder"
    )
