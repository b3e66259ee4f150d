"""Reading a bundle: every byte is checked against its manifest, every array against its description.

The hashes detect damage, not forgery: an undamaged bundle may still contain another model. Nothing is unpickled.
`evorec.serving` needs only the standard library, numpy and onnxruntime to recommend.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from evorec.errors import RunError

FORMAT: Final = 2
MIXED_FORMAT: Final = 3
"""Of the bundle of an ensemble, which evorec could not read before."""
MANIFEST: Final = "manifest.json"
SEAL: Final = "manifest.sha256"
"""The manifest's own SHA-256, as `sha256sum -c` reads it."""
WEIGHTS: Final = "model.safetensors"
IDS: Final = "ids.json"
ENCODERS: Final = "encoders.json"
RECOMMEND: Final = "recommend.onnx"
RANKER: Final = "ranker.onnx"
USER_VECTORS: Final = "user_vectors.onnx"
ITEM_VECTORS: Final = "item_vectors.onnx"
SHOWN: Final = "shown.json"
"""Columns of the items table that lists can show; only in bundles that were exported with such columns."""
CARD: Final = "README.md"
FILES: Final = (WEIGHTS, IDS, ENCODERS, RECOMMEND, RANKER, USER_VECTORS, ITEM_VECTORS, CARD)
"""Files of every bundle besides the manifest and its seal; variants for small devices are extra. A bundle without
ranked tasks has no `RANKER`; that of a table of rows has no `OF_ITEMS`."""
OF_ITEMS: Final = (RECOMMEND, USER_VECTORS, ITEM_VECTORS)
"""Graphs of a bundle that recommends items."""
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
"""Number types of arrays by their safetensors name."""
LONGEST_HEADER: Final = 1 << 24
_INVALID: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""Errors that invalid content of an undamaged file raises."""


@final
@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle.

    Attributes:
        path: its folder, links resolved.
        manifest: its content.
        version: the manifest's SHA-256, which identifies the bundle.
        arrays: read-only, by name; mapped from disk.
        users, items: external ids ``(U,)`` and ``(I,)``.
        encoders: of the features (`evorec.serving.encoders`).
        shown: columns of the items table, each ``(I,)``, by name.
    """

    path: Path
    manifest: Mapping[str, Any]
    version: str
    arrays: Mapping[str, np.ndarray]
    users: list[int | str]
    items: list[int | str]
    encoders: Mapping[str, Any]
    shown: Mapping[str, list[Any]]


def read_bundle(path: str | Path) -> Bundle:
    """A bundle whose bytes, files and arrays agree with its manifest.

    Args:
        path: folder that `evorec export` wrote, or a link to it.
    Raises:
        RunError: a file is missing, added, damaged or of another format.
    """
    folder = Path(path).resolve()
    manifest, version = _read_manifest(folder)
    _check_files(folder, manifest["files"])
    try:
        arrays = read_arrays(folder / WEIGHTS)
        expected, found = manifest["tensors"], types_of(arrays)
        if found != expected:
            names = sorted(name for name in found.keys() | expected if found.get(name) != expected.get(name))
            raise ValueError(f"{WEIGHTS} does not hold the arrays of the manifest: {', '.join(names[:5])}")
        ids, encoders = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (IDS, ENCODERS))
        for side in ("users", "items"):
            kinds = {type(id_) for id_ in ids[side]}
            if not isinstance(ids[side], list) or not (kinds <= {int} or kinds <= {str}):
                raise ValueError(f"{IDS}: {side} must be all numbers or all texts")
            if len(set(ids[side])) != len(ids[side]):
                raise ValueError(f"{IDS}: an id of {side} is repeated")
        shown = json.loads((folder / SHOWN).read_text(encoding="utf-8")) if SHOWN in manifest["files"] else {}
        if wrong := [name for name, values in shown.items() if len(values) != len(ids["items"])]:
            raise ValueError(
                f"{SHOWN}: column {wrong[0]} does not have a value for each of the {len(ids['items'])} items"
            )
        return Bundle(folder, manifest, version, arrays, ids["users"], ids["items"], encoders, shown)
    except _INVALID as error:
        raise RunError(f"bundle {folder} contradicts itself ({error}); export it again") from None


def is_of_rows(manifest: Mapping[str, Any]) -> bool:
    """Whether a bundle predicts the labels of rows and has no users and items."""
    return manifest.get("rows") is True


