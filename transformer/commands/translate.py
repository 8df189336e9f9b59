"""transformer-translate: lines in, translations out."""

import codecs
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from transformer import build
from transformer.commands.launch import launch
from transformer.config import TranslateConfig
from transformer.data.reader import read_lines
from transformer.decoding.translator import Translation
from transformer.error import UserError


def format_line(number: int, translations: list[Translation], n_best: bool) -> str:
    """The output for one input line: the best translation, or one tab-separated line a hypothesis."""
    if not n_best:
        return f"{translations[0].text}\n"
    rows = (f"{number}\t{t.score:.4f}\t{t.log_prob:.4f}\t{t.text}\n" for t in translations)
    return "".join(rows)


def _input(path: str | None) -> Iterator[str]:
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


def _check_files(source: str | None, target: str | None) -> None:
    """Refuses what would cost the user a file: the output is emptied before the input is read."""
    if source is not None and not Path(source).exists():
        raise UserError(f"input {source} does not exist; correct the path or put the file there")
    if source is not None and target is not None and Path(target).is_file() and Path(source).samefile(target):
        raise UserError(f"input and output are the same file, {source}; name another output")


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
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


def run(config: TranslateConfig) -> None:
    """Translates a file or standard input, line by line, in order."""
    _check_files(config.input, config.output)
    world = build.runtime(config.runtime)
    loaded = build.load(config.checkpoint, config.runtime, world.device)
    translator = build.translator(
        loaded.model, loaded.tokenizers, build.search(config.decoding), config.translation, world.device
    )
    with _output(config.output) as file:
        for number, translations in enumerate(translator.translate(_input(config.input)), 1):
            file.write(format_line(number, translations, config.n_best))
            file.flush()


def main() -> None:
    """The command line."""
    launch("translate", run)


if __name__ == "__main__":
    main()
