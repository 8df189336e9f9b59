"""The script that diversifies Multi30k: what it starts fits together, and it goes on where it was."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

Composed = Callable[[str, list[str]], DictConfig]
Started = Callable[..., list[tuple[str, DictConfig]]]
SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "diversify.sh"
STUB = """#!/bin/sh
printf '# %s\\n' "${0##*-}" >> "$LOG"
for word in "$@"; do printf '> %s\\n' "$word" >> "$LOG"; done
"""


@pytest.fixture
def started(tmp_path: Path, composed: Composed) -> Started:
    """Returns a function: environment -> what the script starts, in order: command and config."""

    def run(**more: str) -> list[tuple[str, DictConfig]]:
        for command in ("train", "distill"):
            stub = tmp_path / f"transformer-{command}"
            stub.write_text(STUB)
            stub.chmod(0o755)
        (tmp_path / "data/diversified/forward_2").mkdir(parents=True)  # of an earlier call
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log"), **more}
        words = [str(SCRIPT), "the raw files", "runtime.threads=1"]
        subprocess.run(words, cwd=tmp_path, env=environment, check=True, timeout=60)
        found: list[list[str]] = []
        for line in (tmp_path / "log").read_text().splitlines():
            if line.startswith("# "):
                found.append([])
            found[-1].append(line[2:].replace("the raw files", "raw"))  # Hydra wants quotes around blanks
        return [(command, composed(command, overrides)) for command, *overrides in found]

    return run


@pytest.mark.parametrize("seeds", [{}, {"SEEDS": "1 2 3"}])
def test_what_is_read_has_been_made_before(started: Started, seeds: dict[str, str]) -> None:
    saved, outputs = set(), {Path("data/diversified/forward_2")}
    for command, config in started(**seeds):
        if command == "distill":
            checkpoints = [config.checkpoint] if isinstance(config.checkpoint, str) else config.checkpoint
            assert saved.issuperset(checkpoints)
            assert config.data_root == "raw"
            assert config.back == config.output.endswith("backward")
            outputs.add(Path(config.output))
            continue
        assert config.runtime.threads == 1
        assert config.resume
        if config.name.startswith(("student_", "multi30k_")):
            assert config.warm_start.checkpoint in saved
            assert config.warm_start.tokenizer == "checkpoint"
            assert OmegaConf.select(config, "data.corpora.real.root") == "raw"
            read = {(Path(c.train.src), Path(c.train.tgt)) for c in config.data.corpora.values() if "train" in c}
            assert {src for src, _ in read} == {path / "train.src" for path in outputs}
            assert {tgt for _, tgt in read} == {path / "train.tgt" for path in outputs}
        else:
            assert config.data.root == "raw"
        saved.add(f"saved/{config.name}/best")


def test_the_test_split_is_looked_at_in_the_end_alone(started: Started) -> None:
    trained = [config for command, config in started() if command == "train"]
    assert [(t.name, t.seed, t.data.get("src_language"), list(t.final.splits)) for t in trained] == [
        ("forward_1", 1, "en", []),
        ("forward_2", 2, "en", []),
        ("backward", 1, "de", []),
        ("student_1", 1, None, []),
        ("multi30k_en_de_1", 1, None, ["test"]),
    ]


def test_each_seed_has_a_teacher_and_a_student_of_its_own(started: Started) -> None:
    trained = [config for command, config in started(SEEDS="2 3") if command == "train"]
    assert [(t.name, t.seed) for t in trained] == [
        ("forward_1", 1),
        ("forward_2", 2),
        ("backward", 1),
        ("student_2", 2),
        ("multi30k_en_de_2", 2),
        ("forward_3", 3),
        ("student_3", 3),
        ("multi30k_en_de_3", 3),
    ]
    assert [t.warm_start.checkpoint for t in trained if t.warm_start.checkpoint] == [
        "saved/forward_2/best",
        "saved/student_2/best",
        "saved/forward_3/best",
        "saved/student_3/best",
    ]


def test_without_a_folder_it_says_what_it_needs(tmp_path: Path) -> None:
    ended = subprocess.run([str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (2, "diversify.sh: name the folder with the raw files of Multi30k\n")
