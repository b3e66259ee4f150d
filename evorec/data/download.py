"""One file over HTTP: resumed where it broke off, and checked before it appears under its own name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from importlib import metadata
from pathlib import Path
from typing import IO, Final, final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from evorec.data.catalogue import RemoteFile
from evorec.data.transfer import Silent, Watch, write_all
from evorec.errors import DataError

CHUNK_BYTES: Final = 1 << 18
TIMEOUT_S: Final = 60.0
"""Silence after which a connection counts as broken."""
TRIES: Final = 4
"""Broken connections in a row, without one further byte, after which a person has to look."""
LONGEST_PAUSE_S: Final = 60.0
MOST_DIGITS: Final = 18
"""Of a number in a header; a file is smaller."""
MOST_WORDS: Final = 200
"""Characters of what a server says that are shown."""
BUSY: Final = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which the same question may be asked again."""


@final
class _Broken(Exception):
    """The connection broke, or the server was busy: worth another try."""

    def __init__(self, what: str, wait_s: float = 0.0) -> None:
        super().__init__(what)
        self.wait_s = wait_s


@final
@dataclass(frozen=True)
class Remembered:
    """Checksum of an earlier download that nobody published.

    Attributes:
        sha256: of it.
        path: where it is kept; without that file the next download is trusted.
    """

    sha256: str
    path: Path


@final
@dataclass(frozen=True)
class Checked:
    """A downloaded file.

    Attributes:
        path: where it is.
        size_bytes: of it.
        sha256: of its contents.
        checked: what was compared, as in `evorec.data.cache.Source`.
    """

    path: Path
    size_bytes: int
    sha256: str
    checked: str


