"""Worker processes: how one is started, what is sent to it, and how it learns that nobody waits for it any more.

A worker is a fresh interpreter at the other end of a socket. It reads one pickled task at a time, sends back the
answer, and ends when the socket closes, which the kernel does for a parent that was killed: no worker is left behind.

A `Problem` in a task is not sent with it. It is written once to a file without a name, its arrays and CPU tensors
beside the pickle (protocol 5, out of band), and every worker maps that file: the machine holds the data once more,
however many workers there are. A mapped array can be written to, and what is written stays in that worker.
"""

from __future__ import annotations

import ctypes
import functools
import io
import mmap
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple, final

import cloudpickle
import numpy as np

from evorec.errors import ConfigError
from evorec.plugins import loaded_modules
from evorec.problem import Problem

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt (malloc.h)."""
ALIGNMENT = 64
"""Bytes; PyTorch aligns its own tensors like this, and a kernel may round by the alignment of what it reads."""
ONE_THREAD = ("OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1")
UNPICKLABLE = (pickle.PicklingError, TypeError, AttributeError, ValueError)
"""What the standard library and its extensions raise for an object that has no pickle."""


class Message(NamedTuple):
    """A pickle and the arrays beside it; a message of a worker holds (whether it raised, result or error)."""

    body: bytes
    buffers: Sequence[memoryview]


class _Mapped(NamedTuple):
    """Where a problem lies: a file, and the place of its pickle behind the arrays."""

    path: str
    at: int


@final
class SharedProblems:
    """The files of the problems that were sent; a problem must not change after its first task."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Problem, _Mapped]] = {}  # the problem is kept: its id is the key
        self._files: list[IO[bytes]] = []

    def place(self, problem: Problem) -> _Mapped:
        """Where `problem` lies, written at its first call.

        Raises:
            ConfigError: it holds what cannot be sent to another process.
        """
        if id(problem) not in self._known:
            self._known[id(problem)] = (problem, self._write(problem))
        return self._known[id(problem)][1]

    def close(self) -> None:
        """Forget all of them; on Linux the space is free once no worker maps the file."""
        for file in self._files:
            file.close()
        self._files.clear()
        self._known.clear()

    def _write(self, problem: Problem) -> _Mapped:
        try:
            body, buffers = _message(problem)
        except UNPICKLABLE as error:
            raise ConfigError(
                f"problem {problem.name} cannot be sent to worker processes: {error}; set run.executor to threads"
            ) from error
        file, path = _nameless_file()
        self._files.append(file)
        spans = []
        for buffer in buffers:
            file.write(bytes(-file.tell() % ALIGNMENT))
            spans.append((file.tell(), file.tell() + file.write(buffer)))
        at = file.tell()
        file.write(pickle.dumps((spans, body)))
        file.flush()
        return _Mapped(path, at)


def _nameless_file() -> tuple[IO[bytes], str]:
    """A temporary file and the path under which other processes open it."""
    if Path("/proc/self/fd").exists():  # Linux: it goes with the last process that holds it, however that one ends
        file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as its `SharedProblems`
        return file, f"/proc/{os.getpid()}/fd/{file.fileno()}"
    named = tempfile.NamedTemporaryFile(prefix="evorec-")  # noqa: SIM115
    return named, named.name


@functools.cache
def _read(place: _Mapped) -> object:
    """A problem, once per worker; its arrays are views of the mapped file."""
    with open(place.path, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    spans, body = pickle.loads(view[place.at :])
    return pickle.loads(body, buffers=[view[start:stop] for start, stop in spans])


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Also takes closures and the user's ``__main__``; a problem by its place, a tensor as the array it is."""

    def __init__(self, file: IO[bytes], buffers: list[pickle.PickleBuffer], shared: SharedProblems | None) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._shared = shared

    def persistent_id(self, value: object) -> _Mapped | None:
        return self._shared.place(value) if self._shared is not None and isinstance(value, Problem) else None

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")  # search itself must not import it
        if torch is None or type(value) is not torch.Tensor:
            return super().reducer_override(value)
        plain = value.device.type == "cpu" and value.layout == torch.strided and value.is_contiguous()
        if not plain or value.requires_grad or value.dtype == torch.bfloat16:  # NumPy has no bfloat16
            return super().reducer_override(value)
        return torch.from_numpy, (value.numpy(),)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, place: _Mapped) -> object:
        return _read(place)


def _message(value: object, shared: SharedProblems | None = None) -> Message:
    buffers: list[pickle.PickleBuffer] = []
    with io.BytesIO() as file:
        _Pickler(file, buffers, shared).dump(value)
        return Message(file.getvalue(), [buffer.raw() for buffer in buffers])


def _send(channel: socket.socket, message: Message) -> None:
    sizes = [len(message.body), *(buffer.nbytes for buffer in message.buffers)]
    channel.sendall(b"".join([struct.pack(f"!{len(sizes) + 1}Q", len(sizes), *sizes), message.body]))
    for buffer in message.buffers:
        channel.sendall(buffer)


