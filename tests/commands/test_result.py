"""What evaluating prints and writes."""

import json
from pathlib import Path

import pytest

from transformer.commands.result import case_note, labels, note, show, write, write_hypotheses
from transformer.commands.result import shown as shown_lines
from transformer.data.corpus import Pair
from transformer.evaluation.metrics import Score
from transformer.evaluation.report import Row


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["saved/a/best", "saved/b/best"], ["a/best", "b/best"]),
        (["x/a/best", "y/a/best"], ["x/a/best", "y/a/best"]),
        (["saved/a/best"], ["a/best"]),
        (["best", "a/best"], ["best", "a/best"]),
        (["out.txt", "./out.txt"], ["out.txt", "./out.txt"]),
    ],
)
def test_labels_are_short_and_tell_systems_apart(paths: list[str], expected: list[str]) -> None:
    assert list(labels(paths).values()) == expected


@pytest.mark.parametrize(
    ("n", "shown"), [(0, []), (1, [0]), (3, [0, 3, 6]), (10, list(range(10))), (99, list(range(10)))]
)
def test_translations_are_shown_evenly_spread(n: int, shown: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [Pair(f"s{i}", f"r{i}") for i in range(10)]
    show(shown_lines(pairs, [f"h{i}" for i in range(10)], n))
    blocks = [f"\nsource      s{i}\ntranslation h{i}\nreference   r{i}\n" for i in shown]
    assert capsys.readouterr().out == "".join(blocks)


def test_translations_that_are_shown_move_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    show([("a\x1b[31mb", "c\x07", "d\re")])
    assert capsys.readouterr().out == "\nsource      a [31mb\ntranslation c \nreference   d e\n"


@pytest.mark.parametrize(
    ("lowercase", "names", "told"),
    [
        (True, ["BLEU", "BLEU-lc", "chrF2", "loss", "perplexity"], "BLEU and chrF2 take each capital"),
        (True, ["chrF2++", "COMET"], "chrF2++ takes each capital"),
        (True, ["BLEU-lc", "loss", "COMET"], ""),
        (True, [], ""),
        (False, ["BLEU", "chrF2"], ""),
    ],
)
def test_scores_that_count_case_are_told_of_a_model_without(lowercase: bool, names: list[str], told: str) -> None:
    row = Row("system", "test", 2, tuple(Score(name, 1.0, "sig", None, None) for name in names))
    sentence = case_note(lowercase, [row, row])
    assert sentence.startswith("the model writes lower case, and " if told else "")
    assert told in sentence
    assert bool(sentence) == bool(told)


def test_a_note_is_a_paragraph_of_short_lines_and_nothing_is_none() -> None:
    assert note("") == ""
    paragraph = note("word " * 40)
    assert paragraph.startswith("note: word")
    assert paragraph.endswith("word\n\n")
    assert max(map(len, paragraph.split("\n"))) <= 80


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    row = Row("system", "test", 2, (Score("BLEU", 12.5, "sig", None, None),))
    hypotheses = write_hypotheses(tmp_path / "new" / "folder", "test", ["ł\u2028x", ""])
    assert hypotheses.read_bytes() == "ł\u2028x\n\n".encode()
    path = write(tmp_path / "new" / "folder", "test", [row], {"step": 3})
    assert path == tmp_path / "new" / "folder" / "test.json"
    assert "| system | test | 2 | 12.50 |" in (path.parent / "test.md").read_text()
    read = json.loads(path.read_text())
    assert read["step"] == 3
    assert read["results"][0]["scores"]["BLEU"] == {"value": 12.5, "low": None, "high": None, "signature": "sig"}
