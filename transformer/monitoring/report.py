"""A run as one page, report.html, that loads nothing: results, curves, epochs, translations, config, versions."""

import base64
import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path
from typing import Any

from transformer.evaluation.html import marked
from transformer.evaluation.report import Row, cell, signatures
from transformer.monitoring.console import fixed
from transformer.monitoring.curves import draw_curves
from transformer.monitoring.figure import to_png, to_svg
from transformer.monitoring.heatmap import draw_heatmap, mean_heads
from transformer.monitoring.page import STYLE
from transformer.monitoring.record import read_epochs
from transformer.monitoring.replace import replace
from transformer.monitoring.terminal import duration
from transformer.training.observer import EpochEnd, Look, Observer, RunStart

REPORT_FILE = "report.html"
PACKAGES = ("torch", "torchtext", "sentencepiece", "sacrebleu", "hydra-core", "numpy", "tensorboard", "matplotlib")


@dataclass(frozen=True)
class Content:
    """What a report shows; an empty part is left out of the page.

    Attributes:
        name: the run's name.
        config: the resolved config as plain dicts and lists.
        n_parameters: trainable parameters, or None when unknown.
        epochs: in order.
        scores: of test splits, as evaluation measured them.
        samples: (source, hypothesis, reference).
        pictures: (caption, PNG), e.g. attention heatmaps.
    """

    name: str
    config: Mapping[str, Any]
    n_parameters: int | None
    epochs: Sequence[EpochEnd]
    scores: Sequence[Row] = field(default=())
    samples: Sequence[tuple[str, str, str]] = field(default=())
    pictures: Sequence[tuple[str, bytes]] = field(default=())


