"""Files that are written whole or not at all; a file that cannot be used raises an error with its name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evorec.errors import RunError
from evorec.outputs import sync_path

COPY = "restore it from a copy"
MOST_JSON_BYTES = 2**30
"""A larger JSON file is not read; reports have some megabytes."""
_SEAL = re.compile(rb',\n  "sha256": "([0-9a-f]{64})"\n}\n\Z')


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it; an old file or link of that name is removed first."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file: a process that dies leaves either the old file or the new one."""
    partial = path.with_name(f"{path.name}.tmp")
    write_synced(partial, data)
    partial.replace(path)
    sync_path(path.parent)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON file for people: indented, with a final newline.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2) + "\n").encode()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically (see `json_bytes`)."""
    write_atomic(path, json_bytes(value))


def read_bytes(path: Path, *, advice: str = COPY) -> bytes:
    """The content of a regular file; a link or a pipe is not opened.

    Raises:
        RunError: it cannot be read; the message ends with `advice`.
    """
    try:
        with open(path, "rb", opener=_open_regular) as file:
            return file.read()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; {advice}") from None


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return descriptor


def refuse_links(folder: Path, *, written_in_place: Collection[str] = ()) -> None:
    """Refuse a folder in which a name leads to another folder or file: writing or deleting there would reach outside.

    The folder itself may be reached through a link.

    Args:
        folder: searched with all its subfolders.
        written_in_place: names of files in `folder` that are changed in place, so they must have no other hard link.
    Raises:
        RunError: an entry is a link, or neither a file nor a folder; or a folder cannot be read.
    """
    folders = [folder]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except FileNotFoundError:  # a search that goes on has just removed it
            continue
        except OSError as error:
            raise RunError(f"{error.filename} cannot be read: {error.strerror}; change its permissions") from None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False) and os.path.lexists(entry.path):
                raise RunError(
                    f"{entry.path} is a link or no regular file, and a run holds files and folders only: put a copy of "
                    "its content there, or delete it"
                )
    for name in written_in_place:
        if (folder / name).is_file() and (folder / name).stat().st_nlink > 1:
            raise RunError(
                f"{folder / name} has another hard link, which would change with it; replace it by a copy of itself"
            )


def sealed_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON file for people whose last key, ``sha256``, is the hash of all bytes before it.

    The hash is in the file itself, so a reader never sees a file with the hash of another version.
    """
    body = json_bytes(value).removesuffix(b"\n}\n")
    return body + f',\n  "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}\n'.encode()


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file with its hash atomically (see `sealed_bytes`)."""
    write_atomic(path, sealed_bytes(value))


def read_sealed(path: Path, *required: str, advice: str = COPY, sealed: bool = True) -> dict[str, Any]:
    """The JSON object of `write_sealed`, without its hash.

    Args:
        path: the file.
        required: keys that it must have.
        advice: what to do about a damaged file; ends the message.
        sealed: whether a hash is required; a hash that is there is always checked.
    Raises:
        RunError: the file cannot be read, has changed since it was written, or is not such an object.
    """
    if path.is_file() and path.stat().st_size > MOST_JSON_BYTES:
        raise RunError(f"{path} is damaged: it has {path.stat().st_size:,} bytes; {advice}")
    data = read_bytes(path, advice=advice)
    seal = _SEAL.search(data)
    try:
        if seal is not None and hashlib.sha256(data[: seal.start()]).hexdigest().encode() != seal[1]:
            raise ValueError("it has changed since it was written, its SHA-256 is another")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("expected a JSON object")
        if missing := [name for name in required if name not in value]:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        if seal is None and sealed:
            raise ValueError("it has no SHA-256 of its content at its end")
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged: {error}; {advice}") from None
    if seal is not None:
        del value["sha256"]
    return value


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file, read in parts; empty when there is no such file."""
    try:
        with open(path, "rb", opener=_open_regular) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def weight_bytes(weights: Mapping[str, np.ndarray]) -> tuple[bytes, str]:
    """Arrays as a safetensors file, and its SHA-256: safetensors itself does not notice a flipped bit."""
    from safetensors.numpy import save

    data = save({name: np.asarray(array, order="C") for name, array in weights.items()})
    return data, hashlib.sha256(data).hexdigest()


def read_weights(path: Path, sha256: str, *, advice: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file.

    Args:
        path: the file.
        sha256: of its content when it was written.
        advice: what to do about a damaged file; ends the message.
    Raises:
        RunError: the file is missing, or its content has changed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = read_bytes(path)
    except RunError:
        data = b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RunError(f"{path} is damaged or missing: its SHA-256 is not the recorded value; {advice}")
    try:
        return dict(load(data))
    except SafetensorError as error:
        raise RunError(f"{path} holds no weights: {error}; {advice}") from None
