"""Features as rows of an embedding table, and the fixed content vectors of items.

Vocabularies and bins are fitted on the entities of the training rows only. Content vectors are made from the item table
only, before any training, and no candidate trains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.data.dataset import Codebook, Field, Float32, Int64
from evorec.data.sorting import index_in
from evorec.data.tables import Columns, Feature, ItemVectors, Tables
from evorec.errors import DataError

Mask = npt.NDArray[np.bool_]

PADDING: Final = -1
UNKNOWN: Final = 0
MAX_BINS: Final = 16
"""Quantile bins of a numeric feature; more would split 25,000 users into bins too small to learn."""
SMALLEST_NORM: Final = 1e-6
"""A float32 vector shorter than this has no direction left beyond rounding."""


@final
@dataclass(frozen=True, eq=False)
class Block:
    """A feature of all entities, in codes of its own.

    Args:
        name: of the feature.
        codes: int64 ``(N, c)``: `PADDING`, `UNKNOWN` or ``1..size - 1``.
        weights: float32 ``(N, c)``; each row sums to 1, padding is 0.
        size: number of codes that need an embedding row, the unknown code included.
        codebook: how a value became a code; ``None`` for ids.
    """

    name: str
    codes: Int64
    weights: Float32
    size: int
    codebook: Codebook | None = None

    @classmethod
    def single(cls, name: str, codes: Int64, size: int, codebook: Codebook | None = None) -> Block:
        """A feature with a value per entity; ``codes``: int64 ``(N,)``."""
        return cls(name, codes[:, None].astype(np.int64), np.ones((len(codes), 1), dtype=np.float32), size, codebook)

    def with_unknown_entity(self) -> Block:
        """The same feature with an unknown entity at the end."""
        codes = np.full((1, self.codes.shape[1]), PADDING, dtype=np.int64)
        codes[0, 0] = UNKNOWN
        weights = (codes != PADDING).astype(np.float32)
        return replace(self, codes=np.vstack([self.codes, codes]), weights=np.vstack([self.weights, weights]))

    def is_constant(self, fitted: Mask) -> bool:
        """Whether all fitted entities have the same codes, so that nothing can be learned from the feature."""
        codes, weights = self.codes[fitted], self.weights[fitted]
        return bool((codes == codes[:1]).all() and (weights == weights[:1]).all())


@final
class FieldRows(NamedTuple):
    """Blocks side by side in the embedding table, a row per entity; the unknown user and item are last.

    Args:
        rows: int64 ``(N, F)``, rows of the table; 0 is padding.
        weights: float32 ``(N, F)``.
        fields: which columns a feature has.
    """

    rows: Int64
    weights: Float32
    fields: tuple[Field, ...]


def id_block(name: str, fitted: Mask) -> Block:
    """The entity's own id: fitted entities get a code each, all others the unknown code; ``fitted``: bool ``(N,)``."""
    return Block.single(name, np.where(fitted, np.cumsum(fitted), UNKNOWN), 1 + int(fitted.sum()))


def fit_block(feature: Feature, values: pl.Series, fitted: Mask, *, min_count: int, linear: bool = False) -> Block:
    """Codes of a feature.

    Args:
        feature: name and kind.
        values: of each entity ``(N,)``; null is unknown.
        fitted: bool ``(N,)``, the entities that vocabulary and bins may see.
        min_count: a value that fewer fitted entities have is treated as unknown, as is a value that none has.
        linear: whether numbers lie between two codes (`_interpolated`) instead of in bins.
    """
    if feature.kind == "numeric":
        return (_interpolated if linear else _binned)(feature.name, values, fitted)
    if feature.kind == "multi_hot":
        return _multi_hot(feature.name, values, fitted, min_count)
    codes, known = _vocabulary_codes(values, fitted, min_count)
    return Block.single(feature.name, codes, 1 + len(known), Codebook("categorical", known))


def lay_out(blocks: Sequence[Block], n_lines: int, first_row: int) -> tuple[FieldRows, int]:
    """Give each block its rows of the embedding table, from ``first_row`` on; also the next free row.

    Args:
        blocks: features of the same entities.
        n_lines: number of those entities, needed when there is no feature.
        first_row: >= 1, because row 0 is padding.
    """
    rows: list[Int64] = [np.zeros((n_lines, 0), dtype=np.int64)]
    weights: list[Float32] = [np.zeros((n_lines, 0), dtype=np.float32)]
    fields: list[Field] = []
    column = 0
    for block in blocks:
        rows.append(np.where(block.codes == PADDING, 0, first_row + block.codes))
        weights.append(block.weights)
        fields.append(Field(block.name, column, block.codes.shape[1], first_row, block.size, block.codebook))
        column += block.codes.shape[1]
        first_row += block.size
    return FieldRows(np.concatenate(rows, axis=1), np.concatenate(weights, axis=1), tuple(fields)), first_row