def is_row_bundle(path: str | Path) -> bool:
    """Whether a folder is a bundle of a table of rows, by its unchecked manifest; no other folder is."""
    try:
        manifest = json.loads((Path(path) / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and is_of_rows(manifest)


def types_of(arrays: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
    """Number type and shape of every array, as in the manifest."""
    return {name: [str(array.dtype), list(array.shape)] for name, array in sorted(arrays.items())}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, read-only and mapped from disk.

    The format is a length (8 bytes), a JSON header with type, shape and offsets of each array, and their bytes.

    Raises:
        ValueError: the file has another format, gaps, overlaps or a type other than those of `DTYPES`.
    """
    size, (header, start) = path.stat().st_size, read_header(path)
    out, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"]):
        dtype, shape, (first, stop) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if min(shape, default=0) < 0 or first != end or stop - first != dtype.itemsize * math.prod(shape):
            raise ValueError(f"{path.name}: array {name} does not fill bytes {first}..{stop}")
        if stop > size:
            raise ValueError(f"{path.name}: array {name} ends at byte {stop} of {size}")
        end = stop
        whole = np.memmap(path, dtype=dtype, mode="r", offset=start + first, shape=shape) if stop > first else None
        out[name] = np.zeros(shape, dtype=dtype) if whole is None else whole.view(np.ndarray)
    if start + end != size:
        raise ValueError(f"{path.name} has {size} bytes for {start + end}")
    return out


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The description of each array of a safetensors file, and the offset of their bytes.

    Raises:
        ValueError: the file has no valid header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise ValueError(f"{path.name} has a header of {length} bytes in a file of {size}")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal_of(sha256: str) -> str:
    """Content of `SEAL` for the digest of a manifest."""
    return f"{sha256}  {MANIFEST}\n"


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    try:
        for name in (MANIFEST, SEAL):
            if (file := folder / name).is_symlink() or (file.exists() and not file.is_file()):
                raise RunError(f"{folder} is not a bundle: {name} is not a regular file; `evorec export` writes one")
        data = (folder / MANIFEST).read_bytes()
        seal = (folder / SEAL).read_bytes() if (folder / SEAL).exists() else b""
    except OSError as error:
        raise RunError(
            f"{folder} is not a bundle: {error.filename}: {error.strerror}; `evorec export` writes one"
        ) from None
    version = hashlib.sha256(data).hexdigest()
    if seal and seal != seal_of(version).encode():
        raise RunError(f"{folder / MANIFEST} is damaged: its SHA-256 is not that of {SEAL}; export the bundle again")
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{folder / MANIFEST} is damaged: {error}; export the bundle again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise RunError(f"{folder} is not a bundle: {MANIFEST} lists no files; `evorec export` writes one")
    if manifest.get("format") not in (FORMAT, MIXED_FORMAT):
        raise RunError(
            f"bundle {folder} has format {manifest.get('format')}, this evorec reads formats {FORMAT} and "
            f"{MIXED_FORMAT}; export it again"
        )
    if not seal:
        raise RunError(f"{folder} is not a bundle: it has no {SEAL}; `evorec export` writes one")
    spare = OF_ITEMS if is_of_rows(manifest) else () if manifest.get("tasks") else (RANKER,)
    if lost := [name for name in FILES if name not in manifest["files"] and name not in spare]:
        raise RunError(f"bundle {folder} lists no {' and no '.join(lost)} in its manifest; export it again")
    if RANKER in manifest["files"] and not manifest.get("tasks"):
        raise RunError(f"bundle {folder} lists {RANKER} in its manifest, and no tasks; export it again")
    return manifest, version


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Check that the folder has exactly the listed files, undamaged, each a regular file of its own."""
    present = {entry.name for entry in folder.iterdir()} - {MANIFEST, SEAL}
    if added := sorted(present - files.keys()):
        raise RunError(f"bundle {folder} has files that its manifest does not list: {', '.join(added)}; remove them")
    for name, sha256 in files.items():
        file = folder / name
        if Path(name).name != name or "\0" in name or (name in present and file.is_symlink()):
            raise RunError(f"bundle {folder} lists {name!r}, which is not a file of its folder; do not trust it")
        if name not in present or not file.is_file():  # the first test keeps unlisted names from the file system
            raise RunError(f"bundle {folder} has lost {name}; export it again")
        if sha256_of(file) != sha256:
            raise RunError(f"{file} is damaged: its SHA-256 is not the manifest's; export the bundle again")
