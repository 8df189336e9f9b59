"""Kills a training run with SIGKILL again and again, resumes it, and compares every bit with a run left alone.

    python scripts/torture.py --kills 50 --folder /tmp/torture

One kill in three falls into an update, one into a validation, one into the writing of a checkpoint, each at a random
moment inside it. Dropout, BPE-dropout, accumulation, averaged weights, plateau state and early-stopping counters are
all on. Writes torture.md and torture.json into the folder. Exit code 0 when all runs came out equal.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

PHASES = ("update", "validation", "checkpoint")
TIMES = ("tokens_per_second", "train_seconds", "seconds", "peak_memory_mib")
OVERRIDES = [
    "name=torture",
    "model.d_model=32",
    "model.n_heads=2",
    "model.d_ff=64",
    "model.n_encoder_layers=1",
    "model.n_decoder_layers=1",
    "model.attention_dropout=0.1",
    "model.activation_dropout=0.1",
    "tokenizer.vocab_size=1000",
    "tokenizer.sampling=0.1",
    "batching.max_tokens=2048",
    "training.accumulate=3",
    "training.max_epochs=3",
    "training.monitor=bleu",
    "training.patience=2",
    "training.ema_decay=0.9",
    "training.checkpoint_every_steps=7",
    "translation.max_len_ratio=0.5",
    "translation.max_len_offset=4",
    "runtime.threads=2",
    "runtime.workers=2",
    "runtime.fused_attention=false",  # else attention dropout would keep batches undivided
    "final.splits=[]",
    "~monitor.curves",
]


def child(phase_file: str, overrides: list[str]) -> None:
    """The training command, telling through a file which phase it is in."""
    from transformer.commands.entry import train
    from transformer.training import checkpoint, trainer, update

    descriptor = os.open(phase_file, os.O_WRONLY | os.O_CREAT)

    def told(function, phase):  # type: ignore[no-untyped-def]
        def wrapper(*arguments, **named):  # type: ignore[no-untyped-def]
            os.pwrite(descriptor, phase[0].encode(), 0)
            try:
                return function(*arguments, **named)
            finally:
                os.pwrite(descriptor, b"-", 0)

        return wrapper

    update.Updater.__call__ = told(update.Updater.__call__, "update")  # type: ignore[method-assign]
    trainer.Trainer._end_epoch = told(trainer.Trainer._end_epoch, "validation")  # type: ignore[method-assign]
    checkpoint.CheckpointFolder.save = told(checkpoint.CheckpointFolder.save, "checkpoint")  # type: ignore[method-assign]
    sys.argv = ["train.py", *overrides]
    train()


def start(folder: Path, extra: list[str]) -> tuple[subprocess.Popen[bytes], Path]:
    folder.mkdir(parents=True, exist_ok=True)
    phase_file = folder / "phase"
    phase_file.write_bytes(b"-")
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(phase_file), *OVERRIDES, *extra]
    log = (folder / "log.txt").open("ab")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    log.close()
    return process, phase_file


def kill_in(process: subprocess.Popen[bytes], phase_file: Path, phase: str, rng: random.Random) -> bool:
    """Kills the process at a random moment of the phase; False when it ended first."""
    skip = rng.randrange(1, {"update": 25, "validation": 2, "checkpoint": 4}[phase])
    inside = False
    while process.poll() is None:
        now = phase_file.read_bytes()[:1] == phase[0].encode()
        if now and not inside:
            skip -= 1
            if skip <= 0:
                time.sleep(rng.random() * {"update": 0.03, "validation": 1.0, "checkpoint": 0.02}[phase])
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
        inside = now
        time.sleep(0.0005)
    return False


def differing(a: object, b: object, path: str = "") -> list[str]:
    """Paths of what is not equal to the last bit in two nested structures of tensors and plain values."""
    import torch

    if isinstance(a, dict) and isinstance(b, dict):
        return [d for key in sorted({*a, *b}, key=str) for d in differing(a.get(key), b.get(key), f"{path}/{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differing(x, y, f"{path}/{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    return [] if a == b or path.rsplit("/", 1)[-1] == "seconds" else [path]


def state(folder: Path) -> dict[str, object]:
    """All that a run leaves behind, but for wall times."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    last = folder / "saved" / "torture" / "last"
    lines = [json.loads(line) for line in (folder / "results/torture/metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(folder / "results" / "torture"), size_guidance={"scalars": 0})
    events.Reload()
    points = {t: [(p.step, p.value) for p in events.Scalars(t)] for t in events.Tags()["scalars"] if "speed" not in t}
    return {
        "model": torch.load(last / "model.pt", weights_only=True),
        "training": torch.load(last / "training.pt", weights_only=True),
        "metrics": [{k: v for k, v in line.items() if k not in TIMES} for line in lines],
        "tensorboard": points,
    }


def n_tensors(value: object) -> int:
    import torch

    if isinstance(value, dict):
        return sum(n_tensors(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return sum(n_tensors(v) for v in value)
    return int(isinstance(value, torch.Tensor))


def one_run(folder: Path, reference: dict[str, object], rng: random.Random) -> dict[str, object]:
    """Trains to the end with many kills; compares with the reference."""
    counts = dict.fromkeys(PHASES, 0)
    order = [*PHASES, *PHASES, *PHASES, *PHASES]
    rng.shuffle(order)
    for phase in order:
        process, phase_file = start(folder, ["resume=true"])
        if kill_in(process, phase_file, phase, rng):
            counts[phase] += 1
        else:
            break
    process, _ = start(folder, ["resume=true"])
    code = process.wait()
    unequal = differing(reference, state(folder)) if code == 0 else [f"exit code {code}, see {folder / 'log.txt'}"]
    return {"kills": sum(counts.values()), **counts, "unequal": unequal}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="at least so many kills in all")
    parser.add_argument("--folder", type=Path, default=Path("results/torture"), help="where to work and report")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    folder, rng = options.folder.resolve(), random.Random(options.seed)
    process, _ = start(folder / "straight", ["overwrite=true"])
    if process.wait() != 0:
        print(f"the run left alone failed; see {folder / 'straight' / 'log.txt'}")
        return 1
    reference = state(folder / "straight")
    n = n_tensors(reference["model"]) + n_tensors(reference["training"])
    rows: list[dict[str, object]] = []
    while sum(int(str(row["kills"])) for row in rows) < options.kills:
        rows.append(one_run(folder / f"run{len(rows) + 1}", reference, rng))
        print(rows[-1], flush=True)
    table = [
        "| run | kills | in an update | in validation | in a checkpoint | tensors compared | unequal |",
        "|" + "---:|" * 7,
    ]
    for i, row in enumerate(rows, 1):
        cells = (i, row["kills"], *(row[p] for p in PHASES), n, len(row["unequal"]))  # type: ignore[arg-type]
        table.append("| " + " | ".join(str(c) for c in cells) + " |")
    (folder / "torture.md").write_text("\n".join(table) + "\n")
    (folder / "torture.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(table))
    return int(any(row["unequal"] for row in rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
