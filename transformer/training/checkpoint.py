"""Checkpoints: self-contained folders, written aside, synced, then renamed; each file's SHA-256 in a manifest."""

import contextlib
import hashlib
import json
import os
import pickle
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
        version, _ = int(manifest["format_version"]), dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / MANIFEST} is damaged ({error}); use another checkpoint of the run") from error
    if version > FORMAT_VERSION:
        raise UserError(
            f"{folder} has checkpoint format {version}, this version reads up to {FORMAT_VERSION}; update the package"
        )
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


def load_tensors(path: Path) -> dict[str, Any]:
    """Reads a file of tensors and plain values onto the CPU; runs no code that the file may carry.

    Raises:
        UserError: not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} is no file of tensors that can be read safely ({str(error).splitlines()[0]})"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, not the tensors of a checkpoint")
    return state


def complete(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder that were written to their end, oldest first."""
    return sorted(p for p in folder.glob("step_*") if p.is_dir() and is_checkpoint(p))


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose every byte is as written, and a sentence for each newer one that is not."""
    complaints: list[str] = []
    for path in reversed(complete(folder)):
        try:
            verify(path)
        except UserError as error:
            complaints.append(f"{error} (trying the one before)")
        else:
            return path, complaints
    return None, complaints


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

        Args:
            step: updates so far; names the folder.
            model: the model's state dict.
            training: everything else that resuming needs: tensors and plain values only.
            facts: goes into the manifest; "monitored" (float or None) ranks the checkpoints.

        Returns:
            the new checkpoint's folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        target, aside = self.folder / f"step_{step:09d}", self.folder / f".step_{step:09d}.partial"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            torch.save(model, aside / MODEL)
            torch.save(training, aside / TRAINING)
            self.write_static(aside)
            files = sorted(p for p in aside.rglob("*") if p.is_file())
            sums = {p.relative_to(aside).as_posix(): sha256(p) for p in files}
            manifest = {"format_version": FORMAT_VERSION, "step": step, **facts, "files": sums}
            (aside / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            for path in [*files, aside / MANIFEST, aside]:
                sync(path)
            replaced = self.folder / f".{target.name}.replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            if target.exists():  # the same step again, now with its validation
                os.rename(target, replaced)
            os.rename(aside, target)
            shutil.rmtree(replaced, ignore_errors=True)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            shutil.rmtree(aside, ignore_errors=True)
            cause = str(error).splitlines()[0]
            raise UserError(
                f"checkpoint {target} could not be written ({cause}); is the disk full? Earlier ones are intact: make "
                "room, then go on with resume=true"
            ) from error
        sync(self.folder)
        self._link("last", target)
        ranked = self._ranked()
        self._link("best", ranked[0] if ranked else target)
        self._prune(ranked)
        return target

    def _ranked(self) -> list[Path]:
        """Checkpoints with a monitored value, best first; of equals the earlier."""
        told = {p: read_manifest(p).get("monitored") for p in complete(self.folder)}
        values = {p: float(v) for p, v in told.items() if v is not None}
        sign = 1 if self.retention.lower_is_better else -1
        return sorted(values, key=lambda p: (sign * values[p], p))

    def _link(self, name: str, target: Path) -> None:
        aside = self.folder / f".{name}.partial"
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        aside.symlink_to(target.name, target_is_directory=True)
        os.replace(aside, self.folder / name)

    def _prune(self, ranked: list[Path]) -> None:
        keep = set(complete(self.folder)[-self.retention.n_last :]) | set(ranked[: self.retention.n_best])
        for path in complete(self.folder):
            if path not in keep:
                shutil.rmtree(path)
