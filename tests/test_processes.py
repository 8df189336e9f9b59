import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from transformer.error import UserError
from transformer.processes import Processes, can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


def wait_until_gone(pids):
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_every_task_is_done_once_elsewhere_and_told_in_the_calling_thread():
    found, threads, pids = {}, set(), set()

    def done(task, result):
        threads.add(threading.current_thread())
        assert task not in found
        found[task], pid, n_threads = result
        pids.add(pid)
        assert n_threads == 1

    with Processes(lambda task: (task * task, os.getpid(), torch.get_num_threads()), 2) as processes:
        processes.run(list(range(20)), done)
    assert found == {task: task * task for task in range(20)}
    assert threads == {threading.current_thread()}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    wait_until_gone(pids)


def test_they_work_at_the_same_time():
    ends = os.pipe(), os.pipe()

    def work(task):  # each waits for the other
        os.write(ends[task][1], b"x")
        return os.read(ends[1 - task][0], 1)

    found = []
    with Processes(work, 2) as processes:
        processes.run([0, 1], lambda task, result: found.append(result))
    assert found == [b"x", b"x"]
    for end in (*ends[0], *ends[1]):
        os.close(end)


def test_they_stay_and_know_what_was_so_when_they_came():
    known, found = ["then"], []

    def done(task, result):
        found.append(result)

    with Processes(lambda task: (known[0], os.getpid()), 1) as processes:
        processes.run([0], done)
        known[0] = "now"
        processes.run([0], done)
    assert found[0] == found[1]
    assert found[0][0] == "then"


def test_what_goes_wrong_is_raised_and_the_rest_given_up(tmp_path):
    def work(task):
        if task == 0:
            raise UserError("line 1: no")
        (tmp_path / str(task)).touch()
        time.sleep(0.01)

    with pytest.raises(UserError, match=r"^line 1: no$"), Processes(work, 2) as processes:
        processes.run(list(range(1000)), lambda task, result: None)
    assert len(list(tmp_path.iterdir())) < 100


def test_a_process_that_is_killed_is_told():
    def work(task):
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        pytest.raises(UserError, match=r"a process that translates was killed, .* \(translation.processes=false\)"),
        Processes(work, 2) as processes,
    ):
        processes.run([0, 1, 2], lambda task, result: None)


def test_they_end_with_the_one_that_made_them_however_it_ends():
    script = (
        "import os, sys, time\n"
        "from transformer.processes import Processes\n"
        "def work(task):\n"
        "    os.write(1, f'{os.getpid()}\\n'.encode())\n"
        "    time.sleep(600)\n"
        "with Processes(work, 2) as processes:\n"
        "    processes.run([0, 1], print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        process.kill()
        wait_until_gone(pids)


def test_nothing_to_do():
    done = []
    with Processes(lambda task: pytest.fail("no task"), 2) as processes:
        processes.run([], lambda task, result: done.append(task))
    with Processes(lambda task: pytest.fail("no task"), 2):
        pass
    assert done == []