def _receive(channel: socket.socket) -> Message:
    (n_parts,) = struct.unpack("!Q", _exactly(channel, 8))
    sizes = struct.unpack(f"!{n_parts}Q", _exactly(channel, 8 * n_parts))
    body, *buffers = [_exactly(channel, size) for size in sizes]
    return Message(bytes(body), buffers)


def _exactly(channel: socket.socket, n_bytes: int) -> memoryview:
    """The next `n_bytes` of a socket, aligned.

    Raises:
        EOFError: it was closed before.
    """
    room = np.empty(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    whole = room.data[start : start + n_bytes]
    missing = whole
    while len(missing):
        n_read = channel.recv_into(missing)
        if n_read == 0:
            raise EOFError("the other end is gone")
        missing = missing[n_read:]
    return whole


@final
class Worker:
    """One worker process, seen from its parent.

    Attributes:
        channel: readable when the worker has said something, or has ended.
        ready: whether it has said that it waits for tasks.
    """

    def __init__(self) -> None:
        """Starts it; it is ready after some tenths of a second, and its first task pays for the imports it needs."""
        self.channel, theirs = socket.socketpair()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        start = f"from evorec.plugins import load_plugins; load_plugins({loaded_modules()!r}); "
        start += f"from evorec.search.workers import serve; serve({theirs.fileno()})"
        with theirs:
            self._process = subprocess.Popen(
                ["env", *ONE_THREAD, f"PYTHONPATH={path}", sys.executable, "-P", "-c", start],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # a terminal's Ctrl-C is the parent's business
            )
        self.ready = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, task: Message) -> None:
        """Give a ready worker its next task.

        Raises:
            OSError: it has ended.
        """
        _send(self.channel, task)

    def receive(self) -> Message | None:
        """What the worker has said: None for the first time, that it is ready; then the answer to a task.

        Raises:
            EOFError, OSError: it has ended.
        """
        message = _receive(self.channel)
        if self.ready:
            return message
        self.ready = True
        return None

    def end(self) -> int:
        """End it at once; returns the exit code, which is the one it had come to already if it had ended before."""
        self.channel.close()
        try:
            return self._process.wait(timeout=ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def task_message(task: Callable[[], object], shared: SharedProblems) -> Message:
    """What `Worker.send` takes, with the problem in it replaced by its place.

    Raises:
        ConfigError: the task holds what cannot be sent to another process.
    """
    try:
        return _message(task, shared)
    except UNPICKLABLE as error:
        raise ConfigError(f"a task cannot be sent to a worker process: {error}; set run.executor to threads") from error


def result_of(answer: Message) -> Any:
    """The result in a worker's answer.

    Raises:
        BaseException: what the task raised.
    """
    raised, value = pickle.loads(answer.body, buffers=answer.buffers)
    if raised:
        raise value
    return value


ENDING_S = 0.5
"""Seconds for the kernel to report the end of a process whose socket is closed already."""


def exit_name(code: int) -> str:
    """How a process ended, in words.

    Example:
        >>> exit_name(-9), exit_name(3)
        ('SIGKILL', 'exit code 3')
    """
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def keep_freed_memory() -> None:
    """Keep freed memory in the process (glibc): taking it from the system again costs more than filling it.

    For processes of our own only; blocks of up to 32 MiB, the most that glibc allows.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**25)


def serve(handle: int) -> None:
    """A worker's life: tasks from the socket `handle`, one at a time, until it closes.

    Tasks run in a thread of their own, so that this one sees the end of the parent in the middle of a task.
    """
    channel = socket.socket(fileno=handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    tasks = ThreadPoolExecutor(1)
    try:
        _send(channel, Message(b"", []))
        while True:
            tasks.submit(_answer, _receive(channel)).add_done_callback(functools.partial(_reply, channel))
    except (EOFError, OSError):
        os._exit(0)  # not sys.exit, which would wait for the task


def _answer(message: Message) -> Message:
    task = _Unpickler(io.BytesIO(message.body), buffers=message.buffers).load()
    return _message((False, task()))


def _reply(channel: socket.socket, answer: Future[Message]) -> None:
    error = answer.exception()
    message = answer.result() if error is None else _raised(error)
    try:
        _send(channel, message)
    except OSError:
        os._exit(0)


def _raised(error: BaseException) -> Message:
    """The message that makes `result_of` raise `error`."""
    error.add_note("".join(["in a worker process:\n", *traceback.format_exception(error)]))
    try:
        message = _message((True, error))
        pickle.loads(message.body, buffers=message.buffers)  # what has a pickle cannot always be made from it again
    except UNPICKLABLE:
        message = _message((True, RuntimeError(f"{type(error).__name__}: {error}")))
    return message
