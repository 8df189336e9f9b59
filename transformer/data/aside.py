"""Folders that appear only when complete: written under another name, then renamed."""

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transformer.error import UserError

_SETTLED = 60.0  # seconds; so old is no folder that its process has made and not yet locked


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Locks a folder for as long as this process lives, or less."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # of a file system without locks, on which nothing is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(left: Path) -> None:
    """Removes what a process that was killed has left; what another one is writing is locked, and stays."""
    with suppress(OSError):  # gone already, or locked
        descriptor = os.open(left, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(descriptor).st_mtime > _SETTLED:
                shutil.rmtree(left)
        finally:
            os.close(descriptor)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into; at the end of a `with` block without exception it becomes `folder`.

    When several processes make the same folder, the first one wins and the others' work is thrown away. The caller
    removes a damaged `folder` first. What earlier ones that were killed have left is removed.

    Raises:
        UserError: the disk is full or may not be written.
    """
    scratch = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        for left in folder.parent.glob(".*-" + 32 * "[0-9a-f]"):
            _sweep(left)
        scratch.mkdir(parents=True)
        try:
            with _held(scratch):
                yield scratch
            try:
                os.rename(scratch, folder)
            except OSError:
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror or error}; make room there or choose another place"
        ) from error
