"""Lines in and out of commands."""

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transformer.commands.stream import (
    check_counts,
    check_files,
    check_standard_input,
    count_lines,
    input_lines,
    json_line,
    requests,
)
from transformer.decoding.request import Request
from transformer.error import UserError


@given(
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    parts=st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"\r", b"\xe2\x80\xa8"])),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_as_many_lines_are_counted_as_are_read(mark: bytes, parts: list[bytes], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(mark + b"".join(parts))
    assert count_lines(str(file)) == len(list(input_lines(str(file))))


def test_lines_are_counted_across_blocks(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1_500_000 + b"\n" + b"y" * 1_500_000)
    assert count_lines(str(tmp_path / "file")) == 2


def test_what_would_take_long_to_count_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "in.gz").write_bytes(gzip.compress(b"a\nb\n"))
    (tmp_path / "one").write_text("a\n")
    assert count_lines(None) is None
    assert count_lines(str(tmp_path / "in.gz")) is None
    check_counts(str(tmp_path / "in.gz"), str(tmp_path / "one"))  # told when they are read


def test_columns_are_demands() -> None:
    lines = ["a b", "a\tb c", "a\t\t x ||| y|||\tz ", ""]
    expected = [Request("a b"), Request("a", "b c"), Request("a", "", ("x", "y"), ("z",)), Request("")]
    assert list(requests(lines, "tsv", "file")) == expected
    assert list(requests(["a\tb"], "lines", "file")) == [Request("a\tb")]
    with pytest.raises(UserError, match="file, line 2: 5 columns, but at most 4 are known"):
        list(requests(["a", "a\t\t\t\t"], "tsv", "file"))


def test_one_file_by_two_names_is_one_output(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match="two outputs are the same file"):
        check_files([], [str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(UserError, match="input and output are the same file"):
        check_files([str(tmp_path / "a")], [str(tmp_path / "b")])
    check_files([str(tmp_path / "a")], [str(tmp_path / "c"), None])


def test_a_file_that_is_read_from_standard_input_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("x\n")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    with (tmp_path / "a").open() as read, (tmp_path / "a").open("a") as end, (tmp_path / "c").open("w") as other:
        monkeypatch.setattr("sys.stdin", read)
        monkeypatch.setattr("sys.stdout", other)
        check_standard_input([None, str(tmp_path / "d"), str(tmp_path / "c"), "/dev/null"])
        for output in ("a", "b"):
            with pytest.raises(UserError, match=f"standard input comes from the file that .*/{output} is written to"):
                check_standard_input([None, str(tmp_path / output)])
        monkeypatch.setattr("sys.stdout", end)
        with pytest.raises(UserError, match="the file that standard output is written to"):
            check_standard_input([None])
    check_standard_input([None])  # both are closed
    monkeypatch.setattr("sys.stdin", None)
    check_standard_input([str(tmp_path / "a")])


@given(st.text())
def test_a_json_line_is_one_line_for_every_reader(text: str) -> None:
    line = json_line({"text": text})
    assert len(line.splitlines()) == 1
    assert line.endswith("\n")
