"""What downloading and unpacking share: who is told how far they are, and writing whole."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from typing import Protocol, final


class Watch(Protocol):
    """Who is told how far a transfer is."""

    def show(self, step: str, done: int, total: int | None) -> None:
        """`done` of `total` bytes of a step are done; None = nobody knows how many there are."""

    def say(self, text: str) -> None:
        """Something a person should know."""


@final
class Silent:
    """Tells nobody."""

    def show(self, step: str, done: int, total: int | None) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


def write_all(out: FileIO, path: Path, chunk: bytes) -> None:
    """Write all of `chunk` to an unbuffered file.

    Raises:
        OSError: the disk refused; names `path`, which the bare error does not.
    """
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[out.write(rest) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
