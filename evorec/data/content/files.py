"""Vectors of items from a file: .npy, .npz or .parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array

from evorec.config import VectorsContent
from evorec.data.content.spectral import singular_vectors
from evorec.data.tables import Columns
from evorec.data.tabular.sources import Source, reason
from evorec.data.tabular.typed import read_typed
from evorec.errors import DataError

MADE_BY = "write it with numpy.save, numpy.savez or polars"


def read_vectors(path: Path, source: VectorsContent, id_type: pl.DataType) -> tuple[pl.Series, npt.NDArray[np.float32]]:
    """Ids ``(N,)`` of the type of the log's and their vectors, float32 ``(N, d)``, as the file has them.

    Args:
        path: of the file.
        source: where ids and vectors are in it.
        id_type: Int64 or String.
    Raises:
        DataError: names the file and the row.
    """
    readers = {".npy": _npy, ".npz": _npz, ".parquet": _parquet}
    if path.suffix not in readers:
        raise DataError(f"{path} must end in one of {list(readers)}; {MADE_BY}.")
    ids, vectors = readers[path.suffix](path, source)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype.kind not in "fiu":
        raise DataError(f"{path} must hold one row of numbers per item, got {vectors.dtype} of shape {vectors.shape}.")
    if len(ids) != len(vectors):
        raise DataError(f"{path} must have one id per vector, got {len(ids)} ids and {len(vectors)} vectors.")
    with np.errstate(over="ignore"):  # an overflow is refused below
        rows = vectors.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DataError(f"{path}, row {bad[0]} must be finite numbers, got {vectors[bad[0]][:4]}...")
    return checked_ids(ids, id_type, path), rows


def reduced(vectors: npt.NDArray[np.float32], dims: int) -> npt.NDArray[np.float32]:
    """Vectors ``(N, d)`` as they are, or, longer than `dims`, their unit rows by a truncated SVD without centring."""
    if vectors.shape[1] <= dims:
        return vectors
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1.0)
    axes, values = singular_vectors(csr_array(unit), dims)
    return (axes * values).astype(np.float32)


def checked_ids(ids: pl.Series, id_type: pl.DataType, path: Path) -> pl.Series:
    """External ids in the type of the log's.

    Raises:
        DataError: an id is missing, of another type, or repeated.
    """
    if not (ids.dtype.is_integer() or ids.dtype == pl.String):
        raise DataError(f"{path} must have integers or texts as ids, got {ids.dtype}.")
    if ids.null_count():
        raise DataError(f"{path}, row {ids.is_null().arg_true()[0]} has no id.")
    typed = ids.cast(id_type, strict=False)
    if typed.null_count():
        row = int(typed.is_null().arg_true()[0])
        raise DataError(f"{path}, row {row}: the id must be an integer as in the interactions, got {ids[row]!r}.")
    repeated = (~typed.is_first_distinct()).arg_true()
    if len(repeated):
        row = int(repeated[0])
        raise DataError(f"{path}, row {row}: an id must be there once, got {typed[row]!r} again.")
    return typed.alias(Columns.ITEM)


def _npy(path: Path, source: VectorsContent) -> tuple[pl.Series, npt.NDArray[Any]]:
    if not source.ids:
        raise DataError(f"{path} needs its ids: name their file in ids, an id a line or .npy.")
    beside = path.parent / source.ids
    if beside.suffix == ".npy":
        return _series(beside, _load(beside)), _load(path)
    try:
        lines = beside.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{beside} cannot be read: {error}; expected one id a line, UTF-8.") from None
    return pl.Series([line.strip() or None for line in lines], dtype=pl.String), _load(path)


def _npz(path: Path, source: VectorsContent) -> tuple[pl.Series, npt.NDArray[Any]]:
    names = source.ids or "ids", source.vectors or "vectors"
    arrays = _load(path)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"{path} must have the arrays {list(names)}, got {sorted(arrays)}; see ids and vectors.")
    return _series(path, arrays[names[0]]), arrays[names[1]]


def _parquet(path: Path, source: VectorsContent) -> tuple[pl.Series, npt.NDArray[Any]]:
    names = source.ids or Columns.ITEM, source.vectors or "vector"
    frame = read_typed(Source(path), names)
    column = frame[names[1]]
    if not (isinstance(column.dtype, pl.List | pl.Array) and column.dtype.inner.is_numeric()):
        raise DataError(f"{path}, column {column.name} must hold one list of numbers per row, got {column.dtype}.")
    lists = column.cast(pl.List(pl.Float64))
    lengths = lists.list.len()
    wrong = (lengths != lengths[0]).fill_null(value=True).arg_true()
    if len(wrong):
        raise DataError(f"{path}, row {wrong[0]}, column {column.name} must be a list as long as the first row's.")
    flat = lists.explode(empty_as_null=True).fill_null(float("nan")).to_numpy()
    return frame[names[0]], flat.reshape(len(lists), -1)


def _load(path: Path) -> Any:
    """An array of a .npy, or the arrays of a .npz by name; nothing that would run code."""
    try:
        with path.open("rb") as file:  # NumPy leaves a file open whose content it refuses
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except Exception as error:  # damaged headers and archives come as anything, from TokenError to zlib.error
        raise DataError(f"{path} cannot be read: {reason(error)}; {MADE_BY}.") from None


def _series(path: Path, ids: npt.NDArray[Any]) -> pl.Series:
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise DataError(f"{path} must hold a row of integers or texts as ids, got {ids.dtype} of shape {ids.shape}.")
    return pl.Series(ids.tolist() if ids.dtype.kind == "U" else ids)
