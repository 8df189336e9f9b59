"""What translate writes of a line: its best translation, its n best, or all that is known."""

from collections.abc import Callable
from typing import Any

from transformer.commands.stream import json_line
from transformer.decoding.alignment import Alignment
from transformer.decoding.translator import Translation

Line = tuple[int, str, list[Translation], list[Alignment]]
"""A line's number, counted from 1, its source, its translations, best first, and their alignments where needed."""


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
