"""Kills a sweep with SIGKILL, starts the same command again, and compares it with a sweep left alone.

    python scripts/sweep_kill.py --trials 12 --kills 2 --folder /tmp/sweep_kill
    python scripts/sweep_kill.py --trials 12 --kills 2 --folder /tmp/multirun_kill --command train

The trials are short trainings of a small model on the bundled corpus. The kills come at random moments, each in a trial
of its own. Prints what was started, resumed and repeated; exit code 0 when nothing was repeated and every trial has the
settings and the scores of the sweep left alone.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRAINING = [
    "model.d_model=32",
    "model.n_heads=2",
    "model.d_ff=64",
    "model.n_encoder_layers=1",
    "model.n_decoder_layers=1",
    "tokenizer.vocab_size=1000",
    "batching.max_tokens=8192",
    "training.max_epochs=3",
    "training.checkpoint_every_steps=5",
    "translation.max_len_ratio=0.5",
    "translation.max_len_offset=4",
    "decoding=greedy",
    "schedule.warmup_steps=20",
    "monitor=none",
    "final.n_bootstrap=0",
    "final.n_shown=0",
    "runtime.threads=1",
    "runtime.device=cpu",
]


def command(kind: str, n_trials: int) -> list[str]:
    """The command line of the sweep: Optuna's, or a multirun over seeds and learning rates."""
    start = [sys.executable, "-m", f"transformer.commands.{kind}"]
    if kind == "sweep":
        return [*start, *TRAINING, "name=kill", f"n_trials={n_trials}", "n_random=4", "n_warmup_epochs=1"]
    rates = ",".join(f"{(i + 1) * 1e-3:g}" for i in range(-(-n_trials // 2)))
    return [*start, "-m", *TRAINING, "name=kill", "resume=true", f"optimizer.lr={rates}", "seed=1,2"]


def start(words: list[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)


def checkpoints(folder: Path) -> set[str]:
    """TRIAL/step_N of every checkpoint there is now."""
    return {f"{path.parent.name}/{path.name}" for path in (folder / "saved" / "kill").glob("*/step_*")}


def ended(folder: Path) -> set[str]:
    """The trials that have an outcome: finished or, in a sweep, given up."""
    return {path.parent.name for path in (folder / "results" / "kill").glob("*/*.json")}


def kill_in_a_trial(process: subprocess.Popen[bytes], folder: Path, n_ended: int, rng: random.Random) -> None:
    """Waits until so many trials have ended and the next has a checkpoint, then a little, then kills."""
    while process.poll() is None:
        done = ended(folder)
        if len(done) >= n_ended and any(path.split("/")[0] not in done for path in checkpoints(folder)):
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.3))
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


def what_happened(logs: list[Path]) -> dict[str, int]:
    """Counts over the logs of all calls: trials begun, taken up again from a checkpoint, done again after their end."""
    begun: list[str] = []
    resumed: list[str] = []
    over: set[str] = set()
    repeated: list[str] = []
    for log in logs:
        text = log.read_text(errors="replace")
        # A training says "resumed from" before its first update, and "now:" when its scores are there.
        for line in text.splitlines():
            if match := re.match(r"resumed from saved/kill/([^/]+)/", line):
                resumed.append(match[1])
                repeated += [match[1]] if match[1] in over else []
            elif match := re.match(r"now: .*checkpoint=saved/kill/([^/]+)/", line):
                over.add(match[1])
            elif match := re.match(r"(trial-\d+) (begins|pruned)", line):
                (begun.append if match[2] == "begins" else over.add)(match[1])
                repeated += [match[1]] if match[2] == "begins" and match[1] in over else []
    return {"begun": len(begun), "resumed": len(resumed), "repeated": len(repeated), "ended": len(over)}


def figures(folder: Path) -> dict[str, object]:
    """Settings, state and scores of each trial."""
    told = json.loads((folder / "results" / "kill" / "sweep.json").read_text())
    return {trial["name"]: (trial["overrides"], trial["state"], trial["scores"]) for trial in told["trials"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--command", choices=["sweep", "train"], default="sweep")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    words, rng = command(arguments.command, arguments.trials), random.Random(arguments.seed)
    alone, killed = arguments.folder / "alone", arguments.folder / "killed"
    for folder in (alone, killed):
        folder.mkdir(parents=True)  # a folder that is there already is refused
    seconds = time.monotonic()
    start(words, alone, alone / "log.txt").wait()
    seconds = time.monotonic() - seconds
    logs = []
    for i in range(arguments.kills + 1):
        logs.append(killed / f"log{i}.txt")
        process = start(words, killed, logs[-1])
        if i < arguments.kills:
            kill_in_a_trial(process, killed, (i + 1) * arguments.trials // (arguments.kills + 1), rng)
            print(f"call {i + 1}: killed, {len(ended(killed))} trials had ended", flush=True)
        else:
            print(f"call {i + 1}: exit code {process.wait()}", flush=True)
    counts = what_happened(logs)
    one, other = figures(alone), figures(killed)
    unequal = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    states = [state for _, state, _ in other.values()]  # type: ignore[misc]
    print(f"left alone: {len(one)} trials in {seconds:.0f} s")
    print(f"killed {arguments.kills} times: {len(other)} trials, {states.count('finished')} finished, ", end="")
    print(f"{states.count('pruned')} pruned, {states.count('failed')} failed")
    print(f"taken up again from a checkpoint: {counts['resumed']}, repeated after their end: {counts['repeated']}")
    print(f"settings, states and scores that differ from the sweep left alone: {len(unequal)} {unequal or ''}")
    complete = len(other) == arguments.trials and "unfinished" not in states
    return 0 if complete and not unequal and not counts["repeated"] else 1


if __name__ == "__main__":
    sys.exit(main())
