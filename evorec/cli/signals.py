"""Signals that end a command: they raise an `Interruption`, and if that does not help the process ends all the same."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from evorec.errors import Interruption

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C; systemd, Kubernetes and Slurm at the end; Slurm ahead of a time limit; a terminal that is closed."""
GRACE_S: Final = 5.0
"""Seconds in which the running stack may still be committed after a signal: Kubernetes waits 30 s, Slurm often less."""
END_S: Final = GRACE_S + 3.0
"""Seconds after a signal, or after a second signal `AT_ONCE_S`, at which the process ends whatever it is doing."""
AT_ONCE_S: Final = 1.0
WRITE_S: Final = 0.2
"""Seconds for the last line, which a full pipe may hold up."""

_received: list[int] = []
_limited = threading.Event()


@contextmanager
def interruptions() -> Iterator[None]:
    """Signals raise an `Interruption` in the main thread; afterwards they are ignored.

    Python runs handlers between two steps of its own code, so a library that computes, reads or waits for long delays
    them. A thread therefore ends the process `END_S` seconds after the first signal, unless `without_limit` was called.
    It cannot do so while a library holds the GIL.

    SIGHUP stays ignored if it was, as nohup wants it; SIGINT does not, which a shell ignores for every program in the
    background.
    """
    numbers = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, _interrupt)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _limited.set()
    threading.Thread(target=_end_in_time, args=(reader,), name="evorec signals", daemon=True).start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        _limited.clear()
        signal.set_wakeup_fd(before)
        os.close(writer)
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # the command is done: its exit code stands while Python ends


def without_limit() -> None:
    """From now on this process takes its time after a signal, as a server that finishes its requests."""
    _limited.clear()


def check_interrupted() -> None:
    """Raise again what a library has caught: some of them catch every error while they are imported.

    Raises:
        Interruption: a signal has asked this process to end.
    """
    if _received:
        raise Interruption(f"interrupted by {signal.Signals(_received[0]).name}.")


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    check_interrupted()


def _end_in_time(reader: int) -> None:
    """Wait for signals, whose numbers Python's own handlers in C write to a pipe, and end the process in time."""
    first, end = "", None
    while True:
        ready, _, _ = select.select([reader], [], [], None if end is None else max(end - time.monotonic(), 0.0))
        numbers = os.read(reader, 64) if ready else b""
        if not _limited.is_set() or (ready and not numbers):  # the command is done
            break
        for number in filter(SIGNALS.__contains__, numbers):
            end = time.monotonic() + (AT_ONCE_S if first else END_S)
            first = first or signal.Signals(number).name
        if end is not None and time.monotonic() >= end:
            text = f"ended after {first} in the middle of its work; everything committed is on disk\n"
            writing = threading.Thread(target=sys.stderr.write, args=(text,), daemon=True)
            writing.start()
            writing.join(WRITE_S)
            os._exit(Interruption.exit_code)
    os.close(reader)
