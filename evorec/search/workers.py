"""Worker processes: how they start, how tasks reach them, and how they notice that their parent has ended.

A worker is a new interpreter at the other end of a connection. It reads pickled tasks in sequence, sends back the
answers, and ends when the connection closes, which the kernel does for a parent that was killed. A second pipe ends a
worker that cannot look, because a library holds the GIL.

A `Problem` in a task is not sent with it. It is written once to a file without a name, its arrays and CPU tensors
next to the pickle (protocol 5, out of band), and every worker maps that file: the machine holds the data once more,
whatever the number of workers. A mapped array can be written to; the changes stay in that worker.
"""

from __future__ import annotations

import abc
import ctypes
import fcntl
import functools
import io
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple, final

import cloudpickle

from evorec.errors import ConfigError
from evorec.heartbeat import beats
from evorec.plugins import load_plugins, loaded_modules
from evorec.problem import Problem
from evorec.streams import keep_streams

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt (malloc.h)."""
ALIGNMENT = 64
"""Bytes; PyTorch aligns its own tensors like this, and the rounding of a kernel may depend on the alignment."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError, ValueError)
"""Errors of the standard library and its extensions for an object that has no pickle."""
BEAT_S = 1.0
"""Seconds between two looks at the signs of life of a task."""
LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals that systemd and Slurm may send to all processes of a job; the parent ends its workers or lets them go on."""
ALIVE = b""
"""The message of a worker that has received a task, and again while the task goes on; no answer is empty."""
ENDING_S = 0.5
"""Seconds for the kernel to report the end of a process whose connection is closed already."""


class ProblemFile(NamedTuple):
    """The file of a problem, and the offset of its pickle behind the arrays."""

    path: str
    offset: int


@final
class ProblemFiles:
    """The files of the problems that were sent; a problem must not change after its first task."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Problem, ProblemFile]] = {}  # the problem is kept: its id is the key
        self._open: list[IO[bytes]] = []
        self._lock = threading.Lock()

    def of(self, problem: Problem) -> ProblemFile:
        """The file of `problem`, written at the first call.

        Raises:
            ConfigError: it holds an object that cannot be sent to another process.
        """
        with self._lock:
            if id(problem) not in self._known:
                self._known[id(problem)] = (problem, self._write(problem))
            return self._known[id(problem)][1]

    def sent(self) -> list[ProblemFile]:
        """The files so far."""
        with self._lock:
            return [file for _, file in self._known.values()]

    def close(self) -> None:
        """Forget all problems; on Linux the space is free once no worker maps the file."""
        for file in self._open:
            file.close()
        self._open.clear()
        self._known.clear()

    def _write(self, problem: Problem) -> ProblemFile:
        buffers: list[pickle.PickleBuffer] = []
        try:
            body = _pickled(problem, buffers=buffers)
            arrays = [buffer.raw() for buffer in buffers]
        except UNPICKLABLE as error:
            raise ConfigError(
                f"problem {problem.name} cannot be sent to worker processes: {error}; set run.executor to threads"
            ) from error
        file: IO[bytes]
        if Path("/proc/self/fd").exists():  # Linux: freed with the last process that holds it, however that ends
            file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
            path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
        else:
            file = tempfile.NamedTemporaryFile(prefix="evorec-")  # noqa: SIM115
            path = file.name
        self._open.append(file)
        spans = []
        for array in arrays:
            file.write(bytes(-file.tell() % ALIGNMENT))
            spans.append((file.tell(), file.tell() + file.write(array)))
        offset = file.tell()
        file.write(pickle.dumps((spans, body)))
        file.flush()
        return ProblemFile(path, offset)


