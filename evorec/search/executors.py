"""Where groups of genomes are evaluated: one after another, on several threads, or in several processes."""

from __future__ import annotations

import abc
import logging
import os
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from socket import socket
from typing import Any, TypeVar, cast, final

from evorec.config import ExecutionConfig
from evorec.errors import ConfigError, SearchError
from evorec.search.workers import SharedProblems, Worker, exit_name, result_of, task_message

T = TypeVar("T")
_logger = logging.getLogger(__name__)
MAX_FALSE_STARTS = 3
"""Workers that a run may lose before they are ready; a machine that kills more has no room for them."""


@final
@dataclass(frozen=True)
class WorkerDied:
    """Stands for the result of a task that ended its process twice, the second time with no other task beside it.

    Attributes:
        cause: one line, for the ledger.
    """

    cause: str


class Executor(abc.ABC):
    """Runs independent tasks; knows nothing of genomes or failures.

    Attributes:
        workers: tasks that run at once.
    """

    workers: int = 1

    @abc.abstractmethod
    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T | WorkerDied]]:
        """Run every task and yield (index, result) as results come, in any order.

        An exception of a task ends the run and is raised here. A caller that stops early leaves the tasks that have
        not started undone, and none is running afterwards: threads are waited for, processes are ended.
        """


@final
class SerialExecutor(Executor):
    """One task after another, in the calling thread."""

    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T | WorkerDied]]:
        for index, task in enumerate(tasks):
            yield index, task()


@final
class ThreadExecutor(Executor):
    """Several tasks at once in this process: they share the data in memory, and PyTorch computes outside the GIL."""

    def __init__(self, workers: int) -> None:
        """`workers` threads, at least 1."""
        self.workers = _at_least_one(workers, "ThreadExecutor")

    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T | WorkerDied]]:
        from joblib import Parallel, delayed

        stopped = threading.Event()
        parallel = Parallel(
            n_jobs=self.workers, backend="threading", return_as="generator_unordered", batch_size=1, pre_dispatch="all"
        )
        results = parallel(delayed(_unless)(stopped, index, task) for index, task in enumerate(tasks))
        try:
            for finished in results:  # not `yield from`, which would close `results` first
                if finished is not None:
                    yield finished
        except GeneratorExit:
            stopped.set()
            deque(results, maxlen=0)  # joblib warns of a generator that is left early, so let the rest run empty
            raise


def _unless(stopped: threading.Event, index: int, task: Callable[[], T]) -> tuple[int, T] | None:
    return None if stopped.is_set() else (index, task())


@final
class ProcessExecutor(Executor):
    """Several tasks at once, each in a process of its own with one thread (`evorec.search.workers`).

    Tasks and results are pickled; a `Problem` in a task is sent once and mapped by every worker, and what a task
    changes in it stays in that worker. Workers start at the first run that needs them, serve later runs too, and end
    with this object or its process, however that ends. A task whose worker dies is run again when nothing else runs,
    since a neighbour may have taken the memory; when that worker dies too, its result is a `WorkerDied`.
    """

    def __init__(self, workers: int) -> None:
        """`workers` processes, at least 1."""
        self.workers = _at_least_one(workers, "ProcessExecutor")
        self._shared = SharedProblems()
        self._free: list[Worker] = []
        self._finalizer = weakref.finalize(self, _close, self._free, self._shared)

    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T | WorkerDied]]:
        workers = self._free[:]
        self._free.clear()
        shift = _Shift(tasks, workers, self._shared, limit=self.workers)
        try:
            while (result := shift.next()) is not None:
                yield result
        finally:
            free = shift.stop()
            self._free.extend(free[: self.workers])
            _end_all(free[self.workers :])

    def check(self, task: Callable[[], object]) -> None:
        """Whether a task can be sent to a worker; a problem in it is written down.

        Raises:
            ConfigError: it cannot.
        """
        task_message(task, self._shared)

    def close(self) -> None:
        """End the workers now; a later run starts new ones."""
        _close(self._free, self._shared)


LONG_RUN_S = 5.0
"""Seconds of a run on threads that make up for starting processes: each of them imports PyTorch for some seconds."""


@final
class GrowingExecutor(Executor):
    """Threads, until a run has shown that the tasks are long enough for processes.

    Threads start at once and need no pickle; processes do not share a GIL, and survive a crash and the OOM killer.
    """

    def __init__(self, workers: int, *, long_run_s: float = LONG_RUN_S) -> None:
        """`workers` threads or processes, at least 1; processes after a run of `long_run_s` seconds."""
        self.workers = _at_least_one(workers, "GrowingExecutor")
        self._now: Executor = ThreadExecutor(workers)
        self._long_run_s = long_run_s

    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T | WorkerDied]]:
        start = time.perf_counter()
        yield from self._now.run(tasks)
        if isinstance(self._now, ThreadExecutor) and time.perf_counter() - start > self._long_run_s:
            self._now = self._processes(tasks)

    def _processes(self, tasks: Sequence[Callable[[], object]]) -> Executor:
        """Processes, if tasks like these can be sent to them."""
        processes = ProcessExecutor(self.workers)
        try:
            processes.check(tasks[0])
        except ConfigError as error:
            _logger.info("staying with threads: %s", error)
            return self._now
        return processes


