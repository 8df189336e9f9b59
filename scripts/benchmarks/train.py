"""Training: this project and its peers, the same batches, model and precision, in interleaved windows."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from benchmarks.answering import Answering
from benchmarks.learner import DROPOUT, available, save
from benchmarks.machine import gflops, processor, training_flops
from transformer import build
from transformer.config import TrainConfig, config_dir, register_schemas
from transformer.data.batch import Batch
from transformer.training.distributed import World

SCRIPT = Path(__file__).parent.parent / "benchmark.py"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # of the products; bf16 under autocast, for all alike
STEPS = {"tiny": 8, "small": 4}  # updates in a window of some seconds; of larger models one
SHAPE = ("d_model", "n_heads", "d_ff", "n_encoder_layers", "n_decoder_layers", "max_len", "norm")


@dataclass
class Learner(Answering):
    """What a process has shown."""

    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0


def composed(overrides: list[str]) -> TrainConfig:
    """The config that `train` would have."""
    register_schemas()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", overrides)  # type: ignore[return-value]


def started(name: str, folder: Path, size: str, threads: int, precision: str) -> Learner:
    """Starts a learner and waits for its first step."""
    command = [sys.executable, str(SCRIPT), "learner", name, str(folder), size, str(threads), precision]
    begin = time.perf_counter()
    learner = Learner(name, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True), 0.0)
    learner.ask(None)
    learner.start_seconds = time.perf_counter() - begin
    return learner


def measured(
    folder: Path, size: str, windows: list[tuple[int, int]], threads: int, precision: str
) -> tuple[list[Learner], dict[str, float]]:
    """All learners, after the same windows of batches in turn; and the matrix-product rates between them, GFLOP/s."""
    learners = [started(name, folder, size, threads, precision) for name in available()]
    rates = []
    for begin, end in windows:
        for learner in learners:
            answer = learner.ask({"begin": begin, "end": end})
            learner.seconds.append(answer["seconds"])
            learner.megabytes = answer["megabytes"]
        rates.append(gflops(dtype=DTYPES[precision]))
    for learner in learners:
        learner.end()
    return learners, {name: statistics.median(rate[name] for rate in rates) for name in rates[0]}


def report(
    size: str,
    shape: dict[str, Any],
    learners: list[Learner],
    rates: dict[str, float],
    windows: list[tuple[int, int]],
    batches: list[Batch],
) -> list[str]:
    """A Markdown table of one size."""
    used = [[batches[i % len(batches)] for i in range(*window)] for window in windows]
    tokens = [sum(b.n_tgt_tokens for b in window) for window in used]
    work = [sum(training_flops(shape, *b.src.shape, b.tgt_in.size(1)) for b in window) for window in used]
    speeds = {x.name: statistics.median(n / s for n, s in zip(tokens, x.seconds, strict=True)) for x in learners}
    of_rates = " | ".join(f"of {name}'s products" for name in rates)
    lines = [
        f"### {size}",
        "",
        f"| system | target tokens/s | this project is | GFLOP/s | {of_rates} | peak memory | start |",
        f"|---|---:|---:|---:|{'---:|' * len(rates)}---:|---:|",
    ]
    for x in learners:
        reached = statistics.median(w / s for w, s in zip(work, x.seconds, strict=True)) / 1e9
        ratios = [s / first for s, first in zip(x.seconds, learners[0].seconds, strict=True)]
        ratio = "" if x is learners[0] else f"{statistics.median(ratios):.2f} x"
        lines.append(
            f"| {x.name} | {speeds[x.name]:,.0f} | {ratio} | {reached:.0f} "
            f"| {' | '.join(f'{100 * reached / rate:.0f}%' for rate in rates.values())} "
            f"| {x.megabytes:,.0f} MiB | {x.start_seconds:.1f} s |"
        )
    told = ", ".join(f"by {name} {rate:.0f}" for name, rate in rates.items())
    return [*lines, "", f"Matrix products of 1,536 x 1,536 in the same run, GFLOP/s: {told}.", ""]


def main(arguments: argparse.Namespace) -> None:
    """Runs, prints, writes Markdown and JSON."""
    overrides = [f"batching.max_tokens={arguments.max_tokens}", *arguments.overrides]
    config = composed(overrides)
    source = build.data(config)
    loader, _ = build.loader(config, World("cpu"), source)
    batches = list(islice(loader, arguments.batches))
    shapes: dict[str, Any] = {}
    for size in arguments.sizes:
        model = composed([*overrides, f"model={size}"]).model
        shapes[size] = {name: getattr(model, name) for name in SHAPE}
        shapes[size]["vocab_size"] = source.tokenizers.tgt.vocab_size
    filled = sum(int((~b.src_key_padding_mask).sum()) + b.n_tgt_tokens for b in batches)
    padded = sum(b.src.numel() + b.tgt_in.numel() for b in batches)
    lines = [
        f"Batches of at most {arguments.max_tokens} tokens of {type(source.corpus).__name__}, "
        f"{100 * filled / padded:.1f}% of them no padding; "
        f"vocabulary {source.tokenizers.tgt.vocab_size}; dropout {DROPOUT} behind embeddings and "
        f"sub-layers; label smoothing, Adam, gradient clipping; {arguments.threads} threads, {processor()}, "
        f"{arguments.precision}; medians of {arguments.rounds} interleaved windows. Speeds count target tokens without "
        "padding; operations are those of all products, forward and twice that backward, padding included. "
        "Start: until the first update.",
        "",
    ]
    data: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(batches, folder / "batches.pt")
        (folder / "shapes.json").write_text(json.dumps(shapes), encoding="utf-8")
        for size, n_steps in zip(arguments.sizes, arguments.steps, strict=True):
            windows = [(i * n_steps, (i + 1) * n_steps) for i in range(arguments.rounds)]
            learners, rates = measured(folder, size, windows, arguments.threads, arguments.precision)
            lines += report(size, shapes[size], learners, rates, windows, batches)
            data[size] = {
                "gflops": rates,
                "learners": [
                    {"name": x.name, "seconds": x.seconds, "megabytes": x.megabytes, "start": x.start_seconds}
                    for x in learners
                ],
            }
            print(f"measured {size}", file=sys.stderr)
    text = "\n".join(lines)
    print(text)
    out = Path(arguments.output)
    out.mkdir(parents=True, exist_ok=True)
    (out / "train.md").write_text(text, encoding="utf-8")
    (out / "train.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
