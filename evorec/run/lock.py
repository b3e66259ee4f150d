"""The lock of a run directory: a single process writes, and only into the folder that it has locked."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import final

from evorec.errors import RunError, RunLockedError
from evorec.outputs import lock_file

LOCK = "lock"


@final
class FolderLock:
    """An exclusive lock on the file `LOCK` of a folder.

    The kernel releases it when the process ends, however it ends.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            RunError: the file is a link or no regular file.
            RunLockedError: another process holds it.
        """
        self._folder = folder
        self._descriptor = _locked(folder / LOCK)
        while not self._is_of_folder():  # the folder was replaced between the opening and the lock
            self.release()
            self._descriptor = _locked(folder / LOCK)
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def check(self) -> None:
        """Check that the locked folder was not replaced; call it before every write.

        Raises:
            RunError: it was deleted, and perhaps made again by another process, which writes there now.
        """
        if not self._is_of_folder():
            raise RunError(
                f"run {self._folder} was deleted or replaced while this process worked on it; nothing more is written. "
                "Search again"
            )

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)

    def _is_of_folder(self) -> bool:
        try:
            there = os.stat(self._folder / LOCK, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))


def refuse_locked(folder: Path) -> None:
    """Check that no process holds the lock of a folder; nothing is written.

    A lock that cannot be asked for, as on a file system without locks, is one that no process can hold.

    Raises:
        RunLockedError: a process holds it.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held(folder, descriptor) from None
    except OSError:
        return
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a folder."""
    try:
        refuse_locked(folder)
    except RunLockedError:
        return True
    return False


def _held(folder: Path, descriptor: int) -> RunLockedError:
    holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
    return RunLockedError(f"run {folder} is held by {holder}; wait until it ends")


def _locked(path: Path) -> int:
    """A descriptor of the locked file."""
    while True:
        try:
            return lock_file(path)
        except BlockingIOError:
            refuse_locked(path.parent)  # the process that held it may have ended meanwhile
