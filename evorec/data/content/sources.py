"""From the configured sources to vectors of items; vectors of co-occurrence are fitted later, with each fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import ContentConfig, CooccurrenceContent, EncoderContent, GraphContent, TextContent, VectorsContent
from evorec.config.faults import Faults
from evorec.data.content.stored import hash_of, stored
from evorec.data.tables import Columns, ItemVectors, Tables
from evorec.errors import DataError

NUMERICS: Final = ("numpy", "scipy")

Find = Callable[[str], Path]
"""Path of a configured file or folder; raises DataError if it does not exist."""
Made = tuple[pl.Series, str, npt.NDArray[np.float32]]
"""Ids, hash of everything that decides the vectors, and vectors."""


def item_vectors(tables: Tables, sources: Mapping[str, ContentConfig], find: Find) -> tuple[ItemVectors, ...]:
    """A part of the content for each source, in their order; not of co-occurrence, which each fit learns itself.

    The modules of the kinds are imported here, when they are needed: their libraries take a second to load.

    Args:
        tables: with the items.
        sources: name -> where its vectors come from.
        find: the file or folder of a path.
    Returns:
        Made once and kept in the cache.
    Raises:
        DataError: files, columns or ids cannot be used; names the sources.
        ConfigError: the extra that a source needs is not installed.
    """
    out, faults = [], Faults()
    for name, source in sources.items():
        where = f"data.content.{name}"
        with faults.collect():
            match source:
                case TextContent():
                    ids, key, values = _of_text(source, tables, where)
                case EncoderContent():
                    ids, key, values = _of_encoder(source, tables, where, find(source.path))
                case GraphContent():
                    ids, key, values = _of_graph(source, tables, where, find(source.path))
                case VectorsContent():
                    ids, key, values = _of_file(source, tables, find(source.path))
                case CooccurrenceContent():
                    continue
            out.append(ItemVectors(name, ids, np.asarray(values), hash_of({"values": key, "ids": ids})))
    faults.refuse()
    return tuple(out)


def _of_text(source: TextContent, tables: Tables, where: str) -> Made:
    from evorec.data.content.text import joined_text, word_vectors

    ids, texts = joined_text(tables, source.columns, where)
    key = hash_of({"kind": "text", "dims": source.dims, "min_count": source.min_count, "texts": texts})
    make = partial(word_vectors, texts.to_list(), dims=source.dims, min_count=source.min_count, where=where)
    return ids, key, stored(key, (*NUMERICS, "scikit-learn"), make)


def _of_encoder(source: EncoderContent, tables: Tables, where: str, folder: Path) -> Made:
    from evorec.data.content.encoder import folder_sha256, sentence_vectors
    from evorec.data.content.files import reduced
    from evorec.data.content.text import joined_text

    ids, texts = joined_text(tables, source.columns, where)
    model = folder_sha256(folder)
    # vectors of the encoder's own width are kept, so that another `dims` needs no second pass through the model
    full_key = hash_of({"kind": "encoder", "model": model, "max_tokens": source.max_tokens, "texts": texts})
    make = partial(sentence_vectors, texts.to_list(), folder, max_tokens=source.max_tokens, where=where)
    full = stored(full_key, ("torch", "transformers", "tokenizers"), make)
    key = hash_of({"values": full_key, "dims": source.dims})
    return ids, key, stored(key, NUMERICS, partial(reduced, full, source.dims))


def _of_graph(source: GraphContent, tables: Tables, where: str, path: Path) -> Made:
    from evorec.data.content.graph import LINK, TRIPLE, graph_vectors, linked_items, read_names

    triples = read_names(path, TRIPLE)
    ids = _catalogue(tables)
    names = ids.cast(pl.String)
    if source.links:
        beside = path.parent / source.links
        entity = linked_items(read_names(beside, LINK), beside)
        names = pl.Series([entity.get(item, "") for item in names], dtype=pl.String)
    choices = f"{source.dims} {source.relations}"
    key = hash_of({"kind": "graph", "choices": choices, "triples": triples, "names": names})
    make = partial(
        graph_vectors, triples, names.to_list(), dims=source.dims, relations=source.relations, where=f"{where} ({path})"
    )
    return ids, key, stored(key, NUMERICS, make)


def _of_file(source: VectorsContent, tables: Tables, path: Path) -> Made:
    from evorec.data.content.files import read_vectors, reduced

    ids, vectors = read_vectors(path, source, tables.interactions.schema[Columns.ITEM])
    known = ids.is_in(_catalogue(tables).to_list())
    if not known.any():
        raise DataError(
            f"{path} must have vectors of items in the data; none of its {len(ids)} ids is, they are like {ids[0]!r}."
        )
    ids, vectors = ids.filter(known), vectors[known.to_numpy()]
    key = hash_of({"kind": "vectors", "dims": source.dims, "values": vectors})
    return ids, key, stored(key, NUMERICS, partial(reduced, vectors, source.dims))


def _catalogue(tables: Tables) -> pl.Series:
    """Ids of all items of the table and the interactions, ascending."""
    ids = tables.interactions[Columns.ITEM]
    if tables.items is not None:
        ids = pl.concat([ids, tables.items[Columns.ITEM]])
    return ids.unique().sort()
