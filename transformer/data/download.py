"""Fetches a file over HTTP: into a temporary name, resumed when interrupted, verified, then renamed."""

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from transformer.error import UserError

TIMEOUT_SECONDS = 30.0
ATTEMPTS = 3
_BLOCK = 1 << 16


class File(NamedTuple):
    """What a file must be: its name, size in bytes and SHA-256 (hex)."""

    name: str
    size: int
    sha256: str


def sha256(path: Path) -> str:
    """The SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(path: Path, file: File, remedy: str) -> None:
    """Checks a file against its size and SHA-256.

    Raises:
        UserError: they differ (both values, then `remedy`), or the file cannot be read.
    """
    try:
        size = path.stat().st_size
        if size != file.size:
            raise UserError(f"{path} has {size} bytes where {file.size} are expected; {remedy}")
        actual = sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; {remedy}") from error
    if actual != file.sha256:
        raise UserError(f"{path} has SHA-256 {actual} where {file.sha256} is expected; {remedy}")


def download(url: str, path: Path, file: File, by_hand: str) -> None:
    """Fetches `url` to `path`, which appears only when complete and verified.

    The bytes go to `path` + ".part". An interrupted download, in this call or an earlier one, goes on where it stopped
    (HTTP Range) if the server can do that. A second process asking for the same file waits for the first.

    Args:
        url: http or https address.
        path: where the file is to lie; its folder is made.
        file: size and SHA-256 it must have.
        by_hand: the end of every error sentence: how to put the file there without this function.

    Raises:
        UserError: no network, refused by the server, broken off again and again, or not the expected content.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(part) as out:
            if path.exists():  # another process was faster
                return
            for resumed in (out.tell() > 0, False):
                _fetch(url, out, file, by_hand)
                try:
                    verify(part, file, by_hand)
                    break
                except UserError:
                    _empty(out)  # going on from wrong bytes would never end well
                    if not resumed:  # if it was resumed, only the old part may have been wrong
                        raise
            os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}; {by_hand}") from error


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Opens `part` for appending, alone; leaves no empty file behind."""
    while True:
        with part.open("ab") as out:
            if sys.platform != "win32":
                import fcntl

                fcntl.flock(out, fcntl.LOCK_EX)
            if not _is_at(out, part):  # whom we waited for has renamed or removed it
                continue
            out.seek(0, os.SEEK_END)  # whom we waited for may have left more than there was
            try:
                yield out
            finally:
                if out.tell() == 0 and _is_at(out, part):
                    part.unlink()
            return


def _is_at(out: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(out.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _empty(out: BinaryIO) -> None:
    out.seek(0)  # truncating alone leaves the position, and tell() with it, where it was
    out.truncate()


def _fetch(url: str, out: BinaryIO, file: File, by_hand: str) -> None:
    """Appends to `out` until it has the expected size, in a few attempts, each going on where the last stopped."""
    if out.tell() > file.size:
        _empty(out)
    failure = ""
    for _ in range(ATTEMPTS):
        if out.tell() == file.size:
            return
        try:
            _receive(url, out, file, by_hand)
            failure = "the connection broke off"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # our idea of the rest does not fit the server's file: start anew
                _empty(out)
            elif error.code < 500:
                raise UserError(f"{url} was refused ({error.code} {error.reason}); {by_hand}") from error
            failure = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            failure = str(getattr(error, "reason", None) or error or type(error).__name__)
        out.flush()
    if out.tell() != file.size:
        got = f"; {out.tell()} of {file.size} bytes are kept, run again to go on" if out.tell() else ""
        raise UserError(f"{url} could not be downloaded ({failure}){got}; {by_hand}")


def _receive(url: str, out: BinaryIO, file: File, by_hand: str) -> None:
    have = out.tell()
    headers = {"User-Agent": "transformer-train"}  # some servers refuse the name that urllib gives itself
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        if have and response.status != 206:  # the server sends everything again
            _empty(out)
            have = 0
        length = response.headers.get("Content-Length")
        if length is not None and have + int(length) != file.size:
            _empty(out)
            raise UserError(f"{url} has {have + int(length)} bytes where {file.size} are expected; {by_hand}")
        while block := response.read(_BLOCK):
            out.write(block)
            if out.tell() > file.size:
                raise UserError(f"{url} sends more than the {file.size} bytes expected; {by_hand}")
