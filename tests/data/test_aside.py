import os
import threading
from pathlib import Path

import pytest

from transformer.data.aside import written_aside
from transformer.error import UserError


def test_folder_appears_only_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with written_aside(folder) as scratch:
        (scratch / "file").write_text("x")
        assert not folder.exists()
    assert (folder / "file").read_text() == "x"
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_nothing_is_left_after_an_exception(tmp_path: Path) -> None:
    def fail() -> None:
        with written_aside(tmp_path / "folder") as scratch:
            (scratch / "file").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with written_aside(folder) as slow, written_aside(folder) as fast:
        assert slow != fast
        (slow / "file").write_text("slow")
        (fast / "file").write_text("fast")
    assert (folder / "file").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_many_writers_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def write(name: str) -> None:
        start.wait()
        with written_aside(tmp_path / "folder") as scratch:
            for part in ("a", "b"):
                (scratch / part).write_text(name)

    threads = [threading.Thread(target=write, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "folder" / "a").read_text() == (tmp_path / "folder" / "b").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/folder cannot be written"), written_aside(tmp_path / "file" / "folder"):
        pass


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_stays(tmp_path: Path) -> None:
    left, young, other = (
        tmp_path / f".store-{name}-{32 * digit}" for name, digit in (("a", "0"), ("b", "1"), ("c", "z"))
    )
    for folder in (left, young, other):
        folder.mkdir()
        (folder / "file").write_text("x")
    for folder in (left, other):
        os.utime(folder, (0, 0))
    with written_aside(tmp_path / "slow") as slow:
        os.utime(slow, (0, 0))
        with written_aside(tmp_path / "store-a"):
            assert slow.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([young.name, other.name, "slow", "store-a"])
