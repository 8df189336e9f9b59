"""Messages on disk: one a line, dated, in a file that a resumed run goes on with."""

from datetime import datetime

from transformer.monitoring.messages import Messages
from transformer.training.observer import RunStart


def start(step: int) -> RunStart:
    return RunStart("run", {}, 1, 10, 2, None, step)


def test_every_message_is_one_dated_line(tmp_path) -> None:
    messages = Messages(str(tmp_path / "run"))
    messages.on_start(start(0))
    messages.on_message("step 3: loss 9.0 stands out; 2 pairs, lines 1, 2: 'Käse\u2028and\nmore'")
    messages.on_message("b")
    lines = (tmp_path / "run" / "messages.txt").read_text(encoding="utf-8").split("\n")
    assert [line.partition(" ")[2] for line in lines] == [
        "step 3: loss 9.0 stands out; 2 pairs, lines 1, 2: 'Käse and more'",
        "b",
        "",
    ]
    assert datetime.fromisoformat(lines[0].partition(" ")[0]).tzinfo is not None


def test_a_resumed_run_goes_on_and_a_new_one_begins_anew(tmp_path) -> None:
    for step in (0, 7):
        messages = Messages(str(tmp_path))
        messages.on_start(start(step))
        messages.on_message(f"from {step}")
    told = [line.partition(" ")[2] for line in messages.path.read_text().splitlines()]
    assert told == ["from 0", "resumed from step 7", "from 7"]
    Messages(str(tmp_path)).on_start(start(0))
    assert messages.path.read_text() == ""
