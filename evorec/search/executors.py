"""Where groups of genomes are evaluated: one after another, or on several threads."""

from __future__ import annotations

import abc
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, final

from evorec.config import ExecutionConfig
from evorec.errors import ConfigError

T = TypeVar("T")


class Executor(abc.ABC):
    """Runs independent tasks; knows nothing of genomes, retries or failures."""

    @abc.abstractmethod
    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
        """Run every task and yield (index, result) as results come, in any order.

        An exception of a task ends the run and is raised here. A caller that stops early leaves the tasks that have
        not started undone and waits for those that have.
        """


@final
class SerialExecutor(Executor):
    """One task after another, in the calling thread."""

    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
        for index, task in enumerate(tasks):
            yield index, task()


@final
class ThreadExecutor(Executor):
    """Several tasks at once in this process: they share the data in memory, and PyTorch computes outside the GIL."""

    def __init__(self, workers: int) -> None:
        """`workers` threads, at least 1."""
        if workers < 1:
            raise ConfigError(f"ThreadExecutor needs at least 1 worker, got {workers}")
        self._workers = workers

    def run(self, tasks: Sequence[Callable[[], T]]) -> Iterator[tuple[int, T]]:
        from joblib import Parallel, delayed

        stopped = threading.Event()
        parallel = Parallel(
            n_jobs=self._workers, backend="threading", return_as="generator_unordered", batch_size=1, pre_dispatch="all"
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


def executor_for(config: ExecutionConfig, *, device: str) -> Executor:
    """Threads on a CPU, one per core unless the configuration says otherwise; on a GPU one stack after another.

    Args:
        config: `ExecutionConfig.workers`.
        device: type of the device, ``cpu`` or ``cuda``; one stack fills a GPU.
    """
    workers = config.workers or len(os.sched_getaffinity(0))
    return ThreadExecutor(workers) if device == "cpu" and workers > 1 else SerialExecutor()
