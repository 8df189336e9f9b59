import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from transformer.data import download as module
from transformer.data.download import File, download, verify
from transformer.error import UserError

CONTENT = bytes(range(256)) * 800  # 204,800 bytes
FILE = File("data.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
BY_HAND = "fetch it yourself"


class Server(ThreadingHTTPServer):
    """Serves `content`; can break off, ignore or refuse ranges, fail."""

    daemon_threads = True
    content = CONTENT
    break_after: list[int]  # bytes sent by each coming request before the connection breaks
    status: list[int]  # statuses of the coming requests instead of content
    ranges = True
    ranges_seen: list[str | None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.break_after, self.status, self.ranges_seen = [], [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # the name http.server calls
        wanted = self.headers.get("Range")
        self.server.ranges_seen.append(wanted)
        if "urllib" in (self.headers.get("User-Agent") or "urllib"):  # as the site of the Tatoeba archive does
            self.send_error(406)
            return
        if self.server.status:
            self.send_error(self.server.status.pop(0))
            return
        content, start = self.server.content, 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        most = self.server.break_after.pop(0) if self.server.break_after else len(content)
        self.wfile.write(content[start : start + most])

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "data.gz"
    download(server.url, path, FILE, BY_HAND)
    assert path.read_bytes() == CONTENT
    assert parts(path.parent) == ["data.gz"]


def test_a_broken_connection_is_resumed_at_once(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 50_000]
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert (tmp_path / "data.gz").read_bytes() == CONTENT
    assert server.ranges_seen == [None, "bytes=100000-", "bytes=150000-"]


def test_a_connection_that_breaks_again_and_again_is_resumed_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.break_after = [1000] * module.ATTEMPTS
    with pytest.raises(UserError, match=rf"broke off\); 3000 of 204800 bytes are kept, run again to go on; {BY_HAND}"):
        download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert parts(tmp_path) == ["data.gz.part"]
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert server.ranges_seen[-1] == "bytes=3000-"
    assert (tmp_path / "data.gz").read_bytes() == CONTENT
    assert parts(tmp_path) == ["data.gz"]


def test_who_has_waited_goes_on_behind_what_the_other_one_has_left(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    part, lock = tmp_path / "data.gz.part", fcntl.flock
    part.write_bytes(CONTENT[:1000])

    def waited(*arguments: Any) -> None:
        with part.open("ab") as other:
            other.write(CONTENT[1000:7000])
        lock(*arguments)

    monkeypatch.setattr(fcntl, "flock", waited)
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert server.ranges_seen == ["bytes=7000-"]
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.gz.part").write_bytes(CONTENT[:5000])
    server.ranges = False
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_a_part_that_is_already_complete_needs_no_request(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.gz.part").write_bytes(CONTENT)
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert server.ranges_seen == []
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT + b"x", b"x" * 5000])
def test_a_part_that_does_not_fit_is_given_up(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "data.gz.part").write_bytes(part)
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_a_range_the_server_refuses_starts_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.gz.part").write_bytes(CONTENT[:5000])
    server.status = [416]
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert server.ranges_seen == ["bytes=5000-", None]
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x"])
def test_wrong_size_is_told_with_both_sizes(server: Server, tmp_path: Path, content: bytes) -> None:
    server.content = content
    with pytest.raises(UserError, match=rf"has {len(content)} bytes where 204800 are expected; {BY_HAND}"):
        download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert not (tmp_path / "data.gz").exists()


def test_wrong_content_is_told_with_both_hashes_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = b"x" + CONTENT[1:]
    wrong = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(UserError, match=rf"SHA-256 {wrong} where {FILE.sha256} is expected; {BY_HAND}"):
        download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert parts(tmp_path) == []


def test_not_found_is_final(server: Server, tmp_path: Path) -> None:
    server.status = [404] * 9
    with pytest.raises(UserError, match=rf"was refused \(404 Not Found\); {BY_HAND}"):
        download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert len(server.ranges_seen) == 1


def test_a_passing_server_error_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.status = [503]
    download(server.url, tmp_path / "data.gz", FILE, BY_HAND)
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=rf"could not be downloaded \(.*refused\); {BY_HAND}"):
        download("http://127.0.0.1:9/data.gz", tmp_path / "data.gz", FILE, BY_HAND)
    assert parts(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"cannot be written: .*; {BY_HAND}"):
        download("http://127.0.0.1:9/data.gz", tmp_path / "file" / "data.gz", FILE, BY_HAND)


def test_several_at_once_make_one_good_file(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000]
    path = tmp_path / "data.gz"
    threads = [threading.Thread(target=download, args=(server.url, path, FILE, BY_HAND)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert parts(tmp_path) == ["data.gz"]
    assert path.read_bytes() == CONTENT
    assert len(server.ranges_seen) == 2  # the first caller's two; the others found the file


def test_verify(tmp_path: Path) -> None:
    path = tmp_path / "data.gz"
    path.write_bytes(CONTENT)
    verify(path, FILE, "do this")
    with pytest.raises(UserError, match="has 204800 bytes where 7 are expected; do this"):
        verify(path, FILE._replace(size=7), "do this")
    with pytest.raises(UserError, match=r"cannot be read: .*; do this"):
        verify(tmp_path / "gone", FILE, "do this")
