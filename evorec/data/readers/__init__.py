"""From a configured data source to checked tables: a module per published data set, and `table` for any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from evorec.config import DataConfig
from evorec.data.content.sources import item_vectors
from evorec.data.paths import resolve_path
from evorec.data.readers import aliccp, aliexpress, amazon, kuairand, kuairec, movielens, retailrocket, table
from evorec.data.simulator import simulate
from evorec.data.tables import Tables
from evorec.errors import ConfigError, DataError

FILE_READERS: Final[Mapping[str, Callable[[Path], Tables]]] = {
    "kuairand": kuairand.read,
    "movielens": movielens.read,
    "movielens_genome": movielens.read_with_genome,
    "kuairec": kuairec.read,
    "kuairec_small": kuairec.read_small,
    "aliccp": aliccp.read,
    "aliexpress": aliexpress.read,
    "amazon": amazon.read,
    "retailrocket": retailrocket.read,
}
"""Name in ``data.reader`` -> function of a folder; the simulator needs none, and `TABLE` the configuration too."""
SIMULATOR: Final = "simulator"
TABLE: Final = "table"


def read(config: DataConfig) -> Tables:
    """The tables of a configuration, with the vectors of its content.

    Args:
        config: reader and path, the simulator's settings, or the files and columns of the reader for any table.
    Raises:
        ConfigError: an unknown reader, or no path.
        DataError: a path that does not exist, or a file that cannot be used.
    """
    return with_content(_read(config), config)


def with_content(tables: Tables, config: DataConfig) -> Tables:
    """The tables with the vectors of ``data.content``; parts that they have already stay as they are.

    Args:
        tables: read before.
        config: names the sources; their paths may be relative to its own.
    Raises:
        ConfigError, DataError: see `item_vectors`.
    """
    there = {part.name for part in tables.vectors}
    sources = {name: source for name, source in config.content.items() if name not in there}
    if not sources:
        return tables
    beside = None if config.path is None else resolve_path(config.path)
    found = item_vectors(tables, sources, partial(resolve_path, key="path of data.content", beside=beside))
    return replace(tables, vectors=(*tables.vectors, *found)) if found else tables


def _read(config: DataConfig) -> Tables:
    if config.reader == SIMULATOR:
        return simulate(config.simulator)
    if config.reader not in (TABLE, *FILE_READERS):
        raise ConfigError(f"data.reader must be one of {[SIMULATOR, *FILE_READERS, TABLE]}, got {config.reader!r}.")
    if config.path is None:
        raise ConfigError(f"data.path is missing: reader {config.reader!r} needs the folder of the data set.")
    folder = resolve_path(config.path)
    if not folder.is_dir():
        raise DataError(f"data.path must be the folder of the data set, and {folder} is a file; name {folder.parent}.")
    return table.read(config, folder) if config.reader == TABLE else FILE_READERS[config.reader](folder)
