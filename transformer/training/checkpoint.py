"""Checkpoints: self-contained folders, written aside, synced, then renamed; each file's SHA-256 in a manifest."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from transformer.error import UserError

FORMAT_VERSION = 1
MANIFEST, MODEL, TRAINING, CONFIG, TOKENIZER = "manifest.json", "model.pt", "training.pt", "config.yaml", "tokenizer"


def sync(path: Path) -> None:
    """Waits until a file or folder has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder claims to be a checkpoint."""
    return (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint.

    Raises:
        UserError: no such folder, no checkpoint, a damaged manifest, or a format newer than this code.
    """
    if not folder.exists():
        raise UserError(
            f"checkpoint {folder} does not exist; train one first, or name a folder such as saved/NAME/best"
        )
    if not is_checkpoint(folder):
        raise UserError(f"{folder} is no checkpoint: it has no {MANIFEST}; name a folder such as saved/NAME/best")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest["format_version"])
        if version > FORMAT_VERSION:
            raise UserError(
                f"{folder} has checkpoint format {version}, this version reads up to {FORMAT_VERSION}; "
                "update the package"
            )
        manifest["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}); use another checkpoint of the run") from error
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Reads the manifest and compares every file with its SHA-256.

    Raises:
        UserError: what `read_manifest` raises; a file that is missing or whose bytes have changed.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"checkpoint {folder} is incomplete: {name} is missing; use another checkpoint of the run")
        if (found := sha256(path)) != expected:
            raise UserError(
                f"checkpoint {folder} is damaged: {name} has SHA-256 {found[:12]}..., its manifest says "
                f"{expected[:12]}...; use another checkpoint of the run"
            )
    return manifest


def write_tensors(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors and plain values; read them with `load_tensors`.

    Raises:
        OSError: they cannot be written.
    """
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:  # so ends torch's writer on a full disk; what the disk said is its context
        raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, Any]:
    """Reads a file of tensors and plain values onto the CPU; runs no code that the file may carry.

    Raises:
        UserError: not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes lead torch's reader into almost any of them
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{path} is no file of tensors that can be read safely ({reason})") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not the tensors of a checkpoint")
    return state


def complete(folder: Path, up_to: float = math.inf) -> list[Path]:
    """The checkpoints of a run's folder that were written to their end, oldest first, up to a step.

    One that was set aside to be replaced by the same step's counts as long as that one is not in its place.
    """
    found: dict[int, Path] = {}
    for pattern in (r"\.step_(\d{9,})\.replaced", r"step_(\d{9,})"):  # and not a user's step_000000010_keep
        for path in filter(is_checkpoint, folder.glob("*step_*")):
            if (named := re.fullmatch(pattern, path.name)) and int(named[1]) <= up_to:
                found[int(named[1])] = path
    return [found[step] for step in sorted(found)]


