"""Lines that stream in and out of commands: files or standard streams, requests, output that is never half a line."""

import codecs
import contextlib
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from transformer.data.reader import read_lines
from transformer.decoding.request import Request
from transformer.error import UserError

PHRASES = " ||| "


def input_lines(path: str | None) -> Iterator[str]:
    """Lines without their breaks, as the reader of corpora cuts them: at \\n alone, so that nothing shifts."""
    if path is not None:
        yield from read_lines(Path(path))
        return
    for number, line in enumerate(sys.stdin.buffer, 1):
        if number == 1 and not (line := line.removeprefix(codecs.BOM_UTF8)):
            return
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: not UTF-8 ({error.reason}); convert it first") from error


def requests(lines: Iterable[str], form: str) -> Iterator[Request]:
    """Lines as requests; form: "lines", or "tsv" with source, prefix, required and forbidden phrases.

    Raises:
        UserError: a line of a TSV file has more than four columns.
    """
    if form == "lines":
        yield from map(Request, lines)
        return
    for number, line in enumerate(lines, 1):
        columns = line.split("\t")
        if len(columns) > 4:
            raise UserError(
                f"line {number} has {len(columns)} columns, but at most 4 are known: source, prefix, required phrases, "
                "forbidden phrases"
            )
        source, prefix, required, forbidden = columns + [""] * (4 - len(columns))
        yield Request(source, prefix, _phrases(required), _phrases(forbidden))


def _phrases(column: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in column.split(PHRASES.strip()) if phrase.strip())


def check_files(inputs: Iterable[str | None], outputs: Iterable[str | None]) -> None:
    """Refuses what would cost the user a file: the output is emptied before the input is read."""
    sources = [path for path in inputs if path is not None]
    for source in sources:
        if not Path(source).exists():
            raise UserError(f"input {source} does not exist; correct the path or put the file there")
    targets = [path for path in outputs if path is not None]
    for number, target in enumerate(targets):
        for source in sources:
            if Path(target).is_file() and Path(source).samefile(target):
                raise UserError(f"input and output are the same file, {source}; name another output")
        if Path(target).absolute() in [Path(other).absolute() for other in targets[:number]]:
            raise UserError(f"two outputs are the same file, {target}; name another for one of them")


@contextlib.contextmanager
def output_file(path: str | None) -> Iterator[TextIO]:
    """A file to be written, or standard output."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As into a file, whatever the terminal's locale.
            sys.stdout.reconfigure(encoding="utf-8", errors="strict", newline="\n")
        yield sys.stdout
        return
    try:
        file = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115 (entered below)
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
    if path is None or Path(path).suffix in (".gz", ".xz", ".bz2", ".zst") or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
