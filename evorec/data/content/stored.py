"""A cache of vectors by the hash of their inputs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.data.paths import cache_folder
from evorec.data.tables import column_bytes
from evorec.outputs import workspace

RECIPE: Final = 1
"""Version of all vectors; a higher number makes them anew."""
OLD_S: Final = 86_400
"""No process writes a file for a day."""

Ingredient = str | int | float | npt.NDArray[np.generic] | pl.Series | pl.DataFrame


def hash_of(ingredients: Mapping[str, Ingredient]) -> str:
    """SHA-256 of named values, independent of paths and file formats.

    Returns:
        64 hexadecimal digits.
    Example:
        >>> hash_of({"dims": 2}) == hash_of({"dims": 2}), hash_of({"dims": 2}) == hash_of({"dims": 3})
        (True, False)
    """
    digest = hashlib.sha256(f"vectors {RECIPE}".encode())
    for name, value in ingredients.items():
        digest.update(f"\n{name}:".encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype}{value.shape}".encode())
            digest.update(value.tobytes())
        elif isinstance(value, pl.Series | pl.DataFrame):
            for column in value.get_columns() if isinstance(value, pl.DataFrame) else [value]:
                digest.update(column.name.encode())
                for part in column_bytes(column):
                    digest.update(part)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def stored(
    sha256: str, libraries: tuple[str, ...], make: Callable[[], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Vectors from the cache, or made now and kept there.

    Args:
        sha256: hash of all that they are made of.
        libraries: whose versions may change the numbers.
        make: the vectors, float32 ``(N, d)``; called only when they are not there or damaged.
    Returns:
        float32 ``(N, d)``. A cache that cannot be written costs time and nothing else.
    """
    versions = ", ".join(f"{library} {version(library)}" for library in libraries)
    key = hashlib.sha256(f"{sha256} {versions}".encode()).hexdigest()
    path = cache_folder() / "vectors" / f"{key}.npy"
    with suppress(Exception), path.open("rb") as file:  # a missing or damaged file is made again
        found = np.load(file, allow_pickle=False)
        if found.dtype == np.float32 and found.ndim == 2:
            return np.asarray(found)
    made = make()
    with suppress(OSError):
        _write(path, made)
    return made


def _write(path: Path, vectors: npt.NDArray[np.float32]) -> None:
    """The whole file or none, whoever else writes the same; leftovers of killed processes are removed."""
    with workspace(path) as folder:
        for old in path.parent.glob("*.tmp"):  # as earlier versions named them
            if time.time() - old.stat().st_mtime > OLD_S:
                old.unlink()
        partial = folder / "vectors.npy"
        np.save(partial, vectors, allow_pickle=False)
        partial.replace(path)