def newest_intact(folder: Path, up_to: float = math.inf) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose every byte is as written, and a sentence for each newer one that is not.

    Args:
        folder: of the run.
        up_to: the step, in updates, behind which checkpoints do not count.
    """
    complaints: list[str] = []
    for path in reversed(complete(folder, up_to)):
        try:
            verify(path)
        except UserError as error:
            complaints.append(f"{error} (trying the one before)")
        else:
            return path, complaints
    return None, complaints


def newest_before(folder: Path, step: int) -> Path | None:
    """The newest intact checkpoint from before an update, or else one that was written right behind it."""
    before, _ = newest_intact(folder, step - 1)
    return before or newest_intact(folder, step)[0]


def is_settled(checkpoint: Path) -> bool:
    """Whether a checkpoint is not known to be written while updates were left out, which broken weights cause."""
    with contextlib.suppress(UserError):
        return not read_manifest(checkpoint).get("skipped_in_a_row")
    return True  # a damaged one is kept as long as any


def best_first(checkpoints: list[Path], lower_is_better: bool) -> list[Path]:
    """Those of the checkpoints with a monitored value, best first; of equals the earlier.

    One that `max_steps` made inside an epoch counts until the run has gone on from it: then its epoch is validated at
    its own end, as if the run had never stopped.
    """
    manifests = {}
    for path in checkpoints:
        with contextlib.suppress(UserError):  # a damaged one cannot be the best, and is no reason to stop
            manifests[path] = read_manifest(path)
    newest = max((int(manifest["step"]) for manifest in manifests.values()), default=0)
    values: dict[Path, float] = {}
    for path, manifest in manifests.items():
        passed = bool(manifest.get("step_in_epoch")) and int(manifest["step"]) < newest
        value = None if passed else manifest.get("monitored")
        values[path] = math.nan if value is None else float(value)
    sign = 1 if lower_is_better else -1
    return sorted((p for p in values if not math.isnan(values[p])), key=lambda p: sign * values[p])


def write_checkpoint(
    target: Path,
    step: int,
    tensors: dict[str, dict[str, Any]],
    facts: dict[str, Any],
    write_static: Callable[[Path], None],
) -> None:
    """Writes a checkpoint into a hidden folder beside its place, syncs it, then renames it.

    Args:
        target: its place; a checkpoint that is there is replaced in the end.
        step: updates so far.
        tensors: file name -> state; tensors and plain values only.
        facts: goes into the manifest.
        write_static: called with the hidden folder; writes config and tokenizer into it.

    Raises:
        UserError: it cannot be written; what was there is as it was.
    """
    aside = target.parent / f".{target.name}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for name, state in tensors.items():
            write_tensors(aside / name, state)
        write_static(aside)
        paths = sorted(aside.rglob("*"))
        sums = {p.relative_to(aside).as_posix(): sha256(p) for p in paths if p.is_file()}
        manifest = {"format_version": FORMAT_VERSION, "step": step, **facts, "files": sums}
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for path in [*paths, aside / MANIFEST, aside]:
            sync(path)
        if target.exists():  # the same step again, now with its validation
            replaced = target.parent / f".{target.name}.replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            os.rename(target, replaced)
        os.rename(aside, target)
        sync(target.parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(f"checkpoint {target} could not be written ({error})") from error


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay.

    Attributes:
        n_last: the newest this many; at least 1.
        n_best: the best this many by the monitored metric; at least 1.
        lower_is_better: of that metric.
    """

    n_last: int
    n_best: int
    lower_is_better: bool

    def __post_init__(self) -> None:
        for name, value in (("n_last", self.n_last), ("n_best", self.n_best)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")


class CheckpointFolder:
    """The checkpoints of one run: step_000000123/ folders, and the links `last` and `best`.

    Args:
        folder: saved/<name>.
        retention: which of them stay.
        write_static: called with a new checkpoint's folder; writes what does not change during the run into it (config
            and tokenizer), so that every checkpoint is whole in itself.
    """

    def __init__(self, folder: str | Path, retention: Retention, write_static: Callable[[Path], None]) -> None:
        self.folder, self.retention, self.write_static = Path(folder), retention, write_static

    def save(self, step: int, model: dict[str, Any], training: dict[str, Any], facts: dict[str, Any]) -> Path:
        """Writes a checkpoint aside, then renames it; repoints `last` and `best`; removes what need not stay.

        Checkpoints of later steps, left by a run that was taken up again from before them, do not stay.

        Args:
            step: updates so far; names the folder.
            model: the model's state dict.
            training: everything else that resuming needs: tensors and plain values only.
            facts: goes into the manifest; "monitored" (float or None) ranks the checkpoints, and one whose
                "skipped_in_a_row" is above 0 takes the place of none that might be gone back to.

        Returns:
            the new checkpoint's folder.

        Raises:
            UserError: it cannot be written; the earlier ones are as they were.
        """
        target = self.folder / f"step_{step:09d}"
        try:
            write_checkpoint(target, step, {MODEL: model, TRAINING: training}, facts, self.write_static)
        except UserError as error:
            raise UserError(
                f"{error}; is the disk full? Earlier ones are intact: make room, then go on with resume=true"
            ) from error
        self.tidy(target)
        return target

    def tidy(self, newest: Path) -> None:
        """Points the links at the right checkpoints, then removes those that need not stay.

        A run that goes on does so as well, for it may have been cut off before.

        Args:
            newest: the checkpoint that the run goes on from; those of later steps do not stay.

        Raises:
            UserError: a folder that is no copy of a checkpoint stands where a link belongs.
        """
        for path in complete(self.folder):
            if path.name.startswith("."):  # set aside by a save that was cut off before its own was in place
                os.rename(path, self.place(path))
        newest = self.place(newest)
        for leftover in self.folder.glob(".step_*"):  # of this save, or of one that was cut off
            shutil.rmtree(leftover)
        present = complete(self.folder)
        valid = [p for p in present if p <= newest]
        settled = [p for p in valid if is_settled(p)]
        ranked = best_first(valid, self.retention.lower_is_better)
        self._link("last", newest)
        self._link("best", (ranked[:1] or settled[-1:] or [newest])[0])
        keep = {newest, *settled[-self.retention.n_last :], *ranked[: self.retention.n_best]}
        for path in present:
            if path not in keep:
                shutil.rmtree(path)

    def place(self, path: Path) -> Path:
        """Where `tidy` puts a checkpoint that had been set aside to be replaced; others are in their place."""
        return self.folder / path.name.removeprefix(".").removesuffix(".replaced")

    def _link(self, name: str, target: Path) -> None:
        place = self.folder / name
        if place.is_dir() and not place.is_symlink():  # the run was copied by something that follows links
            manifest = (place / MANIFEST).read_bytes() if is_checkpoint(place) else b""
            if manifest not in [(path / MANIFEST).read_bytes() for path in complete(self.folder)]:
                raise UserError(f"{place} is a folder of its own, but training keeps a link there; move it elsewhere")
            shutil.rmtree(place)
        aside = self.folder / f".{name}.partial"
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        aside.symlink_to(target.name, target_is_directory=True)
        os.replace(aside, self.folder / name)
