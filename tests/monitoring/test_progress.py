import contextlib
import dataclasses
import fcntl
import io
import math
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest

from transformer.monitoring.console import Console
from transformer.monitoring.progress import Progress, Smooth, speed, steps_left
from transformer.monitoring.terminal import open_terminal

CURSOR_HIDDEN, CURSOR_SHOWN = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def screen(monkeypatch):
    """A real pseudo-terminal of 80 columns: a file to write to, and a function that returns what arrived."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    arrived = bytearray()

    def read():
        with contextlib.suppress(OSError):  # the other side is closed
            while chunk := os.read(master, 65_536):
                arrived.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    file = os.fdopen(slave, "w", encoding="utf-8")

    def text():
        file.close()
        reader.join(timeout=10)
        return arrived.decode()

    yield file, text
    file.close()
    reader.join(timeout=10)
    os.close(master)


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_the_bar_shows_epoch_step_loss_speed_time_and_best_bleu(screen, make_start, make_step, make_epoch):
    file, text = screen
    progress = Progress(open_terminal(file))
    progress.on_start(make_start(0))
    progress.on_epoch(make_epoch(3))
    progress.on_epoch(dataclasses.replace(make_epoch(4), bleu=12.0))
    progress.on_step(make_step(34))
    assert progress.bar is not None
    progress.bar.refresh()
    progress.on_end()
    shown = plain(text())
    assert re.search(r"epoch 4/6 \S+ 4/10 loss 1\.529 268 tok/s BLEU 30\.00 \d+:\d\d left", shown)
    assert max(len(line) for line in re.split(r"[\r\n]+", shown)) <= 80


def test_a_full_epoch_is_shown_as_validating(screen, make_start, make_step):
    file, text = screen
    progress = Progress(open_terminal(file))
    progress.on_start(make_start(0))
    progress.on_step(make_step(10))
    progress.on_end()
    assert "validating" in plain(text())


def test_table_rows_stand_above_the_bar_and_survive_it(screen, tell):
    file, text = screen
    terminal = open_terminal(file)
    observers = [Console(terminal), Progress(terminal)]
    tell(observers, 0, 20)
    observers[0].on_message("learning rate cut to 1e-4")
    for observer in observers:
        observer.on_end()
    shown = text()
    for line in ("train loss valid loss", "    1     5.5000", "    2     3.5000", "learning rate cut to 1e-4"):
        assert plain(shown).count(line) == 1
    assert shown.index("learning rate cut") < shown.rindex("validating")


def test_an_exception_gives_the_cursor_back(screen, make_start, make_step):
    file, text = screen
    progress = Progress(open_terminal(file))
    before = sys.stdout

    def train():
        progress.on_start(make_start(0))
        try:
            progress.on_step(make_step(1))
            raise KeyboardInterrupt
        finally:
            progress.on_end()

    with pytest.raises(KeyboardInterrupt):
        train()
    shown = text()
    assert shown.rindex(CURSOR_SHOWN) > shown.rindex(CURSOR_HIDDEN)
    assert sys.stdout is before


def test_nothing_at_all_is_written_to_a_log_file(tell):
    log = io.StringIO()
    progress = Progress(open_terminal(log))
    tell([progress], 0, 20)
    progress.on_end()
    assert log.getvalue() == ""


def test_a_dumb_terminal_gets_no_bar(screen, monkeypatch, tell):
    file, text = screen
    monkeypatch.setenv("TERM", "dumb")
    progress = Progress(open_terminal(file))
    tell([progress], 0, 10)
    progress.on_end()
    assert text() == ""


def test_ending_twice_or_before_the_start_is_fine(make_start):
    file = io.StringIO()
    progress = Progress(open_terminal(file))
    progress.on_end()
    progress.on_start(make_start(0))
    progress.on_end()
    before = file.getvalue()
    progress.on_end()
    assert file.getvalue() == before


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "left"),
    [(6, None, 48), (None, 30, 18), (6, 30, 18), (2, 30, 8), (None, None, 8), (1, None, 0)],
)
def test_steps_left_until_the_nearest_end(make_start, make_step, max_epochs, max_steps, left):
    start = dataclasses.replace(make_start(0), max_epochs=max_epochs, max_steps=max_steps)
    assert steps_left(start, make_step(12)) == left


@pytest.mark.parametrize(
    ("rate", "text"), [(268.4, "268"), (6_320, "6.3k"), (120_400, "120k"), (1_250_000, "1.2M"), (math.inf, "-")]
)
def test_speed_is_short(rate, text):
    assert speed(1 / rate) == text


def test_smoothing_starts_at_the_first_value_and_survives_a_nan():
    smooth = Smooth(0.9)
    assert speed(smooth.value) == "-"
    smooth.add(4.0)
    assert smooth.value == 4.0
    smooth.add(2.0)
    assert smooth.value == pytest.approx(3.8)
    smooth.add(math.nan)
    smooth.add(1.0)
    assert smooth.value == 1.0
