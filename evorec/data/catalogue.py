"""Published data sets that evorec reads; the entries are in ``catalogue.toml``."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, final
from urllib.parse import unquote, urlsplit

from evorec.errors import ConfigError


@final
@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        url: its address.
        size_bytes: ``None`` = unknown.
        checksum: ``"sha256:..."`` or ``"md5:..."``; ``None`` = its publisher states none.
    """

    url: str
    size_bytes: int | None = None
    checksum: str | None = None

    @property
    def name(self) -> str:
        """Last part of the address."""
        return PurePosixPath(unquote(urlsplit(self.url).path)).name


@final
@dataclass(frozen=True)
class DataSet:
    """A published data set.

    Attributes:
        name: for ``evorec data get`` and, afterwards, for ``data.path``.
        about: a line of description.
        reader: value of ``data.reader``.
        licence: terms of its publisher.
        homepage: description, and where files are downloaded by hand.
        marker: name or glob of a file in the folder that the reader needs.
        files: to download; archives are unpacked; empty = it has to be downloaded by hand.
        by_hand: why it cannot be downloaded, and the alternative.
    """

    name: str
    about: str
    reader: str
    licence: str
    homepage: str
    marker: str
    files: tuple[RemoteFile, ...] = ()
    by_hand: str = ""

    @property
    def size_bytes(self) -> int | None:
        """Of the download; ``None`` where the size of a file is unknown."""
        sizes = [file.size_bytes for file in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if sizes and len(known) == len(sizes) else None


def _read(path: Path) -> dict[str, DataSet]:
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: DataSet(name, files=tuple(RemoteFile(**file) for file in entry.pop("files", ())), **entry)
        for name, entry in entries.items()
    }


CATALOGUE: Final[Mapping[str, DataSet]] = _read(Path(__file__).with_name("catalogue.toml"))
"""Name -> data set, in the order in which they are listed."""


def licence_of(reader: str) -> str:
    """Licences of the data sets that a reader reads; empty for the user's own data.

    Example:
        >>> licence_of("kuairand"), licence_of("table")
        ('CC BY-SA 4.0', '')
    """
    found = dict.fromkeys(data_set.licence for data_set in CATALOGUE.values() if data_set.reader == reader)
    return "; or ".join(found)


def find(name: str) -> DataSet:
    """The data set of that name, in any case.

    Raises:
        ConfigError: there is none; names similar names.
    """
    if name.lower() in CATALOGUE:
        return CATALOGUE[name.lower()]
    alike = difflib.get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.4)
    guess = f"did you mean {' or '.join(alike)}? " if alike else ""
    raise ConfigError(f"there is no data set {name!r}; {guess}`evorec data get --list` shows all of them.")
