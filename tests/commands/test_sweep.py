"""A sweep from the command line: its trials, what happens to those cut off, its table, its best config."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from transformer.commands import train
from transformer.training.checkpoint import CheckpointFolder
from transformer.training.trainer import Decoded

optuna = pytest.importorskip("optuna")

SWEEP = ["name=s", "n_random=2", "n_warmup_epochs=1", "final.n_bootstrap=0", "final.splits=[test]"]
RATE = "sweep.lr.low=1e-3"


class Killed(BaseException):
    """Ends the process's work at once, as SIGKILL would: nothing catches it."""


def results(folder: Path) -> dict[str, Any]:
    """Trial -> what the table's file says of it."""
    told = json.loads((folder / "results/s/sweep.json").read_text())
    return {trial["name"]: trial for trial in told["trials"]}


@pytest.fixture(scope="module")
def left_alone(quick: list[str], call: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Any]:
    folder = tmp_path_factory.mktemp("sweep")
    words = [*quick, *SWEEP, "n_trials=4"]
    return folder, words, call("sweep", words, folder)


def test_trials_are_trainings_and_the_table_has_them(left_alone: tuple[Path, list[str], Any]) -> None:
    folder, _, ended = left_alone
    assert ended.code == 0, ended.err
    trials = results(folder)
    assert list(trials) == [f"trial-000{i}" for i in range(4)]
    assert len({str(trial["overrides"]) for trial in trials.values()}) == 4
    for name, trial in trials.items():
        assert trial["state"] == "finished"
        assert (folder / "saved/s" / name / "best").is_dir()
        used = OmegaConf.load(folder / "results/s" / name / "config.yaml")
        for key, value in trial["overrides"].items():
            assert OmegaConf.select(used, key) == float(value)
        assert used.training.monitor == "bleu"
    assert "s: 4 trials, 4 finished, 4 settings" in ended.out
    assert "best against second best by BLEU" in ended.out


def test_the_best_config_is_one_that_train_takes(left_alone: tuple[Path, list[str], Any], call: Any) -> None:
    folder, _, ended = left_alone
    [line] = [line for line in ended.out.splitlines() if line.startswith("its config: results/s/best.yaml; to train")]
    words = line.partition("transformer-train ")[2].split()
    again = call("train", words, folder)
    assert again.code == 0, again.err
    best = json.loads((folder / "results/s/sweep.json").read_text())["settings"][0]
    mine = json.loads((folder / "results/s-best/outcome.json").read_text())
    assert mine["validation"]["loss"] == best["scores"]["loss"]["mean"]  # the very same training
    assert (folder / "saved/s-best/best").is_dir()


def test_enough_is_enough_and_more_can_be_asked_for(
    left_alone: tuple[Path, list[str], Any], call: Any, tmp_path: Path
) -> None:
    folder, words, _ = left_alone
    again = call("sweep", words, folder)
    assert again.code == 0
    assert "begins" not in again.out
    assert "s: 4 trials, 4 finished" in again.out
    other = call("sweep", [*words, "sampler_seed=2"], folder)
    assert other.sentence.startswith(
        "transformer-sweep: results/s has a sweep with other settings: sampler_seed was 1 and is now 2; change it back"
    )
    longer = call("sweep", [*words, "training.max_epochs=1"], folder)
    assert "training.max_epochs was 2 and is now 1" in longer.sentence
    more = call("sweep", [*words, "n_trials=5"], folder)
    assert more.out.count(" begins: ") == 1
    assert len(results(folder)) == 5


