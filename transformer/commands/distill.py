"""transformer-distill: text as a model translates it, for another to learn from (Kim and Rush, 2016), or back."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from transformer import build
from transformer.commands import entry
from transformer.commands.argument import override
from transformer.commands.name import names
from transformer.commands.search import Way, warn_of_members, way
from transformer.commands.stream import check_counts, check_files, count_lines, input_lines, text_file
from transformer.commands.text import corpus_of, prepare
from transformer.config import DistillConfig
from transformer.data.corpus import Corpus, Pair
from transformer.data.mixture import MixtureCorpus
from transformer.data.reader import read_aligned
from transformer.decoding.translator import Translation, Translator
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.monitoring.bar import counting
from transformer.monitoring.replace import replace
from transformer.training.checkpoint import MODEL, read_manifest, sha256, sync
from transformer.training.lock import LOCK, run_lock

SRC, TGT, FACTS = "train.src", "train.tgt", "distill.json"
N_SHOWN = 5  # numbers of lines without a translation

Choice = Callable[[Pair, list[Translation]], str]


@dataclass(frozen=True)
class Text:
    """What is translated.

    Attributes:
        pairs: streams it from the beginning; where there are no references, those are empty.
        digest: of its files.
        src_files: those with the source text.
        corpus: it comes from, None for files.
        turned: whether its sources are the corpus's targets.
    """

    pairs: Callable[[], Iterator[Pair]]
    digest: str
    src_files: list[str]
    corpus: Corpus | None
    turned: bool = False

    def n_lines(self) -> int | None:
        """How many lines there are, where that is quickly known."""
        counts = [count_lines(file) for file in self.src_files]
        return None if None in counts else sum(n or 0 for n in counts)


def _check(config: DistillConfig) -> None:
    if config.choose not in ("best", "nearest"):
        raise UserError(f"choose is {config.choose}, but must be one of best, nearest")
    if config.choose == "nearest" and config.src is not None and config.ref is None:
        raise UserError("choose is nearest, but ref is null: name the reference translations of src")
    if config.ref is not None and (config.src is None or config.choose == "best"):
        raise UserError(f"ref is {config.ref}, but it is only read with src=FILE and choose=nearest; leave it out")
    if config.src is not None and config.data_root is not None:
        raise UserError(f"src is {config.src} and data_root is {config.data_root}; give one of the two")
    check_files([config.src, config.ref], [])
    if config.src is not None and config.ref is not None:
        check_counts(config.src, config.ref)
    if Path(config.output).exists():
        raise UserError(f"{config.output} exists; choose another output, or remove it first")


def _text(config: DistillConfig, loaded: build.Loaded) -> Text:
    """The training split of the checkpoint's corpus, or what the files have."""
    if config.src is None:
        corpus = corpus_of(loaded, config.data_root).for_vocabulary()  # one direction, as it is written
        prepare(corpus, ["train"], "src=FILE")
        parts, digest = corpus.parts("train"), corpus.fingerprint("train")
        if config.into != corpus.src_language:
            return Text(lambda: corpus.pairs("train"), digest, [str(part.src) for part in parts], corpus)
        files = [str(part.tgt or part.src) for part in parts]
        return Text(lambda: (Pair(p.tgt, p.src) for p in corpus.pairs("train")), digest, files, corpus, turned=True)
    src, ref = config.src, config.ref
    digest = " ".join(sha256(Path(file)) for file in (src, ref) if file is not None)
    if ref is None:
        return Text(lambda: (Pair(line, "") for line in input_lines(src)), digest, [src], None)
    return Text(lambda: read_aligned(Path(src), Path(ref)), digest, [src], None)


def likeliest(pair: Pair, translations: list[Translation]) -> str:
    """What the search ranks first."""
    return translations[0].text


def nearest_by(metric: Metric) -> Choice:
    """Of the translations the one that resembles the reference most; of equals the likeliest."""
    sign = 1 if metric.higher_is_better else -1

    def choose(pair: Pair, translations: list[Translation]) -> str:
        texts = [translation.text for translation in translations]
        scores = metric.sentence_scores(texts, [pair.tgt] * len(texts))
        return texts[max(range(len(texts)), key=lambda i: sign * scores[i])]

    return choose


def distilled(translator: Translator, pairs: Iterable[Pair], choose: Choice, n_before: int = 0) -> Iterator[Pair]:
    """Each source line with the translation that is chosen, in order; memory is that of the lines read ahead.

    n_before: pairs of the text before them.
    """
    read: deque[Pair] = deque()

    def sources() -> Iterator[str]:
        for pair in pairs:
            read.append(pair)
            yield pair.src

    for translations in translator.translate(sources(), n_before):
        pair = read.popleft()
        yield Pair(pair.src, choose(pair, translations))


def _facts(config: DistillConfig, how: Way, folders: list[str], text: Text) -> dict[str, Any]:
    """All that decides what comes out."""
    models = [read_manifest(Path(folder)) for folder in folders]
    return {
        "checkpoints": [
            {"folder": folder, "step": model["step"], "sha256": model["files"][MODEL]}
            for folder, model in zip(folders, models, strict=True)
        ],
        "text": text.digest,
        "choose": config.choose,
        **how.facts(),
        "precision": config.runtime.precision,
        "into": config.into,
        "back": config.back,
    }