@functools.cache
def _read(source: ProblemFile) -> object:
    """A problem, once per worker; its arrays are views of the mapped file."""
    with open(source.path, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    spans, body = pickle.loads(view[source.offset :])
    return pickle.loads(body, buffers=[view[start:stop] for start, stop in spans])


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """Also takes closures and the user's ``__main__``.

    Args:
        files: replaces a problem by its file.
        buffers: receives arrays, and tensors as the arrays that they are.
    """

    def __init__(self, file: IO[bytes], files: ProblemFiles | None, buffers: list[pickle.PickleBuffer] | None) -> None:
        super().__init__(file, protocol=5, buffer_callback=None if buffers is None else buffers.append)
        self._files, self._by_array = files, buffers is not None

    def persistent_id(self, value: object) -> ProblemFile | None:
        return self._files.of(value) if self._files is not None and isinstance(value, Problem) else None

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # search itself must not import it
        if not self._by_array or torch is None or type(value) is not torch.Tensor:
            return super().reducer_override(value)
        plain = value.device.type == "cpu" and value.layout == torch.strided and value.is_contiguous()
        if not plain or value.requires_grad or value.dtype == torch.bfloat16:  # NumPy has no bfloat16
            return super().reducer_override(value)
        return torch.from_numpy, (value.numpy(),)


class _Unpickler(pickle.Unpickler):
    """Reads problems from their files.

    Args:
        files: the files on this machine of those on the machine that sent them; others are the same.
    """

    def __init__(self, file: IO[bytes], files: Mapping[ProblemFile, ProblemFile] = MappingProxyType({})) -> None:
        super().__init__(file)
        self._files = files

    def persistent_load(self, source: ProblemFile) -> object:
        return _read(self._files.get(source, source))


def _pickled(
    value: object, *, files: ProblemFiles | None = None, buffers: list[pickle.PickleBuffer] | None = None
) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file, files, buffers).dump(value)
        return file.getvalue()


def task_message(task: Callable[[], object], files: ProblemFiles) -> bytes:
    """The message for `Worker.answer`, with the problem in the task replaced by its file.

    Raises:
        ConfigError: the task holds an object that cannot be sent to another process.
    """
    try:
        return _pickled(task, files=files)
    except UNPICKLABLE as error:
        raise ConfigError(f"a task cannot be sent to a worker process: {error}; set run.executor to threads") from error


def result_of(answer: bytes) -> Any:
    """The result in a worker's answer.

    Raises:
        BaseException: the error that the task raised.
    """
    raised, value = pickle.loads(answer)
    if raised:
        raise value
    return value


@final
@dataclass(frozen=True)
class WorkerDeath:
    """Result of a task whose worker process ended, or was ended because the task hung.

    Attributes:
        cause: a line for the ledger.
    """

    cause: str


class Ending(NamedTuple):
    """How a worker ended.

    Attributes:
        code: a signal, an exit code or another reason, in words.
        text: continues a sentence that begins with the worker.
        is_blameless: whether something else than its task ended it.
    """

    code: str
    text: str
    is_blameless: bool


class Worker(abc.ABC):
    """A worker, from the side of the process that submits tasks.

    Attributes:
        name: in messages.
        advice: what to do when workers end before their first task.
        slot: number of its place among the workers of an executor.
        has_started: whether the worker has received the current task.
        has_served: whether it has ever been ready for a task.
    """

    name = "worker process"
    advice = "set run.executor to threads or serial, or run.workers to fewer"
    slot = 0
    has_started = has_served = False

    @abc.abstractmethod
    def answer(self, task: bytes, silence_s: Callable[[bool], float]) -> bytes:
        """Send a task and wait for the answer.

        Args:
            task: from `task_message`.
            silence_s: seconds without a sign of life after which the task hangs, given whether there ever was one.
        Raises:
            EOFError, OSError: the worker has ended.
            TimeoutError: the task hangs.
        """

    @abc.abstractmethod
    def kill(self) -> None:
        """End the worker in the middle of a task; a thread that waits in `answer` gets an `EOFError`."""

    @abc.abstractmethod
    def end(self) -> Ending:
        """End the worker at once and say how it ended, also if it had ended before."""


