"""Files by name or glob, plain, gzipped or in a zip file, and their unpacked bytes."""

from __future__ import annotations

import glob
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Final, final

from evorec.errors import DataError

ZIP: Final = ".zip"
GZIP_MAGIC: Final = b"\x1f\x8b"
MAC_FOLDER: Final = "__MACOSX/"
"""Where a zip file of macOS keeps other files than data: a file ``._NAME`` for each of its files."""
UNPACKING: Final = (
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors of the libraries on damaged archives."""
MAX_NAMES: Final = 8
"""Names of files or columns that an error lists."""

Opened = IO[bytes] | gzip.GzipFile


@final
@dataclass(frozen=True)
class Source:
    """A file, or a member of a zip file."""

    path: Path
    member: str = ""

    @classmethod
    def of(cls, path: Path) -> Source:
        """A file, or the only member of a zip file.

        Raises:
            DataError: a zip file that cannot be opened, or has no or several members.
        """
        if path.suffix.lower() != ZIP:
            return cls(path)
        members = _members(path)
        if len(members) != 1:
            raise DataError(f"{path} has {len(members)} files, {members[:MAX_NAMES]}; name one as {path.name}/FILE.")
        return cls(path, members[0])

    @property
    def name(self) -> str:
        """The last part of the name, which says the format."""
        return self.member or self.path.name

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        """The file, unpacked, to be read from its beginning; an error raised inside counts as damage.

        Raises:
            DataError: the file is missing, unreadable or damaged.
        """
        try:
            with ExitStack() as stack:
                file: IO[bytes]
                if self.member:
                    file = stack.enter_context(stack.enter_context(zipfile.ZipFile(self.path)).open(self.member))
                else:
                    file = stack.enter_context(self.path.open("rb"))
                # gzip is recognised by its first bytes, because some programs unpack a file and keep its name
                is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
                file.seek(0)
                yield stack.enter_context(gzip.GzipFile(fileobj=file)) if is_packed else file
        except OSError as error:
            why = error.strerror or str(error)
            raise DataError(f"{self} cannot be read: {why}; expected the file as published.") from None
        except UNPACKING as error:
            raise DataError(f"{self} cannot be unpacked: {error}; fetch it again, or unpack it yourself.") from None

    def content(self) -> bytes:
        """All bytes.

        Raises:
            DataError: the file is missing, unreadable or damaged.
        """
        with self.opened() as file:
            return file.read()

    @contextmanager
    def seekable(self) -> Iterator[IO[bytes]]:
        """The file, unpacked, to be read in any order.

        Raises:
            DataError: the file is missing, unreadable or damaged.
        """
        with self.opened() as file:
            yield io.BytesIO(file.read()) if self.member or isinstance(file, gzip.GzipFile) else file


def reason(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def find_sources(folder: Path, patterns: Sequence[str], key: str) -> list[Source]:
    """The files of names and globs, each once, in the order of the entries, and within an entry by name.

    Args:
        folder: that the names are in.
        patterns: e.g. ``events-*.csv.gz``, ``archive.zip/events.csv``, ``archive.zip``.
        key: of the configuration, for errors.
    Raises:
        DataError: an entry that matches nothing, or an archive that cannot be opened.
    """
    found: dict[Source, None] = {}
    for pattern in patterns:
        try:
            sources = list(_matches(folder, pattern))
            there = "" if sources else _searched(folder, pattern)
        except OSError as error:
            raise DataError(f"{key}: {pattern!r} cannot be looked up in {folder}: {error.strerror}.") from None
        if not sources:
            raise DataError(f"{key}: {pattern!r} matches no file in {there}.")
        found.update(dict.fromkeys(sources))
    return list(found)


def _matches(folder: Path, pattern: str) -> Iterator[Source]:
    archives, member = _split(pattern)
    if member:
        for path in _paths(folder, archives):
            yield from (Source(path, name) for name in _members(path) if name == member or fnmatchcase(name, member))
        return
    yield from map(Source.of, _paths(folder, pattern))


def _split(pattern: str) -> tuple[str, str]:
    """Pattern of the zip files and pattern of their members, which is empty if no member is named."""
    end = pattern.lower().find(f"{ZIP}/") + len(ZIP)
    return (pattern, "") if end < len(ZIP) else (pattern[:end], pattern[end + 1 :])


def _searched(folder: Path, pattern: str) -> str:
    """The folder or archive that a pattern was looked up in, and the names in it."""
    archives, member = _split(pattern)
    if member and (paths := _paths(folder, archives)):
        return f"{paths[0]}; it has {_members(paths[0])[:MAX_NAMES]}"
    names = sorted(path.name for path in folder.iterdir())[:MAX_NAMES] if folder.is_dir() else []
    return f"{folder}; it has {names}"


def _paths(folder: Path, pattern: str) -> list[Path]:
    """Files of a name or a glob; a name with brackets in it is a name where there is such a file."""
    if (folder / pattern).is_file():
        return [folder / pattern]
    found = (folder / name for name in sorted(glob.glob(pattern, root_dir=folder, recursive=True)))
    return [path for path in found if path.is_file()]


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except (OSError, *UNPACKING) as error:
        raise DataError(f"{path} cannot be opened as a zip file: {error}.") from None
    return [name for name in names if not (name.startswith(MAC_FOLDER) or PurePosixPath(name).name.startswith("._"))]
