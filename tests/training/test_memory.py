import ctypes.util
import platform

import pytest

from transformer.training import memory


def test_glibc_takes_the_settings():
    assert memory.keep_memory() is (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize(("answers", "expected"), [((1, 1), True), ((0, 1), False), ((1, 0), False)])
def test_it_tells_whether_both_settings_were_taken(monkeypatch, answers, expected):
    class Library:
        @staticmethod
        def mallopt(parameter, value):
            assert 0 < value < 1 << 31  # a C int
            return {-3: answers[0], -1: answers[1]}[parameter]

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library)
    assert memory.keep_memory() is expected


def test_an_older_glibc_takes_32_mebibytes(monkeypatch):
    taken = {}

    class Library:
        @staticmethod
        def mallopt(parameter, value):
            if parameter == -3 and value > 1 << 25:
                return 0
            taken[parameter] = value
            return 1

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library)
    assert memory.keep_memory() is True
    assert taken == {-3: 1 << 25, -1: (1 << 31) - 1}


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_memory() is False
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert memory.keep_memory() is False
