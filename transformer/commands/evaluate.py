"""transformer-evaluate: decode a test split with a checkpoint and score it."""

import json
from collections.abc import Sequence
from pathlib import Path

from transformer import build
from transformer.commands.launch import launch
from transformer.commands.resume import plain
from transformer.config import EvaluateConfig
from transformer.data.corpus import Corpus, FilesCorpus, Pair
from transformer.decoding.translator import Translator
from transformer.error import UserError
from transformer.evaluation.metrics import Metric
from transformer.evaluation.report import Row, as_data, text_table


def score_split(
    name: str, split: str, pairs: Sequence[Pair], translator: Translator, metrics: Sequence[Metric], n_bootstrap: int
) -> tuple[Row, list[str]]:
    """Decodes the source side and scores it against the target side; returns the row of scores and the hypotheses."""
    hypotheses = [best[0].text for best in translator.translate(pair.src for pair in pairs)]
    references = [pair.tgt for pair in pairs]
    scores = tuple(metric.score(hypotheses, references, n_bootstrap) for metric in metrics)
    return Row(name, split, len(hypotheses), scores), hypotheses


def write(folder: Path, split: str, rows: Sequence[Row], hypotheses: Sequence[str], facts: dict[str, object]) -> Path:
    """Writes <split>.hyp.txt and <split>.json; returns the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    # A hypothesis never holds a line break, so that line i stays the translation of line i.
    (folder / f"{split}.hyp.txt").write_text("".join(f"{h}\n" for h in hypotheses), encoding="utf-8", newline="\n")
    path = folder / f"{split}.json"
    content = {**facts, "results": as_data(rows)}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def show(pairs: Sequence[Pair], hypotheses: Sequence[str], n: int) -> None:
    """Prints n translations, evenly spread, beside source and reference."""
    for i in range(0, len(pairs), max(1, len(pairs) // n)) if n else ():
        if i // max(1, len(pairs) // n) < n:
            print(f"\nsource      {pairs[i].src}\ntranslation {hypotheses[i]}\nreference   {pairs[i].tgt}")


def _corpus(config: EvaluateConfig, loaded: build.Loaded) -> Corpus:
    trained_on = loaded.config.data
    if (config.src is None) != (config.ref is None):
        raise UserError(f"src is {config.src} and ref is {config.ref}; give both files or neither")
    if config.src is not None:
        pair = {"src": config.src, "tgt": config.ref, "tsv": None}
        return FilesCorpus(trained_on["src_language"], trained_on["tgt_language"], pair, pair, {"test": pair})
    if config.data_root is not None:
        if "root" not in trained_on:
            raise UserError("data_root does not apply: the checkpoint's corpus is given by files; use src and ref")
        trained_on = {**trained_on, "root": config.data_root}
    return build.instantiate(trained_on, "data", Corpus)  # type: ignore[type-abstract]


def run(config: EvaluateConfig) -> None:
    """Evaluates and prints."""
    world = build.runtime(config.runtime)
    loaded = build.load(config.checkpoint, config.runtime, world.device)
    corpus = _corpus(config, loaded)
    split = "test" if config.src else corpus.resolve(config.split)
    if not config.src:
        corpus.prepare()
    metrics = build.metrics(config.metrics)
    translator = build.translator(
        loaded.model, loaded.tokenizers, build.search(config.decoding), config.translation, world.device
    )
    pairs = list(corpus.pairs(split))
    label = Path(config.src).name if config.src else split
    folder = Path(loaded.config.results_dir) / loaded.config.name / "evaluation"
    folder = Path(config.output_dir) if config.output_dir else folder
    folder.mkdir(parents=True, exist_ok=True)  # now, so that no decoding is lost to a folder that cannot be written
    row, hypotheses = score_split(config.checkpoint, label, pairs, translator, metrics, config.n_bootstrap)
    facts = {"checkpoint": config.checkpoint, "step": loaded.manifest["step"], "decoding": plain(config)["decoding"]}
    path = write(folder, label, [row], hypotheses, facts)
    show(pairs, hypotheses, config.n_shown)
    print(text_table([row]))
    print(f"written: {path} and {path.with_suffix('').name}.hyp.txt beside it")


def main() -> None:
    """The command line."""
    launch("evaluate", run)


if __name__ == "__main__":
    main()
