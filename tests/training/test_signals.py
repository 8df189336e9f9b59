import os
import signal
import subprocess
import sys

import pytest

from transformer.training.signals import SIGNALS, Interrupted, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_nothing_else_happens(number):
    before = [signal.getsignal(s) for s in SIGNALS]
    with StopRequest() as request:
        assert request.number is None
        os.kill(os.getpid(), number)
        assert request.number == number
    assert [signal.getsignal(s) for s in SIGNALS] == before


def test_the_first_signal_counts():
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert request.number == signal.SIGTERM


def test_handlers_come_back_after_an_error():
    before = [signal.getsignal(s) for s in SIGNALS]
    with pytest.raises(KeyError), StopRequest():
        raise KeyError
    assert [signal.getsignal(s) for s in SIGNALS] == before


def test_a_second_interrupt_ends_the_process():
    code = (
        "import os, signal\n"
        "from transformer.training.signals import StopRequest\n"
        "with StopRequest() as request:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print(request.number, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("2\n", -signal.SIGINT), done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_the_exit_code_is_the_shells(number, code):
    stop = Interrupted(number)
    assert stop.exit_code == code
    assert str(stop) == f"stopped by {number.name}; a checkpoint is saved, go on with resume=true"
