from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.config import VectorsContent
from evorec.data.content.files import read_vectors, reduced
from evorec.errors import DataError

IDS = [3, 1, 2]
VECTORS = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]])
ROUNDING = 1e-6  # float32


def source(**changes: Any) -> VectorsContent:
    return VectorsContent(kind="vectors", path="any", **changes)


def write_npy(folder: Path) -> tuple[Path, VectorsContent]:
    np.save(folder / "v.npy", VECTORS)
    (folder / "ids.txt").write_text("3\n1\n2\n")
    return folder / "v.npy", source(ids="ids.txt")


def write_npy_with_npy(folder: Path) -> tuple[Path, VectorsContent]:
    np.save(folder / "v.npy", VECTORS.astype(np.float16))
    np.save(folder / "ids.npy", np.array(IDS))
    return folder / "v.npy", source(ids="ids.npy")


def write_npz(folder: Path) -> tuple[Path, VectorsContent]:
    np.savez(folder / "v.npz", ids=np.array(["3", "1", "2"]), image=VECTORS)
    return folder / "v.npz", source(vectors="image")


def write_parquet(folder: Path) -> tuple[Path, VectorsContent]:
    pl.DataFrame({"id": IDS, "vector": VECTORS.tolist()}).write_parquet(folder / "v.parquet")
    return folder / "v.parquet", source(ids="id")


def write_arrays(folder: Path) -> tuple[Path, VectorsContent]:
    column = pl.Series("vector", VECTORS.tolist(), dtype=pl.Array(pl.Float32, 2))
    pl.DataFrame({"item_id": ["3", "1", "2"], "vector": column}).write_parquet(folder / "v.parquet")
    return folder / "v.parquet", source()


@pytest.mark.parametrize("id_type", [pl.Int64(), pl.String()])
@pytest.mark.parametrize("write", [write_npy, write_npy_with_npy, write_npz, write_parquet, write_arrays])
def test_every_format_gives_the_same_vectors(write: Any, id_type: pl.DataType, tmp_path: Path) -> None:
    ids, vectors = read_vectors(*write(tmp_path), id_type)
    assert ids.to_list() == (IDS if id_type == pl.Int64 else ["3", "1", "2"])
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, VECTORS)


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        ([1, 2], VECTORS, "must have one id per vector, got 2 ids and 3 vectors"),
        ([1, 2, 1], VECTORS, "row 2: an id must be there once, got 1 again"),
        (["1", "a", "2"], VECTORS, "row 1: the id must be an integer as in the interactions, got 'a'"),
        ([1.0, 2.0, 3.0], VECTORS, "must hold a row of integers or texts as ids, got float64"),
        ([1, 2, 3], VECTORS[:, :0], "must hold one row of numbers per item"),
        ([1, 2, 3], VECTORS[0], "must hold one row of numbers per item"),
        ([1, 2, 3], np.array([["a"], ["b"], ["c"]]), "must hold one row of numbers per item, got <U1"),
        ([1, 2, 3], np.array([[1.0], [np.nan], [2.0]]), "row 1 must be finite numbers"),
        ([1, 2, 3], np.array([[1.0], [2.0], [1e300]]), "row 2 must be finite numbers"),
    ],
)
def test_vectors_that_cannot_be_used_are_refused(ids: Any, vectors: Any, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", ids=np.array(ids), vectors=vectors)
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "v.npz", source(), pl.Int64())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"id": [1], "vector": [[1.0]]}, r"lacks the columns \['item_id'\]"),
        ({"item_id": [1], "vector": [1.0]}, "column vector must hold one list of numbers per row, got Float64"),
        ({"item_id": [1, 2], "vector": [[1.0], [1.0, 2.0]]}, "row 1, column vector must be a list as long as"),
        ({"item_id": [1, 2], "vector": [[1.0], None]}, "row 1, column vector must be a list as long as"),
        ({"item_id": [1, 2], "vector": [[1.0], [None]]}, "row 1 must be finite numbers"),
        ({"item_id": [1, None], "vector": [[1.0], [2.0]]}, "row 1 has no id"),
        ({"item_id": [1.5], "vector": [[1.0]]}, "must have integers or texts as ids, got Float64"),
    ],
)
def test_a_parquet_file_that_cannot_be_used_is_refused(frame: Any, message: str, tmp_path: Path) -> None:
    pl.DataFrame(frame).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(DataError, match=message):
        read_vectors(tmp_path / "v.parquet", source(), pl.Int64())


@pytest.mark.parametrize("name", ["v.npy", "v.npz", "v.parquet"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 nonsense", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "ids.txt").write_text("1\n")
    with pytest.raises(DataError, match=rf"{name} (cannot be read|must)"):
        read_vectors(tmp_path / name, source(ids="ids.txt"), pl.Int64())


def test_objects_in_a_file_are_never_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", ids=np.array([1]), vectors=np.array([[object()]], dtype=object))
    with pytest.raises(DataError, match=r"v\.npz cannot be read"):
        read_vectors(tmp_path / "v.npz", source(), pl.Int64())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    for changes, message in (({}, "needs its ids"), ({"ids": "i.txt"}, r"i\.txt cannot be read")):
        with pytest.raises(DataError, match=message):
            read_vectors(tmp_path / "v.npy", source(**changes), pl.Int64())
    with pytest.raises(DataError, match=r"must end in one of \['.npy', '.npz', '.parquet'\]"):
        read_vectors(tmp_path / "v.csv", source(), pl.Int64())


def test_vectors_no_longer_than_dims_stay_as_they_are() -> None:
    vectors = VECTORS.astype(np.float32)
    np.testing.assert_array_equal(reduced(vectors, 2), vectors)


def test_longer_vectors_are_reduced_by_the_svd_of_their_unit_rows() -> None:
    vectors = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    vectors[3] = 0
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    U, values, _ = np.linalg.svd(vectors / np.where(norms, norms, 1))
    found = reduced(vectors, 3)
    np.testing.assert_allclose(np.abs(found), np.abs(U[:, :3] * values[:3]), atol=ROUNDING)
    np.testing.assert_allclose(found[3], 0, atol=ROUNDING)
