"""Tasks done side by side by processes forked from this one."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Generic

import torch

from transformer.error import UserError
from transformer.workers import Result, Task, tell

if TYPE_CHECKING:  # not every system has it
    from multiprocessing.synchronize import Event


def can_fork() -> bool:
    """Return whether processes can be copies of this one; macOS has libraries that do not bear it, Windows no fork."""
    if sys.platform != "linux":
        return False
    try:
        multiprocessing.get_context("fork").Lock()
    except (OSError, ImportError):  # no shared memory to put it into
        return False
    return True


class Processes(Generic[Task, Result]):
    """Processes that do tasks side by side, with one thread of torch each.

    Python's threads wait for the one interpreter that they share, the more the shorter the operations are. Processes
    have one each. They are forked from this one when they are first needed, so they share its memory as it was then:
    `work` need not be picklable, as tasks and results must, but of what changes later they learn nothing. A context
    manager: they end with it, and when this process ends, however it does.

    Args:
        work: what is done with a task.
        n_workers: processes.
    """

    def __init__(self, work: Callable[[Task], Result], n_workers: int) -> None:
        self.work, self.n_workers = work, n_workers
        self._pool: ProcessPoolExecutor | None = None
        self._over: Event | None = None

    def __enter__(self) -> "Processes[Task, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        if self._over:
            self._over.set()  # tasks that lie with the processes cannot be cancelled
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def run(self, tasks: Sequence[Task], done: Callable[[Task, Result], None]) -> None:
        """Call done(task, result) for every task as each ends, as `side_by_side` does.

        Raises what `work` raises, and UserError where a process is killed; tasks not yet begun are given up then.
        """
        if self._pool is None:
            context = multiprocessing.get_context("fork")
            self._over = context.Event()
            self._pool = ProcessPoolExecutor(self.n_workers, context, _begin, (self.work, self._over))
        futures: dict[Future[Result], Task] = {}
        try:
            with warnings.catch_warnings():
                # Of forking beside threads. Those that torch and NumPy keep wait for work that a copy never gives them.
                warnings.simplefilter("ignore", DeprecationWarning)
                for task in tasks:
                    futures[self._pool.submit(_do, task)] = task
            tell(futures, done)
        except BrokenProcessPool as error:
            raise UserError(
                "a process that translates was killed, as the kernel does where memory runs out; take less at once "
                "(translation.max_tokens, runtime.threads) or translate in this one (translation.processes=false)"
            ) from error
        finally:
            for future in futures:
                future.cancel()


# Of this process, where it is one of them.
_work: Callable[[Any], Any]
_over: "Event"


def _begin(work: Callable[[Any], Any], over: "Event") -> None:
    global _work, _over
    _work, _over = work, over
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the first process ends the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _do(task: Any) -> Any:
    return None if _over.is_set() else _work(task)
