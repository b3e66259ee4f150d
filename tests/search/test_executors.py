import threading
import time

import pytest

from evorec.errors import ConfigError
from evorec.search.executors import SerialExecutor, ThreadExecutor

EXECUTORS = [SerialExecutor(), ThreadExecutor(1), ThreadExecutor(3)]
LONG_S = 5.0  # a deadlock, not a slow machine


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_task_is_answered_once_with_its_index(executor):
    tasks = [lambda i=i: i * i for i in range(20)]
    assert sorted(executor.run(tasks)) == [(i, i * i) for i in range(20)]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_no_tasks_give_no_results(executor):
    assert list(executor.run([])) == []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_exception_of_a_task_is_raised(executor):
    def fail():
        raise ValueError("broken task")

    with pytest.raises(ValueError, match="broken task"):
        list(executor.run([fail]))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_leaving_early_leaves_the_rest_undone(executor):
    started = []

    def task(i):
        started.append(i)
        time.sleep(0.02)
        return i

    results = executor.run([lambda i=i: task(i) for i in range(30)])
    next(results)
    results.close()
    n_started = len(started)
    time.sleep(0.1)
    assert len(started) == n_started < 30


def test_threads_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=LONG_S)  # passed only by three tasks together
    assert len(list(ThreadExecutor(3).run([meeting.wait] * 3))) == 3


def test_results_come_as_they_finish():
    second_is_out = threading.Event()
    tasks = [lambda: second_is_out.wait(LONG_S), lambda: "second"]
    results = ThreadExecutor(2).run(tasks)
    assert next(results) == (1, "second")
    second_is_out.set()
    assert next(results) == (0, True)


def test_thread_executor_refuses_no_workers():
    with pytest.raises(ConfigError, match="at least 1 worker, got 0"):
        ThreadExecutor(0)
