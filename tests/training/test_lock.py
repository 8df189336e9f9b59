import os
import signal
import socket
import subprocess
import sys

import pytest

from transformer.error import UserError
from transformer.training.lock import LOCK, run_lock

HOLD = (
    "import sys, time; from pathlib import Path; from transformer.training.lock import run_lock\n"
    "with run_lock(Path(sys.argv[1])):\n"
    "    (Path(sys.argv[1]) / 'checkpoint').touch()\n"
    "    print('held', flush=True); time.sleep(600)\n"
)


def test_the_second_is_refused_and_told_who_is_first(tmp_path):
    with run_lock(tmp_path / "run"):
        holder = f"process {os.getpid()} on host {socket.gethostname()}"
        with pytest.raises(UserError, match=f"run is in use by {holder}; wait for it"), run_lock(tmp_path / "run"):
            pass
        with run_lock(tmp_path / "other"):
            pass
    with run_lock(tmp_path / "run"):
        pass


def test_it_is_let_go_after_an_error_too(tmp_path):
    with pytest.raises(KeyError), run_lock(tmp_path / "run"):
        raise KeyError
    with run_lock(tmp_path / "run"):
        pass


def test_an_empty_folder_goes_and_a_full_one_stays(tmp_path):
    with run_lock(tmp_path / "empty"):
        pass
    assert not (tmp_path / "empty").exists()
    with run_lock(tmp_path / "full"):
        (tmp_path / "full" / "step_000000001").mkdir()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["step_000000001"]


def test_the_lock_of_a_killed_process_is_none(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=f"in use by process {process.pid} on"), run_lock(tmp_path):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).exists()
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()
