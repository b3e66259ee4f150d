"""Files by name or glob, plain, compressed or in a zip file, folders of parts, and their unpacked bytes."""

from __future__ import annotations

import glob
import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Final, final
from urllib.parse import unquote

from evorec.data.tabular.packed import DAMAGED, unpacked
from evorec.errors import DataError

ZIP: Final = ".zip"
WORKBOOKS: Final = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
CONTAINERS: Final = re.compile(rf"({'|'.join(map(re.escape, (ZIP, *WORKBOOKS)))})/", re.IGNORECASE)
"""Files with members: archives and workbooks."""
MAC_FOLDER: Final = "__MACOSX/"
"""Where a zip file of macOS keeps other files than data: a file ``._NAME`` for each of its files."""
NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
"""A missing value in the name of a folder."""
PARTS: Final = re.compile(r"\.(csv|tsv|txt|json|jsonl|ndjson|parquet|pq|arrow|feather)$", re.IGNORECASE)
"""Endings of folders that hold the parts of a table."""
SUCCESS: Final = "_SUCCESS"
"""File that Spark writes last."""
MAX_NAMES: Final = 8
"""Names of files or columns that an error lists."""


class EmptyFileError(DataError):
    """A file without rows."""


class ColumnsError(DataError):
    """A file with other columns than it should have.

    Attributes:
        names: of the missing columns; empty = lines have another number of values.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class BrokenLineError(DataError):
    """A line of JSON lines that is not an object."""


@final
@dataclass(frozen=True)
class Source:
    """A file, a member of a zip file, or a sheet of a workbook.

    Attributes:
        path: of the file.
        member: name inside the file.
        folder: that was named instead of the file, one of whose parts it is.
    """

    path: Path
    member: str = ""
    folder: Path | None = None

    @classmethod
    def of(cls, path: Path, folder: Path | None = None) -> Source:
        """A file, or the only member of a zip file.

        Raises:
            DataError: a zip file that cannot be opened, or has no or several members.
        """
        if path.suffix.lower() != ZIP:
            return cls(path, folder=folder)
        members = _members(path)
        if len(members) != 1:
            raise DataError(f"{path} has {len(members)} files, {members[:MAX_NAMES]}; name one as {path.name}/FILE.")
        return cls(path, members[0], folder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names whose ending may say the format."""
        name = self.path.name if self.is_workbook else self.member or self.path.name
        return (name, self.folder.name) if self.folder else (name,)

    @property
    def is_workbook(self) -> bool:
        """Whether the member is a sheet."""
        return self.path.suffix.lower() in WORKBOOKS

    @property
    def partitions(self) -> dict[str, str | None]:
        """Columns whose value is in the names of the folders of a part, as in ``day=2024-01-31/part-0.parquet``."""
        if self.folder is None:
            return {}
        named = [part.partition("=") for part in self.path.relative_to(self.folder).parts[:-1]]
        return {unquote(name): None if value == NO_VALUE else unquote(value) for name, mark, value in named if mark}

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The file, unpacked, to be read from its beginning; an error raised inside counts as damage.

        Raises:
            DataError: the file is missing, unreadable or damaged.
        """
        try:
            with ExitStack() as stack:
                if self.member and not self.is_workbook:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    file, n_bytes = archive.open(self.member), archive.getinfo(self.member).compress_size
                else:
                    file, n_bytes = self.path.open("rb"), self.path.stat().st_size
                stack.enter_context(file)
                is_member = bool(self.member and not self.is_workbook)
                yield stack.enter_context(unpacked(file, name=self, n_bytes=n_bytes, is_packed=is_member))
        except OSError as error:
            if error.errno is None:
                raise self._damage(error) from None
            raise DataError(f"{self} cannot be read: {error.strerror}; expected the file as published.") from None
        except DAMAGED as error:
            raise self._damage(error) from None

    def _damage(self, error: Exception) -> DataError:
        return DataError(f"{self} cannot be unpacked: {error}; fetch it again, or unpack it yourself.")

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
            yield (
                file
                if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO)
                else io.BytesIO(file.read())
            )


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
    container, member = (pattern, "") if (folder / pattern).exists() else _split(pattern)
    for path in _paths(folder, container):
        if member:
            names = _members(path) if path.suffix.lower() == ZIP else [member]
            wanted = [member] if member in names else [name for name in names if fnmatchcase(name, member)]
            yield from (Source(path, name) for name in wanted)
        elif path.is_dir():
            yield from _parts(path)
        else:
            yield Source.of(path)


def _split(pattern: str) -> tuple[str, str]:
    """Pattern of files, and of their members, which is empty if no member is named."""
    match = CONTAINERS.search(pattern)
    return (pattern[: match.end() - 1], pattern[match.end() :]) if match else (pattern, "")


def _searched(folder: Path, pattern: str) -> str:
    """The folder or archive that a pattern was looked up in, and the names in it."""
    archives, member = _split(pattern)
    if member and (paths := _paths(folder, archives)):
        return f"{paths[0]}; it has {_members(paths[0])[:MAX_NAMES]}"
    names = sorted(path.name for path in folder.iterdir())[:MAX_NAMES] if folder.is_dir() else []
    return f"{folder}; it has {names}"


def _paths(folder: Path, pattern: str) -> list[Path]:
    """Files and folders of a name or a glob; where a part of the pattern is the name of a file, it is no glob.

    A folder that a glob finds counts only if its name has the ending of a table or Spark has marked it as whole.
    """
    if (folder / pattern).exists():
        return [folder / pattern]
    names = PurePosixPath(pattern).parts
    n_plain = next(n for n in range(len(names), -1, -1) if folder.joinpath(*names[:n]).exists() or n == 0)
    plain, rest = folder.joinpath(*names[:n_plain]), "/".join(names[n_plain:])
    found = (plain / name for name in sorted(glob.glob(rest, root_dir=plain, recursive=True)))
    return [path for path in found if path.is_file() or PARTS.search(path.name) or (path / SUCCESS).exists()]


def _parts(folder: Path) -> Iterator[Source]:
    """The files of a folder as Spark writes it, by name; hidden and empty files and its own notes are left out."""
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.stat().st_size
        and not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
    ]
    if not paths:
        raise DataError(f"{folder} is a folder without data files; name a file, or a folder with parts.")
    yield from (Source.of(path, folder) for path in paths)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except (OSError, *DAMAGED) as error:
        raise DataError(f"{path} cannot be opened as a zip file: {error}.") from None
    return [name for name in names if not (name.startswith(MAC_FOLDER) or PurePosixPath(name).name.startswith("._"))]
