"""What the trainer had to say, kept in a file: rate cuts, loss spikes, updates left out, each with its pairs."""

from datetime import datetime
from pathlib import Path

from transformer.training.observer import Observer, RunStart

MESSAGES_FILE = "messages.txt"


class Messages(Observer):
    """Appends every message to messages.txt in the run's folder, one a line, behind the local time.

    A new run begins with an empty file. A resumed one says so and goes on in the same file; what is trained again is
    told again.
    """

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / MESSAGES_FILE

    def on_start(self, start: RunStart) -> None:
        """Begin, or say where the run goes on."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if start.resumed_step:
            self.on_message(f"resumed from step {start.resumed_step}")
        else:
            self.path.write_bytes(b"")

    def on_message(self, text: str) -> None:
        """Append the sentence."""
        line = " ".join(text.split())
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}\n")
