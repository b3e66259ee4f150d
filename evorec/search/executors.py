"""Executors: independent tasks run in sequence, on threads, in processes, or on a cluster (`evorec.search.cluster`).

The contract of an executor:

* A task is submitted by being the next item of an iterable; an executor takes it when a worker is free and all earlier
  results were handled. The results come in any order, each once.
* A task that raises ends the run with its exception. A task whose worker dies, or is ended, has a `WorkerDeath` as its
  result, and costs no other task anything.
* A worker holds a lease on its task. Signs of life (`evorec.heartbeat`) renew it for `Executor.stall_s` seconds,
  however long the task runs. A task that never gave one has a deadline: `SLOWEST` times the seconds that are expected
  of it, from its cost and the slowest task so far (`Executor.seconds_per_cost`), and at least `Executor.stall_s`. When
  the lease ends, the worker does.
* A worker that is lost before its task began, or with its machine, is replaced, and the task starts again there, at
  most `MAX_FALSE_STARTS` times. Everything else is decided by whoever submitted the task (`evorec.search.evaluator`: a
  stack whose worker died is divided until the guilty genome is found).
"""

from __future__ import annotations

import abc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar, final

from evorec.errors import ConfigError, Interruption, SearchError
from evorec.search.workers import ProblemFiles, ProcessWorker, Worker, WorkerDeath, result_of, task_message

T = TypeVar("T")
Tasks = Iterable[Callable[[], T] | None]
"""What an executor runs; see `Executor.run`."""
_logger = logging.getLogger(__name__)
STALL_MINUTES = 30.0
"""Minutes without a sign of life after which a task hangs, by default."""
SLOWEST = 20
"""A task that gives no sign of life may take this many times as long as is expected of it; before any task has ended,
this many times `Executor.stall_s`."""
MAX_FALSE_STARTS = 3
"""Workers that may be lost in a row without a fault of their task; a machine that kills more has no room for them."""
LONG_RUN_S = 5.0
"""Seconds of a run on threads that make up for starting processes: each of them imports PyTorch for some seconds."""
MOST_THREADS = 4096
"""Workers of a cluster at most; a thread waits for each."""
LOOK_S = 1.0
"""Seconds between two looks at the number of workers, which may grow."""


