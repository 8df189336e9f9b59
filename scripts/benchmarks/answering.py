"""A process that answers JSON lines with JSON lines."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any


@dataclass
class Answering:
    """A process under a name, and when it was ready."""

    name: str
    process: "subprocess.Popen[str]"
    start_seconds: float

    def ask(self, job: dict[str, Any] | None) -> dict[str, Any]:
        """Sends a job, if there is one, and waits for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if job is not None:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended before its time, exit code {self.process.wait()}; see above")
        return dict(json.loads(line))

    def end(self) -> None:
        """Lets the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