STARTING = -1
"""In place of a task: the worker is not ready yet."""


@final
class _Shift:
    """One run of a `ProcessExecutor`: who works on what."""

    def __init__(
        self, tasks: Sequence[Callable[[], Any]], workers: Sequence[Worker], shared: SharedProblems, *, limit: int
    ) -> None:
        self._tasks, self._shared, self._limit = tasks, shared, limit
        self._idle = [worker for worker in workers if worker.ready]
        self._busy = {worker: STARTING for worker in workers if not worker.ready}
        self._waiting = deque(range(len(tasks)))
        self._suspects: deque[int] = deque()  # their worker died once
        self._retried: set[int] = set()
        self._n_false_starts = 0

    def next(self) -> tuple[int, Any] | None:
        """The next result; None when there are no more."""
        while self._unfinished():
            self._assign()
            worker = self._first_to_speak()
            index = self._busy.pop(worker)
            try:
                answer = worker.receive()
            except (EOFError, OSError):
                if (death := self._death(worker, index)) is not None:
                    return index, death
                continue
            self._idle.append(worker)
            if answer is not None:
                result = result_of(answer)
                self._assign()  # before the caller gets to work
                return index, result
        return None

    def stop(self) -> list[Worker]:
        """Ends workers in the middle of a task and returns the others."""
        _end_all([worker for worker, index in self._busy.items() if index != STARTING])
        return [*self._idle, *(worker for worker, index in self._busy.items() if index == STARTING)]

    def _running(self) -> int:
        return sum(index != STARTING for index in self._busy.values())

    def _unfinished(self) -> bool:
        return bool(self._waiting or self._suspects or self._running())

    def _assign(self) -> None:
        """Give every worker a task, and start workers for those that wait; suspects come last and one at a time."""
        if not self._waiting and self._suspects and not self._running():
            self._retried.add(self._suspects[0])
            self._waiting.append(self._suspects.popleft())
        while self._waiting and self._idle:
            message = task_message(self._tasks[self._waiting[0]], self._shared)
            worker = self._idle.pop()
            try:
                worker.send(message)
            except OSError:  # it died while it had nothing to do
                worker.end()
                continue
            self._busy[worker] = self._waiting.popleft()
        n_starting = len(self._busy) - self._running()
        for _ in range(min(self._limit - len(self._busy), len(self._waiting) - n_starting)):
            self._busy[Worker()] = STARTING

    def _first_to_speak(self) -> Worker:
        by_channel = {worker.channel: worker for worker in self._busy}
        return by_channel[cast(socket, wait(list(by_channel))[0])]

    def _death(self, worker: Worker, index: int) -> WorkerDied | None:
        how = exit_name(code := worker.end())
        if index == STARTING:
            self._n_false_starts += 1
            if code >= 0 or self._n_false_starts >= MAX_FALSE_STARTS:
                raise SearchError(
                    f"a worker process ended with {how} before its first task; set run.executor to threads or serial, "
                    "or run.workers to fewer"
                )
        elif index not in self._retried:
            self._suspects.append(index)
        else:
            memory = "; the system does that when memory runs out" if code == -signal.SIGKILL else ""
            return WorkerDied(f"its worker process died of {how}, and again when it ran alone{memory}")
        return None


def _at_least_one(workers: int, who: str) -> int:
    if workers < 1:
        raise ConfigError(f"{who} needs at least 1 worker, got {workers}")
    return workers


def _end_all(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.end()


def _close(free: list[Worker], shared: SharedProblems) -> None:
    _end_all(free)
    free.clear()
    shared.close()


def executor_for(config: ExecutionConfig, *, device: str, picklable: bool = True) -> Executor:
    """What ``run.executor`` names; ``auto`` is `GrowingExecutor` on several cores of a CPU.

    Args:
        config: `ExecutionConfig.executor` and `ExecutionConfig.workers`, 0 = one per core.
        device: type of the device, ``cpu`` or ``cuda``; one program fills a GPU, so there it is always serial.
        picklable: whether the tasks can be sent to another process; else threads stand in for processes.
    """
    workers = config.workers or len(os.sched_getaffinity(0))
    kind = config.executor
    if device != "cpu" or kind == "serial" or (workers == 1 and kind != "processes"):
        return SerialExecutor()
    if kind == "threads" or not picklable:
        return ThreadExecutor(workers)
    return ProcessExecutor(workers) if kind == "processes" else GrowingExecutor(workers)