class Executor(abc.ABC):
    """Runs independent tasks; knows nothing about genomes or failures. See the module for the contract.

    Attributes:
        workers: tasks that run at once.
        isolates: whether a task that ends its process, or hangs, leaves this process alone.
        stall_s: seconds without a sign of life after which a task hangs, where it can be ended.
        seconds_per_cost: seconds per unit of cost (`cost_of`) of the slowest task so far; 0 = unknown. A forecast, or
            the tasks of an earlier start, may set it.
    """

    workers: int = 1
    isolates: bool = False
    stall_s: float = STALL_MINUTES * 60
    seconds_per_cost: float = 0.0

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
        processes.seconds_per_cost = self.seconds_per_cost
        return processes

    @abc.abstractmethod
    def run(self, tasks: Tasks[T], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        """Run every task and yield (index, result) as results arrive, in any order.

        An exception of a task ends the run and is raised here. If the caller stops early, tasks that have not started
        are dropped, and no task is running afterwards: threads are waited for, processes are ended. Only an
        `Interruption` does not wait for threads.

        Args:
            tasks: to run; the thread of the caller takes the next when a worker is free. None in place of a task: there
                is none before the next result. It is not counted, and it ends the run if nothing is running.
            at_once: most tasks that run at the same time; 0 = `workers`.
        """


def cost_of(task: object) -> float:
    """The attribute ``cost`` of a task, which scales its deadline, in a unit that all tasks share; 1 without it."""
    return float(getattr(task, "cost", 1.0)) or 1.0


@final
class SerialExecutor(Executor):
    """Tasks in sequence, in the calling thread."""

    def run(self, tasks: Tasks[T], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        for index, task in enumerate(tasks):
            if task is None:  # nothing is running
                return
            yield index, task()


@final
class ThreadExecutor(Executor):
    """Several tasks at once in this process: they share the data in memory, and PyTorch computes outside the GIL."""

    def run(self, tasks: Tasks[T], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        yield from _in_threads(lambda: at_once or self.workers, lambda task: task(), tasks, stop=lambda: None)


class WorkerExecutor(Executor):
    """Several tasks at once, each in a worker that may be lost; base of processes and clusters.

    Workers start when they are needed, serve later runs too, and end with `close` or with the process.

    Attributes:
        files: of the problems that were sent.
    """

    isolates = True

    def __init__(self, workers: int, *, stall_s: float = STALL_MINUTES * 60) -> None:
        """`workers` workers, at least 1."""
        super().__init__(workers, stall_s=stall_s)
        self.files = ProblemFiles()
        self._all: set[Worker] = set()
        self._free: list[Worker] = []
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _close, self._all, self._free, self.files)

    @abc.abstractmethod
    def start(self, others: Iterable[Worker]) -> Worker:
        """A new worker beside the others."""

    def run(self, tasks: Tasks[T], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        stopped = threading.Event()
        busy: set[Worker] = set()

        def attempt(task: Callable[[], T]) -> Any:
            """Result of a task in a worker, a `WorkerDeath`, or None after a stop; runs in a thread of its own."""
            message, cost, n_lost = task_message(task, self.files), cost_of(task), 0
            while True:
                with self._lock:
                    if stopped.is_set():
                        return None
                    if self._free:
                        worker = self._free.pop()
                    else:
                        worker = self.start(self._all)
                        self._all.add(worker)
                    busy.add(worker)
                start, keeps = time.monotonic(), False
                try:
                    answer = worker.answer(message, lambda beats: self._silence_s(beats, cost))
                    keeps = True
                except TimeoutError as silent:
                    worker.end()
                    return WorkerDeath(f"its {worker.name} was ended: {silent}")
                except (EOFError, OSError):
                    ending = worker.end()
                    if worker.has_started and not ending.is_blameless:
                        return WorkerDeath(f"its {worker.name} {ending.text}")
                    n_lost += worker.has_started or not worker.has_served
                    if not worker.has_served and (not ending.is_blameless or n_lost >= MAX_FALSE_STARTS):
                        raise SearchError(
                            f"a {worker.name} ended with {ending.code} before its first task; {worker.advice}"
                        ) from None
                    if n_lost >= MAX_FALSE_STARTS:
                        return WorkerDeath(f"its {worker.name} {ending.text}, {n_lost} times")
                else:
                    self.seconds_per_cost = max(self.seconds_per_cost, (time.monotonic() - start) / cost)
                    return result_of(answer)
                finally:
                    with self._lock:
                        busy.discard(worker)
                        keeps = keeps and len(self._all) <= self.workers  # room for a worker that waits
                        if keeps:
                            self._free.append(worker)
                        else:
                            self._all.discard(worker)
                    if not keeps:
                        worker.end()

        def stop() -> None:
            with self._lock:
                stopped.set()
                for worker in busy:
                    worker.kill()

        yield from _in_threads(lambda: at_once or self.workers, attempt, tasks, stop=stop)

    def close(self) -> None:
        """End the workers now; a later run starts new workers."""
        _close(self._all, self._free, self.files)

    def _silence_s(self, has_beaten: bool, cost: float) -> float:
        """Seconds without a sign of life after which a task hangs."""
        if has_beaten:
            return self.stall_s
        return max(self.stall_s, SLOWEST * (self.seconds_per_cost * cost or self.stall_s))


@final
class ProcessExecutor(WorkerExecutor):
    """Several tasks at once, each in a process with a single thread (`evorec.search.workers`).

    Workers import the plugins that this process has loaded. They end with this object or its process, however that
    ends. Tasks and results are pickled; a `Problem` in a task is written once and mapped by every worker, and changes
    that a task makes to it stay in that worker.
    """

    def __init__(
        self, workers: int, *, stall_s: float = STALL_MINUTES * 60, environments: Sequence[Mapping[str, str]] = ()
    ) -> None:
        """`workers` processes, at least 1.

        Args:
            workers: processes.
            stall_s: see `Executor`.
            environments: further environment variables of each worker, e.g. ``CUDA_VISIBLE_DEVICES``, its own GPU; a
                worker that replaces another has the same.
        """
        super().__init__(workers, stall_s=stall_s)
        self._environments = environments or [{}] * workers

    def start(self, others: Iterable[Worker]) -> Worker:
        """See `WorkerExecutor.start`."""
        taken = {other.slot for other in others}
        slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        return ProcessWorker(self._environments[slot % len(self._environments)], slot=slot)


@final
class AdaptiveExecutor(Executor):
    """Threads, until they have run for so long that the tasks are long enough for processes.

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

    def run(self, tasks: Tasks[T], *, at_once: int = 0) -> Iterator[tuple[int, T | WorkerDeath]]:
        source, start = iter(tasks), time.perf_counter()
        taken: list[Callable[[], T]] = []  # the last task only
        n_taken, is_over = 0, False

        def on_threads() -> Iterator[Callable[[], T] | None]:
            """Tasks until the run is long."""
            nonlocal n_taken, is_over
            while not n_taken or time.perf_counter() - start <= self._long_run_s:
                try:
                    task = next(source)
                except StopIteration:
                    is_over = True
                    return
                if task is not None:
                    taken[:], n_taken = [task], n_taken + 1
                yield task

        if not self.isolates:
            yield from self._current.run(on_threads(), at_once=at_once)
            if taken and time.perf_counter() - start > self._long_run_s:
                self._current = self._current.isolating(taken[0])
        if not is_over:
            for index, result in self._current.run(source, at_once=at_once):
                yield n_taken + index, result


def _in_threads(
    capacity: Callable[[], int],
    call: Callable[[Callable[[], T]], Any],
    tasks: Tasks[T],
    *,
    stop: Callable[[], None],
) -> Iterator[tuple[int, Any]]:
    """Call tasks on threads, as many at once as `capacity` says at the time; see `Executor.run`.

    At the end `stop` interrupts calls.
    """
    pool, waits = ThreadPoolExecutor(MOST_THREADS), True  # a thread starts with a call for which there is none yet
    source, is_over, n_taken = iter(tasks), False, 0
    running: dict[Future[Any], int] = {}
    try:
        while True:
            while not is_over and len(running) < capacity():
                try:
                    task = next(source)
                except StopIteration:
                    is_over = True
                    break
                if task is None:
                    is_over = not running
                    break
                running[pool.submit(call, task)] = n_taken
                n_taken += 1
            if not running:
                return
            done, _ = wait(running, None if is_over else LOOK_S, FIRST_COMPLETED)
            if done:  # the others are still done in the next round
                future = min(done, key=running.__getitem__)
                yield running.pop(future), future.result()
                del future, done  # so that the result can be freed
    except Interruption:
        waits = False  # a thread cannot be ended, and its task may take for ever
        raise
    finally:
        stop()
        pool.shutdown(wait=waits, cancel_futures=True)


def _close(workers: set[Worker], free: list[Worker], files: ProblemFiles) -> None:
    for worker in workers:
        worker.end()
    workers.clear()
    free.clear()
    files.close()
