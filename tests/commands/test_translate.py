"""Translating: one line in, one line out, in order, from a file or standard input alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer.commands.translate import format_line
from transformer.decoding.translator import Translation

Translate = Callable[..., Any]
TEXT = "the dog\n\nred\u2028cat\u0085 sees\x0bblue\n  \na big house runs\r\nł unknown Ü\nthe"


@pytest.fixture
def translate(run: Any, call: Any, calm: list[str], tmp_path: Path) -> Translate:
    """Runs the command in an empty folder."""

    def _translate(*more: str, stdin: str | bytes = "") -> Any:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        return call("translate", [f"checkpoint={run.best}", *calm, *more], tmp_path, given)

    return _translate


def test_one_line_gives_one_line_in_order(translate: Translate) -> None:
    ended = translate(stdin=TEXT)
    assert ended.code == 0
    assert ended.err == ""
    lines = ended.out.split("\n")
    assert len(lines) == 8
    assert lines[-1] == ""
    assert [bool(line) for line in lines[:7]] == [True, False, True, False, True, True, True]
    for i, line in enumerate(TEXT.split("\n")):
        assert translate(stdin=line).out == (f"{lines[i]}\n" if line else "")


def test_file_and_standard_input_give_the_same(translate: Translate, tmp_path: Path) -> None:
    told = translate(stdin=TEXT).out
    (tmp_path / "in").write_bytes(TEXT.encode())
    assert translate("input=in").out == told
    ended = translate("input=in", "output=out")
    assert (ended.out, ended.err) == ("", "")
    assert (tmp_path / "out").read_bytes() == told.encode()
    assert translate("output=out2", stdin=TEXT).out == ""
    assert (tmp_path / "out2").read_bytes() == told.encode()


@pytest.mark.parametrize(
    "content", [b"", b"\xef\xbb\xbf", b"\xef\xbb\xbfthe dog\n", b"\n", b"\n\n", b"the dog", b"a\r\n\r\nb"]
)
def test_edges_of_a_file_are_the_same_on_standard_input(content: bytes, translate: Translate, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(content)
    told = translate("input=in").out
    assert translate(stdin=content).out == told
    assert told.count("\n") == content.removeprefix(b"\xef\xbb\xbf").count(b"\n") + (
        content[-1:] not in (b"", b"\n", b"\xbf")
    )


def test_lines_read_ahead_change_nothing(translate: Translate) -> None:
    assert (
        translate("translation.buffer_lines=2", "translation.max_tokens=20", stdin=TEXT).out
        == translate(stdin=TEXT).out
    )


def test_what_is_no_latin_text_is_written_in_utf_8_whatever_the_locale(
    translate: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer.commands.translate.format_line", lambda *_: "ł\u4e2d\n")
    assert translate(stdin="x\n").out == "ł\u4e2d\n"


def test_all_hypotheses_with_their_scores(translate: Translate) -> None:
    ended = translate("n_best=true", "decoding.n_best=3", stdin="the dog\n\na cat\n")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "1", "2", "3", "3", "3"]
    assert rows[3] == ["2", "0.0000", "0.0000", ""]
    for first in (0, 4):
        scores = [float(row[1]) for row in rows[first : first + 3]]
        assert scores == sorted(scores, reverse=True)
        assert all(float(row[2]) < 0 for row in rows[first : first + 3])
        assert len({row[3] for row in rows[first : first + 3]}) == 3
    best = translate(stdin="the dog\n\na cat\n").out.splitlines()
    assert [rows[0][3], rows[3][3], rows[4][3]] == best


def test_the_search_may_be_another(translate: Translate) -> None:
    assert translate("decoding=greedy", stdin=TEXT).out.count("\n") == 7


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["input=nofile"], "input nofile does not exist; correct the path or put the file there"),
        (["input=."], ". cannot be read: Is a directory"),
        (["input=latin"], "latin, line 2: byte 0xe9 at position 4 is not UTF-8; convert the file to UTF-8"),
        (["input=in", "output=no/such/out"], "output no/such/out cannot be written (No such file or directory)"),
        (["input=in", "output=."], "output . cannot be written (Is a directory)"),
        (["input=in", "output=in"], "input and output are the same file, in; name another output"),
        (["input=in", "output=./in"], "input and output are the same file, in; name another output"),
        (["input=nofile", "output=in"], "input nofile does not exist; correct the path or put the file there"),
        (["input=in", "decoding.n_best=9"], "n_best (9) must be at least 1 and at most beam_size (5)"),
        (["input=in", "translation.max_tokens=0"], "max_tokens must be at least 1, not 0"),
    ],
)
def test_mistakes_are_one_sentence_and_cost_no_file(
    arguments: list[str], sentence: str, translate: Translate, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("the dog\n")
    (tmp_path / "latin").write_bytes(b"fine\ncaf\xe9\n")
    ended = translate(*arguments)
    assert ended.sentence.startswith(f"transformer-translate: {sentence}")
    assert (tmp_path / "in").read_text() == "the dog\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "latin"]


def test_undecodable_standard_input_is_told_with_its_line(translate: Translate) -> None:
    ended = translate(stdin=b"fine\ncaf\xe9\n")
    assert ended.sentence.startswith("transformer-translate: standard input, line 2: not UTF-8 (")


def test_a_line_that_is_too_long_is_cut_and_the_rest_stays(translate: Translate) -> None:
    out = translate(stdin=f"the dog\n{'house ' * 100}\na cat\n").out.splitlines()
    assert len(out) == 3
    assert out[::2] == translate(stdin="the dog\na cat\n").out.splitlines()


def test_the_form_of_a_line() -> None:
    found = [Translation("eins", ["x"], -1.5, -0.75), Translation("zwei", ["y"], -2.0, -1.0)]
    assert format_line(7, found, n_best=False) == "eins\n"
    assert format_line(7, found, n_best=True) == "7\t-0.7500\t-1.5000\teins\n7\t-1.0000\t-2.0000\tzwei\n"
