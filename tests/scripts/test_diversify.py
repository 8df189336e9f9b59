"""The script that diversifies Multi30k: what it starts fits together, and it goes on where it was."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

Composed = Callable[[str, list[str]], DictConfig]
SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "diversify.sh"
STUB = """#!/bin/sh
printf '# %s\\n' "${0##*-}" >> "$LOG"
for word in "$@"; do printf '> %s\\n' "$word" >> "$LOG"; done
"""


@pytest.fixture
def started(tmp_path: Path) -> list[list[str]]:
    """What the script has started, in order: command and words."""
    for command in ("train", "distill"):
        stub = tmp_path / f"transformer-{command}"
        stub.write_text(STUB)
        stub.chmod(0o755)
    (tmp_path / "data/diversified/forward_2").mkdir(parents=True)  # of an earlier call
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}
    words = [str(SCRIPT), "the raw files", "runtime.threads=1"]
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, timeout=60)
    found: list[list[str]] = []
    for line in (tmp_path / "log").read_text().splitlines():
        if line.startswith("# "):
            found.append([])
        found[-1].append(line[2:].replace("the raw files", "raw"))  # Hydra wants quotes around blanks
    return found


def test_what_is_translated_has_been_trained_and_is_what_the_last_model_reads(
    started: list[list[str]], composed: Composed
) -> None:
    configs = [(command, composed(command, words)) for command, *words in started]
    saved, outputs = set(), {Path("data/diversified/forward_2")}
    for command, config in configs:
        if command == "train":
            saved.add(f"saved/{config.name}/best")
            assert config.runtime.threads == 1
            assert config.resume
        else:
            assert config.checkpoint in saved
            assert config.data_root == "raw"
            assert config.back == config.output.endswith("backward")
            outputs.add(Path(config.output))
    (_, last), (_, tuned) = configs[-2:]
    assert tuned.warm_start.checkpoint == f"saved/{last.name}/best"
    assert tuned.data.root == "raw"
    assert OmegaConf.select(last, "data.corpora.real.root") == "raw"
    read = {(Path(c.train.src), Path(c.train.tgt)) for c in last.data.corpora.values() if "train" in c}
    assert {path.parent for pair in read for path in pair} == outputs
    assert {src for src, _ in read} == {path / "train.src" for path in outputs}
    assert {tgt for _, tgt in read} == {path / "train.tgt" for path in outputs}


def test_the_teachers_differ_and_the_test_split_is_looked_at_in_the_end(
    started: list[list[str]], composed: Composed
) -> None:
    *teachers, diversified, tuned = [composed("train", words) for command, *words in started if command == "train"]
    assert [(t.name, t.seed, t.data.src_language) for t in teachers] == [
        ("forward_1", 1, "en"),
        ("forward_2", 2, "en"),
        ("forward_3", 3, "en"),
        ("backward", 1, "de"),
    ]
    assert all(list(t.final.splits) == [] for t in (*teachers, diversified))
    assert list(tuned.final.splits) == ["test"]


def test_without_a_folder_it_says_what_it_needs(tmp_path: Path) -> None:
    ended = subprocess.run([str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (2, "diversify.sh: name the folder with the raw files of Multi30k\n")
