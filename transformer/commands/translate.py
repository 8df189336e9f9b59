"""transformer-translate: lines in, translations out."""

import contextlib
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from transformer import build
from transformer.commands import entry
from transformer.commands.attention import align, make_aligner
from transformer.commands.form import FORMS, Line
from transformer.commands.name import names
from transformer.commands.search import warn_of_members, way
from transformer.commands.stream import (
    begun,
    check_files,
    check_standard_input,
    count_lines,
    input_lines,
    output_file,
    printed,
    requests,
    typed,
)
from transformer.config import TranslateConfig
from transformer.decoding.alignment import Aligner, pharaoh
from transformer.decoding.request import Request
from transformer.decoding.translator import Translator
from transformer.error import UserError
from transformer.monitoring.bar import counting

CHOICES = {"input_format": ("lines", "tsv"), "format": ("text", "nbest", "jsonl"), "heatmap": ("mean", "heads")}
AT_ONCE = 256  # lines whose attention is looked at together


def _check(config: TranslateConfig) -> None:
    for key, choices in CHOICES.items():
        if (value := getattr(config, key)) not in choices:
            raise UserError(f"{key} is {value}, but must be one of {', '.join(choices)}")
    if config.n_heatmaps < 1:
        raise UserError(f"n_heatmaps is {config.n_heatmaps}, but must be at least 1; leave heatmaps out for none")
    shows_layer = config.format == "jsonl" or config.alignments or (config.heatmaps and config.heatmap == "mean")
    if config.layer is not None and not shows_layer:
        raise UserError(
            f"layer is {config.layer}, but nothing that is asked for shows a single layer: neither format=jsonl nor "
            "alignments=FILE nor heatmaps=FOLDER with heatmap=mean"
        )
    check_files([config.input], [config.output, config.alignments])
    if config.input is None:
        check_standard_input([config.output, config.alignments or config.output])
    if config.heatmaps and Path(config.heatmaps).exists() and not Path(config.heatmaps).is_dir():
        raise UserError(f"heatmaps is {config.heatmaps}, which is a file; name a folder")


def _translated(
    config: TranslateConfig, translator: Translator, aligner: Aligner | None, wanted: Iterable[Request]
) -> Iterator[Line]:
    """Every line with its translations, and with their alignments where those are needed."""
    read: deque[str] = deque()

    def remembered() -> Iterator[Request]:
        for request in wanted:
            read.append(request.line)
            yield request

    translations = translator.translate_requests(remembered())
    n_lines = 0
    while group := list(itertools.islice(translations, min(AT_ONCE, translator.buffer_lines) if aligner else 1)):
        sources = [read.popleft() for _ in group]
        alignments = align(config, aligner, n_lines, sources, group) if aligner else [[] for _ in group]
        yield from zip(itertools.count(n_lines + 1), sources, group, alignments, strict=False)
        n_lines += len(group)


@contextlib.contextmanager
def _watched(config: TranslateConfig, translator: Translator) -> Iterator[None]:
    """Has progress shown, unless the terminal is used for sentences; those typed there are translated one by one."""
    if typed(config.input):
        translator.buffer_lines = 1
        print("type a sentence a line; Ctrl-D ends", file=sys.stderr)
    if typed(config.input) or printed(config.output):
        yield
        return
    with counting("translating", lambda: count_lines(config.input), None) as translator.told:
        yield


def run(config: TranslateConfig) -> None:
    """Translates a file or standard input, line by line, in order."""
    _check(config)
    world = build.runtime(config.runtime)
    precision = build.precision_with_caution(config.runtime, world.device)
    folders = names(config.checkpoint, "checkpoint")
    loaded = build.load_together(folders, config.runtime, world.device).into(config.into)
    warn_of_members(folders)
    translator = way(config, loaded.config, precision).translator(loaded)
    aligner = make_aligner(config, loaded, translator.device)
    wanted = requests(input_lines(config.input), config.input_format, config.input or "standard input")
    form = FORMS[config.format]
    if config.heatmaps:
        Path(config.heatmaps).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_watched(config, translator))
        lines = begun(_translated(config, translator, aligner, wanted))
        file = stack.enter_context(output_file(config.output))
        alignments = stack.enter_context(output_file(config.alignments)) if config.alignments else None
        for line in lines:
            file.write(form(line))
            file.flush()
            if alignments:
                alignments.write(pharaoh(line[3][0]) + "\n")
                alignments.flush()


if __name__ == "__main__":
    entry.translate()
