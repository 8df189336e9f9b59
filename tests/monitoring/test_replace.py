import os

import pytest

from transformer.monitoring.replace import replace


def test_writes_into_a_new_folder_and_over_an_old_file(tmp_path):
    path = tmp_path / "new" / "file"
    replace(path, b"one")
    replace(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]


def test_a_crash_before_the_rename_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace(path, b"old")

    def crash(source, target):
        raise OSError("disk gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(OSError, match="disk gone"):
            replace(path, b"new")
    assert path.read_bytes() == b"old"
    replace(path, b"new")
    assert os.listdir(tmp_path) == ["file"]
