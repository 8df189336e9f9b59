import contextlib
import hashlib
import json
import math
import os
import random
import re
import resource
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transformer.error import UserError
from transformer.training import checkpoint as module
from transformer.training.checkpoint import (
    MANIFEST,
    MODEL,
    TRAINING,
    CheckpointFolder,
    Retention,
    complete,
    is_checkpoint,
    load_tensors,
    newest_intact,
    read_manifest,
    verify,
    write_tensors,
)


@pytest.fixture
def make(tmp_path, toy):
    """Return a function: retention -> a CheckpointFolder in tmp_path / "run"."""

    def make(n_last=2, n_best=1, lower_is_better=True, folder="run"):
        return CheckpointFolder(tmp_path / folder, Retention(n_last, n_best, lower_is_better), toy.write_config)

    return make


def save(checkpoints, step, monitored=None):
    model, training = {"weight": torch.full((3, 2), float(step))}, {"progress": {"step": step}}
    return checkpoints.save(step, model, training, {"epoch": 1, "monitored": monitored})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def steps(folder):
    return [int(path.name[-9:]) for path in complete(folder)]


def test_a_checkpoint_is_whole(make):
    checkpoints = make()
    path = save(checkpoints, 12, monitored=1.5)
    assert path.name == "step_000000012"
    assert is_checkpoint(path)
    assert names(checkpoints.folder) == ["best", "last", "step_000000012"]
    manifest = verify(path)
    assert (manifest["format_version"], manifest["step"], manifest["monitored"]) == (1, 12, 1.5)
    assert sorted(manifest["files"]) == ["config.yaml", "model.pt", "tokenizer/words.txt", "training.pt"]
    for name, told in manifest["files"].items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == told
    assert torch.equal(load_tensors(path / MODEL)["weight"], torch.full((3, 2), 12.0))
    assert load_tensors(path / TRAINING) == {"progress": {"step": 12}}


def test_everything_is_synced_before_it_is_renamed(make, monkeypatch):
    done = []
    sync, rename = module.sync, os.rename
    monkeypatch.setattr(module, "sync", lambda path: (done.append(path.name), sync(path))[1])
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("rename"), rename(a, b))[1])
    save(make(), 3)
    before, after = done[: done.index("rename")], done[done.index("rename") + 1 :]
    inside = {"config.yaml", "model.pt", "training.pt", "tokenizer", "words.txt", MANIFEST, ".step_000000003.partial"}
    assert set(before) == inside
    assert after == ["run"]


def test_links_are_relative_and_right(make):
    checkpoints = make(n_last=2, n_best=2)
    for step, value in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 1.0)):
        save(checkpoints, step, value)
    assert os.readlink(checkpoints.folder / "last") == "step_000000005"
    assert os.readlink(checkpoints.folder / "best") == "step_000000002"  # of equals the earlier
    checkpoints.folder.rename(checkpoints.folder.parent / "moved")
    assert verify(checkpoints.folder.parent / "moved" / "best")["step"] == 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.none() | st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), min_size=1, max_size=7),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
)
def test_the_last_and_the_best_stay(make, values, n_last, n_best, lower_is_better):
    checkpoints = make(n_last, n_best, lower_is_better)
    shutil.rmtree(checkpoints.folder, ignore_errors=True)
    kept, best = set(), None
    for step, value in enumerate(values, start=1):
        save(checkpoints, step, value)
        # The definition, applied save by save to those that were kept before.
        told = {s: values[s - 1] for s in {*kept, step}}
        ranked = sorted(
            (s for s, v in told.items() if v is not None and not math.isnan(v)),
            key=lambda s: (told[s] if lower_is_better else -told[s], s),
        )
        kept = {*sorted(told)[-n_last:], *ranked[:n_best]}
        best = ranked[0] if ranked else step
        assert steps(checkpoints.folder) == sorted(kept)
        assert os.readlink(checkpoints.folder / "last") == f"step_{step:09d}"
        assert os.readlink(checkpoints.folder / "best") == f"step_{best:09d}"


def test_a_bleu_of_zero_is_a_value(make):
    checkpoints = make(lower_is_better=False)
    save(checkpoints, 1, 0.0)
    save(checkpoints, 2, None)
    assert os.readlink(checkpoints.folder / "best") == "step_000000001"


@pytest.mark.parametrize(("n_last", "n_best"), [(0, 1), (1, 0), (-1, 1)])
def test_keeping_none_is_refused(n_last, n_best):
    with pytest.raises(ValueError, match=r"n_(last|best) must be at least 1, not (0|-1)"):
        Retention(n_last, n_best, True)


def test_the_same_step_again_replaces_it(make):
    checkpoints = make()
    save(checkpoints, 1, None)
    save(checkpoints, 1, 2.5)
    assert read_manifest(checkpoints.folder / "step_000000001")["monitored"] == 2.5
    assert names(checkpoints.folder) == ["best", "last", "step_000000001"]


