"""Facts about fixed content vectors: the items that have a vector, and how much the vectors differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import ContentConfig, CooccurrenceContent, EncoderContent, TextContent
from evorec.data.dataset import Float32
from evorec.data.features import SMALLEST_NORM
from evorec.data.tables import Columns, ItemVectors, Tables

ITEM_TABLE: Final = "item table"
ROWS_AT_ONCE: Final = 1 << 16
_TAG: Final = "tag"


def content_facts(
    tables: Tables,
    sources: Mapping[str, ContentConfig],
    *,
    catalogue: pl.Series,
    in_training: pl.Series,
    new: Mapping[str, pl.Series],
) -> pl.DataFrame:
    """Count the items of the catalogue, and the new items, for which each part of the content has a vector.

    Args:
        tables: with `Tables.content` and `Tables.vectors`.
        sources: name of a part -> its settings; a part of `Tables.vectors` that is not here counts as given.
        catalogue: ids of all items of the log and of the item table.
        in_training: ids of the items that co-occurrence learns from.
        new: held-out part -> ids of its items that no earlier part has and that lists can contain.
    Returns:
        A row per part: ``name``, ``kind`` (of the column or source), ``made_of``, ``width`` (numbers per vector; of
        co-occurrence the maximum), ``n`` items of the catalogue, ``n_with`` a vector that is not zero (of
        co-occurrence, with a row of training), ``distance`` (mean cosine distance of two items with a vector, in
        [0, 2]; null without two such items and for co-occurrence), and for each held-out part ``n_new/<part>`` items
        and ``n_new_with/<part>`` of them with a vector. An item without a vector gets the mean of the part.
    Cost: a pass over the vectors and the content columns.
    """
    found: list[tuple[dict[str, Any], pl.Series]] = []
    if tables.items is not None:
        found += [_of_column(tables.items, name) for name in tables.content]
    found += [_of_vectors(part, sources.get(part.name), catalogue) for part in tables.vectors]
    for name, source in sources.items():
        if isinstance(source, CooccurrenceContent):
            made_of = f"{'rows' if source.rows == 'all' else 'positives'} of training"
            learned = {"name": name, "kind": source.kind, "made_of": made_of, "width": source.dims, "distance": None}
            found.append((learned, in_training))
    counted = {"n": catalogue, **{f"n_new/{part}": ids for part, ids in new.items()}}
    with_vector = {"n": "n_with", **{f"n_new/{part}": f"n_new_with/{part}" for part in new}}
    schema = {"name": pl.String, "kind": pl.String, "made_of": pl.String, "width": pl.Int64, "distance": pl.Float64}
    schema |= dict.fromkeys((*with_vector, *with_vector.values()), pl.Int64)
    rows = [
        facts
        | {name: len(ids) for name, ids in counted.items()}
        | {with_vector[name]: int(ids.is_in(known.implode()).sum()) for name, ids in counted.items()}
        for facts, known in found
    ]
    return pl.DataFrame(rows, schema)


def _of_vectors(
    part: ItemVectors, source: ContentConfig | None, catalogue: pl.Series
) -> tuple[dict[str, Any], pl.Series]:
    known = part.ids.is_in(catalogue.implode())
    ids, values = part.ids.filter(known), part.values if known.all() else part.values[known.to_numpy()]
    total, has_vector = _sum_of_units(values)
    if isinstance(source, TextContent | EncoderContent):
        made_of = ", ".join(source.columns) + (f" by {source.path}" if isinstance(source, EncoderContent) else "")
    else:
        made_of = getattr(source, "path", "")
    facts = {
        "name": part.name,
        "kind": "vectors" if source is None else source.kind,
        "made_of": made_of,
        "width": values.shape[1],
        "distance": _mean_distance(float(total @ total), int(has_vector.sum())),
    }
    return facts, ids.filter(pl.Series(has_vector, dtype=pl.Boolean))


def _of_column(items: pl.DataFrame, name: str) -> tuple[dict[str, Any], pl.Series]:
    """A content column of the item table, as `evorec.data.features.content_vectors` understands it."""
    inner = getattr(items.schema[name], "inner", None)
    rows = items.select(Columns.ITEM, pl.col(name).alias(_TAG)).drop_nulls()
    if inner is not None and inner.is_float():
        values = np.stack(rows[_TAG].to_list()) if rows.height else np.zeros((0, 0))
        total, has_vector = _sum_of_units(values)
        kind, width, squared_sum = "vectors", values.shape[1], float(total @ total)
        ids = rows[Columns.ITEM].filter(pl.Series(has_vector, dtype=pl.Boolean))
    else:
        if inner is not None:
            rows = rows.with_columns(pl.col(_TAG).list.unique()).explode(_TAG).drop_nulls()
        if rows.schema[_TAG].is_float():
            rows = rows.drop_nans()
        # a unit vector has 1 / sqrt(k) at each of an item's k tags
        share = 1 / pl.len().over(Columns.ITEM).sqrt()
        totals = rows.with_columns(share=share).group_by(_TAG).agg(pl.col("share").sum())["share"].to_numpy()
        ids = rows[Columns.ITEM].unique()
        kind, width = "categorical" if inner is None else "multi_hot", len(totals)
        squared_sum = float((totals**2).sum())
    distance = _mean_distance(squared_sum, len(ids))
    return {"name": name, "kind": kind, "made_of": ITEM_TABLE, "width": width, "distance": distance}, ids


def _sum_of_units(vectors: Float32 | npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Sum of the rows ``(N, d)`` scaled to length 1, ``(d,)``, and the rows that are not zero, bool ``(N,)``."""
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
        squared_sum: squared length of the sum of the vectors: n plus twice the product of each pair.
        n: number of vectors.
    Example:
        >>> _mean_distance(2.0, 2), _mean_distance(4.0, 2), _mean_distance(0.0, 2), _mean_distance(1.0, 1)
        (1.0, 0.0, 2.0, None)
    """
    return None if n < 2 else max(0.0, 1 - (squared_sum - n) / (n * (n - 1)))
