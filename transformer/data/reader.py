r"""Lines and sentence pairs out of files: plain, .gz, .xz, .bz2, .zst. Lines end at \n only, so nothing ever shifts."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import zstandard

from transformer.error import UserError

_BOM = b"\xef\xbb\xbf"


class Pair(NamedTuple):
    """One sentence pair: raw lines without their line break; a side may be empty."""

    src: str
    tgt: str


class _Zstd(io.RawIOBase):
    """A .zst file of any number of frames; unlike zstandard's own reader, a file cut short is an EOFError."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._started = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer, as io.BufferedReader gives
        while not self._ready:
            raw = self._frame.unused_data if self._frame.eof else self._file.read(1 << 17)
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._started = False
                raw = raw or self._file.read(1 << 17)
            if not raw:
                if self._started:
                    raise EOFError("the last frame is not complete")
                return 0
            self._started = True
            self._ready = self._frame.decompress(raw)
        n = min(len(buffer), len(self._ready))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


def _plain(path: Path) -> BinaryIO:
    return path.open("rb")


_OPENERS: dict[str, Callable[[Path], BinaryIO]] = {
    ".gz": lambda path: cast(BinaryIO, gzip.GzipFile(path, "rb")),
    ".xz": lambda path: cast(BinaryIO, lzma.LZMAFile(path, "rb")),  # noqa: SIM115  # read_lines closes it
    ".bz2": lambda path: cast(BinaryIO, bz2.BZ2File(path, "rb")),
    ".zst": lambda path: io.BufferedReader(_Zstd(path), 1 << 17),
}


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file of bytes, decompressed by its suffix; trouble inside the `with` block is told as the user's.

    Raises:
        UserError: the file is missing or unreadable, cut short or corrupt.
    """
    try:
        with _OPENERS.get(path.suffix.lower(), _plain)(path) as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; correct the path or put the file there") from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 report damage so
            raise UserError(f"{path} is corrupt ({error}); fetch or compress it again") from error
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        raise UserError(f"{path} is corrupt ({error}); fetch or compress it again") from error
    except EOFError as error:
        raise UserError(f"{path} is cut short ({error}); fetch or compress it again") from error


def read_lines(path: Path) -> Iterator[str]:
    r"""Streams the lines of a UTF-8 file, decompressed by its suffix.

    A line ends at \n and nowhere else (not at U+2028, U+0085, \x0b or a lone \r); one \r before the \n and a byte order
    mark at the start of the file are dropped; NUL bytes are kept; a last line without \n counts.

    Raises:
        UserError: as `open_file`; or a line is not UTF-8 (with its number).
    """
    with open_file(path) as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(_BOM)
                if not raw:  # nothing but the mark: no line
                    return
            try:
                text = raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, line {number}: byte 0x{error.object[error.start]:02x} at position {error.start + 1} "
                    "is not UTF-8; convert the file to UTF-8 (for example with iconv)"
                ) from error
            yield text


def read_aligned(src: Path, tgt: Path) -> Iterator[Pair]:
    """Streams the pairs of two line-aligned files; line n of one belongs to line n of the other.

    Raises:
        UserError: as `read_lines`; or the files differ in their number of lines (the last pair comes before the error).
    """
    src_lines, tgt_lines = read_lines(src), read_lines(tgt)
    n = 0
    while True:
        src_line, tgt_line = next(src_lines, None), next(tgt_lines, None)
        if src_line is None or tgt_line is None:
            break
        n += 1
        yield Pair(src_line, tgt_line)
    n_src = n + (src_line is not None) + sum(1 for _ in src_lines)
    n_tgt = n + (tgt_line is not None) + sum(1 for _ in tgt_lines)
    if n_src != n_tgt:
        raise UserError(
            f"{src} has {n_src} lines but {tgt} has {n_tgt}; line n of one must translate line n of the other"
        )


def read_tsv(path: Path) -> Iterator[Pair]:
    """Streams the pairs of a file with one pair a line: source, one tab, target. There is no quoting and no header.

    A line of nothing but spaces is a pair of empty sides, as it would be in two files.

    Raises:
        UserError: as `read_lines`; or a line has not exactly one tab (with its number).
    """
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t") if line.strip(" ") else ["", ""]
        if len(columns) != 2:
            raise UserError(
                f"{path}, line {number}: {len(columns)} column{'s' * (len(columns) > 1)} where 2 are needed "
                "(source, one tab, target)"
            )
        yield Pair(*columns)
