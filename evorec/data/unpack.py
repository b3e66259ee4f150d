"""Unpacking of downloaded archives: nothing is written outside one new folder, nor more than a limit."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Final, cast, final

from evorec.errors import DataError

MAX_FILES: Final = 10_000
MAX_GROWTH: Final = 40
"""Bytes of the contents per byte of the archive; tables of numbers shrink to a tenth, a bomb to a thousandth."""
ALLOWANCE_BYTES: Final = 1 << 20
"""Added to the limit, because the factor means little for small archives."""
MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 1024
MAX_DEPTH: Final = 20
CHUNK_BYTES: Final = 1 << 20

Progress = Callable[[str, int, int | None], None]
"""Called with a step, the bytes done and their total (``None`` = unknown)."""


def ignore_progress(step: str, done: int, total: int | None) -> None:
    """Show nothing."""


_DAMAGED: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
    OverflowError,
    RecursionError,  # tarfile calls itself for each further header of a member
)


def is_archive(path: Path) -> bool:
    """Whether `unpack` can unpack a file of that name."""
    return path.name.lower().endswith((".zip", ".tar.gz", ".tgz"))


def unpack(
    path: Path,
    folder: Path,
    *,
    max_bytes: int | None = None,
    max_files: int = MAX_FILES,
    progress: Progress = ignore_progress,
) -> None:
    """Unpack a ``.zip`` or ``.tar.gz``.

    Writes plain files and folders only, with the permissions of new files. Refused are names that are absolute, lead
    out of the folder, are repeated or cannot be printed, links, devices and encrypted files.

    Args:
        path: the archive.
        folder: an empty folder that no other process writes to.
        max_bytes: of all contents together; ``None`` = `MAX_GROWTH` times the archive and `ALLOWANCE_BYTES`.
        max_files: files and folders.
        progress: called with the number of bytes written.
    Raises:
        DataError: the archive is damaged or unsafe; the folder keeps the files unpacked so far.
        OSError: the disk is full or cannot be written.
    """
    if max_bytes is None:
        max_bytes = MAX_GROWTH * path.stat().st_size + ALLOWANCE_BYTES
    budget = _Budget(path, max_bytes, progress)
    members = _zip_members if path.name.lower().endswith(".zip") else _tar_members
    try:
        for number, (name, open_content) in enumerate(members(path, budget)):
            if number >= max_files:
                raise budget.refusal("it has too many files")
            target = folder.joinpath(*_checked_parts(name, budget))
            try:
                (target if open_content is None else target.parent).mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise budget.refusal(f"the name {name[:80]!a} is both a file and a folder") from None
            if open_content is not None:
                try:
                    with target.open("xb") as out, open_content() as content:
                        while chunk := content.read(CHUNK_BYTES):
                            budget.spend(len(chunk))
                            out.write(chunk)
                except (FileExistsError, IsADirectoryError):
                    raise budget.refusal(f"the name {name[:80]!a} occurs twice") from None
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile) and error.errno != errno.EINVAL:
            raise OSError(error.errno, error.strerror, error.filename or str(folder)) from None
        # EINVAL: a zip file that points before its own beginning
        raise DataError(f"{path} is damaged and cannot be unpacked: {error or type(error).__name__}.") from None


Member = tuple[str, Callable[[], IO[bytes]] | None]
"""Name and a function that opens the content; ``None`` = a folder."""


@final
class _Budget:
    """Bytes that may still be unpacked."""

    def __init__(self, archive: Path, max_bytes: int, progress: Progress = ignore_progress) -> None:
        self.archive, self.max_bytes = archive, max_bytes
        self._spent, self._progress = 0, progress

    def refusal(self, why: str) -> DataError:
        return DataError(f"{self.archive} is not safe to unpack: {why}. Nothing of it is used.")

    def spend(self, n_bytes: int) -> None:
        self._spent += n_bytes
        if self._spent > self.max_bytes:
            raise self.refusal(f"its contents are larger than {self.max_bytes} bytes")
        self._progress("unpacking", self._spent, None)


def _checked_parts(name: str, budget: _Budget) -> list[str]:
    shown = ascii(name[:80])
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name or ":" in name.split("/")[0]:
        raise budget.refusal(f"the name {shown} leads out of the folder")
    sizes = [len(os.fsencode(part)) for part in parts if part.isprintable()]
    if not name.isprintable() or max(sizes, default=0) > MAX_NAME_BYTES or sum(sizes) > MAX_PATH_BYTES:
        raise budget.refusal(f"the name {shown} cannot be used")
    if len(parts) > MAX_DEPTH:
        raise budget.refusal(f"the name {shown} is nested too deeply")
    return parts


def _zip_members(path: Path, budget: _Budget) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            shown = ascii(member.filename[:80])
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise budget.refusal(f"{shown} is a link or a device")
            if member.flag_bits & 0x1:
                raise budget.refusal(f"{shown} is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # the other methods are rare, and their headers decide how much memory unpacking takes
                raise budget.refusal(f"{shown} is neither stored nor deflated")
            # `is_dir` fails for an empty name
            yield member.filename, None if member.filename.endswith("/") else partial(archive.open, member)


@final
class _CountedStream:
    """The decompressed bytes of a tar file, counted as tarfile reads them: its headers can be a bomb, too."""

    def __init__(self, content: gzip.GzipFile, budget: _Budget) -> None:
        self._content, self._budget = content, budget

    def read(self, n_bytes: int) -> bytes:
        chunk = self._content.read(n_bytes)
        self._budget.spend(len(chunk))
        return chunk


def _tar_members(path: Path, budget: _Budget) -> Iterator[Member]:
    with gzip.open(path, "rb") as content:
        counted = cast(IO[bytes], _CountedStream(content, _Budget(path, budget.max_bytes + 2048 * MAX_FILES)))
        with tarfile.open(fileobj=counted, mode="r|") as archive:
            for member in archive:
                if not (member.isdir() or member.isreg()) or member.issparse():
                    raise budget.refusal(f"{member.name[:80]!a} is a link or a device")
                content_of = cast(Callable[[tarfile.TarInfo], IO[bytes]], archive.extractfile)  # None for folders only
                yield member.name, None if member.isdir() else partial(content_of, member)