class Crash(BaseException):
    """The process is killed here."""


def crash_at(monkeypatch, when):
    """Lets the process die at the when-th of the operations that change the disk."""
    count = 0

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal count
            count += 1
            if count == when:
                raise Crash
            return function(*args, **kwargs)

        return wrapped

    # rmtree as the code sees it: the test's own is untouched
    for owner, name in ((os, "rename"), (os, "replace"), (os, "fsync"), (module.torch, "save"), (Path, "mkdir")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    for owner, name in ((Path, "write_text"), (Path, "symlink_to"), (Path, "unlink")):
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    monkeypatch.setattr(module.shutil, "rmtree", dying(shutil.rmtree))


@pytest.mark.parametrize("again", [False, True], ids=["new step", "same step again"])
@pytest.mark.parametrize("n_last", [1, 2])
def test_a_crash_at_any_moment_leaves_an_intact_checkpoint(make, again, n_last):
    for when in range(1, 60):
        checkpoints = make(n_last=n_last, folder=f"run{when}")
        save(checkpoints, 1, None)
        with pytest.MonkeyPatch.context() as monkeypatch:
            crash_at(monkeypatch, when)
            try:
                save(checkpoints, 1 if again else 2, 2.5)
            except Crash:
                crashed = True
            else:
                crashed = False
        newest, complaints = newest_intact(checkpoints.folder)
        assert newest is not None, when
        assert complaints == []
        # ... and the run that goes on from there writes as if nothing had been.
        save(checkpoints, 3, 2.0)
        assert verify(checkpoints.folder / "last")["step"] == 3
        assert verify(checkpoints.folder / "best")["monitored"] == 2.0
        assert [name for name in names(checkpoints.folder) if name.startswith(".")] == []
        if not crashed:
            break
    assert when > 15


def test_a_full_disk_is_the_users_matter_and_spares_what_is_there(make):
    checkpoints = make()
    first = save(checkpoints, 1, 1.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for n in (50_000, 200_000, 49_800):  # ends in different places of torch's writer
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(UserError, match="step_000000002 could not be written") as caught:
                checkpoints.save(2, {"weight": torch.zeros(n)}, {}, {"monitored": None})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(caught.value)
    assert verify(first)["step"] == 1
    assert names(checkpoints.folder) == ["best", "last", "step_000000001"]
    assert newest_intact(checkpoints.folder) == (first, [])
    assert save(checkpoints, 2).name == "step_000000002"


def test_a_disk_that_fills_up_under_config_and_tokenizer(make):
    checkpoints = make()
    first = save(checkpoints, 1)

    def full(folder):
        (folder / "config.yaml").write_text("half")
        raise OSError(28, "No space left on device")

    checkpoints.write_static = full
    told = "step_000000002 could not be written .*No space left on device.*resume=true"
    with pytest.raises(UserError, match=told):
        save(checkpoints, 2)
    assert newest_intact(checkpoints.folder) == (first, [])
    assert names(checkpoints.folder) == ["best", "last", "step_000000001"]


def test_a_folder_that_cannot_be_made(tmp_path, toy):
    (tmp_path / "file").touch()
    checkpoints = CheckpointFolder(tmp_path / "file" / "run", Retention(1, 1, True), toy.write_config)
    with pytest.raises(UserError, match="could not be written"):
        save(checkpoints, 1)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "truncated": (lambda p: (p / MODEL).write_bytes((p / MODEL).read_bytes()[:-1]), "damaged: model.pt has SHA-256"),
    "emptied": (lambda p: (p / TRAINING).write_bytes(b""), "damaged: training.pt has SHA-256"),
    "one bit": (lambda p: flip(p / MODEL), "damaged: model.pt has SHA-256"),
    "config changed": (lambda p: (p / "config.yaml").write_text("name: other\n"), "damaged: config.yaml"),
    "missing": (lambda p: (p / MODEL).unlink(), "incomplete: model.pt is missing"),
    "no tokenizer": (lambda p: shutil.rmtree(p / "tokenizer"), "incomplete: tokenizer/words.txt is missing"),
    "manifest cut": (lambda p: (p / MANIFEST).write_text("{"), "manifest.json is damaged"),
    "manifest of bytes": (lambda p: (p / MANIFEST).write_bytes(b"\xff\xfe\x00"), "manifest.json is damaged"),
    "manifest a list": (lambda p: (p / MANIFEST).write_text("[]"), "manifest.json is damaged"),
    "manifest without files": (lambda p: (p / MANIFEST).write_text('{"format_version": 1}'), "is damaged"),
    "manifest's files a number": (
        lambda p: (p / MANIFEST).write_text('{"format_version": 1, "files": 3}'),
        "manifest.json is damaged",
    ),
    "newer": (
        lambda p: (p / MANIFEST).write_text('{"format_version": 2}'),
        "has checkpoint format 2, this version reads up to 1; update the package",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_the_one_before_is_taken(make, kind):
    damage, told = DAMAGE[kind]
    checkpoints = make()
    first, second = save(checkpoints, 1, 1.0), save(checkpoints, 2, 0.5)
    damage(second)
    with pytest.raises(UserError, match=re.escape(str(second)) + ".*" + told):
        verify(second)
    newest, complaints = newest_intact(checkpoints.folder)
    assert newest == first
    assert len(complaints) == 1
    assert told in complaints[0]
    assert complaints[0].endswith("(trying the one before)")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_run_goes_on_past_a_damaged_checkpoint(make, kind):
    """It went on from step 10 because 30 is damaged: 20 is now the newest, and `best` is none that is damaged."""
    save(make(n_last=2), 10, 1.0)
    DAMAGE[kind][0](save(make(n_last=2), 30, 0.5))
    checkpoints = make(n_last=1)
    save(checkpoints, 20, None)
    assert steps(checkpoints.folder) == [10, 20]  # the best, the last
    newest, complaints = newest_intact(checkpoints.folder)
    assert (newest.name, complaints) == ("step_000000020", [])
    for link in ("last", "best"):
        verify(checkpoints.folder / link)


def test_an_older_damaged_manifest_does_not_stop_the_run(make):
    checkpoints = make(n_last=3)
    DAMAGE["manifest cut"][0](save(checkpoints, 1, 0.1))
    save(checkpoints, 2, 0.5)
    assert os.readlink(checkpoints.folder / "best") == "step_000000002"


def test_nothing_intact(make, tmp_path):
    assert newest_intact(tmp_path / "nothing") == (None, [])
    checkpoints = make()
    for step in (1, 2):
        flip(save(checkpoints, step) / MODEL)
    newest, complaints = newest_intact(checkpoints.folder)
    assert newest is None
    assert ["step_000000002" in complaints[0], "step_000000001" in complaints[1]] == [True, True]


def test_what_is_no_checkpoint_is_told(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist; train one first, or name a folder such as saved/"):
        verify(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is no checkpoint: it has no manifest.json"):
        verify(tmp_path)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path):
    torch.save({"weight": torch.zeros(2), "extra": Malicious(tmp_path / "ran")}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model.pt is no file of tensors that can be read safely"):
        load_tensors(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap is a real one


def test_only_a_dict_is_a_state(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds a list, not the tensors of a checkpoint"):
        load_tensors(tmp_path / "list.pt")
    with pytest.raises(UserError, match="can be read safely"):
        load_tensors(tmp_path / "missing.pt")


@pytest.mark.filterwarnings("ignore")  # torch warns of some formats before it finds them damaged
@pytest.mark.parametrize("new_format", [True, False])
def test_damaged_tensors_are_always_the_users_matter(tmp_path, new_format):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.arange(9.0)}, path, _use_new_zipfile_serialization=new_format)
    intact, rng = path.read_bytes(), random.Random(1)
    refused = 0
    for _ in range(150):
        data = bytearray(intact)
        if rng.random() < 0.4:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            load_tensors(path)
            continue
        refused += 1
    assert refused > 50


def test_tensors_come_back_bit_by_bit(tmp_path):
    state = {"a": torch.randn(3, 2), "b": [1, 2.5, None, "x"], "c": {"d": torch.tensor([math.nan]), "e": math.inf}}
    write_tensors(tmp_path / "state.pt", state)
    found = load_tensors(tmp_path / "state.pt")
    assert torch.equal(found["a"], state["a"])
    assert found["b"] == state["b"]
    assert found["c"]["d"].isnan().all()
    assert found["c"]["e"] == math.inf


def test_the_manifest_is_readable_text(make):
    path = save(make(), 1, 2.0)
    assert json.loads((path / MANIFEST).read_text(encoding="utf-8"))["epoch"] == 1


def test_links_of_a_save_that_was_cut_off_are_mended(make):
    checkpoints = make()
    save(checkpoints, 1, monitored=2.0)
    save(checkpoints, 2, monitored=1.0)
    for name in ("best", "last"):
        (checkpoints.folder / name).unlink()
    checkpoints.tidy(newest_intact(checkpoints.folder)[0])
    assert {os.readlink(checkpoints.folder / name) for name in ("best", "last")} == {"step_000000002"}


def test_a_checkpoint_that_was_set_aside_is_put_back(make):
    checkpoints = make()
    save(checkpoints, 1, monitored=1.0)
    path = save(checkpoints, 2, monitored=2.0)
    aside = path.rename(path.with_name(f".{path.name}.replaced"))
    assert newest_intact(checkpoints.folder)[0] == aside
    checkpoints.tidy(aside)
    assert checkpoints.place(aside) == path
    assert verify(path)["step"] == 2
    assert names(checkpoints.folder) == ["best", "last", "step_000000001", "step_000000002"]
    assert os.readlink(checkpoints.folder / "last") == path.name
