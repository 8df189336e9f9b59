"""The end of a multirun: what is not done twice, what goes on, and the table."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import MissingConfigException

from transformer.commands import train
from transformer.commands.launch import sentence
from transformer.commands.multirun import no_common_folder
from transformer.training.checkpoint import CheckpointFolder


@pytest.fixture(scope="module")
def swept(tiny: list[str], call: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Any]:
    """A multirun of two settings and one that fails, two seeds each: its folder, its command line, how it ended."""
    folder = tmp_path_factory.mktemp("multirun")
    words = ["-m", *tiny, "monitor=none", "final.n_bootstrap=0", "model.d_model=16,15,8", "seed=1,2"]
    return folder, words, call("train", words, folder)


def test_the_table_has_each_setting_its_scores_and_what_failed(swept: tuple[Path, list[str], Any]) -> None:
    folder, _, ended = swept
    assert ended.code == 2
    table = ended.out[ended.out.index("run: 6 trials, 4 finished, 2 settings") :]
    assert max(map(len, table.splitlines())) <= 80
    assert "best against second best by BLEU, paired bootstrap\n  test, seed 1: " in table
    assert "failed: 2 of 6 trials\n  model.d_model-15+seed-1: model: d_model (15) must be divisible by n_heads" in table
    rows = list(csv.DictReader((folder / "results/run/sweep.csv").read_text().splitlines()))
    assert {row["model.d_model"] for row in rows} == {"16", "8"}
    told = json.loads((folder / "results/run/sweep.json").read_text())
    assert [trial["state"] for trial in told["trials"]] == ["finished"] * 2 + ["failed"] * 2 + ["finished"] * 2
    for row in rows:
        losses = []
        for seed in (1, 2):
            trial = folder / "results/run" / f"model.d_model-{row['model.d_model']}+seed-{seed}"
            losses.append(
                min(json.loads(line)["valid_loss"] for line in (trial / "metrics.jsonl").read_text().splitlines())
            )
        assert float(row["loss mean"]) == pytest.approx(sum(losses) / 2)
        assert float(row["loss deviation"]) == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5)
    assert (
        (folder / "results/run/sweep.md")
        .read_text()
        .startswith("| setting | n | bleu | chrf | loss | accuracy | test BLEU |")
    )


def test_run_again_only_what_is_missing_is_done(swept: tuple[Path, list[str], Any], call: Any, tmp_path: Path) -> None:
    folder, words, _ = swept
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    finished = tmp_path / "results/run/model.d_model-16+seed-1"
    before = (finished / "metrics.jsonl").stat().st_mtime_ns
    (tmp_path / "results/run/model.d_model-8+seed-2/outcome.json").unlink()
    again = call("train", [*words, "resume=true"], tmp_path)
    assert again.out.count("was finished before: not trained again\n") == 3
    assert again.out.count("resumed from saved/run/model.d_model-8+seed-2/step_") == 1
    assert (finished / "metrics.jsonl").stat().st_mtime_ns == before
    assert "run: 6 trials, 4 finished" in again.out
    longer = call("train", [*words, "resume=true", "training.max_epochs=3", "seed=1"], tmp_path)
    assert "not trained again" not in longer.out  # it was, but not this long
    assert (finished / "metrics.jsonl").read_text().count("\n") == 3
    assert "own rule" not in longer.out


def test_a_run_refused_because_it_is_there_stays_finished(
    swept: tuple[Path, list[str], Any], call: Any, tmp_path: Path
) -> None:
    folder, words, _ = swept
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    refused = call("train", words, tmp_path)
    assert refused.code == 2
    assert "exists; use resume=true to go on" in refused.err
    assert "6 trials, 4 finished" in call("train", [*words, "resume=true"], tmp_path).out


def test_why_trials_have_no_folder_in_common() -> None:
    assert no_common_folder(["seed=1,2"]) == ""
    assert no_common_folder(["name=a,b"]) == "the command line has its own rule for names"
    assert no_common_folder(["name=a${seed}", "seed=1,2"]) == "the command line has its own rule for names"
    assert no_common_folder(["data=bundled,multi30k"]) == "data brings a name of its own; say name=NAME"
    assert no_common_folder(["data=bundled,multi30k", "name=x"]) == ""


def test_an_interrupted_multirun_goes_on(
    quick: list[str], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", *quick, "seed=1,2", "training.checkpoint_every_steps=2"]
    save = CheckpointFolder.save

    def save_and_interrupt(*arguments: Any) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return save(*arguments)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # outside training it is nothing to this process
    try:
        with monkeypatch.context() as patch:
            patch.setattr(CheckpointFolder, "save", save_and_interrupt)
            stopped = call("train", words, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.code == 128 + signal.SIGTERM
    assert stopped.out.endswith("the multirun ends here; the same command with resume=true goes on\n")
    assert not (tmp_path / "saved/run/seed-2").exists()
    ended = call("train", [*words, "resume=true"], tmp_path)
    assert ended.code == 0, ended.err
    assert "resumed from saved/run/seed-1/step_" in ended.out
    assert "run: 2 trials, 2 finished, 1 setting" in ended.out
    assert "no significance test: fewer than two settings have a finished trial" in ended.out


def test_a_trial_that_breaks_ends_none(quick: list[str], call: Any, tmp_path: Path, monkeypatch: Any) -> None:
    run = train.run

    def breaks(config: Any) -> int:
        if config.seed == 1:
            raise ZeroDivisionError("by zero")
        return run(config)

    monkeypatch.setattr(train, "run", breaks)
    ended = call("train", ["-m", *quick, "seed=1,2"], tmp_path)
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert "run: 2 trials, 1 finished" in ended.out
    assert "failed: 1 of 2 trials\n  seed-1: ZeroDivisionError: by zero\n" in ended.out


def test_trials_in_other_processes_are_the_same(quick: list[str], call: Any, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *quick, "training.max_epochs=1", "model.d_model=16,15", "resume=true"]
    command = [sys.executable, "-m", "transformer.commands.train", *words]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [*command, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr  # told by another process
    assert "run: 2 trials, 1 finished, 1 setting" in done.stdout
    assert "failed: 1 of 2 trials\n  model.d_model-15: model: d_model (15) must be divisible" in done.stdout
    assert "run/model.d_model-16 was finished before" in call("train", words, tmp_path).out


def test_the_example_for_a_cluster_composes(call: Any, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    script = Path(__file__).parents[2] / "scripts" / "slurm_multirun.sh"
    told = re.sub(r"^#.*|\\\n", "", script.read_text(), flags=re.MULTILINE)
    words = shlex.split(told)
    assert words[:3] == ["exec", "transformer-train", "-m"]
    single = [word for word in words[3:] if "," not in word]
    shown = call("train", [*single, "--cfg", "hydra", "-p", "hydra.launcher"], tmp_path)
    assert shown.code == 0, shown.err
    assert "partition: gpu" in shown.out
    assert "hydra_submitit_launcher.submitit_launcher.SlurmLauncher" in shown.out
    assert not list(tmp_path.iterdir())


def test_a_launcher_that_is_not_installed_is_one_sentence() -> None:
    missing = MissingConfigException(message="", missing_cfg_file="hydra/launcher/joblib", options=["basic"])
    assert sentence(missing, "train") == (
        "hydra/launcher=joblib is not installed; say: pip install 'transformer[joblib]'"
    )
