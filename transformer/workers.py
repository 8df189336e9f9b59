"""Tasks done side by side by threads, among which torch's own are divided."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Task], Result], tasks: Sequence[Task], done: Callable[[Task, Result], None], n_workers: int
) -> None:
    """Call work(task) for every task, n_workers of them at a time, and done(task, result) as each ends.

    Most operations of a small model are too short to be shared out among threads, which wait for one another more than
    they work. So the workers divide torch's threads among them. `done` is called by the thread that called this
    function. With one worker or one task torch keeps its threads.

    Raises what `work` raises, of the first task in order that is seen to fail; tasks not yet begun are given up.
    """
    n_workers = min(n_workers, len(tasks))
    if n_workers < 2:
        for task in tasks:
            done(task, work(task))
        return
    n_threads = torch.get_num_threads()
    n_each = max(1, n_threads // n_workers)
    torch.set_num_threads(n_each)
    pool = ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(n_each,))
    try:
        tell({pool.submit(work, task): task for task in tasks}, done)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


def tell(futures: Mapping[Future[Result], Task], done: Callable[[Task, Result], None]) -> None:
    """Call done(task, result) as each task ends; raise what one raised, of the first in order that is seen to."""
    waiting = set(futures)
    while waiting:
        ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in (future for future in futures if future in ended):
            done(futures[future], future.result())
