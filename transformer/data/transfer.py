"""Batches on their way to an accelerator: pinned and sent ahead by a thread, on a stream of their own."""

from dataclasses import dataclass
from typing import Any

import torch

from transformer.data.batch import Batch


@dataclass(frozen=True)
class Sent:
    """A batch on its way.

    Attributes:
        batch: where it goes to; not to be read before it has been received.
        event: when it is there, on the device's clock; None = it is there.
    """

    batch: Batch
    event: torch.cuda.Event | None = None


class Transfer:
    """Brings batches to a device; on a CPU they are there already.

    Copies run beside the computation: out of pinned memory, which the device reads by itself, on a stream that nothing
    else waits in. Who receives a batch makes the device, not the host, wait until it is there.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: Any = None  # made by the thread that sends first

    def send(self, batch: Batch) -> Sent:
        """Starts a batch on its way; called in a background thread."""
        if self.device.type != "cuda":
            return Sent(batch)
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)
        with torch.cuda.stream(self._stream):
            on_device = batch.pinned().to(self.device, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._stream)
        return Sent(on_device, event)

    def receive(self, sent: Sent) -> Batch:
        """The batch, for use on the device's current stream; called in the thread that uses it."""
        if sent.event is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(sent.event)
            # Taken by the other stream: its memory may be taken anew only when this one has done with it.
            for tensor in sent.batch.tensors():
                tensor.record_stream(stream)
        return sent.batch