def test_killed_anywhere_it_ends_as_if_left_alone(
    left_alone: tuple[Path, list[str], Any], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, words, _ = left_alone
    save, evaluate = CheckpointFolder.save, train.evaluate_best
    n_saved, n_evaluated = 0, 0

    def saved(*arguments: Any) -> Path:
        nonlocal n_saved
        path = save(*arguments)
        n_saved += 1
        if n_saved in (1, 4):  # with half a trial done: of the first, and of the second
            raise Killed
        return path

    def evaluated(*arguments: Any) -> Any:
        nonlocal n_evaluated
        n_evaluated += 1
        if n_evaluated == 3:  # trained, not yet evaluated
            raise Killed
        return evaluate(*arguments)

    monkeypatch.setattr(CheckpointFolder, "save", saved)
    monkeypatch.setattr(train, "evaluate_best", evaluated)
    held = []
    for _ in range(3):
        with pytest.raises(Killed) as end:
            call("sweep", words, tmp_path)
        held.append(end)  # its traceback keeps all that the call had open
    ended = call("sweep", words, tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.count(" goes on: ") == 1
    assert ended.out.count(" begins: ") == 1
    alone, mine = results(folder), results(tmp_path)
    assert list(mine) == [f"trial-000{i}" for i in range(4)]
    for name, trial in mine.items():
        assert trial["overrides"] == alone[name]["overrides"]
        assert trial["scores"] == alone[name]["scores"]


def test_a_trial_that_ends_its_process_again_and_again_has_failed(
    quick: list[str], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train.run

    def dies(config: Any, others: Any) -> int:
        if config.name == "s/trial-0000":
            raise Killed
        return run(config, others)

    monkeypatch.setattr(train, "run", dies)
    words = [*quick, *SWEEP, "n_trials=2", "training.max_epochs=1"]
    held = []
    for _ in range(3):
        with pytest.raises(Killed) as end:
            call("sweep", words, tmp_path)
        held.append(end)  # its traceback keeps all that the call had open
    ended = call("sweep", words, tmp_path)
    assert ended.code == 0, ended.err
    assert "trial-0000: its process ended 3 times without getting further than step 0" in ended.out
    assert [trial["state"] for trial in results(tmp_path).values()] == ["failed", "finished"]


def test_a_failed_and_a_pruned_trial_are_told_and_end_none(
    quick: list[str], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformer.build import run as build_run

    n_decoded = 0

    def falls(*arguments: Any) -> Decoded:
        nonlocal n_decoded
        n_decoded += 1
        return Decoded(100.0 - n_decoded, "sig", [])

    monkeypatch.setattr(build_run, "_decode", falls)
    words = [*quick, *SWEEP, "n_trials=4", "training.max_epochs=3"]
    space = "+sweep.act={_target_: transformer.training.space.Choice, key: model.activation, values: [relu, nope]}"
    ended = call("sweep", [*words, space], tmp_path)
    assert ended.code == 0, ended.err
    trials = results(tmp_path)
    assert len(trials) == 4
    for trial in trials.values():
        if trial["overrides"]["model.activation"] == "nope":
            assert trial["state"] == "failed"
            assert "nope" in trial["sentence"]
    states = [trial["state"] for trial in trials.values() if trial["overrides"]["model.activation"] == "relu"]
    # Every trial decodes worse than those before it, and two must have finished before any is given up.
    assert states == (["finished"] * 2 + ["pruned"] * 2)[: len(states)]
    assert len(states) >= 2
    assert (
        "sweep.act._target_ was transformer.training.space.Choice and is now None" in call("sweep", words, tmp_path).err
    )


def test_without_optuna_one_sentence(
    quick: list[str], call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    told = call("sweep", [*quick, *SWEEP], tmp_path).sentence
    assert told == "transformer-sweep: transformer-sweep needs Optuna; say: pip install 'transformer[sweep]'"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("sweep.lr.low=1", "the range of optimizer.lr is empty: low (1) must be below high (0.01)"),
        ("sweep.lr.key=optimizer.lrr", "there is no optimizer.lrr to change; did you mean optimizer.lr?"),
        ("sweep.lr.key=model.dropout", "model.dropout is in the sweep twice; leave one of them out"),
        ("sweep.lr.lo=1", "there is no sweep.lr.lo to change; did you mean sweep.lr.low?"),
        ("sweep.lr.high=lots", "sweep.lr.high is 'lots', but must be float"),
        ("sweep=none", "there is no sweep=none; choose one of bundled, tiny"),
        ("n_trials=0", "n_trials is 0, but must be at least 1"),
        ("objective=blue", "objective is blue, but must be one of valid_loss, valid_accuracy, bleu, chrf"),
        ("training.max_epoch=1", "there is no training.max_epoch to change; did you mean training.max_epochs?"),
        ("optimizer.lr=1", "optimizer.lr is on the command line and in the sweep; remove one of them"),
        ("overwrite=true", "overwrite is not for a sweep to set; it goes on by itself"),
        ("training.monitor=bleu", "training.monitor is not for a sweep to set; say objective=bleu"),
        ("name=", "name is '', but must be that of a folder in saved_dir and results_dir"),
        ("training.label_smoothing=2 ~sweep.label_smoothing", "training.label_smoothing is 2.0, but must be below 1"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_begun(
    words: str, sentence: str, quick: list[str], call: Any, tmp_path: Path
) -> None:
    ended = call("sweep", [*quick, *SWEEP, *words.split()], tmp_path)
    assert ended.sentence.startswith(f"transformer-sweep: {sentence}")
    assert not list(tmp_path.iterdir())
