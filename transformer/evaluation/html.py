"""A comparison as one page of HTML that needs nothing else: no scripts, no fonts, no network."""

import difflib
from collections.abc import Iterable, Sequence
from html import escape

from transformer.evaluation.bucket import Breakdown, Example, Part
from transformer.evaluation.compare import Comparison, Examples
from transformer.evaluation.metrics import Score
from transformer.evaluation.report import signatures
from transformer.evaluation.significance import LUCK, Difference

_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e")
_FEW = 30  # a part with fewer lines or words says little
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 1.5rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; line-height: 1.25; } h2 { font-size: 1.15rem; line-height: 1.3; margin-top: 2.2rem; }
h1, h2, td, th, li, .who, .example p { overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .25rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid #8884; }
th { min-width: 3.2rem; }
th:first-child, td:first-child { text-align: left; padding-left: 0; min-width: 4.2rem; }
.metric th { padding-top: 1rem; border-bottom-width: 2px; }
.scroll { overflow-x: auto; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.interval, .p { display: block; color: #777; font-size: .8em; white-space: nowrap; }
.verdict { border-radius: .7em; padding: .05em .6em; white-space: nowrap; }
.better { background: #3ca95140; } .worse { background: #ff725c50; } .same { border: 1px solid #8888; }
.few { color: #888; }
.signature { font: 12px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.note { color: #777; font-size: .9em; }
.example { border-left: 3px solid #8886; padding: .1rem .8rem; margin: 1rem 0; }
.example p { margin: .15rem 0; }
.who { color: #777; margin-right: .5em; }
del { background: #ff725c40; border-bottom: 2px solid #ff725c; text-decoration: none; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
@media (max-width: 40rem) {
  .who { display: block; font-size: .85em; } th { font-size: .85em; } th, td { padding: .25rem .35rem; }
  .scores table, .scores tbody { display: block; }
  .scores tr { display: grid; grid-template-columns: 1fr 1fr 1.4fr; border-bottom: 1px solid #8884; }
  .scores th, .scores td { border: 0; } .scores tr > :first-child { grid-column: 1 / -1; padding-bottom: 0; }
  .scores .metric { border-bottom-width: 2px; }
}
@media print {
  :root { color-scheme: light; }
  body { margin: 0; max-width: none; font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .example, tr, .chart { break-inside: avoid; } h2 { break-after: avoid; }
  .scroll { overflow: visible; } svg { max-width: 100%; height: auto; }
}
"""


def page(comparison: Comparison, note: str = "") -> str:
    """Return the page as text, UTF-8, to be written to a file as it is; a note, if any, stands below the verdicts."""
    systems = [row.system for row in comparison.rows]
    title = f"{', '.join(systems)} on {comparison.split}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        _verdicts(comparison),
        *([f'<p class="note">{escape(note[0].upper() + note[1:])}.</p>'] if note else []),
        _scores(comparison),
        *(_breakdown(breakdown) for breakdown in comparison.breakdowns),
        *(_examples(examples, comparison.sources) for examples in comparison.examples),
        _method(comparison),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def marked(hypothesis: str, reference: str, tag: str) -> str:
    """Return the words of a line as HTML, those that the reference does not have there in `tag`."""
    words = hypothesis.split()
    matcher = difflib.SequenceMatcher(None, reference.split(), words, autojunk=False)
    parts = []
    for kind, _, _, start, end in matcher.get_opcodes():
        if text := escape(" ".join(words[start:end])):
            parts.append(text if kind == "equal" else f"<{tag}>{text}</{tag}>")
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
        faint = ' opacity="0.35"' if part.n < _FEW else ""
        for j, name in enumerate(systems):
            value = part.values[name]
            size = height * max(0.0, value) / top
            shapes.append(
                f'<rect x="{x + j * width}" y="{20 + height - size:.1f}" width="{width - 2}" height="{size:.1f}" '
                f'fill="{_colour(j)}"{faint}><title>{escape(name)}: {value:.2f}</title></rect>'
            )
        middle = x + width * len(systems) / 2
        shapes.append(f'<text x="{middle}" y="{height + 36}" text-anchor="middle">{escape(part.label)}</text>')
    # A legend is not needed: the table below the chart has the colours.
    return (
        f'<div class="scroll chart"><svg width="{total}" height="{height + 45}" viewBox="0 0 {total} {height + 45}" '
        f'role="img" aria-label="{escape(breakdown.metric)} {escape(breakdown.title)}">{"".join(shapes)}</svg></div>'
    )


def _verdicts(comparison: Comparison) -> str:
    """Return a sentence for each system: by which metrics it is better or worse than the baseline."""

    def sentence(found: Sequence[Difference]) -> str:
        parts = []
        for verdict in ("better", "worse", ""):
            metrics = ", ".join(escape(d.metric) for d in found if d.verdict == verdict)
            if metrics:
                parts.append(f"{_chip(verdict)} by {metrics}")
        return "; ".join(parts)

    baseline = comparison.rows[0]
    lines = [
        f"<li><b>{escape(row.system)}</b>: "
        + sentence([d for d in comparison.differences if d.system == row.system])
        + "</li>"
        for row in comparison.rows[1:]
    ]
    return (
        f"<p>{baseline.n_sentences} lines. Against <b>{escape(baseline.system)}</b>, the baseline:</p>"
        f"<ul>{''.join(lines)}</ul>"
    )


def _chip(verdict: str) -> str:
    return f'<span class="verdict {verdict or "same"}">{verdict or "no clear difference"}</span>'


def _table(header: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table; header cells are HTML already, rows are whole."""
    head = "".join(f"<th>{text}</th>" for text in header)
    return f'<div class="scroll"><table><tr>{head}</tr>\n{"".join(rows)}</table></div>'


def _cells(row: Sequence[str], kind: str = "") -> str:
    """Return a row of a table; cells are HTML already."""
    first, *others = row
    cells = "".join(f'<td class="number">{text}</td>' for text in others)
    opening = f'<tr class="{kind}">' if kind else "<tr>"
    return f"{opening}<td>{first}</td>{cells}</tr>\n"


def _scores(comparison: Comparison) -> str:
    """Return one table of all metrics, in each the baseline first: value with interval, difference, verdict with p."""
    found = {(d.system, d.metric): d for d in comparison.differences}
    rows = []
    for i, first in enumerate(comparison.rows[0].scores):
        better = found[comparison.rows[1].system, first.name].higher_is_better
        lower = "" if better else " <small>(lower is better)</small>"
        rows.append(f'<tr class="metric"><th colspan="4">{escape(first.name)}{lower}</th></tr>\n')
        for row in comparison.rows:
            d = found.get((row.system, first.name))
            against = ["baseline", ""] if d is None else [f"{d.difference:+.2f}", _judged(d)]
            rows.append(_cells([escape(row.system), _value(row.scores[i]), *against]))
    test = comparison.significance
    table = _table(["system", "value", "difference", "verdict"], rows)
    return (
        f'<h2>Scores</h2><div class="scores">{table}</div>'
        '<p class="note">Small: the 95% interval by bootstrap resampling, and p, the probability of such a difference '
        f"between equally good systems ({escape(test.name)}, {test.n_samples} samples). Better and worse mean p &lt; "
        f"{LUCK}: a difference that is hardly luck (which does not mean a large one).</p>"
    )


def _value(score: Score) -> str:
    interval = "" if score.low is None or score.high is None else f"{score.low:.2f} to {score.high:.2f}"
    return f'{score.value:.2f}<span class="interval">{interval}</span>'


def _judged(d: Difference) -> str:
    return f'{_chip(d.verdict)}<span class="p">p = {d.p_value:.4f}</span>'


def _method(comparison: Comparison) -> str:
    """Return the signatures, each once."""
    pairs = signatures(comparison.rows)
    pairs += [(d.metric, d.signature) for d in comparison.differences]
    lines = [f"{escape(name)}: {escape(signature)}" for name, signature in dict.fromkeys(pairs)]
    return f'<h2>Signatures</h2><p class="signature">{"<br>".join(lines)}</p>'


def _breakdown(breakdown: Breakdown) -> str:
    if not breakdown.parts:
        return ""
    systems = list(breakdown.parts[0].values)

    def row(part: Part) -> str:
        highest = max(part.values.values())
        alone = sum(value == highest for value in part.values.values()) == 1
        numbers = [
            f"<b>{value:.2f}</b>" if alone and value == highest else f"{value:.2f}"
            for value in (part.values[name] for name in systems)
        ]
        return _cells(
            [f'<span class="number">{escape(part.label)}</span>', str(part.n), *numbers], "few" if part.n < _FEW else ""
        )

    keys = [f"{_square(j)} {escape(name)}" for j, name in enumerate(systems)]
    few = any(part.n < _FEW for part in breakdown.parts)
    note = f" Grey: fewer than {_FEW} {escape(breakdown.unit)}, too few to tell." if few else ""
    return (
        f"<h2>{escape(breakdown.metric)} {escape(breakdown.title)}</h2>{bars(breakdown)}"
        f"{_table(['', escape(breakdown.unit), *keys], map(row, breakdown.parts))}"
        f'<p class="note">Bold: the highest.{note}</p>'
    )


def _square(i: int) -> str:
    return f'<span style="color:{_colour(i)}">&#9632;</span>'


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
        return f'<p><span class="who">{who}</span> <bdi>{text}</bdi></p>'

    lines = [] if sources is None else [line("source", escape(sources[example.line - 1]))]
    lines.append(line("reference", escape(example.reference)))
    for who, text, value in (
        (examples.baseline, example.baseline, example.baseline_value),
        (examples.system, example.system, example.system_value),
    ):
        lines.append(line(f"{escape(who)} {value:.1f}", marked(text, example.reference, "del")))
    return f'<div class="example"><p class="note">line {example.line}</p>{"".join(lines)}</div>'


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]
