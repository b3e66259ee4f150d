"""Archives of strangers, unpacked so that nothing is written outside of one new folder, nor more than was agreed."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast, final

from evorec.data.transfer import Silent, Watch, write_all
from evorec.errors import DataError

MAX_FILES: Final = 10_000
MAX_GROWTH: Final = 40
"""Bytes of the contents per byte of the archive; tables of numbers shrink to a tenth, a bomb to a thousandth."""
ALLOWANCE_BYTES: Final = 1 << 20
"""On top, for archives so small that the factor says little."""
MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 1024
"""Of a whole name; a file system takes 4096 with the folder's own."""
MAX_DEPTH: Final = 20
CHUNK_BYTES: Final = 1 << 20

_ZIP_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The others are rare, and their headers decide how much memory unpacking takes."""

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
    RecursionError,  # tarfile calls itself for each further header of one member
)


def is_archive(path: Path) -> bool:
    """Whether `unpack` would unpack a file of that name."""
    return path.name.lower().endswith((".zip", ".tar.gz", ".tgz"))


def unpack(
    path: Path, folder: Path, *, max_bytes: int | None = None, max_files: int = MAX_FILES, watch: Watch | None = None
) -> None:
    """Unpack a ``.zip`` or ``.tar.gz``.

    Only plain files and folders come out, with the permissions of new files. Names that are absolute, lead out of the
    folder, occur twice or cannot be shown are refused, and so are links, devices and encrypted files.

    Args:
        path: the archive.
        folder: an empty one that nobody else writes to.
        max_bytes: of all contents together; None = `MAX_GROWTH` times the archive and `ALLOWANCE_BYTES`.
        max_files: and folders that may come out.
        watch: is told how far it is.
    Raises:
        DataError: the archive is damaged or not to be trusted; what came out of it so far is in the folder.
        OSError: the disk refused.
    """
    if max_bytes is None:
        max_bytes = MAX_GROWTH * path.stat().st_size + ALLOWANCE_BYTES
    target = _Target(path, folder, max_bytes, max_files, watch or Silent())
    try:
        if path.name.lower().endswith(".zip"):
            _unzip(path, target)
        else:
            _untar(path, target)
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile) and error.errno != errno.EINVAL:
            raise  # EINVAL: a zip that points before its own beginning
        raise DataError(f"{path} is damaged and cannot be unpacked: {error or type(error).__name__}.") from None


@final
class _Target:
    """The folder that an archive goes to, and how much of it still may."""

    def __init__(self, archive: Path, folder: Path, max_bytes: int, max_files: int, watch: Watch) -> None:
        self.archive = archive
        self.max_bytes = max_bytes
        self.total: int | None = None
        self._folder = folder
        self._bytes_left = max_bytes
        self._files_left = max_files
        self._watch = watch

    def refuse(self, what: str) -> DataError:
        """The error to raise."""
        return DataError(f"{self.archive} is not safe to unpack: {what}. Nothing of it is used.")

    def take(self, n_bytes: int) -> None:
        """Count contents; refuse more than may come out."""
        self._bytes_left -= n_bytes
        if self._bytes_left < 0:
            raise self.refuse(f"its contents are larger than {self.max_bytes} bytes")
        self._watch.show("unpacking", self.max_bytes - self._bytes_left, self.total)

    def require(self, n_bytes: int) -> None:
        """Refuse contents that would be too large, by their own word, before any of them is read."""
        if n_bytes > self._bytes_left:
            raise self.refuse(f"its contents are larger than {self.max_bytes} bytes")

    def locate(self, name: str) -> Path:
        """Where the member of that name goes."""
        self._files_left -= 1
        if self._files_left < 0:
            raise self.refuse("it has too many files")
        shown = ascii(name[:80])
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in name.split("/")[0]:
            raise self.refuse(f"the name {shown} leads out of the folder")
        sizes = [len(os.fsencode(part)) for part in parts if part.isprintable()]
        if not name.isprintable() or max(sizes, default=0) > MAX_NAME_BYTES or sum(sizes) > MAX_PATH_BYTES:
            raise self.refuse(f"the name {shown} cannot be used")
        if len(parts) > MAX_DEPTH:
            raise self.refuse(f"the name {shown} is nested too deeply")
        return self._folder.joinpath(*PurePosixPath(*parts).parts)

    def make_folder(self, name: str) -> None:
        """Make the folder of that name."""
        self._make(self.locate(name), name)

    def write(self, name: str, source: IO[bytes]) -> int:
        """Write the file of that name; returns its size in bytes."""
        path = self.locate(name)
        self._make(path.parent, name)
        try:
            out = path.open("xb", buffering=0)
        except (FileExistsError, IsADirectoryError):
            raise self.refuse(f"the name {name[:80]!a} occurs twice") from None
        size = 0
        with out:
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                self.take(len(chunk))
                write_all(out, path, chunk)
        return size

    def _make(self, path: Path, name: str) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refuse(f"the name {name[:80]!a} is both a file and a folder") from None


def _unzip(path: Path, target: _Target) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        target.total = sum(member.file_size for member in members)
        target.require(target.total)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refuse(f"{member.filename[:80]!a} is a link or a device")
            if member.flag_bits & 0x1:
                raise target.refuse(f"{member.filename[:80]!a} is encrypted")
            if member.compress_type not in _ZIP_METHODS:
                raise target.refuse(f"{member.filename[:80]!a} is neither stored nor deflated")
            if member.filename.endswith("/"):  # `is_dir` stumbles over an empty name
                target.make_folder(member.filename)
            else:
                with archive.open(member) as source:
                    target.write(member.filename, source)


def _untar(path: Path, target: _Target) -> None:
    with gzip.open(path, "rb") as content:
        limited = cast(IO[bytes], _Limited(content, target))  # tarfile only reads it
        with tarfile.open(fileobj=limited, mode="r|") as archive:
            for member in archive:
                _untar_member(archive, member, target)


def _untar_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: _Target) -> None:
    if member.isdir():
        target.make_folder(member.name)
        return
    if not member.isreg() or member.issparse():
        raise target.refuse(f"{member.name[:80]!a} is a link or a device")
    target.require(member.size)
    source = archive.extractfile(member)
    if source is None:
        raise EOFError(f"{member.name[:80]!a} has no contents")
    with source:
        if target.write(member.name, source) != member.size:
            raise EOFError(f"{member.name[:80]!a} ends too early")


@final
class _Limited:
    """What tarfile reads, headers and all, up to a limit: its headers, too, can be a bomb."""

    def __init__(self, content: gzip.GzipFile, target: _Target) -> None:
        self._content = content
        self._target = target
        self._left = target.max_bytes + 2048 * MAX_FILES

    def read(self, n_bytes: int) -> bytes:
        """At most that many bytes."""
        chunk = self._content.read(n_bytes)
        self._left -= len(chunk)
        if self._left < 0:
            raise self._target.refuse(f"its contents are larger than {self._target.max_bytes} bytes")
        return chunk
