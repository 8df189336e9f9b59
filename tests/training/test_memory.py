import ctypes.util
import math
import platform
import resource

import pytest
import torch

from transformer.training import memory


def test_glibc_takes_the_settings():
    assert memory.keep_memory() is (platform.libc_ver()[0] == "glibc")


ANSWERS = [((1, 1, 1), True), ((0, 1, 1), False), ((1, 0, 1), False), ((1, 1, 0), False)]


@pytest.mark.parametrize(("answers", "expected"), ANSWERS)
def test_it_tells_whether_all_settings_were_taken(monkeypatch, answers, expected):
    class Library:
        @staticmethod
        def mallopt(parameter, value):
            assert 0 < value < 1 << 31  # a C int
            return {-3: answers[0], -1: answers[1], -8: answers[2]}[parameter]

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
    assert taken == {-3: 1 << 25, -1: (1 << 31) - 1, -8: 1}


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_memory() is False
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    assert memory.keep_memory() is False


def test_the_peak_holds_what_was_held_and_is_not_forgotten():
    before = memory.peak_mib(torch.device("cpu"))
    held = torch.ones(64 << 18)  # 64 MiB
    del held
    after = memory.peak_mib(torch.device("cpu"))
    assert after >= before
    assert after > 64
    # What /proc tells and what getrusage tells differ by what stood there before this program was started, if at all.
    assert after <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10 * 1.01


def test_without_proc_the_peak_comes_from_getrusage(monkeypatch):
    monkeypatch.setattr(memory.Path, "is_file", lambda path: False)
    expected = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert memory.peak_mib(torch.device("cpu")) == pytest.approx(expected / 2**10, rel=0.01)
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.peak_mib(torch.device("cpu")) == pytest.approx(expected / 2**20, rel=0.01)
    monkeypatch.setitem(memory.sys.modules, "resource", None)
    assert math.isnan(memory.peak_mib(torch.device("cpu")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_peak_is_that_of_its_tensors():
    device = torch.device("cuda")
    before = memory.peak_mib(device)
    held = torch.ones(64 << 18, device=device)
    del held
    assert memory.peak_mib(device) >= max(before, 64)
