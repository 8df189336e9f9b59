"""How a training begins: what it refuses, overwrites, and goes on from."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from transformer import build

LONG_DECAY = "schedule=wsd schedule.decay_steps=9999"


def test_a_run_that_is_there_is_neither_continued_nor_replaced_unasked(
    copied_run: Any, call: Any, snapshot: Any
) -> None:
    before = snapshot(copied_run.folder)
    assert call("train", copied_run.overrides, copied_run.folder).sentence == (
        "transformer-train: saved/run exists; use resume=true to go on, overwrite=true to start anew, or another name"
    )
    assert snapshot(copied_run.folder) == before


@pytest.mark.parametrize(
    "mistake",
    ["data.train.src=nofile", "decoding.beam_size=0", "final.n_bootstrap=1", "model.d_model=15", "name=", LONG_DECAY],
)
def test_overwriting_costs_nothing_when_the_new_run_cannot_start(
    mistake: str, copied_run: Any, call: Any, snapshot: Any
) -> None:
    before = snapshot(copied_run.folder / "saved") | snapshot(copied_run.folder / "results")
    arguments = [*copied_run.overrides, "overwrite=true", *mistake.split()]
    assert "\n" not in call("train", arguments, copied_run.folder).sentence
    assert snapshot(copied_run.folder / "saved") | snapshot(copied_run.folder / "results") == before


def test_overwriting_costs_nothing_when_its_results_cannot_be_written(
    copied_run: Any, call: Any, snapshot: Any
) -> None:
    before = snapshot(copied_run.folder / "saved")
    ended = call("train", [*copied_run.overrides, "overwrite=true", "results_dir=/dev/null"], copied_run.folder)
    assert ended.sentence == "transformer-train: /dev/null/run: Not a directory"
    assert snapshot(copied_run.folder / "saved") == before


def test_overwriting_leaves_nothing_of_the_run_before(copied_run: Any, call: Any, epochs: Any) -> None:
    (copied_run.folder / "saved" / "other").mkdir()
    more = ["overwrite=true", "monitor=none", "final.splits=[]", "training.max_steps=3"]
    ended = call("train", [*copied_run.overrides, *more], copied_run.folder)
    assert ended.code == 0
    saved, results = copied_run.folder / "saved", copied_run.folder / "results" / "run"
    assert sorted(path.name for path in (saved / "run").iterdir()) == ["best", "last", "step_000000003"]
    assert not (results / "curves.png").exists()
    assert [epoch["step"] for epoch in epochs(copied_run.folder)] == [3]
    assert (saved / "other").is_dir()


def test_the_record_of_a_run_whose_checkpoints_are_gone_is_not_replaced_unasked(
    copied_run: Any, call: Any, snapshot: Any
) -> None:
    shutil.rmtree(copied_run.folder / "saved")
    before = snapshot(copied_run.folder / "results")
    assert call("train", copied_run.overrides, copied_run.folder).sentence == (
        "transformer-train: results/run has the record of an earlier run; use overwrite=true to start anew, or another "
        "name"
    )
    assert snapshot(copied_run.folder / "results") == before


@pytest.mark.parametrize("kind", ["saved", "results"])
def test_runs_that_lie_inside_another_are_not_overwritten_with_it(
    kind: str, copied_run: Any, call: Any, snapshot: Any
) -> None:
    for name in ("a", "b/c"):
        inside = copied_run.folder / kind / "run" / name
        inside.parent.mkdir(exist_ok=True)
        shutil.copytree(
            copied_run.folder / kind / "run", inside, symlinks=True, ignore=shutil.ignore_patterns("a", "b")
        )
    before = snapshot(copied_run.folder)
    assert call("train", [*copied_run.overrides, "overwrite=true"], copied_run.folder).sentence == (
        "transformer-train: overwrite=true would delete other runs that lie inside saved/run: run/a and 1 more; move "
        "or delete them, or use another name"
    )
    assert snapshot(copied_run.folder) == before


@pytest.mark.parametrize("place", ["saved", "results"])
def test_text_that_a_run_reads_is_not_deleted_with_the_run_before(
    place: str, copied_run: Any, call: Any, tiny_text: Path
) -> None:
    text = copied_run.folder / place / "run" / "mine.src"
    shutil.copy(tiny_text / "train.src", text)
    arguments = [*copied_run.overrides, f"data.train.src={place}/run/mine.src", "overwrite=true"]
    assert call("train", arguments, copied_run.folder).sentence == (
        f"transformer-train: {place}/run/mine.src is read by this run, but overwrite=true would delete it; move it, or "
        "use another name"
    )
    assert text.is_file()


def test_another_search_is_for_evaluate_not_for_a_run_that_goes_on(copied_run: Any, call: Any) -> None:
    ended = call("train", ["name=run", "resume=true", "decoding.beam_size=3"], copied_run.folder)
    assert "this run cannot be resumed with another config: decoding.beam_size was" in ended.sentence


def test_resuming_a_run_that_has_ended_changes_nothing(copied_run: Any, call: Any, epochs: Any, snapshot: Any) -> None:
    saved = snapshot(copied_run.folder / "saved")
    told = epochs(copied_run.folder)
    ended = call("train", [*copied_run.overrides, "resume=true"], copied_run.folder)
    assert ended.code == 0
    assert "resumed from saved/run/step_000000016, step 16\nthe run had come to its end: nothing is tr" in ended.out
    assert snapshot(copied_run.folder / "saved") == saved
    assert epochs(copied_run.folder) == told


def test_resuming_what_never_began_begins(call: Any, quick: list[str], tmp_path: Path, epochs: Any) -> None:
    ended = call("train", [*quick, "resume=true", "training.max_epochs=1"], tmp_path)
    assert ended.code == 0
    assert "saved/run has no checkpoint to go on from: a new run begins\n" in ended.out
    assert [epoch["step"] for epoch in epochs(tmp_path)] == [8]


def test_a_run_goes_on_by_its_name_alone(
    copied_run: Any, call: Any, tmp_path: Path, epochs: Any, weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(copied_run.folder, whole, symlinks=True)
    longer = ["resume=true", "training.max_epochs=3", "monitor=none", "final.splits=[]"]
    asked = []
    runtime = build.runtime
    monkeypatch.setattr(build, "runtime", lambda *given: asked.append(given) or runtime(*given))
    ended = call("train", ["name=run", *longer], copied_run.folder)
    assert ended.code == 0, ended.err
    assert call("train", [*copied_run.overrides, *longer], whole).code == 0
    assert epochs(copied_run.folder) == epochs(whole)
    one, other = (weights(folder) for folder in (copied_run.folder, whole))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    outcomes = (folder / "results" / "run" / "outcome.json" for folder in (copied_run.folder, whole))
    by_name, by_all = (json.loads(path.read_text())["config"] for path in outcomes)
    assert by_name == by_all
    assert asked[0] == asked[1]  # the machine's settings too


def test_a_run_goes_on_elsewhere_and_under_another_name(
    copied_run: Any, call: Any, tmp_path: Path, assert_same_run: Any
) -> None:
    """Copied with its links followed, as scp does."""
    shutil.copytree(copied_run.folder, tmp_path / "whole", symlinks=True)
    saved = copied_run.folder / "saved"
    shutil.copytree(saved / "run", tmp_path / "kept" / "copy")
    shutil.rmtree(saved)
    (copied_run.folder / "results" / "run").rename(copied_run.folder / "results" / "copy")
    longer = ["resume=true", "training.max_epochs=3", "monitor=none", "final.splits=[]"]
    ended = call("train", ["name=copy", f"saved_dir={tmp_path / 'kept'}", *longer], copied_run.folder)
    assert ended.code == 0, ended.err
    assert call("train", ["name=run", *longer], tmp_path / "whole").code == 0
    assert sorted(path.name for path in (copied_run.folder / "results").iterdir()) == ["copy"]
    saved.mkdir()
    (tmp_path / "kept" / "copy").rename(saved / "run")
    (copied_run.folder / "results" / "copy").rename(copied_run.folder / "results" / "run")
    assert_same_run(copied_run.folder, tmp_path / "whole")


def test_what_a_user_keeps_beside_the_checkpoints_stays(copied_run: Any, call: Any) -> None:
    saved = copied_run.folder / "saved" / "run"
    shutil.copytree(saved / "step_000000016", saved / "step_000000016_keep")
    ended = call("train", ["name=run", "resume=true", "training.max_epochs=3", "monitor=none"], copied_run.folder)
    assert ended.code == 0, ended.err
    assert (saved / "step_000000016_keep" / "model.pt").is_file()


def test_a_folder_where_a_link_belongs_is_not_removed_unless_it_is_a_copy(copied_run: Any, call: Any) -> None:
    best = copied_run.folder / "saved" / "run" / "best"
    best.unlink()
    best.mkdir()
    (best / "notes").write_text("mine")
    ended = call("train", ["name=run", "resume=true", "training.max_epochs=3"], copied_run.folder)
    assert ended.sentence == (
        "transformer-train: saved/run/best is a folder of its own, but training keeps a link there; move it elsewhere"
    )
    assert (best / "notes").read_text() == "mine"


def test_a_name_alone_that_no_run_has_is_refused(copied_run: Any, call: Any) -> None:
    ended = call("train", ["name=runn", "resume=true"], copied_run.folder)
    assert ended.sentence == ("transformer-train: saved/runn has no checkpoint to go on from; did you mean name=run?")
    (copied_run.folder / "saved" / "begun").mkdir()
    ended = call("train", ["name=begun", "resume=true"], copied_run.folder)
    assert ended.sentence.endswith("saved/begun has no checkpoint to go on from; say all settings to begin a run")


def test_an_end_before_the_peak_of_the_rate_is_told(call: Any, quick: list[str], tmp_path: Path) -> None:
    arguments = [*quick, "training.max_epochs=1", "schedule.warmup_steps=9"]
    ended = call("train", arguments, tmp_path)
    assert "caution: training ends with update 8, before schedule.warmup_steps=9 have raised" in ended.out
    ended = call("train", [*arguments, "schedule.warmup_steps=8", "overwrite=true"], tmp_path)
    assert ended.code == 0
    assert "caution" not in ended.out


@pytest.mark.parametrize(("total_steps", "told"), [(10, True), (8, False), ("null", False)])
def test_an_end_before_the_end_of_the_schedule_is_told(
    total_steps: int | str, told: bool, call: Any, quick: list[str], tmp_path: Path
) -> None:
    schedule = ["schedule=cosine", "schedule.warmup_steps=2", f"schedule.total_steps={total_steps}"]
    ended = call("train", [*quick, "training.max_epochs=1", *schedule], tmp_path)
    assert ended.code == 0
    sentence = (
        "caution: training ends with update 8, before schedule.total_steps=10 have brought the learning rate down"
    )
    assert (sentence in ended.out) is told
    assert ("caution" in ended.out) is told


def test_resuming_with_another_rate_is_refused_with_both(copied_run: Any, call: Any, snapshot: Any) -> None:
    before = snapshot(copied_run.folder)
    ended = call("train", [*copied_run.overrides, "resume=true", "optimizer.lr=0.5"], copied_run.folder)
    assert ended.sentence == (
        "transformer-train: this run cannot be resumed with another config: "
        "optimizer.lr was 0.003 and is now 0.5; change it back, or use another name (with "
        "warm_start.checkpoint=saved/run/last it begins with the weights of this one)"
    )
    assert snapshot(copied_run.folder) == before


def test_resuming_on_another_text_is_refused(
    quick: list[str], call: Any, tmp_path: Path, tiny_text: Path, snapshot: Any
) -> None:
    moved = tmp_path / "moved.tgt"
    text = (tiny_text / "train.tgt").read_bytes()
    moved.write_bytes(text)
    arguments = [*quick, f"data.train.tgt={moved}", "training.max_epochs=1"]
    assert call("train", arguments, tmp_path).code == 0
    before = snapshot(tmp_path / "saved")
    moved.write_bytes(text.replace(b"house", b"mouse"))
    ended = call("train", [*arguments, "resume=true", "training.max_epochs=2"], tmp_path)
    assert re.fullmatch(
        r"transformer-train: this run cannot be resumed, for its text has changed: train \(\w{12}..., now \w{12}...\); "
        r"put the files back, or use another name \(with warm_start.checkpoint=saved/run/step_\d+ it begins .*\)",
        ended.sentence,
    )
    assert snapshot(tmp_path / "saved") == before
    elsewhere = tmp_path / "elsewhere.tgt"
    elsewhere.write_bytes(text)
    moved.unlink()
    ended = call("train", [*arguments, "resume=true", "training.max_epochs=2", f"data.train.tgt={elsewhere}"], tmp_path)
    assert ended.code == 0, ended.err


def test_a_save_that_was_cut_off_is_ended_when_the_run_goes_on(copied_run: Any, call: Any) -> None:
    saved = copied_run.folder / "saved" / "run"
    for link in ("best", "last"):
        (saved / link).unlink()
        (saved / link).symlink_to("step_000000008")
    ended = call("train", [*copied_run.overrides, "resume=true"], copied_run.folder)
    assert ended.code == 0, ended.err
    assert (saved / "last").resolve().name == "step_000000016"


def test_a_damaged_checkpoint_is_stepped_over(copied_run: Any, call: Any, tmp_path: Path, epochs: Any) -> None:
    path = copied_run.folder / "saved" / "run" / "step_000000016" / "training.pt"
    path.write_bytes(path.read_bytes()[:-1])
    ended = call("train", [*copied_run.overrides, "resume=true"], copied_run.folder)
    assert ended.code == 0
    assert "checkpoint saved/run/step_000000016 is damaged: training.pt has SHA-256" in ended.out
    assert "resumed from saved/run/step_000000008, step 8" in ended.out
    assert [epoch["step"] for epoch in epochs(copied_run.folder)] == [8, 16]


def test_a_run_without_an_intact_checkpoint_is_not_begun_anew_unasked(copied_run: Any, call: Any) -> None:
    for path in copied_run.folder.glob("saved/run/step_*/model.pt"):
        path.write_bytes(b"")
    ended = call("train", [*copied_run.overrides, "resume=true"], copied_run.folder)
    assert ended.sentence == (
        "transformer-train: saved/run holds no checkpoint that is intact; "
        "use overwrite=true to start anew, or another name"
    )
