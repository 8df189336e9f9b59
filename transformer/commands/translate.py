"""transformer-translate: lines in, translations out."""

import contextlib
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
        try:
            yield line.decode("utf-8").rstrip("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: not UTF-8 ({error.reason}); convert it first") from error


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    if path is None:
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
