"""From the sources that a configuration names to vectors of items; what interactions say comes later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from evorec.config import (
    ContentConfig,
    CooccurrenceContent,
    EncoderContent,
    GraphContent,
    TextContent,
    VectorsContent,
)
from evorec.data.content.stored import hash_of, stored
from evorec.data.tables import Columns, ItemVectors, Tables
from evorec.errors import DataError

NUMERICS: Final = ("numpy", "scipy")

Find = Callable[[str], Path]
"""Where a configured path is; raises DataError if it is nowhere."""


def item_vectors(tables: Tables, sources: Mapping[str, ContentConfig], find: Find) -> tuple[ItemVectors, ...]:
    """One part of the content for each source, in their order; not of co-occurrence, which each fit learns itself.

    The modules of the kinds are imported here, when they are needed: what they build on takes a second to load.

    Args:
        tables: with the items.
        sources: name -> where its vectors come from.
        find: the file or folder of a path.
    Returns:
        Made once and kept in the cache.
    Raises:
        DataError: a file, a column or an id cannot be used; names the source.
        ConfigError: the extra that a source needs is not installed.
    """
    out = []
    for name, source in sources.items():
        where = f"data.content.{name}"
        if isinstance(source, TextContent):
            out.append(_of_text(name, source, tables, where))
        elif isinstance(source, EncoderContent):
            out.append(_of_encoder(name, source, tables, where, find))
        elif isinstance(source, GraphContent):
            out.append(_of_graph(name, source, tables, where, find))
        elif isinstance(source, VectorsContent):
            out.append(_of_files(name, source, tables, find))
        else:
            assert isinstance(source, CooccurrenceContent)
    return tuple(out)


def _of_text(name: str, source: TextContent, tables: Tables, where: str) -> ItemVectors:
    from evorec.data.content.text import joined_text, word_vectors

    items = _items(tables, where)
    texts = joined_text(items, source.columns, where)
    key = hash_of({"kind": "text", "dims": source.dims, "min_count": source.min_count, "texts": texts})
    values = stored(
        key,
        (*NUMERICS, "scikit-learn"),
        lambda: word_vectors(texts.to_list(), dims=source.dims, min_count=source.min_count, where=where),
    )
    return ItemVectors(name, items[Columns.ITEM], values, hash_of({"values": key, "ids": items[Columns.ITEM]}))


def _of_encoder(name: str, source: EncoderContent, tables: Tables, where: str, find: Find) -> ItemVectors:
    from evorec.data.content.encoder import folder_sha256, sentence_vectors
    from evorec.data.content.files import reduced
    from evorec.data.content.text import joined_text

    items = _items(tables, where)
    texts = joined_text(items, source.columns, where)
    folder = find(source.path)
    key = hash_of(
        {"kind": "encoder", "model": folder_sha256(folder), "max_tokens": source.max_tokens, "texts": texts}
    )  # of the encoder's own width: another dims needs no other pass
    full = stored(
        key,
        ("torch", "transformers", "tokenizers"),
        lambda: sentence_vectors(texts.to_list(), folder, max_tokens=source.max_tokens, where=where),
    )
    made = hash_of({"values": key, "dims": source.dims})
    values = stored(made, NUMERICS, lambda: reduced(full, source.dims))
    return ItemVectors(name, items[Columns.ITEM], values, hash_of({"values": made, "ids": items[Columns.ITEM]}))


def _of_graph(name: str, source: GraphContent, tables: Tables, where: str, find: Find) -> ItemVectors:
    from evorec.data.content.graph import LINK, TRIPLE, graph_vectors, linked_items, read_names

    path = find(source.path)
    triples = read_names(path, TRIPLE)
    ids = _catalogue(tables)
    names = ids.cast(pl.String)
    if source.links:
        beside = path.parent / source.links
        entity = linked_items(read_names(beside, LINK), beside)
        names = pl.Series([entity.get(item, "") for item in names], dtype=pl.String)
    choices = f"{source.dims} {source.relations}"
    key = hash_of({"kind": "graph", "choices": choices, "triples": triples, "names": names})
    values = stored(
        key,
        NUMERICS,
        lambda: graph_vectors(
            triples, names.to_list(), dims=source.dims, relations=source.relations, where=f"{where} ({path})"
        ),
    )
    return ItemVectors(name, ids, values, hash_of({"values": key, "ids": ids}))


def _of_files(name: str, source: VectorsContent, tables: Tables, find: Find) -> ItemVectors:
    from evorec.data.content.files import read_vectors, reduced

    path = find(source.path)
    ids, vectors = read_vectors(path, source, tables.interactions.schema[Columns.ITEM])
    known = ids.is_in(_catalogue(tables).to_list()).to_numpy()
    if not known.any():
        raise DataError(
            f"{path} must have vectors of items in the data; none of its {len(ids)} ids is, they are like {ids[0]!r}."
        )
    ids, vectors = ids.filter(pl.Series(known)), vectors[known]
    key = hash_of({"kind": "vectors", "dims": source.dims, "values": vectors})
    values = stored(key, NUMERICS, lambda: reduced(vectors, source.dims))
    return ItemVectors(name, ids, np.asarray(values), hash_of({"values": key, "ids": ids}))


def _items(tables: Tables, where: str) -> pl.DataFrame:
    if tables.items is None:
        raise DataError(f"{where} needs an item table with text, and {tables.name} has none.")
    return tables.items


def _catalogue(tables: Tables) -> pl.Series:
    """Ids of all items of the table and the interactions, ascending."""
    ids = tables.interactions[Columns.ITEM]
    if tables.items is not None:
        ids = pl.concat([ids, tables.items[Columns.ITEM]])
    return ids.unique().sort()
