import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transformer.data.reader import Pair, read_aligned, read_lines, read_tsv
from transformer.error import UserError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.compress,
}
in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
lines_of_text = st.lists(
    st.text(
        st.one_of(
            st.characters(exclude_characters="\n", exclude_categories=["Cs"]), st.sampled_from("\u2028\x85\x0b\0")
        )
    ).filter(lambda line: not line.endswith("\r"))
)


def file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@in_tmp_path
@given(lines=lines_of_text, crlf=st.booleans(), bom=st.booleans(), last=st.booleans())
def test_any_text_is_read_line_by_line(tmp_path: Path, lines: list[str], crlf: bool, bom: bool, last: bool) -> None:
    if lines and lines[0].startswith("\ufeff"):
        bom = True
    end = "\r\n" if crlf else "\n"
    text = end.join(lines) + (end if lines and (last or not lines[-1]) else "")
    path = file(tmp_path / "text", (b"\xef\xbb\xbf" if bom else b"") + text.encode())
    assert list(read_lines(path)) == lines


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\0", "\r"])
def test_only_line_feed_ends_a_line(tmp_path: Path, inside: str) -> None:
    src = file(tmp_path / "a", f"one{inside}one\ntwo\n".encode())
    tgt = file(tmp_path / "b", b"eins\nzwei\n")
    assert list(read_aligned(src, tgt)) == [Pair(f"one{inside}one", "eins"), Pair("two", "zwei")]


def test_carriage_return_goes_once_and_only_at_the_end(tmp_path: Path) -> None:
    assert list(read_lines(file(tmp_path / "a", b"a\rb\r\r\nc\r"))) == ["a\rb\r", "c"]


def test_byte_order_mark_goes_at_the_start_only(tmp_path: Path) -> None:
    assert list(read_lines(file(tmp_path / "a", "\ufeffa\n\ufeffb\n".encode()))) == ["a", "\ufeffb"]


def test_blank_lines_stay_in_their_place(tmp_path: Path) -> None:
    src, tgt = file(tmp_path / "a", b"\na\n\n"), file(tmp_path / "b", b"x\n\ny\n")
    assert list(read_aligned(src, tgt)) == [Pair("", "x"), Pair("a", ""), Pair("", "y")]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read_directly(tmp_path: Path, suffix: str) -> None:
    text = "".join(f"Zeile {i} grün\n" for i in range(30_000)).encode()
    path = file(tmp_path / f"a{suffix}", COMPRESS[suffix](text))
    assert list(read_lines(path)) == text.decode().splitlines()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_several_compressed_streams_in_one_file(tmp_path: Path, suffix: str) -> None:
    path = file(tmp_path / f"a{suffix}", COMPRESS[suffix](b"a\nb") + COMPRESS[suffix](b"b\nc\n"))
    assert list(read_lines(path)) == ["a", "bb", "c"]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("missing", [1, 5, 200])
def test_compressed_file_cut_short(tmp_path: Path, suffix: str, missing: int) -> None:
    text = "".join(f"{i * i * 7919 % 10007}\n" for i in range(5000)).encode()
    path = file(tmp_path / f"a{suffix}", COMPRESS[suffix](text)[:-missing])
    with pytest.raises(UserError, match=rf"a{suffix} is (cut short|corrupt)"):
        list(read_lines(path))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_file_with_wrong_bytes(tmp_path: Path, suffix: str) -> None:
    content = bytearray(COMPRESS[suffix](b"".join(b"%d\n" % (i * i) for i in range(5000))))
    content[len(content) // 2 : len(content) // 2 + 30] = bytes(30)
    with pytest.raises(UserError, match=rf"a{suffix} is corrupt"):
        list(read_lines(file(tmp_path / f"a{suffix}", bytes(content))))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_plain_text_under_a_compressed_name(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match=rf"a{suffix} is corrupt"):
        list(read_lines(file(tmp_path / f"a{suffix}", b"plain text\n" * 10)))


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path) -> None:
    path = file(tmp_path / "latin1.de", "gut\nschön\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin1\.de, line 2: byte 0xf6 at position 4 is not UTF-8"):
        list(read_lines(path))


@pytest.mark.parametrize("raw", [b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"abc\xe2\x82"])
def test_surrogates_overlong_and_unfinished_characters_are_not_utf8(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(UserError, match="line 1: byte"):
        list(read_lines(file(tmp_path / "a", raw)))


def test_missing_file_and_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        list(read_lines(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="cannot be read"):
        list(read_lines(tmp_path))


@pytest.mark.parametrize(
    ("src", "tgt"), [(b"1\n2\n3\n", b"1\n"), (b"1", b"1\n2\n3"), (b"", b"1\n"), (b"1\n\n", b"1\n")]
)
def test_differing_counts_are_told_with_both_counts(tmp_path: Path, src: bytes, tgt: bytes) -> None:
    paths = file(tmp_path / "a.en", src), file(tmp_path / "a.de", tgt)
    n_src, n_tgt = (len(raw.splitlines()) for raw in (src, tgt))
    seen = []
    with pytest.raises(UserError, match=rf"a\.en has {n_src} lines but .*a\.de has {n_tgt}"):
        seen.extend(read_aligned(*paths))
    assert len(seen) == min(n_src, n_tgt)


def test_tsv(tmp_path: Path) -> None:
    path = file(tmp_path / "a.tsv", "one\teins\n\tzwei\n \u2028\tdrei\r\n\n \nx\ty".encode())
    pairs = [Pair("one", "eins"), Pair("", "zwei"), Pair(" \u2028", "drei"), Pair("", ""), Pair("", ""), Pair("x", "y")]
    assert list(read_tsv(path)) == pairs


@pytest.mark.parametrize(("line", "columns"), [("one", "1 column "), ("a\tb\tc", "3 columns")])
def test_tsv_needs_exactly_one_tab(tmp_path: Path, line: str, columns: str) -> None:
    path = file(tmp_path / "a.tsv", f"a\tb\n{line}\nc\td\n".encode())
    with pytest.raises(UserError, match=rf"a\.tsv, line 2: {columns}"):
        list(read_tsv(path))
