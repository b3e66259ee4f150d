"""Readers: from a configured data source to checked tables. Each kind of source is a module, which registers itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, final

from evorec.config import DataConfig
from evorec.data.content.sources import item_vectors
from evorec.data.paths import resolve_path
from evorec.data.tables import Tables
from evorec.errors import ConfigError, DataError
from evorec.registry import Registry

SIMULATOR: Final = "simulator"
TABLE: Final = "table"


@final
@dataclass(frozen=True)
class Origin:
    """Origin of a log, and the rows that its reader dropped.

    Attributes:
        reader: ``data.reader``.
        folder: that was read; empty for the simulator.
        files: names and rows of the files; empty where the reader does not count them, and the rest is zero then.
        dialects: how each of the files is written.
        notes: sentences about anything that was guessed.
        n_read: rows of the log's files.
        n_missing_ids: rows dropped without a user or an item.
        n_missing_times: further rows dropped without a time, or with a time that cannot be read.
        n_duplicates: rows dropped because they repeat another row.
        n_events: remaining rows, before several events become a single row.
    """

    reader: str
    folder: str = ""
    files: tuple[tuple[str, int], ...] = ()
    dialects: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_read: int = 0
    n_missing_ids: int = 0
    n_missing_times: int = 0
    n_duplicates: int = 0
    n_events: int = 0


@final
@dataclass(frozen=True)
class Reader:
    """A value of ``data.reader``.

    Attributes:
        text: a line: the data that it reads.
        read: from the configuration of the data to tables and their origin.
    """

    text: str
    read: Callable[[DataConfig], tuple[Tables, Origin]]


READERS: Final[Registry[Reader]] = Registry("reader", package="evorec.data.readers")
"""Name in ``data.reader`` -> reader."""


def reads_folder(name: str, text: str) -> Callable[[Callable[[Path], Tables]], Callable[[Path], Tables]]:
    """Register a function that needs only the folder ``data.path``.

    Args:
        name: value of ``data.reader``.
        text: a line: the data that it reads.
    """

    def register(read: Callable[[Path], Tables]) -> Callable[[Path], Tables]:
        def read_folder(config: DataConfig) -> tuple[Tables, Origin]:
            folder = folder_of(config)
            return read(folder), Origin(name, str(folder))

        READERS.register(name, Reader(text, read_folder))
        return read

    return register


def folder_of(config: DataConfig) -> Path:
    """The folder ``data.path``.

    Raises:
        ConfigError: it is missing from the configuration.
        DataError: it does not exist or is a file.
    """
    if config.path is None:
        raise ConfigError(f"data.path is missing: reader {config.reader!r} needs the folder of the data set.")
    folder = resolve_path(config.path)
    if not folder.is_dir():
        raise DataError(f"data.path must be the folder of the data set, and {folder} is a file; name {folder.parent}.")
    return folder


def read(config: DataConfig) -> Tables:
    """The tables of a configuration, with the vectors of its content: see `read_with_origin`."""
    return read_with_origin(config)[0]


def read_with_origin(config: DataConfig) -> tuple[Tables, Origin]:
    """The tables of a configuration, with the vectors of its content, and where they come from.

    Args:
        config: reader and path, the simulator's settings, or the files and columns of the reader for any table.
    Raises:
        ConfigError: an unknown reader, or no path.
        DataError: a path that does not exist, or a file that cannot be used.
    """
    tables, origin = READERS[config.reader].read(config)
    return with_content(tables, config), origin


def with_content(tables: Tables, config: DataConfig) -> Tables:
    """The tables with the vectors of ``data.content``; parts that they have already are kept.

    Args:
        tables: read before.
        config: names the sources; their paths may be relative to its own.
    Raises:
        ConfigError, DataError: see `item_vectors`.
    """
    known = {part.name for part in tables.vectors}
    sources = {name: source for name, source in config.content.items() if name not in known}
    if not sources:
        return tables
    beside = None if config.path is None else resolve_path(config.path)
    found = item_vectors(tables, sources, partial(resolve_path, key="path of data.content", beside=beside))
    return replace(tables, vectors=(*tables.vectors, *found)) if found else tables
