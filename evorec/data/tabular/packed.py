"""Compressed files, recognised by their first bytes: some programs unpack a file and keep its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import IO, Final, cast, final

from evorec.data.unpack import MAX_GROWTH
from evorec.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENDINGS: Final = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".zip")
OPENERS: Final[Mapping[re.Pattern[bytes], Callable[[IO[bytes]], IO[bytes]]]] = {
    re.compile(magic, re.DOTALL): cast(Callable[[IO[bytes]], IO[bytes]], opener)
    for magic, opener in {
        rb"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
        rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": bz2.BZ2File,
        rb"\xfd7zXZ\0|\x5d\0\0.\0": lzma.LZMAFile,
        rb"[\x50-\x5f]\x2aM\x18|\x28\xb5\x2f\xfd": zstd.ZstdFile,
    }.items()
}  # fmt: skip
MAGIC_BYTES: Final = 16
DAMAGED: Final = (
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    zstd.ZstdError,
)
"""Errors of the libraries on damaged files."""
ALLOWANCE_BYTES: Final = 256 << 20
"""Any file may unpack to so much, and to `MAX_GROWTH` times its own size more."""
CHUNK_BYTES: Final = 1 << 20


def unpacked(file: IO[bytes], *, name: object, n_bytes: int, is_packed: bool = False) -> IO[bytes]:
    """The unpacked content of a file, to be read from its beginning; the file itself if it is not compressed.

    Args:
        file: at its beginning.
        name: for errors.
        n_bytes: size of the file, or of the member of an archive, as it is stored.
        is_packed: whether the file comes from an archive, which may have compressed it.
    Raises:
        DataError: while it is read, when it is larger than any table of that size.
    """
    start = file.read(MAGIC_BYTES)
    file.seek(0)
    opener = next((opener for magic, opener in OPENERS.items() if magic.match(start)), None)
    if opener is None and not is_packed:
        return file
    content = _SizeLimit(file if opener is None else opener(file), name, MAX_GROWTH * n_bytes + ALLOWANCE_BYTES)
    return io.BufferedReader(content, CHUNK_BYTES)


@final
class _SizeLimit(io.RawIOBase):
    """A stream that ends in an error after a number of bytes."""

    def __init__(self, file: IO[bytes], name: object, max_bytes: int) -> None:
        self._file, self._name, self._max_bytes, self._n_read = file, name, max_bytes, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._file.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._n_read += len(chunk)
        if self._n_read > self._max_bytes:
            raise DataError(
                f"{self._name} is not safe to unpack: its contents are larger than {self._max_bytes} bytes; unpack it "
                "yourself and name the unpacked file."
            )
        return len(chunk)

    def readall(self) -> bytes:
        chunks = []
        while chunk := self.read(CHUNK_BYTES):
            chunks.append(chunk)
        return b"".join(chunks)
