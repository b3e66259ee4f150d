"""The folder where downloaded data sets are kept, and what is known of each.

``data/NAME/`` holds a data set as published, with a receipt; it appears whole or not at all. ``downloads/NAME/`` holds
what is still under way, ``checksums/NAME/`` the SHA-256 sums of first downloads that nobody published.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from evorec.data.catalogue import CATALOGUE
from evorec.errors import DataError

CACHE_VARIABLE: Final = "EVOREC_CACHE"
"""Environment variable with the folder; without it ``evorec`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
RECEIPT: Final = ".evorec-receipt"
"""Has none of the endings by which readers find their files."""
FORMAT: Final = 1


@final
@dataclass(frozen=True)
class Source:
    """Where one file came from.

    Attributes:
        url: its address.
        size_bytes: as downloaded.
        sha256: as downloaded.
        checked: against what: ``"published sha256"``, ``"published md5"``, ``"first download"`` or ``"nothing"``.
    """

    url: str
    size_bytes: int
    sha256: str
    checked: str


@final
@dataclass(frozen=True)
class Receipt:
    """What is in the folder of a downloaded data set.

    Attributes:
        name: of the data set.
        folder: the one to read, relative to the data set's own.
        files: size in bytes of every file, by its relative path.
        sources: of the downloads.
        fetched: time in ISO 8601, UTC.
    """

    name: str
    folder: str
    files: Mapping[str, int]
    sources: tuple[Source, ...]
    fetched: str


def cache_folder() -> Path:
    """The cache; it may not exist."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "evorec"


def home(name: str, root: Path | None = None) -> Path:
    """Folder of a data set in the cache; it may not exist."""
    return (root or cache_folder()) / "data" / name


def cached(path: str) -> Path | None:
    """Where a data set of the cache, or a file in it, is.

    Args:
        path: name of a data set in any case, as ``evorec data get`` takes it, or a path below one: ``movielens-1m``.
    Returns:
        The folder to read, also where the archive had further folders around it; None if it is not there. A data set
        that was put there by hand has no receipt and is looked through.
    Raises:
        DataError: its receipt is damaged.
    """
    name, *rest = Path(path).parts or ("",)
    name = name.lower()
    if name not in CATALOGUE:
        return None
    folder = home(name)
    receipt = read_receipt(folder)
    inner = receipt.folder if receipt is not None else locate(folder, CATALOGUE[name].holds)
    place = folder.joinpath(inner or "", *rest)
    return place if place.exists() else None


def hint(path: str) -> str:
    """How to get a data set that is not there, as an end to a message; empty for a path that names none."""
    name = (Path(path).parts or ("",))[0].lower()
    return f" Download it with: evorec data get {name}" if name in CATALOGUE else ""


def locate(folder: Path, holds: str) -> str | None:
    """The outermost folder with a file of that name or pattern, relative to `folder`; None if there is none."""
    found = [path.parent.relative_to(folder) for path in folder.rglob(holds) if path.is_file()]
    return min(found, key=lambda path: (len(path.parts), path)).as_posix() if found else None


def read_receipt(folder: Path) -> Receipt | None:
    """The receipt of a data set's folder; None if there is none.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / RECEIPT
    if not path.is_file():
        return None
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("format") != FORMAT:
            raise ValueError(f"another format than {FORMAT}")
        sources = tuple(Source(**source) for source in stored.pop("sources"))
        files = {str(name): int(size) for name, size in stored.pop("files").items()}
        return Receipt(str(stored.pop("name")), str(stored.pop("folder")), files, sources, str(stored.pop("fetched")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); delete {folder} and get the data set again.") from None


def write_receipt(folder: Path, receipt: Receipt) -> None:
    """Put the receipt beside the files that it describes."""
    text = json.dumps({"format": FORMAT, **asdict(receipt)}, indent=1)
    (folder / RECEIPT).write_text(text, encoding="utf-8")


def check_files(folder: Path, receipt: Receipt) -> None:
    """Refuse a folder whose files are not those of its receipt; looks at sizes, not at contents.

    Raises:
        DataError: names the first file that is missing or has another size.
    """
    for name, size in receipt.files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            got = "is missing" if found is None else f"has {found} bytes"
            raise DataError(f"{path} {got}, expected {size} bytes; delete {folder} and get the data set again.")
