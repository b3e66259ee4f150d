"""Counting which items have fixed content vectors, and whether these tell items apart; no vector is learned for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import ContentConfig, CooccurrenceContent, EncoderContent, TextContent
from evorec.data.dataset import Float32
from evorec.data.description import ContentFacts, ContentKind, NewItems
from evorec.data.features import SMALLEST_NORM
from evorec.data.tables import Columns, ItemVectors, Tables

ITEM_TABLE: Final = "item table"
ROWS_AT_ONCE: Final = 1 << 16
_TAG: Final = "tag"


@final
@dataclass(frozen=True, eq=False)
class _Vectors:
    """One part of the content; `ids` are the items that have a vector, `distance` is as in `ContentFacts`."""

    name: str
    kind: ContentKind
    made_of: str
    width: int
    ids: pl.Series
    distance: float | None


def content_facts(
    tables: Tables,
    sources: Mapping[str, ContentConfig],
    *,
    catalogue: pl.Series,
    taught: pl.Series,
    new: Mapping[str, pl.Series],
) -> tuple[ContentFacts, ...]:
    """Count the items of the catalogue, and the new ones, that each part of the content has a vector of.

    Args:
        tables: with `Tables.content` and `Tables.vectors`.
        sources: name of a part -> its settings; one of `Tables.vectors` that is not here counts as given.
        catalogue: ids of all items, once each.
        taught: ids of the items that co-occurrence learns from.
        new: held-out part -> ids of its items that no earlier part has and a list can hold.
    Cost: one pass over the vectors and the content columns.
    """
    found = [
        *(_of_column(tables.items, name) for name in tables.content if tables.items is not None),
        *(_of_vectors(part, sources.get(part.name), catalogue) for part in tables.vectors),
        *(_of_rows(name, source, taught) for name, source in _learned(sources)),
    ]
    return tuple(
        ContentFacts(
            name=part.name,
            kind=part.kind,
            made_of=part.made_of,
            width=part.width,
            n=len(catalogue),
            n_with=_n_both(catalogue, part.ids),
            distance=part.distance,
            new=tuple(NewItems(name, len(ids), _n_both(ids, part.ids)) for name, ids in new.items()),
        )
        for part in found
    )


def _learned(sources: Mapping[str, ContentConfig]) -> Iterator[tuple[str, CooccurrenceContent]]:
    return ((name, source) for name, source in sources.items() if isinstance(source, CooccurrenceContent))


def _n_both(ids: pl.Series, others: pl.Series) -> int:
    return ids.alias("id").to_frame().join(others.alias("id").to_frame(), on="id", how="semi").height


def _of_rows(name: str, source: CooccurrenceContent, taught: pl.Series) -> _Vectors:
    rows = "rows" if source.rows == "all" else "positives"
    return _Vectors(name, source.kind, f"{rows} of training", source.dims, taught, None)


def _of_vectors(part: ItemVectors, source: ContentConfig | None, catalogue: pl.Series) -> _Vectors:
    known = part.ids.is_in(catalogue.implode())
    ids, values = part.ids, part.values
    if not known.all():
        ids, values = ids.filter(known), values[known.to_numpy()]
    total, has_vector = _sum_of_units(values)
    return _Vectors(
        name=part.name,
        kind="vectors" if source is None else source.kind,
        made_of=_origin(source),
        width=values.shape[1],
        ids=ids.filter(pl.Series(has_vector, dtype=pl.Boolean)),
        distance=_mean_distance(float(total @ total), int(has_vector.sum())),
    )


def _origin(source: ContentConfig | None) -> str:
    if source is None or isinstance(source, CooccurrenceContent):
        return ""
    if isinstance(source, TextContent):
        return ", ".join(source.columns)
    if isinstance(source, EncoderContent):
        return f"{', '.join(source.columns)} by {source.path}"
    return source.path


def _of_column(items: pl.DataFrame, name: str) -> _Vectors:
    """A content column of the item table, as `evorec.data.features.content_vectors` understands it."""
    inner = getattr(items.schema[name], "inner", None)
    rows = items.select(Columns.ITEM, pl.col(name).alias(_TAG)).drop_nulls()
    if inner is not None and inner.is_float():
        values = np.stack(rows[_TAG].to_list()) if rows.height else np.zeros((0, 0))
        total, has_vector = _sum_of_units(values)
        distance = _mean_distance(float(total @ total), int(has_vector.sum()))
        known = rows[Columns.ITEM].filter(pl.Series(has_vector, dtype=pl.Boolean))
        return _Vectors(name, "vectors", ITEM_TABLE, values.shape[1], known, distance)
    if inner is not None:
        rows = rows.with_columns(pl.col(_TAG).list.unique()).explode(_TAG).drop_nulls()
    if isinstance(rows.schema[_TAG], pl.Float32 | pl.Float64):
        rows = rows.drop_nans()
    # a unit vector has 1 / root(k) at each of an item's k tags
    share = 1 / pl.len().over(Columns.ITEM).sqrt()
    totals = rows.with_columns(share=share).group_by(_TAG).agg(pl.col("share").sum())["share"].to_numpy()
    ids = rows[Columns.ITEM].unique()
    distance = _mean_distance(float((totals**2).sum()), len(ids))
    return _Vectors(name, "categorical" if inner is None else "multi_hot", ITEM_TABLE, len(totals), ids, distance)


def _sum_of_units(
    vectors: Float32 | npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Sum of the rows ``(N, d)`` made unit vectors ``(d,)``, and which of them have a direction ``(N,)``."""
    total = np.zeros(vectors.shape[1])
    has_vector = np.zeros(len(vectors), dtype=np.bool_)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = vectors[start : start + ROWS_AT_ONCE].astype(np.float64)
        norms = np.linalg.norm(rows, axis=1)
        usable = norms > SMALLEST_NORM
        has_vector[start : start + ROWS_AT_ONCE] = usable
        total += (rows[usable] / norms[usable, None]).sum(axis=0)
    return total, has_vector


def _mean_distance(squared_sum: float, n: int) -> float | None:
    """Mean cosine distance over the pairs of `n` unit vectors; None without a pair.

    Args:
        squared_sum: squared length of the sum of the vectors: n and twice the product of each pair.
        n: how many they are.
    Example:
        >>> _mean_distance(2.0, 2), _mean_distance(4.0, 2), _mean_distance(0.0, 2), _mean_distance(1.0, 1)
        (1.0, 0.0, 2.0, None)
    """
    return None if n < 2 else max(0.0, 1 - (squared_sum - n) / (n * (n - 1)))
