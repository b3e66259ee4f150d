"""Executors: independent tasks run in sequence, on several threads, or in several processes."""

from __future__ import annotations

import abc
import logging
import math
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar, final

from evorec.config import ExecutionConfig
from evorec.errors import ConfigError, Interruption, SearchError
from evorec.search.workers import ProblemFiles, Worker, WorkerDeath, exit_name, result_of, task_message

T = TypeVar("T")
_logger = logging.getLogger(__name__)
STALL_MINUTES = 30.0
"""Minutes without a sign of life after which a task hangs, by default."""
SLOWEST = 20
"""A task that gives no sign of life may take this many times as long as the slowest task before it."""
MAX_FALSE_STARTS = 3
"""Workers that may be killed in a row before they are ready; a machine that kills more has no room for them."""
LONG_RUN_S = 5.0
"""Seconds of a run on threads that make up for starting processes: each of them imports PyTorch for some seconds."""


class Executor(abc.ABC):
    """Runs independent tasks; knows nothing about genomes or failures.

    Attributes:
        workers: tasks that run at once.
        isolates: whether a task that ends its process, or hangs, leaves this process alone.
        stall_s: seconds without a sign of life after which a task hangs, where it can be ended.
    """

    workers: int = 1
    isolates: bool = False
    stall_s: float = STALL_MINUTES * 60

    def __init__(self, workers: int = 1, *, stall_s: float = STALL_MINUTES * 60) -> None:
        if workers < 1:
            raise ConfigError(f"{type(self).__name__} needs at least 1 worker, got {workers}")
        self.workers, self.stall_s = workers, stall_s

    def isolating(self, task: Callable[[], object]) -> Executor:
        """This executor if it isolates, else processes with as many workers; itself for tasks that cannot be sent.

        Args:
            task: an example.
        """
        if self.isolates:
            return self
        processes = ProcessExecutor(self.workers, stall_s=self.stall_s)
        try:
            task_message(task, processes.files)
        except ConfigError as error:
            _logger.info("staying in this process: %s", error)
            return self
        return processes

    @abc.abstractmethod
    def run(self, tasks: Sequence[Callable[[], T]], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        """Run every task and yield (index, result) as results arrive, in any order.

        An exception of a task ends the run and is raised here. If the caller stops early, tasks that have not started
        are dropped, and no task is running afterwards: threads are waited for, processes are ended. Only an
        `Interruption` does not wait for threads.

        Args:
            tasks: to run.
            at_once: most tasks that run at the same time; 0 = `workers`.
        """


@final
class SerialExecutor(Executor):
    """Tasks in sequence, in the calling thread."""

    def run(self, tasks: Sequence[Callable[[], T]], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        for index, task in enumerate(tasks):
            yield index, task()


@final
class ThreadExecutor(Executor):
    """Several tasks at once in this process: they share the data in memory, and PyTorch computes outside the GIL."""

    def run(self, tasks: Sequence[Callable[[], T]], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        yield from _in_threads(at_once or self.workers, lambda task: task(), tasks, stop=lambda: None)


@final
class ProcessExecutor(Executor):
    """Several tasks at once, each in a process with a single thread (`evorec.search.workers`).

    Workers import the plugins that this process has loaded. They start when they are needed, serve later runs too, and
    end with this object or its process, however that ends. Tasks and results are pickled; a `Problem` in a task is
    written once and mapped by every worker, and changes that a task makes to it stay in that worker. The result of a
    task whose worker dies, or is ended because it hangs, is a `WorkerDeath`.

    A task that gives signs of life (`evorec.heartbeat`) hangs when none comes for `stall_s` seconds, however long it
    has been running; a task that never gave one, when it also takes `SLOWEST` times as long as any before.

    Attributes:
        files: of the problems that were sent.
    """

    isolates = True

    def __init__(self, workers: int, *, stall_s: float = STALL_MINUTES * 60) -> None:
        """`workers` processes, at least 1."""
        super().__init__(workers, stall_s=stall_s)
        self.files = ProblemFiles()
        self._slowest_s = 0.0
        self._free: list[Worker] = []
        self._finalizer = weakref.finalize(self, _close, self._free, self.files)

    def run(self, tasks: Sequence[Callable[[], T]], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        busy: set[Worker] = set()
        lock, stopped = threading.Lock(), threading.Event()

        def silence_s(has_beaten: bool) -> float:
            if has_beaten:
                return self.stall_s
            return max(self.stall_s, SLOWEST * self._slowest_s) if self._slowest_s else math.inf

        def attempt(task: Callable[[], T]) -> Any:
            """Result of a task in a worker, a `WorkerDeath`, or None after a stop; runs in a thread of its own."""
            message = task_message(task, self.files)
            n_false_starts = 0
            while True:
                with lock:
                    if stopped.is_set():
                        return None
                    worker = self._free.pop() if self._free else Worker()
                    busy.add(worker)
                start = time.monotonic()
                try:
                    answer = worker.answer(message, silence_s)
                except TimeoutError as silent:
                    worker.end()
                    return WorkerDeath(f"its worker process was ended: {silent}")
                except (EOFError, OSError):
                    code = worker.end()
                    if worker.has_started:
                        memory = "; the system does that when memory runs out" if code == -signal.SIGKILL else ""
                        return WorkerDeath(f"its worker process died of {exit_name(code)}{memory}")
                    n_false_starts += not worker.has_served
                    if not worker.has_served and (code >= 0 or n_false_starts >= MAX_FALSE_STARTS):
                        raise SearchError(
                            f"a worker process ended with {exit_name(code)} before its first task; set run.executor to "
                            "threads or serial, or run.workers to fewer"
                        ) from None
                else:
                    self._slowest_s = max(self._slowest_s, time.monotonic() - start)
                    self._free.append(worker)
                    return result_of(answer)
                finally:
                    with lock:
                        busy.discard(worker)

        def stop() -> None:
            with lock:
                stopped.set()
                for worker in busy:
                    worker.kill()

        yield from _in_threads(at_once or self.workers, attempt, tasks, stop=stop)

    def close(self) -> None:
        """End the workers now; a later run starts new workers."""
        _close(self._free, self.files)


@final
class AdaptiveExecutor(Executor):
    """Threads, until a run has shown that the tasks are long enough for processes.

    Threads start at once and need no pickle; processes do not share a GIL, and survive a crash and the OOM killer.
    """

    def __init__(self, workers: int, *, long_run_s: float = LONG_RUN_S, stall_s: float = STALL_MINUTES * 60) -> None:
        """`workers` threads or processes, at least 1; processes after a run of `long_run_s` seconds."""
        super().__init__(workers, stall_s=stall_s)
        self._current: Executor = ThreadExecutor(workers, stall_s=stall_s)
        self._long_run_s = long_run_s

    @property
    def isolates(self) -> bool:  # type: ignore[override]  # changes with the first run
        """Whether processes are used already."""
        return self._current.isolates

    def run(self, tasks: Sequence[Callable[[], T]], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        start = time.perf_counter()
        yield from self._current.run(tasks, at_once=at_once)
        if not self.isolates and time.perf_counter() - start > self._long_run_s:
            self._current = self._current.isolating(tasks[0])


def executor_for(config: ExecutionConfig, *, device: str, picklable: bool = True) -> Executor:
    """The executor that ``run.executor`` names; ``auto`` is `AdaptiveExecutor` on several cores of a CPU.

    Args:
        config: `ExecutionConfig.executor` and `ExecutionConfig.workers`, 0 = as many as cores.
        device: type of the device, ``cpu`` or ``cuda``; a single program fills a GPU, so it is always serial there.
        picklable: whether the tasks can be sent to another process; otherwise threads are used instead of processes.
    """
    workers, kind, stall_s = config.n_workers(device), config.executor, config.stall_minutes * 60
    if device != "cpu" or (workers == 1 and kind != "processes"):
        return SerialExecutor(stall_s=stall_s)
    if kind == "threads" or not picklable:
        return ThreadExecutor(workers, stall_s=stall_s)
    return (ProcessExecutor if kind == "processes" else AdaptiveExecutor)(workers, stall_s=stall_s)


def _in_threads(
    n_threads: int,
    call: Callable[[Callable[[], T]], Any],
    tasks: Sequence[Callable[[], T]],
    *,
    stop: Callable[[], None],
) -> Iterator[tuple[int, Any]]:
    """Call every task on a thread and yield (index, result) as results arrive; at the end `stop` interrupts calls."""
    pool, waits = ThreadPoolExecutor(n_threads), True
    indices = {pool.submit(call, task): index for index, task in enumerate(tasks)}
    try:
        for future in as_completed(indices):
            yield indices.pop(future), future.result()  # popped, so that the result can be freed
    except Interruption:
        waits = False  # a thread cannot be ended, and its task may take for ever
        raise
    finally:
        stop()
        pool.shutdown(wait=waits, cancel_futures=True)


def _close(free: list[Worker], files: ProblemFiles) -> None:
    for worker in free:
        worker.end()
    free.clear()
    files.close()
