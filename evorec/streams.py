"""Standard output and standard error that never stop the work: their reader may go away, their disk may be full."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, Final, TextIO, final

_GONE: Final = (errno.EPIPE, errno.EBADF)
"""Faults that mean that no reader wants the output any more, as after ``| head -1``."""


@final
class StandardStream(io.RawIOBase):
    """A standard stream of this process; after a failed write it drops everything.

    Attributes:
        fault: the error of the write that failed; ``None`` = everything was written.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = io.FileIO(descriptor, "w", closefd=False)
        self.fault: OSError | None = None

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()

    def write(self, data: Any, /) -> int:
        """Write bytes; returns their number, also after a fault."""
        try:
            while self.fault is None:
                if (n_written := self._file.write(data)) is not None:
                    return n_written
                select.select([], [self._file], [])  # a stream that does not block: wait until it takes more
        except OSError as error:
            self.fault = error
        return memoryview(data).nbytes


def keep_streams() -> None:
    """Let ``print`` and everything else that writes to standard output or error go on when a write fails.

    A closed stream is opened as the null device, so that no file gets its number. A character that the encoding of a
    stream does not have is written as its code. Entry points of processes call this once.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this descriptor
            os.set_inheritable(opened, True)
    sys.stdout, sys.stderr = _kept(sys.stdout, 1), _kept(sys.stderr, 2)


def lost_output() -> OSError | None:
    """Why standard output did not get everything; ``None`` if it did, or if its reader has gone away."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    fault = raw.fault if isinstance(raw, StandardStream) else None
    return None if fault is None or fault.errno in _GONE else fault


def _kept(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is not None:
        with suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(StandardStream(descriptor)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )
