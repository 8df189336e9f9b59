import dataclasses
import io
import math

import pytest

from transformer.monitoring.console import Console, fixed, header, row, start_line
from transformer.monitoring.terminal import open_terminal


@pytest.fixture
def log():
    return io.StringIO()


@pytest.fixture
def console(log):
    return Console(open_terminal(log))


def test_a_log_file_gets_plain_short_lines_with_one_header(console, log, tell):
    tell([console], 0, 30)
    console.on_end()
    lines = log.getvalue().splitlines()
    assert lines[0] == "small: 2,613,248 parameters, 10 steps per epoch, at most 6 epochs"
    assert lines.count(header()) == 1
    assert [line.split()[0] for line in lines[3:6]] == ["1", "2", "3"]
    assert all(c == "\n" or c.isprintable() for c in log.getvalue())


def test_the_table_fits_eighty_columns(make_epoch):
    huge = dataclasses.replace(
        make_epoch(99_999),
        train_loss=1e30,
        valid_loss=-1234.56789,
        valid_perplexity=math.inf,
        bleu=100.0,
        tokens_per_second=9_999_999.0,
        learning_rate=1e-12,
        seconds=3_600.0 * 1_000,
    )
    assert len(row(huge)) <= 80
    assert len(header()) <= 80


def test_row_shows_numbers_in_their_columns(make_epoch):
    assert row(make_epoch(2)).split() == [
        "2",
        "3.5000",
        "3.1000",
        "22.20",
        "41.0",
        "20.00",
        "2.00e-03",
        "6320",
        "1:05",
        "*",
    ]
    assert row(make_epoch(1)).split()[5] == "-"
    assert not row(make_epoch(1)).endswith("*")


def test_messages_cannot_move_the_cursor(console, log):
    console.on_message("rate cut \x1b[2J[bold] to 1e-4")
    assert log.getvalue() == "rate cut  [2J[bold] to 1e-4\n"


def test_the_end_names_best_epoch_signature_and_last_checkpoint(console, log, tell, make_epoch):
    tell([console], 0, 30)
    console.on_epoch(dataclasses.replace(make_epoch(4), best=False))
    console.on_checkpoint("saved/small/step_000000010", 10)
    console.on_checkpoint("saved/small/step_000000030", 30)
    console.on_end()
    tail = log.getvalue().splitlines()[-3:]
    assert tail[0] == "best: epoch 3, validation loss 2.4333, BLEU 30.00 (case:lc|tok:13a|version:2.6.0)"
    assert tail[1] == "last checkpoint: saved/small/step_000000030"
    assert "step_000000010" not in log.getvalue()


def test_an_end_before_the_start_or_any_epoch_is_fine(console, log, make_start):
    console.on_end()
    assert log.getvalue() == ""
    console.on_start(make_start(0))
    console.on_end()
    assert "best" not in log.getvalue()


def test_start_line_tells_limits_and_resumption(make_start):
    start = dataclasses.replace(make_start(4_540), max_steps=8_000)
    assert start_line(start).endswith("at most 6 epochs or 8,000 steps, resuming after step 4,540")
    assert "at most 1 epoch or 8,000 steps" in start_line(dataclasses.replace(start, max_epochs=1))
    assert "at most" not in start_line(dataclasses.replace(start, max_steps=None, max_epochs=None))


@pytest.mark.parametrize(("value", "text"), [(1.23456, "1.2346"), (math.nan, "nan"), (123_456.7, "1.2e+05")])
def test_fixed_switches_to_powers_of_ten(value, text):
    assert fixed(value, 4, 7) == text
