"""Folders of data sets and derived files: the cache, and ``$EVOREC_DATA``.

In the cache, ``data/NAME/`` holds a data set as published, put there by ``evorec data get`` or by hand, and
``downloads/NAME/`` the archives of a download that has not finished.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from evorec.data.catalogue import CATALOGUE
from evorec.errors import DataError

CACHE_VARIABLE: Final = "EVOREC_CACHE"
"""Environment variable with the cache; without it ``evorec`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
DATA_VARIABLE: Final = "EVOREC_DATA"
"""Environment variable with a folder of data sets."""


def cache_folder() -> Path:
    """The cache; it may not exist."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "evorec"


def home(name: str) -> Path:
    """Folder of a data set in the cache; it may not exist."""
    return cache_folder() / "data" / name


def find_marker(folder: Path, marker: str) -> Path | None:
    """The outermost folder in `folder` with a file of that name or glob; ``None`` = there is none."""
    found = [path.parent for path in folder.rglob(marker) if path.is_file()]
    return min(found, key=lambda path: (len(path.parts), path)) if found else None


def cached(path: str) -> Path | None:
    """Path of a data set in the cache, or of a file in it.

    Args:
        path: name of a data set in any case, or a path below it: ``movielens-1m``, ``movielens-1m/ratings.dat``.
    Returns:
        The folder that the reader needs, also where the archive has folders around it; ``None`` if it is missing.
    """
    name, *rest = Path(path).parts or ("",)
    name = name.lower()
    if name not in CATALOGUE or (inner := find_marker(home(name), CATALOGUE[name].marker)) is None:
        return None
    found = inner.joinpath(*rest)
    return found if found.exists() else None


def resolve_path(path: str, *, key: str = "data.path", beside: Path | None = None) -> Path:
    """The first existing candidate for a path.

    Args:
        path: absolute, or relative to `beside`, the working directory or ``$EVOREC_DATA``, or the name of a data set
            that ``evorec data get`` has downloaded, tried in this order.
        key: names the setting in the message.
        beside: a further folder.
    Raises:
        DataError: lists every path tried.
    """
    folders = [beside, Path.cwd(), Path(data) if (data := os.environ.get(DATA_VARIABLE)) else None]
    candidates = [folder / Path(path).expanduser() for folder in folders if folder is not None]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    if (kept := cached(path)) is not None:
        return kept
    tried = ", ".join(dict.fromkeys(map(str, candidates)))
    name = (Path(path).parts or ("",))[0].lower()
    hint = f" Download it with: evorec data get {name}" if name in CATALOGUE else ""
    raise DataError(f"{key} {path!r} does not exist; tried {tried}. Set {key} or ${DATA_VARIABLE}.{hint}")