def _whole_lines(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def _cut(path: Path, n_lines: int) -> None:
    """Keeps the first lines of a file."""
    with path.open("a+b") as file:
        file.seek(0)
        for _ in range(n_lines):
            file.readline()
        file.truncate(file.tell())


def begun(aside: Path, facts: dict[str, Any]) -> int:
    """The number of lines that an interrupted command has left, both files cut to them; a new folder is set up.

    Raises:
        UserError: what is there was made with other settings.
    """
    if (aside / FACTS).is_file() and any(_whole_lines(aside / name) for name in (SRC, TGT)):  # else nothing is lost
        before = json.loads((aside / FACTS).read_text(encoding="utf-8"))
        if differing := [key for key, value in facts.items() if before.get(key) != value]:
            raise UserError(
                f"{aside} was begun with other values of {', '.join(differing)}; remove it, or choose another output"
            )
    else:
        replace(aside / FACTS, f"{json.dumps(facts, indent=1)}\n".encode())
    n_lines = min(_whole_lines(aside / name) for name in (SRC, TGT))
    for name in (SRC, TGT):
        _cut(aside / name, n_lines)
    return n_lines


def _write(sources: Path, translations: Path, pairs: Iterable[Pair]) -> None:
    with text_file(sources, "a") as src, text_file(translations, "a") as tgt:
        for pair in pairs:
            for file, line in ((src, pair.src), (tgt, pair.tgt)):
                file.write(f"{line}\n")
                file.flush()


def _empty(path: Path) -> tuple[int, int, list[int]]:
    """Lines, blank lines, and the numbers of the first of those."""
    n_lines, n_empty = 0, 0
    first: list[int] = []
    for n_lines, line in enumerate(input_lines(str(path)), 1):
        if not line.strip():
            n_empty += 1
            first += [n_lines] if len(first) < N_SHOWN else []
    return n_lines, n_empty, first


def _finish(aside: Path, output: Path, facts: dict[str, Any], translations: str) -> None:
    """Says how many lines there are and which are empty; gives the folder its name."""
    n_lines, n_empty, first = _empty(aside / translations)
    if not n_lines:
        raise UserError("there is no line to translate; name another src")
    told = {**facts, "lines": n_lines, "empty": n_empty}
    replace(aside / FACTS, f"{json.dumps(told, indent=1)}\n".encode())
    for name in (SRC, TGT, FACTS):
        sync(aside / name)
    (aside / LOCK).unlink()
    os.rename(aside, output)
    sync(output.parent)
    print(f"written to {output}: {SRC}, {TGT} ({n_lines:,} lines), {FACTS}")
    if n_empty:
        more = ", ..." if n_empty > len(first) else ""
        print(
            f"{n_empty:,} translations are empty (lines {', '.join(map(str, first))}{more}): training leaves them out"
        )


def student_command(output: Path, corpus: Corpus, turned: bool) -> str:
    """A training on the distilled text that keeps the validation and test splits of the corpus, turned as the text is.

    "" where a split cannot be turned, for both of its sides are in one file.
    """
    languages = corpus.src_language, corpus.tgt_language
    words = [
        "transformer-train", "name=student", "data=files",
        override("data.src_language", languages[turned]), override("data.tgt_language", languages[not turned]),
        override("data.train.src", str(output / SRC)), override("data.train.tgt", str(output / TGT)),
    ]  # fmt: skip
    for split in corpus.splits()[1:]:
        key = "data.validation" if split == "validation" else f"+data.tests.{split}"
        key = "data.tests.test" if split == "test" else key
        parts = corpus.parts(split)
        two = [part for part in parts if part.tgt is not None]
        sides = [str(part.src) for part in two], [str(part.tgt) for part in two]
        both = [str(part.src) for part in parts if part.tgt is None]
        if turned and both:
            return ""
        for side, paths in (("src", sides[turned]), ("tgt", sides[not turned]), ("tsv", both)):
            if paths:
                words.append(override(f"{key}.{side}", *paths))
    return " ".join(words)


def run(config: DistillConfig) -> None:
    """Translates, line by line, what an interrupted command has not translated yet."""
    _check(config)
    world = build.runtime(config.runtime)
    precision = build.precision_with_caution(config.runtime, world.device)
    folders = names(config.checkpoint, "checkpoint")
    loaded = build.load_together(folders, config.runtime, world.device).into(config.into)
    warn_of_members(folders)
    how = way(config, loaded.config, precision)
    choose: Choice = likeliest
    if config.choose == "nearest":
        if (n_best := how.decoding.get("n_best", 1)) < 2:
            raise UserError(
                f"choose is nearest, but decoding.n_best is {n_best}: there is nothing to choose from; say "
                "decoding.n_best=5, with a search that has it"
            )
        metric = build.instantiate(loaded.config.validation_metric, "validation_metric", Metric)  # type: ignore[type-abstract]
        choose = nearest_by(metric)
    text = _text(config, loaded)
    translator = how.translator(loaded)
    read, written = (TGT, SRC) if config.back else (SRC, TGT)
    output = Path(config.output)
    aside = output.parent / f".{output.name}.partial"
    facts = _facts(config, how, folders, text)
    with run_lock(aside):
        if isinstance(text.corpus, MixtureCorpus):
            named = ", ".join(text.corpus.corpora)
            print(f"the text of all corpora of the mixture: {named}; src=FILE is for one of them alone", flush=True)
        n_before = begun(aside, facts)
        if n_before:
            print(f"goes on behind line {n_before:,} of {aside}")
        left = islice(text.pairs(), n_before, None)
        with counting("distilling", lambda: (text.n_lines() or n_before) - n_before or None, None) as translator.told:
            _write(aside / read, aside / written, distilled(translator, left, choose, n_before))
        _finish(aside, output, facts, written)
    if text.corpus and (command := student_command(output, text.corpus, text.turned != config.back)):
        print(f"\nnow: {command}")


if __name__ == "__main__":
    entry.distill()
