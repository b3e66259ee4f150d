"""Files that are written whole or not at all; a file that cannot be used raises an error with its name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evorec.errors import RunError


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file: a process that dies leaves either the old file or the new one."""
    partial = path.with_name(f"{path.name}.tmp")
    write_synced(partial, data)
    partial.replace(path)
    sync_folder(path.parent)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON file for people: indented, with a final newline.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return (json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2) + "\n").encode()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically (see `json_bytes`)."""
    write_atomic(path, json_bytes(value))


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; restore it from a copy") from None


def read_json(path: Path, *required: str) -> dict[str, Any]:
    """A JSON object that has the `required` keys.

    Raises:
        RunError: the file cannot be read, or is not such an object.
    """
    try:
        value = json.loads(read_bytes(path))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}; restore it from a copy") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is damaged: expected a JSON object; restore it from a copy")
    if missing := [name for name in required if name not in value]:
        raise RunError(f"{path} is damaged: it has no {' and no '.join(missing)}; restore it from a copy")
    return value


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
    from safetensors.numpy import load

    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RunError(f"{path} is damaged or missing: its SHA-256 is not the recorded value; {advice}")
    return dict(load(data))
