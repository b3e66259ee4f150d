"""A knowledge graph of triples, and spectral vectors of the items in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from evorec.data.content.spectral import Float64, leading_eigenvectors
from evorec.data.sorting import Int64, index_in
from evorec.data.tabular.dialect import Dialect
from evorec.data.tabular.sheet import Field, Sheet, read_csv, read_rows
from evorec.data.tabular.sources import Source
from evorec.data.tabular.typed import read_typed
from evorec.errors import DataError

TRIPLE: Final = ("head", "relation", "tail")
LINK: Final = ("item", "entity")
MOST_COMMON: Final = 5
"""Names that a message lists."""


def read_names(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """A table of names, all as text.

    Args:
        path: ``.csv`` (a header and commas), ``.parquet`` (named columns), or ``.tsv`` or ``.txt`` (tabs, the columns
            in this order, no header).
        columns: that must be there.
    Raises:
        DataError: names the file, the line and the column.
    """
    fields = dict.fromkeys(columns, Field(pl.String))
    if path.suffix == ".parquet":
        return _parquet(path, columns)
    if path.suffix == ".csv":
        return read_csv(path, fields).frame
    if path.suffix in (".tsv", ".txt"):
        return read_rows(path, fields, separator="\t", encoding="utf-8").frame
    raise DataError(f"{path} must end in .csv, .tsv, .txt or .parquet, with the columns {list(columns)}.")


def linked_items(links: pl.DataFrame, path: Path) -> dict[str, str]:
    """Entity of each item.

    Raises:
        DataError: an item has two entities.
    """
    pairs = links.unique(maintain_order=True)
    twice = pairs.filter(~pairs["item"].is_first_distinct())
    if len(twice):
        raise DataError(f"{path}: item {twice['item'][0]!r} must have one entity, got {twice['entity'][0]!r} too.")
    return dict(zip(pairs["item"], pairs["entity"], strict=True))


def graph_vectors(
    triples: pl.DataFrame, entities: Sequence[str], *, dims: int, relations: Sequence[str], where: str
) -> npt.NDArray[np.float32]:
    """Spectral vectors of nodes: leading eigenvectors of the normalised adjacency matrix, without the trivial
    eigenvector.

    The graph is undirected, a pair weighs the number of its triples. Parts of the graph with fewer than two of the
    wanted nodes say nothing about the similarity of these nodes and are left out.

    Args:
        triples: columns `TRIPLE`, text.
        entities: names of the nodes that get a vector ``(N,)``.
        dims: most columns.
        relations: those that count; empty = all.
        where: begins a message.
    Returns:
        float32 ``(N, d)``, d <= dims, an eigenvector times its eigenvalue; zero for a node outside the graph.
    Raises:
        DataError: a relation is unknown, no two of the nodes are connected, or all of them to the same.
    Source: Shi and Malik 2000, with the rows of Ng, Jordan and Weiss 2001 once they are made unit vectors. Cost: O(dims
        x edges) per iteration.
    """
    known = triples["relation"].unique().sort().to_list()
    if missing := sorted(set(relations) - set(known)):
        shown = ", ".join(known[:MOST_COMMON])
        raise DataError(f"{where}: relations {missing} are in no triple; there are {len(known)}, such as {shown}.")
    if relations:
        triples = triples.filter(pl.col("relation").is_in(list(relations)))
    names = pl.concat([triples["head"], triples["tail"]]).unique().sort()
    ends = [index_in(names, triples[column], missing=-1) for column in ("head", "tail")]
    wanted = index_in(names, pl.Series(entities, dtype=pl.String), missing=-1)
    kept = _shared_parts(ends, wanted, len(names))
    if not kept.any():
        raise DataError(
            f"{where}: no two items are connected; {int((wanted >= 0).sum())} of {len(entities)} are in the graph. Its "
            f"nodes are named like {', '.join(map(repr, names[:MOST_COMMON]))}. Name them as the items, or use links."
        )
    inner = np.cumsum(kept) - 1
    both = kept[ends[0]]
    vectors = _spectral(inner[ends[0][both]], inner[ends[1][both]], int(kept.sum()), dims)
    if not vectors.shape[1]:
        raise DataError(f"{where}: the graph tells no items apart: all that are in it share the same; add relations.")
    out = np.zeros((len(entities), vectors.shape[1]), dtype=np.float32)
    inside = (wanted >= 0) & kept[wanted]
    out[inside] = vectors[inner[wanted[inside]]]
    return out


def _spectral(heads: Int64, tails: Int64, n: int, dims: int) -> Float64:
    """Eigenvectors times eigenvalues ``(n, d)`` of a graph in which every node has an edge."""
    edge = heads != tails
    pairs = (np.concatenate([heads[edge], tails[edge]]), np.concatenate([tails[edge], heads[edge]]))
    adjacency = csr_array((np.ones(len(pairs[0])), pairs), shape=(n, n))
    degrees = np.asarray(adjacency.sum(axis=1), dtype=np.float64)
    root = np.sqrt(degrees)
    trivial = root / np.linalg.norm(root)

    def times(x: Float64) -> Float64:
        return np.asarray((adjacency @ (x / root)) / root - trivial * (trivial @ x))

    vectors, values = leading_eigenvectors(times, n, dims)
    return vectors * values


def _shared_parts(ends: Sequence[Int64], wanted: Int64, n: int) -> npt.NDArray[np.bool_]:
    """Nodes ``(n,)`` that are connected to two or more of the wanted nodes, themselves included."""
    ones = np.ones(len(ends[0]))
    _, part = connected_components(csr_array((ones, (ends[0], ends[1])), shape=(n, n)), directed=False)
    counts = np.bincount(part[np.unique(wanted[wanted >= 0])], minlength=int(part.max(initial=0)) + 1)
    return np.asarray(counts[part] >= 2)


def _parquet(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    frame = read_typed(Source(path), columns)
    for column in columns:
        if not (frame.schema[column].is_integer() or frame.schema[column] == pl.String):
            raise DataError(f"{path}, column {column} must hold names or integers, got {frame.schema[column]}.")
        Sheet(Source(path), Dialect("parquet"), frame).refuse(column, frame[column].is_null(), "not be empty")
    return frame.select(pl.col(column).cast(pl.String) for column in columns)
