"""Decoding: this project and its peers, with the same weights, sentences, beam and batch, in interleaved rounds."""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.answering import Answering
from benchmarks.contestant import CONTESTANTS, runtime
from benchmarks.machine import decoding_flops, gflops, gigabytes_per_second, processor
from benchmarks.peers import to_ctranslate2, unfit
from transformer import build
from transformer.data.reader import read_lines
from transformer.evaluation.metrics import Bleu

SCRIPT = Path(__file__).parent.parent / "benchmark.py"
NEEDS = {"CTranslate2": "ctranslate2", "Hugging Face": "transformers"}


@dataclass
class Contestant(Answering):
    """What a process has shown."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    found: dict[str, list[list[int]]] = field(default_factory=dict)
    megabytes: float = 0.0


def start(name: str, arguments: argparse.Namespace, folder: Path) -> Contestant:
    """Starts a contestant and waits until it has loaded its model."""
    command = [
        sys.executable,
        str(SCRIPT),
        "contestant",
        name,
        arguments.checkpoint,
        str(folder),
        str(arguments.threads),
    ]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    contestant = Contestant(name, process, 0.0)
    contestant.ask(None)
    contestant.start_seconds = time.perf_counter() - begin
    return contestant


def modes(beam: int, forced: int, free: bool) -> dict[str, dict[str, Any]]:
    """What is measured: name -> beam and forced tokens."""
    found: dict[str, dict[str, Any]] = {}
    for width in (beam, 1):
        name = f"beam {width}" if width > 1 else "greedy"
        found[f"{name}, {forced} tokens"] = {"beam": width, "forced": forced}
        if free:
            found[f"{name}, free"] = {"beam": width, "forced": None}
    return found


def available(loaded: build.Loaded) -> list[str]:
    """The contestants that can run here; says which cannot, and why."""
    names = []
    for name in CONTESTANTS:
        package = next((p for prefix, p in NEEDS.items() if name.startswith(prefix)), None)
        if package is not None and importlib.util.find_spec(package) is None:
            print(f"without {name}: the package {package} is not installed")
        elif package is not None and (reason := unfit(loaded, name)):
            print(f"without {name}: {reason}")
        else:
            names.append(name)
    return names


def table(contestants: list[Contestant], mode: str, n: int, bleu: dict[str, float]) -> list[str]:
    """Markdown rows of one mode, the fastest peer being what ratios are against."""
    first = contestants[0]
    medians = {c.name: statistics.median(c.seconds[mode]) for c in contestants}
    lines = [
        f"### {mode}",
        "",
        "| system | sentences/s | tokens/s | this project is | same output | BLEU | peak memory | start |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for c in contestants:
        n_tokens = sum(len(ids) + 1 for ids in c.found[mode])
        same = sum(a == b for a, b in zip(first.found[mode], c.found[mode], strict=True)) / n
        ratio = "" if c is first else f"{medians[c.name] / medians[first.name]:.2f} x"
        score = f"{bleu[c.name]:.2f}" if c.name in bleu else ""
        lines.append(
            f"| {c.name} | {n / medians[c.name]:.0f} | {n_tokens / medians[c.name]:.0f} | {ratio} | {100 * same:.1f}% "
            f"| {score} | {c.megabytes:.0f} MiB | {c.start_seconds:.1f} s |"
        )
    return [*lines, ""]


def floor(loaded: build.Loaded, sources: list[list[int]], first: Contestant, mode: dict[str, Any], name: str) -> str:
    """How far the products alone, at the machine's own rate, are below what was measured."""
    config = loaded.config.model
    shape = SimpleNamespace(
        d_model=config.d_model,
        d_ff=config.d_ff,
        n_encoder_layers=config.n_encoder_layers,
        n_decoder_layers=config.n_decoder_layers,
        vocab_size=loaded.tokenizers.tgt.vocab_size,
    )
    n = len(first.found[name])
    steps = [len(ids) + 1 for ids in first.found[name]]
    work = sum(
        decoding_flops(shape, len(src) + 1, tgt, mode["beam"]) for src, tgt in zip(sources[:n], steps, strict=True)
    )
    rate, bandwidth = max(gflops().values()), gigabytes_per_second()
    seconds = statistics.median(first.seconds[name])
    return (
        f"{name}: {work / n / 1e6:.1f} MFLOP a sentence in products, {work / seconds / 1e9:.0f} GFLOP/s reached, "
        f"{100 * work / seconds / 1e9 / rate:.0f}% of the {rate:.0f} GFLOP/s that a product of 1,536 x 1,536 reached "
        f"in the same run; memory copies at {bandwidth:.0f} GB/s."
    )


def main(arguments: argparse.Namespace) -> None:
    """Runs, prints, writes Markdown and JSON."""
    loaded = build.load(arguments.checkpoint, runtime(arguments.threads), torch.device("cpu"))
    lines = list(read_lines(Path(arguments.src)))[: arguments.n]
    references = list(read_lines(Path(arguments.ref)))[: arguments.n] if arguments.ref else None
    sources = [ids for ids in loaded.tokenizers.src.encode_lines(lines) if ids]
    if len(sources) < len(lines):
        raise SystemExit(f"{arguments.src} has lines without a token; name a file without them")
    kinds = modes(arguments.beam, arguments.forced, not arguments.no_free)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sources.json").write_text(json.dumps(sources), encoding="utf-8")
        names = available(loaded)
        if any(name.startswith("CTranslate2") for name in names):
            to_ctranslate2(loaded, folder / "ctranslate2")
        contestants = [start(name, arguments, folder) for name in names]
        for mode, how in kinds.items():
            for round_ in range(arguments.rounds + 1):
                for c in contestants:
                    n = len(sources) if round_ else min(len(sources), arguments.batch)  # the first round warms up
                    answer = c.ask({**how, "n": n, "batch": arguments.batch})
                    if round_:
                        c.seconds.setdefault(mode, []).append(answer["seconds"])
                        c.found[mode], c.megabytes = answer["found"], answer["megabytes"]
            print(f"measured {mode}", file=sys.stderr)
        for c in contestants:
            c.end()
    report = [
        f"{len(sources)} sentences of {Path(arguments.src).name}, batches of {arguments.batch}, {arguments.threads} "
        f"threads, {processor()}, float32, medians of {arguments.rounds} interleaved rounds; length penalty: "
        "log-probability divided by length; beam search stops when as many hypotheses have ended as the beam is wide.",
        "",
    ]
    metric = Bleu(lowercase=False, tokenize="13a")
    for mode in kinds:
        bleu = {}
        if references is not None and kinds[mode]["forced"] is None:
            for c in contestants:
                texts = [loaded.tokenizers.tgt.decode(ids) for ids in c.found[mode]]
                bleu[c.name] = metric.score(texts, references, n_bootstrap=0).value
        report += table(contestants, mode, len(sources), bleu)
    report += [floor(loaded, sources, contestants[0], how, mode) for mode, how in kinds.items()]
    text = "\n".join(report) + "\n"
    print(text)
    out = Path(arguments.output)
    out.mkdir(parents=True, exist_ok=True)
    (out / "decode.md").write_text(text, encoding="utf-8")
    data = [
        {"name": c.name, "seconds": c.seconds, "megabytes": c.megabytes, "start": c.start_seconds} for c in contestants
    ]
    (out / "decode.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
