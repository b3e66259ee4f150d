from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evorec.config import VectorsContent
from evorec.data.content.files import read_vectors
from evorec.data.content.graph import TRIPLE, read_names
from evorec.errors import DataError

MUTATIONS = 60
VECTORS = np.arange(20.0).reshape(10, 2)
GRAPH = "head,relation,tail\n" + 'a,b,"c d"\n' * 10


def write(path: Path) -> None:
    if path.suffix == ".npz":
        np.savez(path, ids=np.arange(10), vectors=VECTORS)
    elif path.suffix == ".npy":
        np.save(path, VECTORS)
        (path.parent / "ids.txt").write_text("\n".join(map(str, range(10))))
    elif path.name == "v.parquet":
        pl.DataFrame({"item_id": range(10), "vector": VECTORS.tolist()}).write_parquet(path)
    elif path.suffix == ".parquet":
        pl.DataFrame({"head": ["a"] * 10, "relation": ["b"] * 10, "tail": ["c"] * 10}).write_parquet(path)
    else:
        path.write_text(GRAPH if path.suffix == ".csv" else GRAPH.replace(",", "\t"))


def read(path: Path) -> None:
    if path.name.startswith("g"):
        assert read_names(path, TRIPLE).columns == list(TRIPLE)
        return
    source = VectorsContent(kind="vectors", path="any", ids="ids.txt" if path.suffix == ".npy" else "")
    ids, vectors = read_vectors(path, source, pl.Int64())
    assert len(ids) == len(vectors)
    assert np.isfinite(vectors).all()


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, changed in places, with a hole, or with something in between."""
    out = bytearray(content)
    kind, place = rng.integers(4), int(rng.integers(len(out)))
    if kind == 0:
        return bytes(out[:place])
    if kind == 1:
        for _ in range(rng.integers(1, 4)):
            out[rng.integers(len(out))] = rng.integers(256)
    elif kind == 2:
        del out[place : place + int(rng.integers(1, 50))]
    else:
        out[place:place] = rng.bytes(int(rng.integers(1, 5)))
    return bytes(out)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # a header that NumPy takes for one of Python 2
@pytest.mark.parametrize("name", ["v.npy", "v.npz", "v.parquet", "g.parquet", "g.csv", "g.tsv"])
def test_a_damaged_file_gives_vectors_or_a_data_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path)
    read(path)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(content, rng))
        with suppress(DataError):
            read(path)
