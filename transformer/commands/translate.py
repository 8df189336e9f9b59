"""transformer-translate: lines in, translations out."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformer import build
from transformer.commands.evaluate import names
from transformer.commands.launch import launch
from transformer.commands.stream import check_files, count_lines, input_lines, json_line, output_file, requests
from transformer.config import TranslateConfig
from transformer.decoding.alignment import Aligner, Attention, pharaoh
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.request import Request
from transformer.decoding.translator import Translation, Translator
from transformer.error import UserError
from transformer.model.transformer import Transformer
from transformer.monitoring.bar import counted
from transformer.monitoring.figure import to_png
from transformer.monitoring.heatmap import draw_heads, draw_heatmap

CHOICES = {"input_format": ("lines", "tsv"), "format": ("text", "nbest", "jsonl"), "heatmap": ("mean", "heads")}
AT_ONCE = 256  # lines whose attention is looked at together

Line = tuple[int, str, list[Translation], list[Attention]]


def as_text(line: Line, layer: int | None) -> str:
    """The best translation."""
    return f"{line[2][0].text}\n"


def as_nbest(line: Line, layer: int | None) -> str:
    """One line a hypothesis: line number, score, log-probability, text."""
    number, _, translations, _ = line
    return "".join(f"{number}\t{t.score:.4f}\t{t.log_prob:.4f}\t{t.text}\n" for t in translations)


def as_json(line: Line, layer: int | None) -> str:
    """All that is known of a line's translations, as one JSON object."""
    number, source, translations, attentions = line
    found: list[dict[str, Any]] = [
        {
            "text": t.text,
            "score": t.score,
            "log_prob": t.log_prob,
            "tokens": t.tokens,
            "alignment": attention.alignment(layer),
        }
        for t, attention in zip(translations, attentions, strict=True)
    ]
    return json_line({"line": number, "source": source, "translations": found})


FORMS: dict[str, Callable[[Line, int | None], str]] = {"text": as_text, "nbest": as_nbest, "jsonl": as_json}


def _check(config: TranslateConfig) -> None:
    for key, choices in CHOICES.items():
        if (value := getattr(config, key)) not in choices:
            raise UserError(f"{key} is {value}, but must be one of {', '.join(choices)}")
    if config.n_heatmaps < 1:
        raise UserError(f"n_heatmaps is {config.n_heatmaps}, but must be at least 1; leave heatmaps out for none")
    check_files([config.input], [config.output, config.alignments])


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
    """Every line with its translations, and with their attention where that is needed."""
    read: deque[str] = deque()

    def remembered() -> Iterator[Request]:
        for request in wanted:
            read.append(request.line)
            yield request

    translations = translator.translate_requests(remembered())
    n_best = None if config.format == "jsonl" else 1
    numbers = itertools.count(1)
    while True:
        group = list(itertools.islice(translations, min(AT_ONCE, translator.buffer_lines) if aligner else 1))
        if not group:
            return
        sources = [read.popleft() for _ in group]
        kept = [found[:n_best] for found in group]
        attentions = iter(_attend(aligner, sources, kept)) if aligner else iter(())
        for source, found, shown in zip(sources, group, kept, strict=True):
            yield next(numbers), source, found, list(itertools.islice(attentions, len(shown)))


def _attend(aligner: Aligner, sources: Sequence[str], kept: Sequence[Sequence[Translation]]) -> list[Attention]:
    lines = [source for source, found in zip(sources, kept, strict=True) for _ in found]
    return aligner.attend(lines, [(t.text, t.ids) for found in kept for t in found])


def _draw(config: TranslateConfig, folder: Path, number: int, attention: Attention) -> None:
    if not attention.tgt_tokens:
        return
    draw = draw_heads if config.heatmap == "heads" else draw_heatmap
    weights = attention.weights if config.heatmap == "heads" else attention.mean(config.layer)
    layer = "" if config.layer is None or config.heatmap == "heads" else f", layer {config.layer}"
    figure = draw(weights, attention.src_tokens, attention.tgt_tokens, f"line {number}{layer}")
    (folder / f"line_{number:06d}.png").write_bytes(to_png(figure))


def run(config: TranslateConfig) -> None:
    """Translates a file or standard input, line by line, in order."""
    _check(config)
    world = build.runtime(config.runtime)
    how = build.search(config.decoding)
    loaded = build.load_together(names(config.checkpoint, "checkpoint"), config.runtime, world.device)
    translator = build.translator(loaded.model, loaded.tokenizers, how, config.translation, world.device)
    aligner = _aligner(config, loaded, translator)
    wanted = requests(input_lines(config.input), config.input_format)
    form = FORMS[config.format]
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(output_file(config.output))
        alignments = stack.enter_context(output_file(config.alignments)) if config.alignments else None
        folder = Path(config.heatmaps) if config.heatmaps else None
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        lines = _translated(config, translator, aligner, wanted)
        for line in counted(lines, count_lines(config.input), "translating", None):
            number, _, _, attentions = line
            file.write(form(line, config.layer))
            file.flush()
            if alignments:
                alignments.write(pharaoh(attentions[0].alignment(config.layer)) + "\n")
                alignments.flush()
            if folder and number <= config.n_heatmaps:
                _draw(config, folder, number, attentions[0])


def main() -> None:
    """The command line."""
    launch("translate", run)


if __name__ == "__main__":
    main()
