"""Preparing a large corpus: pairs a second and memory, and how soon training begins on what is prepared."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import peak_megabytes, processor
from benchmarks.train import SCRIPT, composed
from transformer import build
from transformer.training.distributed import World

CHUNK = 100_000  # lines written at a time
SYLLABLES = [c + v for c in "bdfghklmnprstvz" for v in ("a", "e", "i", "o", "u", "au", "ei")]


def words(n: int, seed: int) -> np.ndarray:
    """n made-up words, the first ones short."""
    rng = np.random.default_rng(seed)
    lengths = 1 + (np.log10(np.arange(n) + 1)).astype(int)
    return np.asarray(["".join(rng.choice(SYLLABLES, size)) for size in lengths], dtype=object)


def write_corpus(folder: Path, n_pairs: int, seed: int = 0) -> None:
    """Writes src.txt and tgt.txt: 4 to 24 words a line, frequencies falling as Zipf says, the target word for word."""
    rng = np.random.default_rng(seed)
    tables = words(30_000, 1), words(30_000, 2)
    with (folder / "src.txt").open("w") as src, (folder / "tgt.txt").open("w") as tgt:
        for begin in range(0, n_pairs, CHUNK):
            sizes = rng.integers(4, 25, min(CHUNK, n_pairs - begin))
            drawn = np.minimum(rng.zipf(1.2, int(sizes.sum())) - 1, 29_999)
            rows = np.split(drawn, np.cumsum(sizes)[:-1])
            for file, table in zip((src, tgt), tables, strict=True):
                file.writelines(" ".join(table[row]) + "\n" for row in rows)


def overrides(folder: Path) -> list[str]:
    """The training config of the corpus in a folder."""
    found = ["data=files", f"cache_dir={folder / 'cache'}", "tokenizer.vocab_size=8000", "batching.max_tokens=4096"]
    for split in ("train", "validation"):
        name = "" if split == "train" else "small_"
        found += [f"data.{split}.{side}={folder / f'{name}{side}.txt'}" for side in ("src", "tgt")]
    return found


def child(folder: str) -> None:
    """Prepares, or opens what is prepared, and makes the first batch; prints seconds and memory as JSON."""
    config = composed(overrides(Path(folder)))
    begin = time.perf_counter()
    source = build.data(config)
    prepared = time.perf_counter() - begin
    loader, _ = build.loader(config, World("cpu"), source)
    next(iter(loader))
    seconds = {"prepared": prepared, "first batch": time.perf_counter() - begin}
    print(json.dumps({**seconds, "pairs": len(source.train), "megabytes": peak_megabytes()}))


def main(arguments: argparse.Namespace) -> None:
    """Runs, prints, writes Markdown and JSON."""
    lines = [
        f"Made-up pairs of 4 to 24 words, {processor()}. The first start trains the vocabulary (8,000, on an even "
        "draw) and prepares all pairs; every later one opens what is there and plans the epoch.",
        "",
        "| pairs | text | prepared after | pairs/s | peak memory | later: first batch after | peak memory |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    data: list[Any] = []
    for n_pairs in arguments.pairs:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            folder = Path(name)
            write_corpus(folder, n_pairs)
            for side in ("src", "tgt"):
                with (folder / f"{side}.txt").open() as whole:
                    (folder / f"small_{side}.txt").write_text("".join(next(whole) for _ in range(min(100, n_pairs))))
            size = sum((folder / f"{side}.txt").stat().st_size for side in ("src", "tgt"))
            command = [sys.executable, str(SCRIPT), "prepared", name]
            first, later = (
                json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in "12"
            )
        lines.append(
            f"| {n_pairs:,} | {size / 1e6:,.0f} MB | {first['prepared']:.0f} s | {n_pairs / first['prepared']:,.0f} "
            f"| {first['megabytes']:,.0f} MiB | {later['first batch']:.1f} s | {later['megabytes']:,.0f} MiB |"
        )
        data.append({"n_pairs": n_pairs, "bytes": size, "first": first, "later": later})
        print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    print(text)
    out = Path(arguments.output)
    out.mkdir(parents=True, exist_ok=True)
    (out / "prepare.md").write_text(text, encoding="utf-8")
    (out / "prepare.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