def content_vectors(
    tables: Tables, item_ids: npt.NDArray[Any], learned: Sequence[ItemVectors] = ()
) -> tuple[Float32, tuple[Field, ...]]:
    """Fixed unit vectors of items: a part per content column and per source, side by side.

    The parts of a row are equally long. A categorical column becomes a one-hot part, a multi-hot column a part with
    equal values, a list of floats is a part itself. An item without any value in the columns gets the mean of the other
    items, normalised; an item without a vector of a source gets the mean direction of that part. So does the unknown
    item.

    Args:
        tables: with `Tables.content` and `Tables.vectors`.
        item_ids: external ids ``(I,)``.
        learned: parts that were fitted on the training rows.
    Returns:
        float32 ``(I + 1, D)``, unit rows, the last row for an unknown item, D = 0 without content; and the columns of
        each part, in order, without gaps.
    Raises:
        DataError: no item has a vector of a source.
    """
    declared, parts = _declared(tables, item_ids)
    sources = [*tables.vectors, *learned]
    columns = [declared.astype(np.float32)]
    if sources:
        n_parts = len(parts) + len(sources)
        columns = [(declared * sqrt(len(parts) / n_parts)).astype(np.float32)]
        columns += [(_source_vectors(source, item_ids) * sqrt(1 / n_parts)).astype(np.float32) for source in sources]
        parts += [Field(source.name, 0, source.values.shape[1]) for source in sources]
    first = np.cumsum([0, *(part.n_columns for part in parts)]).tolist()
    fields = tuple(part._replace(first_column=column) for part, column in zip(parts, first, strict=False))
    return np.concatenate(columns, axis=1), fields


def _declared(tables: Tables, item_ids: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], list[Field]]:
    """Content columns of the item table as unit rows ``(I + 1, d)``, and the columns of each part; d may be 0."""
    nothing = np.zeros((len(item_ids) + 1, 0))
    if tables.items is None or not tables.content:
        return nothing, []
    ids = pl.DataFrame({Columns.ITEM: item_ids})
    rows = ids.join(
        tables.items.select(Columns.ITEM, *tables.content), on=Columns.ITEM, how="left", maintain_order="left"
    )
    found = [_dense(rows[name]) for name in tables.content]
    vectors, has_content = _unit(np.concatenate([_unit(part)[0] for part, _ in found], axis=1))
    if not has_content.any():
        return nothing, []
    parts = [
        Field(name, 0, part.shape[1], codebook=codebook)
        for name, (part, codebook) in zip(tables.content, found, strict=True)
        if part.shape[1]
    ]
    return _with_mean(vectors, has_content), parts