@final
class ProcessWorker(Worker):
    """A worker process of this machine."""

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({}), *, slot: int = 0) -> None:
        """Start it; it is ready after some tenths of a second, and its first task pays for the imports it needs.

        Args:
            environment: further environment variables.
            slot: see `Worker`.
        """
        self._channel, theirs = Pipe()
        line, self._line = os.pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        start = f"from evorec.search.workers import serve; serve({theirs.fileno()}, {loaded_modules()!r}, {line})"
        with theirs, open(line, "rb"):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", start],
                env={**os.environ, **ONE_THREAD, **environment, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), line),
                process_group=0,  # a terminal's Ctrl-C is handled by the parent
            )
        self.slot = slot

    def answer(self, task: bytes, silence_s: Callable[[bool], float]) -> bytes:
        """See `Worker.answer`."""
        self.has_started = False
        if not self.has_served:
            self._channel.recv_bytes()
            self.has_served = True
        self._channel.send_bytes(task)
        has_beaten, last = False, time.monotonic()
        while True:
            if self._channel.poll(BEAT_S):
                if (message := self._channel.recv_bytes()) != ALIVE:
                    return message
                # A worker that dies before the first message has not begun the task.
                has_beaten, self.has_started, last = self.has_started, True, time.monotonic()
            elif time.monotonic() - last > (limit := silence_s(has_beaten)):
                raise TimeoutError(f"there was no progress for {limit:.0f} s")

    def kill(self) -> None:
        """See `Worker.kill`."""
        self._process.kill()

    def end(self) -> Ending:
        """See `Worker.end`."""
        self._channel.close()
        try:
            code = self._process.wait(timeout=ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        finally:
            if self._line >= 0:
                os.close(self._line)
                self._line = -1
        memory = "; the system does that when memory runs out" if code == -signal.SIGKILL else ""
        # before its first task it has computed nothing: a signal can only have come from outside
        return Ending(exit_name(code), f"died of {exit_name(code)}{memory}", code < 0 and not self.has_started)


def exit_name(code: int) -> str:
    """How a process ended, in words.

    Example:
        >>> exit_name(-9), exit_name(3)
        ('SIGKILL', 'exit code 3')
    """
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def serve(handle: int, plugins: Sequence[str], line: int) -> None:
    """Main function of a worker: import the plugins, then answer tasks from a connection until it closes.

    Tasks run in a second thread, so that this thread notices the end of the parent in the middle of a task.

    Args:
        handle: of the connection.
        plugins: modules to import.
        line: a pipe to which the parent never writes, see `_end_with`.
    """
    _end_with(line)
    keep_streams()
    channel = Connection(handle)
    for number in LEFT_TO_PARENT:
        signal.signal(number, signal.SIG_IGN)
    # Keep freed memory in the process (glibc): taking it from the system again costs more than filling it. Blocks of up
    # to 32 MiB, the most that glibc allows.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**25)
    load_plugins(plugins)
    tasks, sending, seen = ThreadPoolExecutor(1), threading.Lock(), beats()
    try:
        channel.send_bytes(b"ready")
        while True:
            if channel.poll(BEAT_S):
                task = channel.recv_bytes()
                with sending:
                    channel.send_bytes(ALIVE)
                tasks.submit(answer_to, task).add_done_callback(functools.partial(_reply, channel, sending))
            elif beats() != seen:
                seen = beats()
                with sending:
                    channel.send_bytes(ALIVE)
    except (EOFError, OSError):
        os._exit(0)  # not sys.exit, which would wait for the task


def _end_with(line: int) -> None:
    """Let the kernel end this process when the other end of a pipe closes, also while a library holds the GIL.

    Not PR_SET_PDEATHSIG of Linux: its parent is the thread that started this process, which ends with its run.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(line, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    with suppress(BlockingIOError):  # the parent is there
        os.read(line, 1)
        os._exit(0)


def answer_to(message: bytes, files: Mapping[ProblemFile, ProblemFile] = MappingProxyType({})) -> bytes:
    """The answer to a task, for `result_of`; see `_Unpickler` for `files`."""
    result = _Unpickler(io.BytesIO(message), files).load()()
    try:
        return _pickled((False, result))
    except Exception as error:  # objects of a candidate may have any pickle
        return _pickled((False, WorkerDeath(f"its outcome cannot be sent by its worker process: {error!r}")))


def _reply(channel: Connection, sending: threading.Lock, answer: Future[bytes]) -> None:
    error = answer.exception()
    message = answer.result() if error is None else raised(error)
    try:
        with sending:
            channel.send_bytes(message)
    except OSError:
        os._exit(0)


def raised(error: BaseException) -> bytes:
    """The answer that makes `result_of` raise `error`."""
    error.add_note("".join(["in a worker process:\n", *traceback.format_exception(error)]))
    try:
        message = _pickled((True, error))
        pickle.loads(message)  # an error that can be pickled cannot always be restored
    except UNPICKLABLE:
        message = _pickled((True, RuntimeError(f"{type(error).__name__}: {error}")))
    return message
