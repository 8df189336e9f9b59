"""One trainer a run folder: a lock that dies with its process."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from transformer.error import UserError

LOCK = ".lock"


def _acquire(path: Path) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "a process that has not said its name"
            file.close()
            raise UserError(
                f"{path.parent} is in use by {holder}; wait for it, stop it, or use another name"
            ) from error
        # The holder before us may have removed the file between our opening and our locking it.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        file.close()


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go when the process ends, however it ends.

    The file left behind by a dead process is therefore no lock, and is taken over. A folder that holds nothing else in
    the end is removed.

    Args:
        folder: saved/<name>; made if need be.

    Raises:
        UserError: another process holds it; names process and host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    file = _acquire(path)
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on host {socket.gethostname()}\n")
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: it holds checkpoints
            folder.rmdir()
        file.close()
