"""Batches sent ahead. There is no accelerator here: what torch.cuda would do is written down instead."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from transformer.data.batch import Batch, collate
from transformer.data.batching import Bucket
from transformer.data.loader import BatchLoader
from transformer.data.store import PairStore
from transformer.data.transfer import Sent, Transfer


@pytest.fixture
def store() -> PairStore:
    """50 pairs of 1 to 6 tokens."""
    rng = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 7, 50))])
    ids = rng.integers(4, 30, int(offsets[-1]))
    return PairStore((ids, offsets), (ids[::-1].copy(), offsets), np.arange(1, 51), {}, 50, 6)


class Recorded(Transfer):
    """Notes who sends and receives; fails at one batch if told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__(torch.device("cpu"))
        self.fails_at = fails_at
        self.sent: list[Batch] = []
        self.received: list[Batch] = []
        self.threads: set[str] = set()

    def send(self, batch: Batch) -> Sent:
        if len(self.sent) == self.fails_at:
            raise RuntimeError("the device is gone")
        self.threads.add(threading.current_thread().name)
        self.sent.append(batch)
        return super().send(batch)

    def receive(self, sent: Sent) -> Batch:
        self.received.append(sent.batch)
        return super().receive(sent)


def loader(store: PairStore, transfer: Transfer | None) -> BatchLoader:
    return BatchLoader(store, Bucket(20), 3, 0, 1, None, transfer)


def contents(batches: Iterator[Batch] | BatchLoader) -> list[list]:
    return [[t.tolist() for t in batch.tensors()] + [batch.indices.tolist()] for batch in batches]


def test_the_batches_are_those_that_are_not_sent_anywhere(store: PairStore) -> None:
    transfer = Recorded()
    assert contents(loader(store, transfer)) == contents(loader(store, None))
    assert transfer.received == transfer.sent
    assert transfer.threads == {"batches_0"}  # a thread of the background


def test_what_was_sent_but_not_used_does_not_count(store: PairStore) -> None:
    transfer, expected = Recorded(), contents(loader(store, None))
    stopped = loader(store, transfer)
    iterator = iter(stopped)
    for n in range(1, 4):
        next(iterator)
        assert stopped.state_dict() == {"epoch": 0, "position": n}
    iterator.close()  # the thread has ended
    assert len(transfer.sent) > len(transfer.received) == 3
    resumed = loader(store, Recorded())
    resumed.load_state_dict(stopped.state_dict())
    assert contents(resumed) == expected[3:]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_on_the_way_is_raised_where_the_batch_is_wanted(store: PairStore) -> None:
    batches, seen = loader(store, Recorded(fails_at=5)), []
    with pytest.raises(RuntimeError, match="the device is gone"):
        seen.extend(batches)
    assert len(seen) == batches.state_dict()["position"] == 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_a_cpu_needs_nothing(store: PairStore) -> None:
    batch = collate([store[0]], np.asarray([0]))
    transfer = Transfer(torch.device("cpu"))
    assert transfer.receive(transfer.send(batch)) is batch


def test_order_of_what_an_accelerator_is_asked(store: PairStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pinned, copied without waiting on the side stream, marked; the user's stream waits, then owns the memory too."""
    log: list[str] = []
    batch = collate([store[0], store[1]], np.asarray([0, 1]))

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_event(self, event: "Event") -> None:
            log.append(f"{self.name} waits for {event.stream}")

    class Event:
        stream = ""

        def record(self, stream: Stream) -> None:
            self.stream = stream.name
            log.append(f"event on {stream.name}")

    @contextlib.contextmanager
    def on(stream: Stream) -> Iterator[None]:
        log.append(f"on {stream.name}")
        yield
        log.append(f"off {stream.name}")

    def to(self: Batch, device: torch.device, non_blocking: bool = False) -> Batch:
        log.append(f"to {device} {non_blocking}")
        return dataclasses.replace(self)

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(Batch, "pinned", lambda self: (log.append("pinned"), self)[1])
    monkeypatch.setattr(Batch, "to", to)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: log.append(f"kept for {stream.name}"))
    transfer = Transfer(torch.device("cuda:0"))
    sent = transfer.send(batch)
    assert log == ["on side", "pinned", "to cuda:0 True", "event on side", "off side"]
    log.clear()
    assert transfer.receive(sent).indices.tolist() == [0, 1]
    assert log == ["main waits for side"] + ["kept for main"] * 4
