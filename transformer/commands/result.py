"""What evaluating prints and writes: hypotheses, scores, translations to look at."""

import itertools
import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformer.data.corpus import Pair
from transformer.decoding.translator import Translator
from transformer.evaluation.report import Row, as_data, markdown_table
from transformer.monitoring.record import finite
from transformer.monitoring.terminal import printable

ENDINGS = ("hyp.txt", "json", "md")  # of the files of one evaluation


def labels(names: Sequence[str]) -> dict[str, str]:
    """A short label for each path: its last two parts, or as many as tell it from the others."""
    parts = {name: Path(name).parts for name in names}
    for n in range(2, max(map(len, parts.values()), default=0) + 1):
        short = {name: "/".join(path[-n:]) for name, path in parts.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in names}


def translated(sources: Iterable[str], translator: Translator) -> list[str]:
    """The best translation of each line."""
    return [best[0].text for best in translator.translate(sources)]


def write(folder: Path, name: str, rows: Sequence[Row], facts: dict[str, object]) -> Path:
    """Writes <name>.json and <name>.md; returns the former's path."""
    path = folder / f"{name}.json"
    content = finite({**facts, "results": as_data(rows)})
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(markdown_table(rows), encoding="utf-8")
    return path


def files_of(folder: Path, name: str) -> list[str]:
    """The files that an evaluation of this name writes."""
    return [str(folder / f"{name}.{ending}") for ending in ENDINGS]


def keep_earlier(folder: Path, name: str, facts: dict[str, object]) -> None:
    """Gives the files of another evaluation, which those of this one would replace, names of their own, and says so.

    Args:
        folder: of both.
        name: of their files, before .hyp.txt, .json and .md.
        facts: of this one, as `write` is given them; one with the same facts is replaced.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:  # cut short, or no evaluation at all
        before = {}
    before.pop("results", None)
    if before == json.loads(json.dumps(facts)):
        return
    number = next(n for n in itertools.count(1) if not (folder / f"{name}.{n}.json").exists())
    for ending in ENDINGS:
        if (folder / f"{name}.{ending}").exists():
            (folder / f"{name}.{ending}").rename(folder / f"{name}.{number}.{ending}")
    print(f"what {folder} had of {name}, an evaluation of another kind, is {name}.{number}.json and so on now")


def write_hypotheses(folder: Path, name: str, hypotheses: Sequence[str]) -> Path:
    """Writes <name>.hyp.txt and returns its path; the folder is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.hyp.txt"
    # A hypothesis never holds a line break, so that line i stays the translation of line i.
    path.write_text("".join(f"{h}\n" for h in hypotheses), encoding="utf-8", newline="\n")
    return path


def shown(pairs: Sequence[Pair], hypotheses: Sequence[str], n: int) -> list[tuple[str, str, str]]:
    """Source, translation and reference of n lines, evenly spread."""
    step = max(1, len(pairs) // n) if n else 1
    return [(pairs[i].src, hypotheses[i], pairs[i].tgt) for i in range(0, len(pairs), step)][:n]


def case_note(lowercase: bool, rows: Sequence[Row]) -> str:
    """A sentence where a model that writes lower case is scored by metrics that count case, else nothing."""
    of_text = (score.name for row in rows for score in row.scores if score.name.startswith(("BLEU", "chrF", "TER")))
    counting = [name for name in dict.fromkeys(of_text) if not name.endswith("-lc")]
    if not lowercase or not counting:
        return ""
    takes = "takes" if len(counting) == 1 else "take"
    what = f"{' and '.join(counting)} {takes} each capital of the references for an error"
    return f"the model writes lower case, and {what}; quote scores that ignore case (-lc)"


def note(sentence: str) -> str:
    """A sentence as a paragraph below a table; nothing where there is none."""
    if not sentence:
        return ""
    return textwrap.fill(f"note: {sentence}", 80, break_on_hyphens=False, break_long_words=False) + "\n\n"


def show(samples: Sequence[tuple[str, str, str]]) -> None:
    """Prints translations beside source and reference."""
    for sample in samples:
        src, hypothesis, reference = map(printable, sample)
        print(f"\nsource      {src}\ntranslation {hypothesis}\nreference   {reference}")
