"""transformer-translate: lines in, translations out."""

import contextlib
import itertools
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformer import build
from transformer.commands.evaluate import names
from transformer.commands.launch import launch
from transformer.commands.stream import (
    check_files,
    count_lines,
    input_lines,
    json_line,
    output_file,
    printed,
    requests,
    typed,
)
from transformer.config import TranslateConfig
from transformer.decoding.alignment import Aligner, Alignment, Attention, pharaoh
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.request import Request
from transformer.decoding.translator import Translation, Translator
from transformer.error import UserError
from transformer.model.transformer import Transformer
from transformer.monitoring.bar import counting
from transformer.monitoring.figure import to_png
from transformer.monitoring.heatmap import draw_heads, draw_heatmap

logger = logging.getLogger(__name__)

CHOICES = {"input_format": ("lines", "tsv"), "format": ("text", "nbest", "jsonl"), "heatmap": ("mean", "heads")}
AT_ONCE = 256  # lines whose attention is looked at together

Line = tuple[int, str, list[Translation], list[Alignment]]


def as_text(line: Line) -> str:
    """The best translation."""
    return f"{line[2][0].text}\n"


def as_nbest(line: Line) -> str:
    """One line a hypothesis: line number, score, log-probability, text."""
    number, _, translations, _ = line
    return "".join(f"{number}\t{t.score:.4f}\t{t.log_prob:.4f}\t{t.text}\n" for t in translations)


def as_json(line: Line) -> str:
    """All that is known of a line's translations, as one JSON object."""
    number, source, translations, alignments = line
    found: list[dict[str, Any]] = [
        {"text": t.text, "score": t.score, "log_prob": t.log_prob, "tokens": t.tokens, "alignment": alignment}
        for t, alignment in zip(translations, alignments, strict=True)
    ]
    return json_line({"line": number, "source": source, "translations": found})


FORMS: dict[str, Callable[[Line], str]] = {"text": as_text, "nbest": as_nbest, "jsonl": as_json}


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
    if config.heatmaps and Path(config.heatmaps).exists() and not Path(config.heatmaps).is_dir():
        raise UserError(f"heatmaps is {config.heatmaps}, which is a file; name a folder")


def _aligner(config: TranslateConfig, loaded: build.Loaded, translator: Translator) -> Aligner | None:
    """What looks at the attention, if anything that is asked for needs it."""
    if config.format != "jsonl" and config.alignments is None and config.heatmaps is None:
        return None
    members = loaded.model.models if isinstance(loaded.model, Ensemble) else [loaded.model]
    models = [model for model in members if isinstance(model, Transformer)]
    n_layers = min(len(model.decoder_layers) for model in models)
    if config.layer is not None and not 1 <= config.layer <= n_layers:
        raise UserError(f"layer is {config.layer}, but the model has decoder layers 1 to {n_layers}")
    return Aligner(models, loaded.tokenizers, config.translation.max_tokens, translator.device)


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
        alignments = _alignments(config, aligner, n_lines, sources, group) if aligner else [[] for _ in group]
        yield from zip(itertools.count(n_lines + 1), sources, group, alignments, strict=False)
        n_lines += len(group)


def _alignments(
    config: TranslateConfig, aligner: Aligner, n_before: int, sources: Sequence[str], found: Sequence[list[Translation]]
) -> list[list[Alignment]]:
    """The alignments of lines that follow `n_before` others; draws them on the way, for no weights are kept."""
    n_best = None if config.format == "jsonl" else 1
    jobs = [(i, rank, t) for i, best in enumerate(found) for rank, t in enumerate(best[:n_best])]
    alignments: list[list[Alignment]] = [[[] for _ in best[:n_best]] for best in found]
    attended = aligner.attend_each([sources[i] for i, _, _ in jobs], [(t.text, t.ids) for _, _, t in jobs])
    for job, attention in attended:
        i, rank, _ = jobs[job]
        alignments[i][rank] = attention.alignment(config.layer)
        if config.heatmaps and rank == 0 and n_before + i < config.n_heatmaps:
            _draw(config, Path(config.heatmaps), n_before + i + 1, attention)
    if config.heatmaps and n_before <= config.n_heatmaps < n_before + len(found):
        n_pictures = config.n_heatmaps
        logger.warning(
            "heatmaps: pictures of the first %d lines only; n_heatmaps=%d has more", n_pictures, 2 * n_pictures
        )
    return alignments


def _draw(config: TranslateConfig, folder: Path, number: int, attention: Attention) -> None:
    if not attention.tgt_tokens:
        return
    draw = draw_heads if config.heatmap == "heads" else draw_heatmap
    weights = attention.weights if config.heatmap == "heads" else attention.mean(config.layer)
    layer = "" if config.layer is None or config.heatmap == "heads" else f", layer {config.layer}"
    figure = draw(weights, attention.src_tokens, attention.tgt_tokens, f"line {number}{layer}")
    (folder / f"line_{number:06d}.png").write_bytes(to_png(figure))


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
    how = build.search(config.decoding)
    loaded = build.load_together(names(config.checkpoint, "checkpoint"), config.runtime, world.device)
    translator = build.translator(loaded.model, loaded.tokenizers, how, config.translation, world.device)
    aligner = _aligner(config, loaded, translator)
    wanted = requests(input_lines(config.input), config.input_format, config.input or "standard input")
    form = FORMS[config.format]
    if config.heatmaps:
        Path(config.heatmaps).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(output_file(config.output))
        alignments = stack.enter_context(output_file(config.alignments)) if config.alignments else None
        stack.enter_context(_watched(config, translator))
        for line in _translated(config, translator, aligner, wanted):
            file.write(form(line))
            file.flush()
            if alignments:
                alignments.write(pharaoh(line[3][0]) + "\n")
                alignments.flush()


def main() -> None:
    """The command line."""
    launch("translate", run)


if __name__ == "__main__":
    main()
