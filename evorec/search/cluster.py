"""Workers on the nodes of a Ray cluster (https://www.ray.io), as actors; needs the extra ``cluster``.

Ray places the workers by their CPUs and GPUs, moves data, and notices when workers and nodes end. What is started
again, and how often, is decided here as for worker processes (`evorec.search.executors`), so Ray restarts nothing by
itself.

A problem is put into Ray's object store once, and copied to each node once. There its first worker writes it to a file
without a name, which the other workers of the node map (`evorec.search.workers`).
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any, final

import numpy as np

from evorec.errors import ConfigError
from evorec.heartbeat import beats
from evorec.plugins import load_plugins, loaded_modules
from evorec.search.executors import LOOK_S, STALL_MINUTES, WorkerExecutor
from evorec.search.workers import ONE_THREAD, Ending, ProblemFile, Worker, answer_to, raised

PULSE_S = 5.0
"""Seconds between two looks at the signs of life of a worker."""
NODE_S = 10.0
"""Seconds in which the cluster notices that a node has ended after its workers have."""
TAIL = 64
"""Bytes by which a worker recognises the file of another."""

LOADED_FIRST = ("torch", "scipy.special")
"""Libraries of trainings with large C extensions."""


class Server:
    """A worker on its node; the class of the actors."""

    def __init__(self, plugins: tuple[str, ...]) -> None:
        """Import the plugins, and the libraries of trainings.

        A thread of an actor that loads scipy's or torch's C extensions may wait for ever, so they are loaded here.
        """
        for name in LOADED_FIRST:
            importlib.import_module(name)
        load_plugins(plugins)
        self._files: dict[ProblemFile, ProblemFile] = {}
        self._own: list[IO[bytes]] = []
        self._thread = ThreadPoolExecutor(1)

    def beats(self) -> int:
        """Signs of life so far."""
        return beats()

    def node(self) -> str:
        """Name of the node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def receive(self, source: ProblemFile, content: np.ndarray, hint: str) -> str:
        """Have the file of a problem on this node.

        Args:
            source: the file of the process that submits tasks.
            content: of the file, uint8.
            hint: path of the file that another worker of the node has made; empty = none.
        Returns:
            Path of the file.
        """
        path = hint if self._is_same(hint, content) else self._write(content)
        self._files[ProblemFile(*source)] = ProblemFile(path, source[1])
        return path

    def answer(self, task: bytes) -> bytes:
        """Run a task and return the answer, as `evorec.search.workers.serve` does."""
        future = self._thread.submit(answer_to, task, self._files)
        error = future.exception()
        return future.result() if error is None else raised(error)

    def _write(self, content: np.ndarray) -> str:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this worker
        file.write(content.tobytes())
        file.flush()
        self._own.append(file)
        return f"/proc/{os.getpid()}/fd/{file.fileno()}"

    def _is_same(self, path: str, content: np.ndarray) -> bool:
        """Whether a file has this content; the process that made it may have ended."""
        try:
            with open(path, "rb") as file:
                file.seek(-min(TAIL, len(content)), os.SEEK_END)
                return file.tell() + TAIL >= len(content) and file.read() == content[-TAIL:].tobytes()
        except OSError:
            return False


@final
class RayWorker(Worker):
    """A worker of a cluster, from the side of the process that submits tasks."""

    name = "worker on the cluster"
    advice = "see the logs of Ray; evorec and the plugins must be installed on every node"

    def __init__(self, executor: RayExecutor, actor: Any) -> None:
        """`actor` is of class `Server`, and starts once a node has room for it."""
        self._executor, self._actor = executor, actor
        self._node, self._error = "", ""
        self._has: set[ProblemFile] = set()

    def answer(self, task: bytes, silence_s: Callable[[bool], float]) -> bytes:
        """See `Worker.answer`."""
        ray, self.has_started = self._executor.ray(), False
        try:
            if not self.has_served:
                self._node = ray.get(self._actor.node.remote())
                self.has_served = True
            ray.get(self._actor.beats.remote())  # a worker that died while it waited has not begun the task
            self._executor.send_problems(self._actor, self._node, self._has)
            self.has_started = True
            return self._waited(ray, self._actor.answer.remote(task), silence_s)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            self._error = str(error)
            raise EOFError(self._error) from None

    def _waited(self, ray: Any, answer: Any, silence_s: Callable[[bool], float]) -> bytes:
        pulse, seen, last = self._actor.beats.remote(), 0, time.monotonic()
        has_beaten, first = False, True
        while True:
            done, _ = ray.wait([answer], timeout=min(PULSE_S, silence_s(True) / 4))
            if done:
                return bytes(ray.get(answer))
            if ray.wait([pulse], timeout=0)[0]:
                count = ray.get(pulse)
                if count != seen:
                    has_beaten, seen, last = not first, count, time.monotonic()
                first = False
                pulse = self._actor.beats.remote()
            if time.monotonic() - last > (limit := silence_s(has_beaten)):
                raise TimeoutError(f"there was no progress for {limit:.0f} s")

    def kill(self) -> None:
        """See `Worker.kill`."""
        ray = self._executor.ray()
        if ray.is_initialized():
            ray.kill(self._actor)

    def end(self) -> Ending:
        """See `Worker.end`."""
        self.kill()
        if self._error and self._executor.has_lost(self._node):
            return Ending("the loss of its node", "was lost with its node", True)
        found = re.search(r"Worker exit detail: (.*?)(?:\. |$)", self._error)
        text = found[1] if found else self._error.partition("\n")[0]
        return Ending(f"{text!r}", f"died: {text}", not self.has_started)


