"""Writing a file so that a reader, and a crash, sees either the old one or the new one."""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write `content` to `path` by way of a temporary file beside it, forced to disk and renamed.

    Folders on the way are made. Killed in between, the old file is whole and `.<name>.tmp` may be left; the next call
    overwrites it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
