"""Scores of systems on splits as a table for a terminal, as Markdown and as plain data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformer.evaluation.metrics import Score

WIDTH = 80
LONGEST_LABEL = 24


@dataclass(frozen=True)
class Row:
    """The scores of one system on one split of n_sentences lines."""

    system: str
    split: str
    n_sentences: int
    scores: tuple[Score, ...]


def cell(score: Score | None) -> str:
    """Return "41.02", with an interval "41.02 [39.28, 42.76]", or "-" where there is no score."""
    if score is None:
        return "-"
    if score.low is None or score.high is None:
        return f"{score.value:.{score.n_digits}f}"
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"


def text_table(rows: Sequence[Row]) -> str:
    """Return a table of at most 80 columns, and the signatures to quote below it.

    Metrics that do not fit beside one another continue in a further block; a label longer than 24 characters stands on
    a line of its own, so that nothing is cut. Only such a label and a signature can exceed 80.
    """
    label_width = max([len("system"), *(len(_label(row)) for row in rows if len(_label(row)) <= LONGEST_LABEL)])
    columns = {name: _column(rows, name) for name in _metric_names(rows)}
    sentences = ["sentences", *(str(row.n_sentences) for row in rows)]
    blocks = [
        "\n".join(_block(rows, label_width, [sentences, *(columns[name] for name in names)]))
        for names in _groups(columns, WIDTH - label_width - 2 - len("sentences"))
    ]
    return "\n\n".join([*blocks, "\n".join(signature_lines(signatures(rows)))]) + "\n"


def markdown_table(rows: Sequence[Row]) -> str:
    """Return a GitHub Markdown table, one line for each row, and the signatures as a list below it."""
    names = _metric_names(rows)
    lines = [
        "| " + " | ".join(["system", "split", "sentences", *names]) + " |",
        "|" + "|".join(["---", "---", *["---:"] * (1 + len(names))]) + "|",
    ]
    for row in rows:
        cells = [cell(_find(row, name)) for name in names]
        labels = [text.replace("|", "\\|") for text in (row.system, row.split)]
        lines.append("| " + " | ".join([*labels, str(row.n_sentences), *cells]) + " |")
    lines.append("")
    lines += [f"- {name}: `{signature}`" for name, signature in signatures(rows)]
    return "\n".join(lines) + "\n"


def as_data(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows as lists, dictionaries, strings and numbers, unrounded: what `json.dumps` takes."""
    return [
        {
            "system": row.system,
            "split": row.split,
            "n_sentences": row.n_sentences,
            "scores": {
                score.name: {"value": score.value, "low": score.low, "high": score.high, "signature": score.signature}
                for score in row.scores
            },
        }
        for row in rows
    ]


def signatures(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the distinct (metric, signature) pairs; one that is not that of all rows says of which splits or rows."""
    named: list[tuple[str, str]] = []
    for name in _metric_names(rows):
        of_row = [(row, score.signature) for row in rows if (score := _find(row, name))]
        distinct = list(dict.fromkeys(signature for _, signature in of_row))
        by_split = len({(row.split, signature) for row, signature in of_row}) == len({row.split for row, _ in of_row})
        for signature in distinct:
            alike = [row.split if by_split else _label(row) for row, own in of_row if own == signature]
            where = f", {', '.join(dict.fromkeys(alike))}" if len(distinct) > 1 else ""
            named.append((f"{name}{where}", signature))
    return named


def signature_lines(signatures: Iterable[tuple[str, str]]) -> list[str]:
    """Return "name: signature" for each (name, signature), unbroken, so that it can be copied as it is."""
    return [f"{name}: {signature}" for name, signature in signatures]


def _label(row: Row) -> str:
    return f"{row.system} {row.split}".strip()


def _metric_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(score.name for row in rows for score in row.scores))


def _find(row: Row, name: str) -> Score | None:
    return next((score for score in row.scores if score.name == name), None)


def _column(rows: Sequence[Row], name: str) -> list[str]:
    return [name, *(cell(_find(row, name)) for row in rows)]


def _groups(columns: dict[str, list[str]], room: int) -> list[list[str]]:
    """Divide the metrics, in order, into groups whose columns fit into `room` characters, at least one a group."""
    groups: list[list[str]] = []
    left = 0
    for name, column in columns.items():
        width = 2 + max(map(len, column))
        if not groups or width > left:
            groups.append([])
            left = room
        groups[-1].append(name)
        left -= width
    return groups or [[]]


def _block(rows: Sequence[Row], label_width: int, columns: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]

    def line(label: str, i: int) -> str:
        cells = (f"  {column[i]:>{width}}" for column, width in zip(columns, widths, strict=True))
        return f"{label:<{label_width}}" + "".join(cells)

    lines = [line("system", 0)]
    for i, row in enumerate(rows, start=1):
        label = _label(row)
        if len(label) > LONGEST_LABEL:
            lines.append(label)
            label = ""
        lines.append(line(label, i))
    return lines
