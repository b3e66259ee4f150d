"""Files and folders at paths that the user names: whole or absent, also when several commands write the same path."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from evorec.errors import Interruption, RunError

_LOCK: Final = "lock"
_SUFFIX: Final = ".part"
_NAMED: Final = 40
"""Letters of the target's name in that of its workspace: at most 160 bytes of the 255 that a name may have."""


@contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, for this process only; removed at the end, whatever happens.

    What a killed process has left there is removed too: its lock ended with it.

    Args:
        target: file or folder that will be made; its folder is made here.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name[:_NAMED]}."
    for entry in os.scandir(target.parent):  # no glob: a name may contain its special characters
        if entry.name.startswith(prefix) and entry.name.endswith(_SUFFIX) and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                if (lock := _locked(Path(entry.path))) is not None:
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(lock)
    lock = None
    while lock is None:  # another process may take a new folder for a leftover
        folder = target.parent / f"{prefix}{secrets.token_hex(4)}{_SUFFIX}"
        try:
            folder.mkdir()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from None
        lock = _locked(folder)
    try:
        (folder / "content").mkdir()
        yield folder / "content"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def move_folder(folder: Path, target: Path) -> None:
    """Give a complete folder of a `workspace` its name.

    Raises:
        RunError: another process has made `target` meanwhile.
    """
    try:
        folder.rename(target)
    except OSError:
        if not os.path.lexists(target):
            raise
        raise RunError(
            f"{target} was made by another process meanwhile, and is not overwritten; choose another folder"
        ) from None
    sync_path(target.parent)


def write_output(path: Path, data: bytes) -> None:
    """Write a file, or replace it: a process that dies leaves either the old file or the new file."""
    with workspace(path) as folder:
        with (folder / path.name[:_NAMED]).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
        sync_path(path.parent)


def free_gib(folder: Path) -> float:
    """Free disk space of a folder that may not exist yet, in GiB.

    Raises:
        OSError: no folder above it can be asked.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30


def check_free_space(folder: Path, needed_bytes: float, *, purpose: str, reserve_gib: float = 0.0) -> None:
    """Check before a work begins that its files will fit on the disk.

    Args:
        folder: where the files will be written; it need not exist.
        needed_bytes: estimate of their size.
        purpose: subject of the message, e.g. ``"the search"``.
        reserve_gib: `run.min_free_gib`, which must be free afterwards.
    Raises:
        Interruption: they will not fit; the command can be repeated once there is room.
    """
    free, needed = free_gib(folder), needed_bytes / 2**30
    if free >= needed + reserve_gib:
        return
    reserve = f", and {reserve_gib:g} GiB must stay free (run.min_free_gib)" if reserve_gib else ""
    raise Interruption(
        f"{purpose} writes about {needed:.3g} GiB{reserve}, but the disk of {folder} has {free:.3g} GiB free; free "
        "some space and repeat the command, or choose a folder on another disk."
    )


def sync_path(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_file(path: Path) -> int:
    """A descriptor of a file that is made if need be and locked until the descriptor is closed or the process ends.

    Raises:
        BlockingIOError: another process holds the lock.
        RunError: the file is a link, has other hard links, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RunError(f"{path} is a link; delete it and repeat the command") from None
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise RunError(f"{path} must be a file without other hard links; delete it and repeat the command")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:  # of no file, by itself
            raise OSError(error.errno, f"cannot be locked: {error.strerror}", str(path)) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _locked(folder: Path) -> int | None:
    """The held lock of a workspace; ``None`` if another process holds it, or if the folder is gone."""
    file = folder / _LOCK
    try:
        lock = lock_file(file)
    except (FileNotFoundError, BlockingIOError, RunError):
        return None
    with suppress(FileNotFoundError):
        if os.path.samestat(os.stat(file), os.fstat(lock)):
            return lock
    os.close(lock)
    return None
