"""Folders that appear only when complete: written under another name, then renamed."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformer.error import UserError


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into; at the end of a `with` block without exception it becomes `folder`.

    When several processes make the same folder, the first one wins and the others' work is thrown away. The caller
    removes a damaged `folder` first.

    Raises:
        UserError: the disk is full or may not be written.
    """
    scratch = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        scratch.mkdir(parents=True)
        try:
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
