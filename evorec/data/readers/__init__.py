"""From a configured data source to checked tables: one module per file format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from evorec.config import DataConfig
from evorec.data.readers import kuairand, movielens
from evorec.data.simulate import simulate
from evorec.data.tables import Tables
from evorec.errors import ConfigError, DataError

DATA_VARIABLE: Final = "EVOREC_DATA"
"""Environment variable with the folder of data sets; without it ``../shared/data`` beside the checkout."""

FILE_READERS: Final[Mapping[str, Callable[[Path], Tables]]] = {"kuairand": kuairand.read, "movielens": movielens.read}
"""Name in ``data.reader`` -> function of a folder; the simulator needs none."""
SIMULATOR: Final = "simulator"


def read(config: DataConfig) -> Tables:
    """The tables of a configuration.

    Args:
        config: reader and path, or the simulator's settings.
    Raises:
        ConfigError: an unknown reader, or no path.
        DataError: a path that does not exist, or a file that cannot be used.
    """
    if config.reader == SIMULATOR:
        return simulate(config.simulator)
    if config.reader not in FILE_READERS:
        raise ConfigError(f"data.reader must be one of {[SIMULATOR, *FILE_READERS]}, got {config.reader!r}.")
    if config.path is None:
        raise ConfigError(f"data.path is missing: reader {config.reader!r} needs the folder of the data set.")
    folder = resolve_path(config.path)
    if not folder.is_dir():
        raise DataError(f"data.path must be the folder of the data set, and {folder} is a file; name {folder.parent}.")
    return FILE_READERS[config.reader](folder)


def resolve_path(path: str) -> Path:
    """The first place where a path exists.

    Args:
        path: absolute, or relative to the working folder or to ``$EVOREC_DATA``, tried in this order.
    Raises:
        DataError: lists every place tried.
    """
    places = [folder / Path(path).expanduser() for folder in (Path.cwd(), data_folder())]
    for place in places:
        if place.exists():
            return place
    tried = ", ".join(dict.fromkeys(str(place) for place in places))
    raise DataError(f"data.path {path!r} does not exist; tried {tried}. Set data.path or ${DATA_VARIABLE}.")


def data_folder() -> Path:
    """Folder of data sets: ``$EVOREC_DATA``, else ``../shared/data`` beside the checkout; it may not exist."""
    checkout = Path(__file__).resolve().parents[3]
    return Path(os.environ.get(DATA_VARIABLE) or checkout.parent / "shared" / "data")