@final
class RayExecutor(WorkerExecutor):
    """Several tasks at once, each in an actor of a Ray cluster with a CPU, or a GPU, of its own.

    New nodes are used as soon as they have joined. A task whose node is lost starts again on another.
    """

    def __init__(
        self, workers: int = 0, *, address: str = "", gpus: float = 0.0, stall_s: float = STALL_MINUTES * 60
    ) -> None:
        """Nothing is started before the first task.

        Args:
            workers: most workers; 0 = as many as the cluster has CPUs, or GPUs, at the time.
            address: of the cluster, as ``ray.init`` takes it, e.g. ``auto``; empty = one on this machine, which ends
                with this process.
            gpus: of each worker.
            stall_s: see `Executor`.
        Raises:
            ConfigError: Ray is not installed.
        """
        self._most, self._address, self._gpus = 0, address, gpus
        self._slots, self._looked = 1, 0.0
        self._contents: dict[ProblemFile, Any] = {}
        self._paths: dict[tuple[str, ProblemFile], str] = {}
        self._data, self._connecting = threading.Lock(), threading.Lock()
        self.ray(connects=False)
        super().__init__(max(workers, 1), stall_s=stall_s)
        self._most = workers

    @property
    def workers(self) -> int:
        """Tasks that run at once: the CPUs or GPUs of the cluster, at most the number that was asked for."""
        if time.monotonic() - self._looked > LOOK_S:
            found = self.ray().cluster_resources()
            self._slots = max(1, int(found.get("GPU", 0.0) / self._gpus if self._gpus else found.get("CPU", 0.0)))
            self._looked = time.monotonic()
        return min(self._most, self._slots) if self._most else self._slots

    @workers.setter
    def workers(self, most: int) -> None:
        """Tasks that run at once, at most; 0 = as many as the cluster has room for."""
        self._most = most

    def ray(self, *, connects: bool = True) -> Any:
        """The module of Ray, connected to the cluster."""
        try:
            import ray
        except ImportError:
            raise ConfigError(
                'run.executor = "ray" needs Ray, which is not installed: pip install "evorec[cluster]"'
            ) from None
        with self._connecting:
            if connects and not ray.is_initialized():
                with _own_signals():
                    ray.init(
                        address=self._address or "local",
                        include_dashboard=False if not self._address else None,
                        log_to_driver=False,
                        configure_logging=False,
                    )
        return ray

    def start(self, others: Iterable[Worker]) -> Worker:
        """See `WorkerExecutor.start`."""
        ray = self.ray()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {"env_vars": {**ONE_THREAD, "PYTHONPATH": path}}
        actor = ray.remote(Server).options(
            num_cpus=1, num_gpus=self._gpus, max_restarts=0, max_concurrency=2, runtime_env=environment
        )
        return RayWorker(self, actor.remote(loaded_modules()))

    def send_problems(self, actor: Any, node: str, known: set[ProblemFile]) -> None:
        """Send a worker the problems that it does not know yet."""
        ray = self.ray()
        for source in self.files.sent():
            if source in known:
                continue
            with self._data:
                if source not in self._contents:
                    self._contents[source] = ray.put(np.fromfile(source.path, dtype=np.uint8))
            hint = self._paths.get((node, source), "")
            self._paths[node, source] = ray.get(actor.receive.remote(tuple(source), self._contents[source], hint))
            known.add(source)

    def has_lost(self, node: str) -> bool:
        """Whether a node has ended; waits until the cluster must have noticed."""
        end = time.monotonic() + NODE_S
        while node and time.monotonic() < end:
            if not any(found["NodeID"] == node and found["Alive"] for found in self.ray().nodes()):
                return True
            time.sleep(LOOK_S / 2)
        return False

    def close(self) -> None:
        """End the workers now; a later run starts new workers."""
        super().close()
        self._contents.clear()
        self._paths.clear()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray replaces handlers of signals when it starts: keep ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
