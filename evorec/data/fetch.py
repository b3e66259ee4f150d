"""A published data set into the cache: downloaded by pooch, verified, unpacked, and installed whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
import time
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urljoin

from evorec.data.catalogue import DataSet, RemoteFile
from evorec.data.paths import cache_folder, find_marker, home
from evorec.data.unpack import Progress, ignore_progress, is_archive, unpack
from evorec.errors import DataError, RunLockedError

if TYPE_CHECKING:
    from requests import Response

CHUNK_BYTES: Final = 1 << 18
TIMEOUT_S: Final = 60.0
"""Silence after which a connection counts as broken."""
PAUSES_S: Final = (1.0, 5.0)
"""Before a broken download is repeated."""
MAX_SHOWN: Final = 300
"""Characters of a server's message that are shown."""
GZIP_MAGIC: Final = b"\x1f\x8b"


def fetch(data_set: DataSet, *, progress: Progress = ignore_progress) -> tuple[Path, bool]:
    """Bring a data set into the cache, unless it is there.

    Args:
        data_set: of the catalogue.
        progress: called while it is downloaded and unpacked.
    Returns:
        The folder that the reader needs, and whether it was in the cache before.
    Raises:
        DataError: it has to be downloaded by hand, cannot be downloaded, differs from the published data set, or is
            unsafe to unpack.
        RunLockedError: another process is downloading it.
        OSError: the disk is full or cannot be written; finished downloads are kept, and the same call continues.
    """
    folder = home(data_set.name)
    if not data_set.files:
        if (found := find_marker(folder, data_set.marker)) is None:
            raise DataError(
                f"{data_set.name} cannot be downloaded automatically: {data_set.by_hand}. Get it from "
                f"{data_set.homepage} and unpack it into {folder}, or set data.path to its folder."
            )
        return found, True
    downloads = cache_folder() / "downloads" / data_set.name
    downloads.mkdir(parents=True, exist_ok=True)
    with downloads.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLockedError(
                f"another process is downloading {data_set.name}; wait until it has finished."
            ) from None
        if folder.exists():
            if (found := find_marker(folder, data_set.marker)) is None:
                raise DataError(f"{folder} must hold {data_set.marker} and does not; move it away and try again.")
            return found, True
        needed = sum(file.size_bytes or 0 for file in data_set.files if not (downloads / file.name).exists())
        if needed > (free := shutil.disk_usage(downloads).free):
            message = f"the download needs {needed} more bytes, the disk has {free}"
            raise OSError(errno.ENOSPC, message, str(downloads))
        archives = [_download(file, downloads, progress) for file in data_set.files]
        try:
            _install(data_set, archives, folder, progress)
        except DataError:  # e.g. an error page instead of the archive
            shutil.rmtree(downloads, ignore_errors=True)
            raise
        shutil.rmtree(downloads, ignore_errors=True)
    found = find_marker(folder, data_set.marker)
    assert found is not None
    return found, False


@final
class _Bar:
    """The object that pooch reports the progress of a download to."""

    def __init__(self, file: RemoteFile, progress: Progress) -> None:
        self.total = 0
        self._file, self._progress, self._done = file, progress, 0

    def update(self, n_bytes: int) -> None:
        self._done += n_bytes
        size = self._file.size_bytes
        if size is not None and self._done >= size + CHUNK_BYTES:  # pooch counts the last chunk as a full chunk
            raise DataError(f"{self._file.url} must have {size} bytes, and the server sends more; nothing is kept.")
        self._progress("downloading", self._done, size or self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        """Nothing to close."""


def _download(file: RemoteFile, folder: Path, progress: Progress) -> Path:
    import pooch
    import requests
    from requests.exceptions import ChunkedEncodingError

    if not file.url.startswith(("https://", "http://")):
        raise DataError(f"{file.url} must start with https:// to be downloaded.")

    responses = ExitStack()

    def check_redirect(response: Response, **_: object) -> None:
        responses.callback(response.close)  # pooch leaves a response open that it refuses
        target = urljoin(response.url, response.headers.get("Location", ""))
        if response.is_redirect and response.url.startswith("https:") and not target.lower().startswith("https:"):
            raise DataError(f"{file.url} redirects to {_printable(target)}, which is not encrypted; nothing is kept.")

    pooch.get_logger().setLevel("ERROR")
    downloader = pooch.HTTPDownloader(
        chunk_size=CHUNK_BYTES,
        timeout=TIMEOUT_S,
        headers={"User-Agent": f"evorec/{metadata.version('evorec')}", "Accept-Encoding": "identity"},
        hooks={"response": check_redirect},
    )
    for wait_s in (*PAUSES_S, None):
        downloader.progressbar = _Bar(file, progress)
        try:
            with responses:
                return Path(pooch.retrieve(file.url, file.checksum, file.name, folder, downloader=downloader))
        except (requests.RequestException, ValueError) as error:  # ValueError: a wrong checksum
            if isinstance(error, requests.ConnectionError | requests.Timeout | ChunkedEncodingError) and wait_s:
                time.sleep(wait_s)
                continue
            raise DataError(
                f"{file.url} cannot be downloaded: {_printable(error)}. Check the network connection and try again, or "
                f"download it some other way to {folder / file.name}."
            ) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, error.filename or str(folder / file.name)) from None
    raise AssertionError("the last try returns or raises")


def _install(data_set: DataSet, archives: list[Path], folder: Path, progress: Progress) -> None:
    """Unpack next to the final folder, then rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{data_set.name}-", dir=folder.parent) as name:
        staging = Path(name) / "new"
        staging.mkdir()
        for path in archives:
            if is_archive(path):
                unpack(path, staging, progress=progress)
                continue
            with path.open("rb") as content:
                start = content.read(len(GZIP_MAGIC))
            if path.suffix == ".gz" and start != GZIP_MAGIC:
                raise DataError(f"{path} must be gzip-compressed, and begins with {start!r}; it is not the data set.")
            shutil.move(path, staging / path.name)
        if find_marker(staging, data_set.marker) is None:
            raise DataError(f"{data_set.name} must hold {data_set.marker} and does not; it is not the data set.")
        staging.rename(folder)


def _printable(text: object) -> str:
    """A message of a server, cut, without characters that control a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))[:MAX_SHOWN]
