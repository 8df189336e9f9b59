import threading
import time

import pytest
import torch

from transformer.workers import side_by_side


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_every_task_is_done_once_and_told_in_the_calling_thread(n_workers):
    found, threads = {}, set()

    def done(task, result):
        threads.add(threading.current_thread())
        assert task not in found
        found[task] = result

    side_by_side(lambda task: task * task, list(range(20)), done, n_workers)
    assert found == {task: task * task for task in range(20)}
    assert threads == {threading.current_thread()}


def test_workers_work_at_the_same_time_with_one_thread_of_torch_each():
    together = threading.Barrier(2, timeout=60)
    n_threads = []

    def work(task):
        together.wait()
        n_threads.append(torch.get_num_threads())

    side_by_side(work, [1, 2], lambda task, result: None, 2)
    assert n_threads == [1, 1]
    assert torch.get_num_threads() == 2


def test_a_single_task_has_all_threads():
    n_threads = []
    side_by_side(lambda task: torch.get_num_threads(), [1], lambda task, result: n_threads.append(result), 2)
    assert n_threads == [2]


def test_what_goes_wrong_is_raised_and_the_rest_given_up():
    begun = []

    def work(task):
        begun.append(task)
        if task == 0:
            raise ValueError("task 0")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="task 0"):
        side_by_side(work, list(range(10_000)), lambda task, result: None, 2)
    assert len(begun) < 10_000
    assert torch.get_num_threads() == 2


def test_nothing_to_do():
    done = []
    side_by_side(lambda task: pytest.fail("no task"), [], lambda task, result: done.append(task), 2)
    assert done == []
