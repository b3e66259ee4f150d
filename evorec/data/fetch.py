"""A published data set into the cache: downloaded, checked, unpacked, and there as a whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from evorec.data.cache import (
    RECEIPT,
    Receipt,
    Source,
    cache_folder,
    check_files,
    home,
    locate,
    read_receipt,
    write_receipt,
)
from evorec.data.catalogue import DataSet, RemoteFile
from evorec.data.download import Checked, Remembered, download
from evorec.data.transfer import Silent, Watch
from evorec.data.unpack import ALLOWANCE_BYTES, CHUNK_BYTES, MAX_GROWTH, is_archive, unpack
from evorec.errors import DataError, RunLockedError

UNCHECKED: Final = "nothing"
GZIP: Final = b"\x1f\x8b"
"""How a gzip file begins."""


@final
@dataclass(frozen=True)
class Fetched:
    """A data set that is in the cache.

    Attributes:
        path: the folder to read.
        receipt: what is there, and where it came from.
        was_there: whether it was there before.
    """

    path: Path
    receipt: Receipt
    was_there: bool


def fetch(
    data_set: DataSet,
    *,
    root: Path | None = None,
    watch: Watch | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Bring a data set into the cache; one that is there already is looked at and left alone.

    Args:
        data_set: which.
        root: the cache; None = `cache_folder`.
        watch: is told how far it is.
        pause: waits some seconds before a broken download is tried again.
    Raises:
        DataError: it has to be fetched by hand, cannot be downloaded, is not what was published, or is not safe.
        RunLockedError: another process is fetching it.
        OSError: the disk refused; a download that is under way is kept, and the same call goes on.
    """
    root, watch = root or cache_folder(), watch or Silent()
    folder = home(data_set.name, root)
    if not data_set.files:
        return _by_hand(data_set, folder)
    with _locked(root, data_set.name):
        receipt = read_receipt(folder)
        if receipt is not None:
            check_files(folder, receipt)
            return Fetched(folder / receipt.folder, receipt, was_there=True)
        if folder.exists():
            raise DataError(f"{folder} was not made by evorec: it has no receipt. Move it away and try again.")
        downloads = root / "downloads" / data_set.name
        _require_room(data_set, downloads)
        got = [
            download(file, downloads, remembered=_remembered(root, data_set, file), watch=watch, pause=pause)
            for file in data_set.files
        ]
        try:
            receipt = _install(data_set, folder, got, watch)
        except DataError:  # a page of excuses instead of the archive: download it anew next time
            shutil.rmtree(downloads, ignore_errors=True)
            raise
        _remember(root, data_set, got, watch)
        shutil.rmtree(downloads, ignore_errors=True)
    return Fetched(folder / receipt.folder, receipt, was_there=False)


def _by_hand(data_set: DataSet, folder: Path) -> Fetched:
    """A data set that nobody may download for people; one that they put into the cache is found."""
    inner = locate(folder, data_set.holds)
    if inner is None:
        raise DataError(
            f"{data_set.name} cannot be downloaded for you: {data_set.by_hand}. Get it from {data_set.homepage} and "
            f"unpack it into {folder}, or name its folder in data.path."
        )
    return Fetched(folder / inner, Receipt(data_set.name, inner, {}, (), ""), was_there=True)


def _install(data_set: DataSet, folder: Path, got: list[Checked], watch: Watch) -> Receipt:
    """Unpack beside the final place, write the receipt, and move it all there in one step."""
    staging = folder.with_name(f".{data_set.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        for file in got:
            if is_archive(file.path):
                unpack(file.path, staging, watch=watch)
            else:
                _require_gzip(file, watch)
                shutil.move(file.path, staging / file.path.name)
        if os.path.lexists(staging / RECEIPT):
            raise DataError(f"{data_set.name} must not hold a file {RECEIPT}; it is not the data set.")
        inner = locate(staging, data_set.holds)
        if inner is None:
            raise DataError(
                f"{data_set.name} must hold {data_set.holds}, and has no such file; it is not the data set."
            )
        files = {
            path.relative_to(staging).as_posix(): path.stat().st_size
            for path in sorted(staging.rglob("*"))
            if path.is_file()
        }
        pairs = zip(data_set.files, got, strict=True)
        sources = tuple(Source(file.url, own.size_bytes, own.sha256, own.checked) for file, own in pairs)
        fetched = datetime.now(UTC).isoformat(timespec="seconds")
        receipt = Receipt(data_set.name, inner, files, sources, fetched)
        write_receipt(staging, receipt)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return receipt


def _require_gzip(file: Checked, watch: Watch) -> None:
    """Refuse a page of excuses under the name of a compressed table, and half a table where no checksum would tell."""
    if file.path.suffix != ".gz":
        return
    with file.path.open("rb") as content:
        start = content.read(len(GZIP))
    if start != GZIP:
        raise DataError(f"{file.path} must be gzip-compressed, and begins with {start!r}; it is not the data set.")
    if file.checked != UNCHECKED:
        return
    done, most = 0, MAX_GROWTH * file.size_bytes + ALLOWANCE_BYTES
    try:
        with gzip.open(file.path) as content:
            while done <= most and (chunk := content.read(CHUNK_BYTES)):
                done += len(chunk)
                watch.show("reading", done, None)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file.path} is damaged: {error}. Type the same command again to download it anew.") from None
    if done > most:
        raise DataError(f"{file.path} is not safe to read: its contents are larger than {most} bytes.")


def _require_room(data_set: DataSet, downloads: Path) -> None:
    """Refuse to begin a download that cannot end, by the sizes that are known."""
    downloads.mkdir(parents=True, exist_ok=True)
    have = sum(path.stat().st_size for path in downloads.iterdir() if path.is_file())
    needed = sum(file.size_bytes or 0 for file in data_set.files) - have
    free = shutil.disk_usage(downloads).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"the download needs {needed} more bytes, the disk has {free}", str(downloads))


def _checksum_path(root: Path, data_set: DataSet, file: RemoteFile) -> Path:
    return root / "checksums" / data_set.name / f"{file.name}.json"


def _remembered(root: Path, data_set: DataSet, file: RemoteFile) -> Remembered | None:
    """The checksum of the first download, of a file that has no published SHA-256."""
    path = _checksum_path(root, data_set, file)
    if file.sha256 is not None or not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Remembered(str(stored["sha256"]), path) if stored["url"] == file.url else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it to trust the next download.") from None


def _remember(root: Path, data_set: DataSet, got: list[Checked], watch: Watch) -> None:
    """Keep the checksums that nobody published, once the files have proved to be the data set."""
    for file, own in zip(data_set.files, got, strict=True):
        path = _checksum_path(root, data_set, file)
        if file.sha256 is not None or _remembered(root, data_set, file) is not None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        seen = {"url": file.url, "sha256": own.sha256, "size_bytes": own.size_bytes}
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(seen | {"first_seen": datetime.now(UTC).isoformat(timespec="seconds")}))
        os.replace(unfinished, path)
        if own.checked == UNCHECKED:
            watch.say(
                f"nobody published a checksum of {file.name}: this first download is trusted. Its sha256 is "
                f"{own.sha256}; later downloads are compared with it ({path})."
            )


@contextmanager
def _locked(root: Path, name: str) -> Iterator[None]:
    """Only one process at a time fetches a data set."""
    path = root / "downloads" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLockedError(f"another process is fetching {name}; wait until it ends.") from None
        yield
