"""Translating: one line in, one line out, in order, from a file or standard input alike."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from transformer.commands.stream import input_lines, output_file
from transformer.error import UserError
from transformer.processes import Processes, can_fork

Translate = Callable[..., Any]
TEXT = "the dog\n\nred\u2028cat\u0085 sees\x0bblue\n  \na big house runs\r\nł unknown Ü\nthe"


def wait_for_lines(path: Path, n_lines: int) -> None:
    """Waits until a file that another process writes has so many lines."""
    end = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < n_lines:
        assert time.monotonic() < end
        time.sleep(0.02)


def read_until(terminal: int, mark: bytes) -> bytes:
    """What a terminal shows, up to a mark."""
    told = b""
    while not told.endswith(mark):
        assert select.select([terminal], [], [], 60)[0]
        told += os.read(terminal, 1)
    return told


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


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
def test_processes_find_what_threads_find(translate: Translate, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[Sequence[object]] = []
    run = Processes.run

    def counted(self: Any, given: Sequence[object], done: Any) -> None:
        tasks.append(given)
        run(self, given, done)

    monkeypatch.setattr(Processes, "run", counted)
    lines = ("the dog\n\nred cat\nthe\n" * 5).encode()
    command = ["format=jsonl", "translation.buffer_lines=8", "runtime.threads=2"]
    n_of_each, told = [], set()
    for value in ("true", "null", "false"):
        before = len(tasks)
        ended = translate(*command, f"translation.processes={value}", stdin=lines)
        assert (ended.code, ended.err) == (0, "")
        n_of_each.append(len(tasks) - before)
        told.add(ended.out)
    assert len(told) == 1
    assert n_of_each == [3, 3, 0]


def test_processes_that_cannot_be_are_refused(translate: Translate, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = "translation.processes=true"
    told = translate(wanted, "translation.refill=true").sentence
    assert told == f"transformer-translate: {wanted} needs runtime.device=cpu and no translation.refill"
    monkeypatch.setattr("transformer.processes.sys.platform", "darwin")
    told = translate(wanted).sentence
    assert told == f"transformer-translate: {wanted} needs Linux and its shared memory (/dev/shm); leave it null"
    assert translate(stdin="the dog\n").code == 0


def test_what_is_no_latin_text_is_written_in_utf_8_whatever_the_locale(
    translate: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer.commands.translate.FORMS", {"text": lambda *_: "ł\u4e2d\n"})
    assert translate(stdin="x\n").out == "ł\u4e2d\n"


def test_all_hypotheses_with_their_scores(translate: Translate) -> None:
    ended = translate("format=nbest", "decoding.n_best=3", stdin="the dog\n\na cat\n")
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
        (["input=."], "input . is a folder; name a file in it"),
        (["input=latin"], "latin, line 2: byte 0xe9 at position 4 is not UTF-8; convert the file to UTF-8"),
        (["input=in", "output=no/such/out"], "output no/such/out cannot be written (No such file or directory)"),
        (["input=in", "output="], "an output is named by an empty string; name a file, or leave it out"),
        (["input="], "an input is named by an empty string; name a file, or leave it out"),
        (["input=in", "output=."], "output . cannot be written (Is a directory)"),
        (["input=in", "output=in"], "input and output are the same file, in; name another output"),
        (["input=in", "output=./in"], "input and output are the same file, in; name another output"),
        (["input=nofile", "output=in"], "input nofile does not exist; correct the path or put the file there"),
        (["input=in", "decoding.n_best=9"], "n_best (9) must be at least 1 and at most beam_size (5)"),
        (["input=in", "translation.max_tokens=0"], "max_tokens must be at least 1, not 0"),
        (["input=in", "format=xml"], "format is xml, but must be one of text, nbest, jsonl"),
        (["input=in", "input_format=csv"], "input_format is csv, but must be one of lines, tsv"),
        (["input=in", "heatmap=all"], "heatmap is all, but must be one of mean, heads"),
        (["input=in", "n_heatmaps=0"], "n_heatmaps is 0, but must be at least 1; leave heatmaps out for none"),
        (["input=in", "alignments=in"], "input and output are the same file, in; name another output"),
        (
            ["input=in", "output=x", "alignments=./x"],
            "two outputs are the same file, ./x; name another for one of them",
        ),
        (["input=in", "format=jsonl", "layer=9"], "layer is 9, but the model has decoder layers 1 to "),
        (["input=in", "layer=1"], "layer is 1, but nothing that is asked for shows a single layer: "),
        (["input=in", "heatmaps=p", "heatmap=heads", "layer=1"], "layer is 1, but nothing that is asked for shows "),
        (["input=in", "heatmaps=in"], "heatmaps is in, which is a file; name a folder"),
        (["input=in", "output=out.gz"], "output out.gz cannot be written (only plain text is written; "),
    ],
)
def test_mistakes_are_one_sentence_and_cost_no_file(
    arguments: list[str], sentence: str, translate: Translate, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("the dog\n")
    (tmp_path / "latin").write_bytes(b"fine\ncaf\xe9\n")
    named = any(argument.startswith("output=") or argument == "input=latin" for argument in arguments)
    ended = translate(*arguments, *([] if named else ["output=latin"]))
    assert ended.sentence.startswith(f"transformer-translate: {sentence}")
    assert (tmp_path / "latin").read_bytes() == b"fine\ncaf\xe9\n"
    assert (tmp_path / "in").read_text() == "the dog\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "latin"]


@pytest.mark.parametrize("text", [b"caf\xe9\n", b"a\tb\tc\td\te\n"])
def test_what_the_first_line_says_costs_no_output(text: bytes, translate: Translate, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(text)
    (tmp_path / "before").write_text("kept\n")
    assert "line 1" in translate("input=in", "input_format=tsv", "output=before").sentence
    assert (tmp_path / "before").read_text() == "kept\n"


def test_what_is_no_file_may_be_two_outputs(translate: Translate) -> None:
    ended = translate("output=/dev/null", "alignments=/dev/null", stdin="the dog\n")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("key", ["output", "alignments"])
def test_a_full_disk_is_told_with_the_file(translate: Translate, key: str) -> None:
    other = [] if key == "output" else ["output=/dev/null"]
    ended = translate(f"{key}=/dev/full", *other, stdin="the dog\n")
    assert ended.sentence == "transformer-translate: /dev/full: No space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_standard_output_without_room_is_told_once(run: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("the dog\n")
    words = [sys.executable, "-m", "transformer.commands.translate", f"checkpoint={run.best}", "input=in"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert ended.stderr == "transformer-translate: standard output: No space left on device\n"
    assert ended.returncode == 2


def test_a_closed_stream_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="standard input is closed; say input=FILE"):
        next(input_lines(None))
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UserError, match="standard output is closed; say output=FILE"), output_file(None):
        pass


def test_undecodable_standard_input_is_told_with_its_line(translate: Translate) -> None:
    ended = translate(stdin=b"fine\ncaf\xe9\n")
    assert ended.sentence.startswith("transformer-translate: standard input, line 2: not UTF-8 (")


def test_a_line_that_is_too_long_is_cut_and_the_rest_stays(translate: Translate) -> None:
    out = translate(stdin=f"the dog\n{'house ' * 100}\na cat\n").out.splitlines()
    assert len(out) == 3
    assert out[::2] == translate(stdin="the dog\na cat\n").out.splitlines()


def test_json_has_all_that_is_known_of_a_line(translate: Translate) -> None:
    ended = translate("format=jsonl", "decoding.n_best=2", stdin="the dog\n\na \u00fc cat\n")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["line"], line["source"]) for line in lines] == [(1, "the dog"), (2, ""), (3, "a \u00fc cat")]
    assert "\u00fc" in ended.out
    rows = [
        row.split("\t") for row in translate("format=nbest", "decoding.n_best=2", stdin="the dog\n").out.splitlines()
    ]
    for row, found in zip(rows, lines[0]["translations"], strict=True):
        assert row == ["1", f"{found['score']:.4f}", f"{found['log_prob']:.4f}", found["text"]]
    for line in lines:
        for found in line["translations"]:
            words = found["text"].split()
            assert [tgt for _, tgt in found["alignment"]] == list(range(len(words)))
            assert all(0 <= src < len(line["source"].split()) for src, _ in found["alignment"])


def test_alignments_and_pictures_are_of_the_best_translations(
    translate: Translate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "the dog sees a cat\n\nthe house\na bird\n"
    more = ["alignments=al", "heatmaps=pictures", "n_heatmaps=3", "output=out", "decoding.n_best=2"]
    assert translate(*more, stdin=text).code == 0
    found = [json.loads(line)["translations"][0] for line in translate("format=jsonl", stdin=text).out.splitlines()]
    expected = [" ".join(f"{src}-{tgt}" for src, tgt in best["alignment"]) for best in found]
    assert (tmp_path / "al").read_text().split("\n") == [*expected, ""]
    assert (tmp_path / "out").read_text() == translate(stdin=text).out
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert caplog.messages == ["heatmaps: pictures of the first 3 lines only; n_heatmaps=6 has more"]
    caplog.clear()
    assert names == ["line_000001.png", "line_000003.png"]  # nothing to see of a blank line
    assert translate("heatmaps=heads", "heatmap=heads", "n_heatmaps=4", stdin=text.splitlines()[0]).code == 0
    assert caplog.messages == []
    assert [path.read_bytes()[:4] for path in (tmp_path / "heads").iterdir()] == [b"\x89PNG"]


def test_demands_come_in_columns(translate: Translate) -> None:
    plain = translate(stdin="the dog sees\n").out.strip()
    assert translate("input_format=tsv", stdin="the dog sees\n\n").out == f"{plain}\n\n"
    first = translate("input_format=tsv", stdin="the dog sees\ta cat\n").out
    assert first.startswith("a cat")
    both = translate("input_format=tsv", stdin="the dog sees\t\tgreen ||| blue\n").out
    assert "green" in both
    assert "blue" in both
    without = translate("input_format=tsv", stdin=f"the dog sees\t\t\t{plain.split()[0]}\n").out
    assert plain.split()[0] not in without.split()
    told = translate("input_format=tsv", stdin="x\na\tb\tc\td\te\n").sentence
    assert told.startswith("transformer-translate: standard input, line 2: 5 columns, but at most 4 are known: ")


def test_an_ensemble_of_a_model_with_itself_changes_nothing(run: Any, translate: Translate) -> None:
    more = ["decoding.n_best=3", "format=jsonl"]
    alone = [json.loads(line) for line in translate(*more, stdin=TEXT).out.splitlines()]
    together = translate(*more, f"checkpoint=[{run.best},{run.best}]", stdin=TEXT)
    for a, b in zip(alone, map(json.loads, together.out.splitlines()), strict=True):
        for x, y in zip(a["translations"], b["translations"], strict=True):
            assert (x["text"], x["alignment"]) == (y["text"], y["alignment"])
            assert x["log_prob"] == pytest.approx(y["log_prob"], abs=1e-4)


def test_another_vocabulary_does_not_join_an_ensemble(run: Any, translate: Translate) -> None:
    other = Path(__file__).parent.parent / "fixtures" / "checkpoint_v1"
    told = translate(f"checkpoint=[{run.best},{other}]", stdin="x\n").sentence
    assert f"{other} has another vocabulary than {run.best}; models that decode together need the same" in told
    assert told.endswith(f"(trained with tokenizer=existing tokenizer.folder={run.best} the other would have it)")


def test_a_million_lines_would_not_be_held(run: Any, calm: list[str], tmp_path: Path) -> None:
    """What is read ahead is bounded: when the first line comes out, no more than the buffer has gone in."""
    command = [sys.executable, "-m", "transformer.commands.translate", f"checkpoint={run.best}", *calm]
    command += ["translation.buffer_lines=4", "decoding=greedy", "format=jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(1, 4):
            process.stdin.write(b"the dog\n" * 4)
            process.stdin.flush()
            told = [json.loads(process.stdout.readline())["line"] for _ in range(4)]
            assert told == list(range(4 * number - 3, 4 * number + 1))
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait() == 0


def test_an_interrupt_leaves_whole_lines(run: Any, calm: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "transformer.commands.translate", f"checkpoint={run.best}", *calm]
    command += ["translation.buffer_lines=2", "decoding=greedy", "output=out", "alignments=al"]
    heeding = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # nohup and the like have it ignored, by children too
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, cwd=tmp_path, preexec_fn=heeding) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"the dog\n" * 5)
        process.stdin.flush()
        wait_for_lines(tmp_path / "al", 4)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""
    for name in ("out", "al"):
        assert (tmp_path / name).read_bytes().count(b"\n") == 4
        assert (tmp_path / name).read_bytes().endswith(b"\n")


def test_on_a_terminal_each_typed_line_is_answered_and_no_bar_is_in_the_way(
    run: Any, calm: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "transformer.commands.translate", f"checkpoint={run.best}", *calm]
    terminal, side = pty.openpty()
    with subprocess.Popen(command, stdin=side, stdout=side, stderr=side, cwd=tmp_path) as process:
        os.close(side)
        told = read_until(terminal, b"Ctrl-D ends\r\n")
        for _ in range(2):
            os.write(terminal, b"the dog\n")
            told = read_until(terminal, b"the dog\r\n")
            told = read_until(terminal, b"\r\n")
            assert told.strip()
            assert b"\x1b" not in told
        os.write(terminal, b"\x04")
        assert process.wait(60) == 0
    os.close(terminal)