def _source_vectors(source: ItemVectors, item_ids: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Unit rows ``(I + 1, d)`` of a source."""
    index = index_in(source.ids, pl.Series(item_ids), missing=-1)
    rows = np.zeros((len(item_ids), source.values.shape[1]))
    rows[index >= 0] = source.values[index[index >= 0]]
    vectors, has_vector = _unit(rows)
    if not has_vector.any():
        raise DataError(f"content {source.name}: no item has a vector that differs from 0; leave it out.")
    return _with_mean(vectors, has_vector)


def _with_mean(vectors: npt.NDArray[np.float64], known: Mask) -> npt.NDArray[np.float64]:
    """Unit rows ``(I, d)``, of which the unknown rows get the mean of the others, and that mean as a last row."""
    mean, usable = _unit(vectors[known].mean(axis=0, keepdims=True))
    if not usable[0]:  # contents that cancel out: no direction is typical, so take the direction that favours none
        mean = np.full_like(mean, 1 / np.sqrt(mean.shape[1]))
    vectors[~known] = mean
    return np.concatenate([vectors, mean])


def _vocabulary_codes(values: pl.Series, fitted: Mask, min_count: int) -> tuple[Int64, tuple[Any, ...]]:
    """Codes int64 ``(N,)`` and the known values, which are numbered from 1 on in ascending order."""
    if isinstance(values.dtype, pl.Float32 | pl.Float64):
        values = values.fill_nan(None)
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)  # physical order of categories depends on the file, text does not
    frame = values.alias("value").to_frame()
    seen = frame.filter(pl.Series(fitted)).drop_nulls()
    known = seen.group_by("value").len().filter(pl.col("len") >= min_count).select(pl.col("value").sort())
    known = known.with_row_index("code", offset=1)
    codes = frame.join(known, on="value", how="left", maintain_order="left")["code"]
    return codes.fill_null(UNKNOWN).cast(pl.Int64).to_numpy(), tuple(known["value"].to_list())


def _binned(name: str, values: pl.Series, fitted: Mask) -> Block:
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    present = np.isfinite(numbers)
    sample = numbers[fitted & present]
    shares = np.linspace(0, 1, MAX_BINS + 1)[1:-1]
    edges = np.unique(np.quantile(sample, shares)) if len(sample) else np.empty(0)
    codes = np.where(present, 1 + np.searchsorted(edges, numbers, side="right"), UNKNOWN)
    return Block.single(name, codes, 2 + len(edges), Codebook("numeric", edges=tuple(edges.tolist())))


def _interpolated(name: str, values: pl.Series, fitted: Mask) -> Block:
    """Two codes per number, of the knots below and above it, weighted by how near they are.

    The sum of their rows is a piecewise linear function of the number. Knots are the ends and quantiles of the fitted
    numbers; a number outside of them counts as the nearest end.

    Source: Gorishniy et al. 2022, "On embeddings for numerical features in tabular deep learning": piecewise linear
    encoding, here in the basis of hat functions, of which two differ from 0 and not one per bin.
    """
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    present = np.isfinite(numbers)
    sample = numbers[fitted & present]
    knots = np.unique(np.quantile(sample, np.linspace(0, 1, MAX_BINS + 1))) if len(sample) else np.empty(0)
    codebook = Codebook("linear", edges=tuple(knots.tolist()))
    codes = np.full((len(numbers), 2), PADDING, dtype=np.int64)
    codes[:, 0] = UNKNOWN
    weights = np.zeros((len(numbers), 2), dtype=np.float32)
    weights[:, 0] = 1.0
    if len(knots):
        at = np.interp(numbers[present], knots, np.arange(len(knots)))  # position among the knots
        below = np.minimum(at.astype(np.int64), max(len(knots) - 2, 0))
        above = (at - below).astype(np.float32)
        codes[present] = np.stack([1 + below, np.minimum(2 + below, len(knots))], axis=1)
        weights[present] = np.stack([1 - above, above], axis=1)
    return Block(name, codes, weights, 1 + len(knots), codebook)


def _multi_hot(name: str, values: pl.Series, fitted: Mask, min_count: int) -> Block:
    entity, flat = _exploded(values)
    flat_codes, values_known = _vocabulary_codes(flat, fitted[entity], min_count)
    known = flat_codes != UNKNOWN
    entity, flat_codes = entity[known], flat_codes[known]
    lengths = np.bincount(entity, minlength=len(values))
    width = max(1, int(lengths.max(initial=0)))
    codes = np.full((len(values), width), PADDING, dtype=np.int64)
    column = np.arange(len(entity)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    codes[entity, column] = flat_codes
    codes[lengths == 0, 0] = UNKNOWN
    weights = np.where(codes == PADDING, 0, 1 / np.maximum(lengths, 1)[:, None])
    codebook = Codebook("multi_hot", values_known)
    return Block(name, codes, weights.astype(np.float32), 1 + len(values_known), codebook)


def _exploded(values: pl.Series) -> tuple[Int64, pl.Series]:
    """Entity of each list element ``(nnz,)`` and the elements; a value repeated in a list counts once."""
    frame = values.list.unique(maintain_order=True).alias("value").to_frame().with_row_index("entity")
    flat = frame.explode("value").drop_nulls()
    return flat["entity"].cast(pl.Int64).to_numpy(), flat["value"]


def _dense(values: pl.Series) -> tuple[npt.NDArray[np.float64], Codebook]:
    """A content column as a matrix ``(N, d)``, zero rows where there is no content, and the meaning of its columns."""
    everything = np.ones(len(values), dtype=np.bool_)
    inner = getattr(values.dtype, "inner", None)
    if inner is not None and inner.is_float():
        vectors = values.cast(pl.List(pl.Float64))
        matrix = np.zeros((len(values), int(vectors.list.len().drop_nulls()[0])))
        matrix[vectors.is_not_null().to_numpy()] = np.stack(vectors.drop_nulls().to_list())
        return matrix, Codebook("vector")
    if inner is not None:
        entity, flat = _exploded(values)
        codes, known = _vocabulary_codes(flat, everything[entity], 1)
    else:
        entity = np.arange(len(values))
        codes, known = _vocabulary_codes(values, everything, 1)
    matrix = np.zeros((len(values), 1 + len(known)))
    matrix[entity, codes] = 1
    codebook = Codebook("categorical" if inner is None else "multi_hot", known)
    return matrix[:, 1:], codebook  # code 0 means no value


def _unit(rows: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], Mask]:
    """Rows ``(N, d)`` made unit vectors, and which of them had a direction ``(N,)``; the others are zero."""
    norms = np.linalg.norm(rows, axis=1)
    usable = norms > SMALLEST_NORM
    return np.where(usable[:, None], rows / np.maximum(norms, SMALLEST_NORM)[:, None], 0.0), usable