class Report(Observer):
    """Writes `report.html` into the run's folder when training ends, and anew when test splits have been scored.

    The epochs before a resumption come from metrics.jsonl, so `Record` must write into the same folder. A run that
    ends without a new epoch leaves the page as it is, or its pictures at least where test splits are scored again.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.start: RunStart | None = None
        self.epochs: list[EpochEnd] = []
        self.samples: list[tuple[str, str, str]] = []
        self.looks: list[Look] = []
        self.pictures: list[tuple[str, bytes]] = []  # of the page that is there
        self.changed = False

    def on_start(self, start: RunStart) -> None:
        """Read the epochs up to `start.resumed_step`."""
        self.start = start
        self.epochs = [e for e in read_epochs(self.folder) if e.step <= start.resumed_step]
        page = self.folder / REPORT_FILE
        if start.resumed_step and page.is_file():
            self.pictures = _pictures_of(page.read_text(encoding="utf-8"))

    def on_rollback(self, step: int) -> None:
        """Drop the epochs after `step`."""
        self.epochs = [e for e in self.epochs if e.step <= step]

    def on_epoch(self, end: EpochEnd) -> None:
        """Keep the epoch."""
        self.epochs = [e for e in self.epochs if e.epoch < end.epoch] + [end]
        self.samples = end.samples or self.samples
        self.looks = end.looks or self.looks
        self.changed = True

    def on_end(self) -> None:
        """Write the page, if an epoch was told."""
        if self.changed:
            self._write((), self.samples)

    def on_scores(self, rows: Sequence[Row], samples: Sequence[tuple[str, str, str]]) -> None:
        """Write the page anew, with the test scores and translations of the first test split."""
        if rows or self.changed:
            self._write(rows, samples or self.samples)

    def _write(self, rows: Sequence[Row], samples: Sequence[tuple[str, str, str]]) -> None:
        if self.start is None:
            return
        content = Content(
            name=self.start.name,
            config=self.start.config,
            n_parameters=self.start.n_parameters,
            epochs=self.epochs,
            scores=rows,
            samples=samples,
            pictures=[(" ".join(look.src_tokens), _heatmap(look)) for look in self.looks] or self.pictures,
        )
        write_report(self.folder, content)


def _heatmap(look: Look) -> bytes:
    figure = draw_heatmap(mean_heads(look.weights), look.src_tokens, look.tgt_tokens, "attention, mean of all heads")
    return to_png(figure)


def write_report(folder: Path, content: Content) -> None:
    """Write `folder/report.html`."""
    replace(folder / REPORT_FILE, report_page(content).encode())


def report_page(content: Content) -> str:
    """Return the page as one self-contained HTML document."""
    name = escape(content.name)
    parts = [
        _headline(content),
        _section("Scores", _scores(content.scores)),
        _section("Curves", to_svg(draw_curves(content.epochs, "")) if content.epochs else ""),
        _section("Translations", "".join(map(_sample, content.samples))),
        _section("Pictures", "".join(_picture(caption, png) for caption, png in content.pictures)),
        _section("Epochs", _epochs(content.epochs)),
        _section("Config", f"<pre>{_config(content.config)}</pre>" if content.config else ""),
        _section("Versions", _versions()),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{name}</h1>\n{''.join(parts)}</body>\n</html>\n"
    )


def versions() -> dict[str, str]:
    """Return what the run stands on: Python, the machine, and the version of each package installed."""
    found = {"Python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _headline(content: Content) -> str:
    tiles = []
    best = max((e for e in content.epochs if e.best), key=lambda e: e.epoch, default=None)
    if best is not None and best.bleu is not None:
        tiles.append(("BLEU, validation", f"{best.bleu:.2f}", best.bleu_signature or ""))
    if best is not None:
        tiles.append(("validation loss", f"{best.valid_loss:.3f}", f"perplexity {best.valid_perplexity:.2f}"))
        tiles.append(("best epoch", str(best.epoch), f"of {content.epochs[-1].epoch}, step {best.step:,}"))
    if content.n_parameters is not None:
        tiles.append(("parameters", f"{content.n_parameters:,}", "trainable"))
    if content.epochs:
        seconds = sum(e.seconds for e in content.epochs)
        tokens = sum(e.n_tgt_tokens for e in content.epochs)
        train_seconds = sum(e.train_seconds for e in content.epochs)
        speed = f"{tokens / train_seconds:,.0f} target tokens/s" if train_seconds > 0 else ""
        tiles.append(("time", duration(seconds), speed))
    shown = "".join(
        f'<div class="tile"><div class="what">{escape(what)}</div><div class="number">{escape(number)}</div>'
        f'<div class="more">{escape(more)}</div></div>'
        for what, number, more in tiles
    )
    return f'<div class="tiles">{shown}</div>\n' if tiles else ""


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>\n" if body else ""


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool]) -> str:
    """A table; every cell is text. A marked row is set in bold."""
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join(
        f"<tr{' class=best' if mark else ''}>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>\n"
        for row, mark in zip(rows, marked, strict=True)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _scores(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(score.name for row in rows for score in row.scores))
    cells = []
    for row in rows:
        by_name = {score.name: score for score in row.scores}
        cells.append([row.system, row.split, f"{row.n_sentences:,}", *(cell(by_name.get(name)) for name in names)])
    notes = "".join(f"<li>{escape(name)}: <code>{escape(text)}</code></li>" for name, text in signatures(rows))
    return _table(["system", "split", "sentences", *names], cells, [False] * len(rows)) + f"<ul>{notes}</ul>"


def _epochs(epochs: Sequence[EpochEnd]) -> str:
    if not epochs:
        return ""
    headings = (
        *("epoch", "step", "train loss", "train ppl", "valid loss", "valid ppl", "valid acc %", "BLEU"),
        *("rate", "gradient", "clipped %", "tokens/s", "time"),
    )
    rows = [
        [
            str(e.epoch),
            f"{e.step:,}",
            fixed(e.train_loss, 4, 10),
            fixed(e.train_perplexity, 2, 9),
            fixed(e.valid_loss, 4, 10),
            fixed(e.valid_perplexity, 2, 9),
            fixed(e.valid_accuracy, 1, 6),
            "-" if e.bleu is None else f"{e.bleu:.2f}",
            f"{e.learning_rate:.2e}",
            fixed(e.gradient_norm, 2, 8),
            fixed(e.clipped, 1, 6),
            f"{e.tokens_per_second:,.0f}",
            duration(e.seconds),
        ]
        for e in epochs
    ]
    best = max((e.epoch for e in epochs if e.best), default=None)
    return _table(headings, rows, [e.epoch == best for e in epochs])


def _sample(sample: tuple[str, str, str]) -> str:
    source, hypothesis, reference = sample
    translation = marked(hypothesis, reference, "mark")
    lines = (("source", escape(source)), ("model", translation), ("reference", escape(reference)))
    shown = "".join(f'<dt>{label}</dt><dd dir="auto">{text}</dd>' for label, text in lines)
    return f'<dl class="sample">{shown}</dl>\n'


def _picture(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    text = escape(caption)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>\n'


def _pictures_of(page: str) -> list[tuple[str, bytes]]:
    """What `_picture` put into a page."""
    found = re.findall(r'<figure><img src="data:image/png;base64,([^"]*)" alt="([^"]*)">', page)
    return [(unescape(caption), base64.b64decode(data)) for data, caption in found]


def _config(value: Any, indent: str = "") -> str:
    """The config as nested `key: value` lines, as in YAML."""
    lines = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            lines.append(f"{indent}{escape(str(key))}:\n{_config(item, indent + '  ')}")
        else:
            shown = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str)
            lines.append(f"{indent}{escape(str(key))}: {escape(shown)}\n")
    return "".join(lines)


def _versions() -> str:
    return "".join(f"<span class=version>{escape(k)} <b>{escape(v)}</b></span> " for k, v in versions().items())
