"""Signals that ask a run to stop: noted, acted on after the step under way."""

import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):  # noqa: N818 (a way to end, not an error)
    """Training stopped on a signal, after saving a checkpoint.

    Attributes:
        exit_code: 128 + the signal's number, as a shell reports it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; a checkpoint is saved, go on with resume=true")
        self.exit_code = 128 + number


class StopRequest:
    """A context in which SIGINT, SIGTERM and SIGUSR1 are only noted; a second SIGINT ends the process at once.

    Attributes:
        number: the first signal received, or None.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[signal.Signals, object] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __enter__(self) -> "StopRequest":
        self._before = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
