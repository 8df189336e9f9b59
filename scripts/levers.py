"""Tries levers of training, each alone on the same base, and prints what each of them is worth on the validation split.

    python scripts/levers.py data.root=DIR runtime.precision=bf16 --seeds 1 2 --jobs 2
    python scripts/levers.py data.root=DIR --levers base ema rdrop

KEY=VALUE is for all trainings. Each has one thread; --jobs of them run at a time. Stopped, the same command goes on;
what is finished is not trained again. Runs are saved/levers/LEVER_SEED, the table is results/levers/levers.md.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LEVERS = {
    "base": "",
    "dropout": "model.dropout=0.3",
    "attention_dropout": "model.attention_dropout=0.1",
    "activation_dropout": "model.activation_dropout=0.1",
    "bpe_dropout": "tokenizer.sampling=0.1",
    "ema": "training.ema_decay=0.999",
    "no_smoothing": "training.label_smoothing=0",
    "unigram_smoothing": "training.smoothing_prior=unigram",
    "rdrop": "loss=rdrop",
    "simcut": "loss=simcut",
    "cutoff": "loss=cutoff",
    "adam": "optimizer=adam optimizer.lr=2.5e-3 ~optimizer.adamw_lr",
    "schedule_free": "optimizer=schedule_free_adamw optimizer.lr=1e-2 ~optimizer.adamw_lr schedule=constant",
    "cosine": "schedule=cosine",
    "sinusoidal": "model/position=sinusoidal",
    "relative": "model/position=relative",
    "alibi": "model/position=alibi",
}
HEAD = (
    "| lever | added to `transformer-train experiment={}` | greedy, best epoch | beam 5, lc | against the base "
    "| perplexity | minutes |\n|---|---|---:|---:|---:|---:|---:|"
)


def words(experiment: str, lever: str, seed: int, more: Sequence[str]) -> list[str]:
    """The overrides of one training."""
    own = [f"experiment={experiment}", f"name=levers/{lever}_{seed}", f"seed={seed}", "resume=true"]
    return [*own, "runtime.threads=1", "final.splits=[validation]", *LEVERS[lever].split(), *more]


def train(overrides: Sequence[str], log: Path) -> int:
    """Runs one training, unless it has come to its end before; returns its exit code."""
    if (log.parent / log.stem / "outcome.json").is_file():
        return 0
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("a", encoding="utf-8") as file:
        command = [sys.executable, "-m", "transformer.commands.train", *overrides]
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment).returncode
    print(f"{log.stem}: {'trained' if code == 0 else f'ended with exit code {code}, see {log}'}", flush=True)
    return code


def figures(folder: Path) -> dict[str, float] | None:
    """What has come out of a run, None where it is not finished."""
    if not (folder / "outcome.json").is_file():
        return None
    outcome = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    [scores] = outcome["tests"].values()
    minutes = sum(epoch["seconds"] for epoch in epochs) / 60
    greedy = outcome["validation"]["bleu"]
    return {"greedy": greedy, "beam": scores["BLEU-lc"], "perplexity": scores["perplexity"], "minutes": minutes}


def told(values: Sequence[float], n_digits: int = 2) -> str:
    """The mean, and the values where there are several."""
    mean = f"{statistics.fmean(values):.{n_digits}f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{value:.{n_digits}f}' for value in values)})"


def table(experiment: str, results: Path, seeds: Sequence[int]) -> str:
    """What is finished, as Markdown; differences are means over the seeds that the base has as well."""
    runs = {lever: {seed: figures(results / f"{lever}_{seed}") for seed in seeds} for lever in LEVERS}
    lines = [HEAD.format(experiment)]
    for lever, by_seed in runs.items():
        found = {seed: run for seed, run in by_seed.items() if run is not None}
        if not found:
            continue
        columns = [told([run[key] for run in found.values()]) for key in ("greedy", "beam", "perplexity")]
        base = {seed: run for seed, run in runs["base"].items() if run is not None and seed in found}
        gains = [found[seed]["beam"] - run["beam"] for seed, run in base.items()]
        gain = f"{statistics.fmean(gains):+.2f}" if gains and lever != "base" else ""
        minutes = told([statistics.fmean(run["minutes"] for run in found.values())], 0)
        added = f"`{LEVERS[lever]}`" if LEVERS[lever] else ""
        lines.append(f"| {lever} | {added} | {columns[0]} | {columns[1]} | {gain} | {columns[2]} | {minutes} |")
    return "\n".join(lines)


def main() -> None:
    """The command line; exit code 1 where a training has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for all trainings")
    parser.add_argument("--experiment", default="multi30k_en_de_fast", help="the base")
    parser.add_argument("--levers", nargs="+", choices=LEVERS, default=list(LEVERS), metavar="LEVER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    asked = parser.parse_args()
    results = Path("results/levers")
    todo = [
        (f"{lever}_{seed}", words(asked.experiment, lever, seed, asked.overrides))
        for seed in asked.seeds
        for lever in asked.levers
    ]
    print(f"{len(todo)} trainings, such as: transformer-train {shlex.join(todo[0][1])}")
    with ThreadPoolExecutor(asked.jobs) as pool:
        try:
            codes = list(pool.map(lambda run: train(run[1], results / f"{run[0]}.log"), todo))
        except KeyboardInterrupt:  # which the trainings under way have heard too
            pool.shutdown(cancel_futures=True)
            sys.exit("stopped; the same command goes on")
    found = table(asked.experiment, results, asked.seeds)
    (results / "levers.md").write_text(f"{found}\n", encoding="utf-8")
    print(f"\n{found}\n\nwritten: {results / 'levers.md'}")
    sys.exit(1 if any(codes) else 0)


if __name__ == "__main__":
    main()
