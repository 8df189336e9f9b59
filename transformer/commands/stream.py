"""Lines that stream in and out of commands: files or standard streams, requests, output that is never half a line."""

import codecs
import contextlib
import errno
import io
import itertools
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar

from transformer.data.reader import read_lines
from transformer.decoding.request import Request
from transformer.error import UserError

Made = TypeVar("Made")

PHRASES = " ||| "
COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room for what is written


def input_lines(path: str | None) -> Iterator[str]:
    """Lines without their breaks, as the reader of corpora cuts them: at \\n alone, so that nothing shifts."""
    if path is not None:
        yield from read_lines(Path(path))
        return
    if sys.stdin is None:
        raise UserError("standard input is closed; say input=FILE")
    for number, line in enumerate(sys.stdin.buffer, 1):
        if number == 1 and not (line := line.removeprefix(codecs.BOM_UTF8)):
            return
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: not UTF-8 ({error.reason}); convert it first") from error


def typed(path: str | None) -> bool:
    """Whether somebody types the lines on a terminal."""
    return path is None and sys.stdin is not None and sys.stdin.isatty()


def printed(path: str | None) -> bool:
    """Whether the output goes to a terminal."""
    return path is None and sys.stdout is not None and sys.stdout.isatty()


def requests(lines: Iterable[str], form: str, name: str) -> Iterator[Request]:
    """Lines as requests; form: "lines", or "tsv" with source, prefix, required and forbidden phrases.

    Raises:
        UserError: a line of a TSV file, called `name`, has more than four columns.
    """
    if form == "lines":
        yield from map(Request, lines)
        return
    for number, line in enumerate(lines, 1):
        columns = line.split("\t")
        if len(columns) > 4:
            raise UserError(
                f"{name}, line {number}: {len(columns)} columns, but at most 4 are known: source, prefix, required "
                "phrases, forbidden phrases"
            )
        source, prefix, required, forbidden = columns + [""] * (4 - len(columns))
        yield Request(source, prefix, _phrases(required), _phrases(forbidden))


def _phrases(column: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in column.split(PHRASES.strip()) if phrase.strip())


def check_files(inputs: Iterable[str | None], outputs: Iterable[str | None]) -> None:
    """Refuses what would cost the user a file: the output is emptied before the input is read."""
    sources = [path for path in inputs if path is not None]
    if "" in sources:
        raise UserError("an input is named by an empty string; name a file, or leave it out")
    for source in sources:
        if not Path(source).exists():
            raise UserError(f"input {source} does not exist; correct the path or put the file there")
        if Path(source).is_dir():
            raise UserError(f"input {source} is a folder; name a file in it")
        if not os.access(source, os.R_OK):
            raise UserError(f"input {source} must not be read by you; change its permissions")
    targets = [path for path in outputs if path is not None]
    if "" in targets:
        raise UserError("an output is named by an empty string; name a file, or leave it out")
    for number, target in enumerate(targets):
        if reason := _unwritable(Path(target)):
            raise UserError(f"output {target} cannot be written ({reason})")
        for source in sources:
            if Path(target).is_file() and Path(source).samefile(target):
                raise UserError(f"input and output are the same file, {source}; name another output")
        is_file = Path(target).is_file() or not Path(target).exists()  # /dev/null may be named twice
        if is_file and Path(target).resolve() in [Path(other).resolve() for other in targets[:number]]:
            raise UserError(f"two outputs are the same file, {target}; name another for one of them")


def check_standard_input(outputs: Iterable[str | None]) -> None:
    """Refuses to write to the file that standard input comes from; an output that is None is standard output."""
    if (read := _file_behind(sys.stdin)) is None:
        return
    for output in outputs:
        path = Path(output) if output is not None else None
        written = _file_behind(sys.stdout) if path is None else path.stat() if path.is_file() else None
        if written is not None and os.path.samestat(read, written):
            told = output or "standard output"
            raise UserError(f"standard input comes from the file that {told} is written to; name another output")


def _file_behind(stream: IO[Any] | None) -> os.stat_result | None:
    """The file that a standard stream was redirected to, None for a pipe, a terminal, or where it is closed."""
    try:
        found = os.fstat(stream.fileno()) if stream is not None else None
    except (OSError, ValueError):
        return None
    return found if found is not None and stat.S_ISREG(found.st_mode) else None


def _unwritable(path: Path) -> str:
    """Why a file cannot be written, "" where it can."""
    if path.is_dir():
        return "Is a directory"
    if not path.parent.is_dir():
        return "No such file or directory"
    if path.suffix.lower() in COMPRESSED:
        return f"only plain text is written; compress it afterwards, or leave {path.suffix} out"
    return "" if os.access(path if path.exists() else path.parent, os.W_OK) else "Permission denied"


def begun(lines: Iterator[Made]) -> Iterator[Made]:
    """The same, the first of them made already: what is wrong with it shows before any output is emptied."""
    return itertools.chain(list(itertools.islice(lines, 1)), lines)


def check_counts(src: str, tgt: str) -> None:
    """Refuses two plain files that differ in their number of lines; others are found out when they are read."""
    n_src, n_tgt = count_lines(src), count_lines(tgt)
    if None not in (n_src, n_tgt) and n_src != n_tgt:
        raise UserError(
            f"{src} has {n_src} lines but {tgt} has {n_tgt}; line n of one must translate line n of the other"
        )


class _Named(io.FileIO):
    """A file that its errors name, when the disk is full too."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self.name
            raise


def text_file(path: Path, mode: str) -> TextIO:
    """A file for lines, in UTF-8; an OSError in writing has its name.

    Args:
        path: of the file.
        mode: "w" to begin it anew, "a" to go on with it.
    """
    return io.TextIOWrapper(io.BufferedWriter(_Named(path, mode)), encoding="utf-8", newline="\n")


@contextlib.contextmanager
def output_file(path: str | None) -> Iterator[TextIO]:
    """A file to be written, or standard output."""
    if path is None:
        if sys.stdout is None:
            raise UserError("standard output is closed; say output=FILE")
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As into a file, whatever the terminal's locale.
            sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")
        try:
            yield sys.stdout
        except OSError as error:
            if error.errno in FULL and error.filename is None:
                error.filename = "standard output"
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again
            raise
        return
    try:
        file = text_file(Path(path), "w")
    except OSError as error:
        raise UserError(f"output {path} cannot be written ({error.strerror})") from error
    with file:
        yield file


def json_line(values: dict[str, Any]) -> str:
    """One JSON object with its line break, which is the only thing in it that any reader takes for one."""
    text = json.dumps(values, ensure_ascii=False)
    return "".join(f"\\u{ord(c):04x}" if c in "\x85\u2028\u2029" else c for c in text) + "\n"


def count_lines(path: str | None) -> int | None:
    """How many lines a plain file has; None for standard input and compressed files, which take long to count."""
    if path is None or Path(path).suffix.lower() in COMPRESSED or not Path(path).is_file():
        return None
    n_lines, last = 0, b"\n"
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            n_lines, last = n_lines + block.count(b"\n"), block
    begun = last not in (b"\n", codecs.BOM_UTF8) and not last.endswith(b"\n")  # a last line without its break counts
    return n_lines + begun
