"""A comparison as one page of HTML that needs nothing else: no scripts, no fonts, no network."""

import difflib
from collections.abc import Iterable, Sequence
from html import escape

from transformer.evaluation.bucket import Breakdown, Example
from transformer.evaluation.compare import Comparison, Examples
from transformer.evaluation.report import Row, cell
from transformer.evaluation.significance import Difference

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; }
.signature { font: 12px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.note { color: #777; font-size: .9em; }
.example { border-left: 3px solid #8886; padding: .1rem .8rem; margin: 1rem 0; }
.example p { margin: .15rem 0; }
.who { display: inline-block; min-width: 7rem; color: #777; }
ins { background: #3ca95140; text-decoration: none; } del { background: #ff725c40; text-decoration: none; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
"""


def page(comparison: Comparison) -> str:
    """Return the page as text, UTF-8, to be written to a file as it is."""
    title = f"{', '.join(row.system for row in comparison.rows)} on {comparison.split}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        _scores(comparison.rows),
        _differences(comparison),
        *(_breakdown(breakdown) for breakdown in comparison.breakdowns),
        *(_examples(examples, comparison.sources) for examples in comparison.examples),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def marked(words: Sequence[str], reference: Sequence[str]) -> str:
    """Return the words as HTML, those that the reference does not have there in <del>."""
    matcher = difflib.SequenceMatcher(None, reference, words, autojunk=False)
    parts = []
    for kind, _, _, start, end in matcher.get_opcodes():
        if text := escape(" ".join(words[start:end])):
            parts.append(text if kind == "equal" else f"<del>{text}</del>")
    return " ".join(parts)


def bars(breakdown: Breakdown) -> str:
    """Return the breakdown as a bar chart in SVG: a group of bars for each part, a bar for each system."""
    systems = list(breakdown.parts[0].values)
    width, gap, height = 18, 22, 150
    top = max(1.0, *(value for part in breakdown.parts for value in part.values.values()))
    group = width * len(systems) + gap
    total = group * len(breakdown.parts) + gap
    shapes = []
    for i, part in enumerate(breakdown.parts):
        x = gap + i * group
        for j, name in enumerate(systems):
            value = part.values[name]
            size = height * max(0.0, value) / top
            shapes.append(
                f'<rect x="{x + j * width}" y="{20 + height - size:.1f}" width="{width - 2}" height="{size:.1f}" '
                f'fill="{_colour(j)}"><title>{escape(name)}: {value:.2f}</title></rect>'
            )
        middle = x + width * len(systems) / 2
        shapes.append(f'<text x="{middle}" y="{height + 36}" text-anchor="middle">{escape(part.label)}</text>')
    keys = "".join(
        f'<span style="color:{_colour(j)}">&#9632;</span> {escape(name)} &nbsp; ' for j, name in enumerate(systems)
    )
    # Labels are wider than the bars of a single system.
    return (
        f'<div class="scroll"><svg width="{total}" height="{height + 45}" viewBox="0 0 {total} {height + 45}" '
        f'role="img" aria-label="{escape(breakdown.metric)} {escape(breakdown.title)}">{"".join(shapes)}</svg></div>'
        f"<p>{keys}</p>"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML already."""
    head = "".join(f"<th>{text}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def _signatures(pairs: Iterable[tuple[str, str]]) -> str:
    lines = [f"{escape(name)}: {escape(signature)}" for name, signature in dict.fromkeys(pairs)]
    return f'<p class="signature">{"<br>".join(lines)}</p>'


def _scores(rows: Sequence[Row]) -> str:
    names = [score.name for score in rows[0].scores]
    table = _table(
        ["system", "lines", *map(escape, names)],
        ([escape(row.system), str(row.n_sentences), *(cell(score) for score in row.scores)] for row in rows),
    )
    pairs = [(score.name, score.signature) for row in rows for score in row.scores]
    return (
        f'<h2>Scores</h2>{table}<p class="note">In brackets: 95% interval by bootstrap resampling.</p>'
        + _signatures(pairs)
    )


def _differences(comparison: Comparison) -> str:
    def row(d: Difference) -> list[str]:
        mark = " *" if d.p_value < 0.05 else ""
        numbers = [f"{d.value:.2f}", f"{d.baseline_value:.2f}", f"{d.difference:+.2f}", f"{d.p_value:.4f}{mark}"]
        return [escape(d.system), escape(d.metric), *numbers]

    test, differences = comparison.significance, comparison.differences
    header = ["system", "metric", "value", escape(differences[0].baseline), "difference", "p"]
    return (
        f"<h2>Significance</h2><p>{escape(test.name)}, {test.n_samples} samples, against "
        f"{escape(differences[0].baseline)}</p>{_table(header, map(row, differences))}"
        '<p class="note">* p &lt; 0.05: a difference that is hardly luck (which does not mean a large one).</p>'
        + _signatures((d.metric, d.signature) for d in differences)
    )


def _breakdown(breakdown: Breakdown) -> str:
    if not breakdown.parts:
        return ""
    systems = list(breakdown.parts[0].values)
    table = _table(
        ["", escape(breakdown.unit), *map(escape, systems)],
        (
            [escape(part.label), str(part.n), *(f"{part.values[name]:.2f}" for name in systems)]
            for part in breakdown.parts
        ),
    )
    return f"<h2>{escape(breakdown.metric)} {escape(breakdown.title)}</h2>{bars(breakdown)}{table}"


def _examples(examples: Examples, sources: Sequence[str] | None) -> str:
    def listed(found: Sequence[Example]) -> str:
        blocks = [_example(example, examples, sources) for example in found]
        return "".join(blocks) or '<p class="note">None.</p>'

    system, baseline = escape(examples.system), escape(examples.baseline)
    return (
        f"<h2>Lines on which {system} gains most over {baseline}</h2>"
        f'<p class="note">By {escape(examples.metric)} of the single line; marked: words that the reference does not '
        f"have there.</p>{listed(examples.gains)}"
        f"<h2>Lines on which {system} loses most against {baseline}</h2>{listed(examples.losses)}"
    )


def _example(example: Example, examples: Examples, sources: Sequence[str] | None) -> str:
    def line(who: str, text: str) -> str:
        return f'<p><span class="who">{who}</span> {text}</p>'

    reference = example.reference.split()
    lines = [] if sources is None else [line("source", escape(sources[example.line - 1]))]
    lines.append(line("reference", escape(example.reference)))
    for who, text, value in (
        (examples.baseline, example.baseline, example.baseline_value),
        (examples.system, example.system, example.system_value),
    ):
        lines.append(line(f"{escape(who)} {value:.1f}", marked(text.split(), reference)))
    return f'<div class="example"><p class="note">line {example.line}</p>{"".join(lines)}</div>'


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]