def download(
    file: RemoteFile,
    folder: Path,
    *,
    remembered: Remembered | None = None,
    watch: Watch | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Checked:
    """Download a file, or go on with a part of it, and check its size and checksum.

    A file of that name that is there already, however it came, is checked and used.

    Args:
        file: what to download.
        folder: where to; made if need be. What is under way is called ``NAME.part`` there.
        remembered: of an earlier download; used where nobody published a SHA-256.
        watch: is told how far it is.
        pause: waits some seconds before another try.
    Raises:
        DataError: the file cannot be had, or is not the published one; then nothing of it is kept.
        OSError: the disk refused; what was written is kept, and the same call goes on.
    """
    watch = watch or Silent()
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / file.name, folder / f"{file.name}.part"
    if not target.exists():
        _fill(file, part, watch, pause)
        found = part
    else:
        found = target
    checked = _check(file, found, remembered, watch)
    if found is part:
        os.replace(part, target)
        _note_path(part).unlink(missing_ok=True)
    return Checked(target, checked.size_bytes, checked.sha256, checked.checked)


def _fill(file: RemoteFile, part: Path, watch: Watch, pause: Callable[[float], None]) -> None:
    """Download until the part is whole, through as many broken connections as bring it further."""
    best, failures = _size(part), 0
    while True:
        try:
            _stream(file, part, watch)
            return
        except _Broken as error:
            failures = 0 if _size(part) > best else failures + 1
            best = max(best, _size(part))
            if failures == TRIES:
                raise DataError(
                    f"{file.url} cannot be downloaded: {error} ({best} bytes are kept). Type the same command again to "
                    f"go on, or fetch it some other way and put it at {part.with_suffix('')}."
                ) from None
            wait_s = min(max(error.wait_s, 2.0**failures / 2), LONGEST_PAUSE_S)
            watch.say(f"{error}; trying again in {wait_s:g} s")
            pause(wait_s)


def _stream(file: RemoteFile, part: Path, watch: Watch) -> None:
    """One request: the rest of the file, or all of it where the server cannot give the rest.

    Raises:
        _Broken: it ended too early.
    """
    have, tag = _resumable(file, part)
    if have and have == file.size_bytes:
        return
    with _open(file, part, have, tag) as response:
        start = have if response.status == 206 else 0
        total = _total(response, start)
        _check_offer(file, part, response, start, total)
        _note_path(part).write_text(
            json.dumps({"url": file.url, "tag": _tag(response.headers) or tag}), encoding="utf-8"
        )
        expected = file.size_bytes if file.size_bytes is not None else total
        done = start
        with part.open("ab" if start else "wb", buffering=0) as out:
            while chunk := _read(response):
                done += len(chunk)
                if expected is not None and done > expected:
                    break
                write_all(out, part, chunk)
                watch.show("downloading", done, expected)
    if expected is not None and done > expected:
        _forget(part)
        raise DataError(f"{file.url} must have {expected} bytes, and sends more; nothing of it was kept.")
    if expected is not None and done < expected:
        raise _Broken(f"the connection ended after {done} of {expected} bytes")


def _resumable(file: RemoteFile, part: Path) -> tuple[int, str | None]:
    """Bytes of the part that can be gone on from, and the tag of the file that they are of."""
    have = _size(part)
    if have == 0:
        return 0, None
    try:
        note = json.loads(_note_path(part).read_text(encoding="utf-8"))
        same, tag = note["url"] == file.url, note["tag"]
    except (OSError, ValueError, KeyError, TypeError):
        same, tag = False, None
    can_check = isinstance(tag, str) or file.is_published  # otherwise two versions could be glued together
    fits = file.size_bytes is None or have <= file.size_bytes
    return (have, tag if isinstance(tag, str) else None) if same and can_check and fits else (0, None)


@final
class _SafeRedirects(HTTPRedirectHandler):
    """Follows a redirection to HTTPS, and to HTTP only from HTTP."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        allowed = ("https:",) if req.full_url.startswith("https:") else ("https:", "http:")
        if not newurl.lower().startswith(allowed):
            fp.close()
            raise DataError(f"{req.full_url} redirects to {_shown(newurl)}, which is not safe; nothing was downloaded.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(file: RemoteFile, part: Path, have: int, tag: str | None) -> HTTPResponse:
    if not file.url.startswith(("https://", "http://")):
        raise DataError(f"{file.url} must start with https:// to be downloaded.")
    headers = {"User-Agent": f"evorec/{metadata.version('evorec')}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": tag} if tag else {})
    try:
        response: HTTPResponse = build_opener(_SafeRedirects).open(
            Request(file.url, headers=headers), timeout=TIMEOUT_S
        )
        return response
    except HTTPError as error:
        error.close()
        reason = _shown(error.reason)
        if error.code == 416:  # the part is longer than what is there now
            _forget(part)
            raise _Broken("the server has no such part") from None
        if error.code in BUSY:
            raise _Broken(f"the server answers {error.code} {reason}", _retry_after(error.headers)) from None
        raise DataError(f"{file.url} cannot be downloaded: the server answers {error.code} {reason}.") from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DataError(
                f"{file.url} is not safe to download: {error.reason.verify_message}. Fetch it some other way and put "
                f"it at {part.with_suffix('')}; its checksum is compared then."
            ) from None
        raise _Broken(f"no connection: {_shown(error.reason)}") from None
    except (OSError, HTTPException) as error:
        raise _Broken(f"no connection: {_shown(error) or type(error).__name__}") from None
    except ValueError as error:  # a redirection to what is no address
        raise DataError(f"{file.url} cannot be downloaded: {_shown(error)}.") from None


def _shown(words: object) -> str:
    """What a server says, without the characters that a terminal obeys, and not all of a long story."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(words))[:MOST_WORDS]


def _check_offer(file: RemoteFile, part: Path, response: HTTPResponse, start: int, total: int | None) -> None:
    """Refuse an answer that cannot be the file before its first byte is written."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DataError(f"{file.url} must be sent as it is, and the server sends it {_shown(encoding)}-encoded.")
    if response.status == 206 and _first_byte(response.headers) != start:
        _forget(part)
        raise _Broken("the server sends another part than the one asked for")
    if file.size_bytes is not None and total is not None and total != file.size_bytes:
        _forget(part)
        raise DataError(
            f"{file.url} must have {file.size_bytes} bytes, and the server offers {total}: it is not the published "
            "file, or its publisher changed it. Nothing of it was kept."
        )


def _total(response: HTTPResponse, start: int) -> int | None:
    """Size of the whole file by the server's word."""
    if response.status == 206:
        return _number(r"bytes \d+-\d+/(\d+)$", response.headers.get("Content-Range", ""))
    length = _number(r"(\d+)$", response.headers.get("Content-Length", ""))
    return None if length is None else start + length


def _first_byte(headers: HTTPMessage) -> int | None:
    return _number(r"bytes (\d+)-", headers.get("Content-Range", ""))


def _number(pattern: str, text: str) -> int | None:
    """The whole number in a text that begins so; None where there is none, or one that no file has bytes of."""
    found = re.match(pattern, text, re.ASCII)
    return int(found[1]) if found and len(found[1]) <= MOST_DIGITS else None


def _tag(headers: HTTPMessage) -> str | None:
    """What names this version of the file in ``If-Range``: a strong entity tag, else the date of the last change."""
    etag = headers.get("ETag")
    return etag if etag is not None and not etag.startswith("W/") else headers.get("Last-Modified")


def _retry_after(headers: Message) -> float:
    return float(_number(r"(\d+)$", headers.get("Retry-After", "")) or 0)


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _Broken(f"the connection broke: {_shown(error) or type(error).__name__}") from None


def _check(file: RemoteFile, path: Path, remembered: Remembered | None, watch: Watch) -> Checked:
    """Compare size and checksums with the published ones; what differs is removed.

    Raises:
        DataError: they differ.
    """
    size = path.stat().st_size
    sha256, md5 = _digests(path, watch)
    known = remembered if file.sha256 is None else None
    expected: list[tuple[str, object, object, str]] = [
        ("size in bytes", file.size_bytes, size, "published"),
        ("sha256", file.sha256, sha256, "published"),
        ("md5", file.md5, md5, "published"),
    ]
    if known is not None:
        expected += [("sha256", known.sha256, sha256, f"of the first download; delete {known.path} to take another")]
    for what, wanted, got, whose in expected:
        if wanted is not None and wanted != got:
            _forget(path)
            raise DataError(
                f"{file.name} from {file.url} must have the {what} {wanted} ({whose}), got {got}. It was damaged on "
                "its way, or is another file now; it was removed. Type the same command again to download it anew."
            )
    names = [("published sha256", file.sha256), ("published md5", file.md5), ("first download", known)]
    return Checked(path, size, sha256, next((name for name, wanted in names if wanted is not None), "nothing"))


def _digests(path: Path, watch: Watch) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    total, done = path.stat().st_size, 0
    with path.open("rb") as source:
        while chunk := source.read(4 * CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
            done += len(chunk)
            watch.show("checking", done, total)
    return sha256.hexdigest(), md5.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    _note_path(path).unlink(missing_ok=True)
