"""The frozen tables that every reader and the simulator give: interactions, users, items.

A column has the same name everywhere (`Columns`). `Tables` is checked once, when it is made; nothing downstream
checks again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config.tables import FeatureKind
from evorec.errors import DataError

SECONDS_PER_DAY: Final = 86_400
LATEST_SECOND: Final = 10**11
"""Year 5138; a larger timestamp is in milliseconds or finer."""
PARTS: Final = ("train", "validation", "test")
"""Names of the parts of a split, in the order of their numbers."""

TimeKind = Literal["seconds", "order", "none"]
"""Meaning of `Columns.TIME`: a moment, the rank of a row among the rows of its user, or nothing."""


@final
class Columns:
    """Names of the columns that mean the same in every table."""

    USER: Final = "user_id"
    """Int64 or String, never null."""
    ITEM: Final = "item_id"
    """Int64 or String, never null."""
    TIME: Final = "timestamp"
    """Int64, seconds since 1970-01-01 UTC; see `TimeKind` for logs without times."""
    DAY: Final = "day"
    """Date, optional: the log's own calendar day, where it differs from the day of the timestamp."""
    PART: Final = "given_part"
    """Int8, optional: index in `PARTS` of the part that the log itself assigns the row to."""


@final
@dataclass(frozen=True)
class Feature:
    """A column that describes a user, an item or the moment of an impression."""

    name: str
    kind: FeatureKind


def categorical(*names: str) -> tuple[Feature, ...]:
    """Categorical features of these names."""
    return tuple(Feature(name, "categorical") for name in names)


def numeric(*names: str) -> tuple[Feature, ...]:
    """Numeric features of these names."""
    return tuple(Feature(name, "numeric") for name in names)


@final
@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Fixed vectors of items from outside the item table: of text, images, a knowledge graph.

    Args:
        name: of this part of the content.
        ids: external ids ``(N,)``, unique, of the type of `Columns.ITEM`; other items have no vector.
        values: float32 ``(N, d)``, finite; a zero row means no vector.
        sha256: hash of the inputs of the vectors. The last bits of the vectors depend on the machine, and the same data
            must have the same hash on every machine.
    """

    name: str
    ids: pl.Series
    values: npt.NDArray[np.float32]
    sha256: str


@final
@dataclass(frozen=True, eq=False)
class Tables:
    """A checked data set.

    Integer ids become Int64 and numeric or Boolean labels Float32; everything else is taken as it is.

    Args:
        name: of the data set, for reports.
        interactions: a row per impression, in the order of the file: `Columns`, every task, every context feature.
        tasks: label columns; null = the label was not observed.
        users: a row per user, id and `user_features`.
        items: a row per item of the catalogue, id and `item_features`.
        context: features of the moment, columns of `interactions`, known when a list is requested.
        user_features: columns of `users`.
        item_features: columns of `items`.
        content: sources of the fixed content vectors: categorical or multi-hot item features, or columns of `items`
            that hold a list of floats per item, all of the same length.
        vectors: further parts of the fixed content vectors.
        times: meaning of the times. Without times, the column may be missing and is filled with 0.
        has_items: False = a table of rows without users and items, whose inputs are the features of `context`; the id
            columns may be missing and are filled with 0.
    Raises:
        DataError: names the table, the column, the expected and the found value.
    """

    name: str
    interactions: pl.DataFrame
    tasks: tuple[str, ...]
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    context: tuple[Feature, ...] = ()
    user_features: tuple[Feature, ...] = ()
    item_features: tuple[Feature, ...] = ()
    content: tuple[str, ...] = ()
    vectors: tuple[ItemVectors, ...] = ()
    times: TimeKind = "seconds"
    has_items: bool = True

    def __post_init__(self) -> None:
        log = self.interactions
        if not self.has_items and isinstance(log, pl.DataFrame):
            log = log.with_columns(pl.lit(0, dtype=pl.Int64).alias(name) for name in (Columns.USER, Columns.ITEM))
        if self.times == "none" and isinstance(log, pl.DataFrame):
            log = log.with_columns(pl.lit(0, dtype=pl.Int64).alias(Columns.TIME))
        log = _checked_log(self.name, log, self.tasks, self.context)
        object.__setattr__(self, "interactions", log)
        for side, id_column, features in (
            ("users", Columns.USER, self.user_features),
            ("items", Columns.ITEM, self.item_features),
        ):
            frame: pl.DataFrame | None = getattr(self, side)
            where = f"table {side} of {self.name}"
            if frame is not None:
                object.__setattr__(
                    self, side, _checked_entities(where, frame, id_column, features, log.schema[id_column])
                )
            elif features:
                raise DataError(f"{where} is missing, but features {[f.name for f in features]} are declared for it.")
        _check_content(f"table items of {self.name}", self.items, self.item_features, self.content)
        _check_item_vectors(self.name, self.vectors, self.content, log.schema[Columns.ITEM])

    @property
    def n_rows(self) -> int:
        """Number of interactions."""
        return self.interactions.height

    def with_interactions(self, interactions: pl.DataFrame) -> Tables:
        """The same data set with other interactions, checked again."""
        return replace(self, interactions=interactions)

    def sha256(self) -> str:
        """Hash of the content: names, types and every value in order; not of any path or file format.

        Returns:
            64 hexadecimal digits.
        """
        digest = hashlib.sha256()
        declared: tuple[Any, ...] = (self.name, self.tasks, self.context, self.user_features, self.item_features)
        declared = (*declared, self.content, *([] if self.times == "seconds" else [self.times]))
        declared = declared if self.has_items else (*declared, "rows")
        digest.update(repr(declared).encode())
        for side, frame in (("interactions", self.interactions), ("users", self.users), ("items", self.items)):
            digest.update(f"\n{side}".encode())
            for column in frame.get_columns() if frame is not None else ():
                digest.update(f"\n{column.name}".encode())
                for part in column_bytes(column):
                    digest.update(part)
        for vectors in self.vectors:
            digest.update(f"\nvectors\n{vectors.name}\n{vectors.sha256}".encode())
        return digest.hexdigest()


def _checked_log(name: str, frame: pl.DataFrame, tasks: tuple[str, ...], context: tuple[Feature, ...]) -> pl.DataFrame:
    where = f"table interactions of {name}"
    if not tasks or len(set(tasks)) != len(tasks):
        raise DataError(f"{where}: expected one or more different tasks, got {list(tasks)}.")
    ids = (Columns.USER, Columns.ITEM)
    frame = _checked_frame(where, frame, ids, (Columns.TIME, *tasks), context)
    time = frame[Columns.TIME]
    if time.dtype != pl.Int64:
        raise DataError(f"{where}: column {Columns.TIME} must be Int64, seconds since 1970 in UTC, got {time.dtype}.")
    _refuse_nulls(where, time)
    latest = int(time.to_numpy().max())
    if latest > LATEST_SECOND:
        raise DataError(
            f"{where}: column {Columns.TIME} must be in seconds, got {latest}: divide milliseconds by 1000."
        )
    if Columns.DAY in frame.columns:
        if frame.schema[Columns.DAY] != pl.Date:
            raise DataError(f"{where}: column {Columns.DAY} must be Date, got {frame.schema[Columns.DAY]}.")
        _refuse_nulls(where, frame[Columns.DAY])
    if Columns.PART in frame.columns:
        if frame.schema[Columns.PART] != pl.Int8 or not frame[Columns.PART].is_between(0, len(PARTS) - 1).all():
            raise DataError(f"{where}: column {Columns.PART} must be Int8 in 0..{len(PARTS) - 1}, indices in {PARTS}.")
        _refuse_nulls(where, frame[Columns.PART])
    leaking = [feature.name for feature in context if feature.name in tasks]
    if leaking:
        raise DataError(f"{where}: context {leaking} is a task: a label is not known when a list is requested.")
    labels = []
    for task in tasks:
        dtype = frame.schema[task]
        if not (dtype.is_numeric() or dtype == pl.Boolean):
            raise DataError(f"{where}: task {task} must be numeric or Boolean, got {dtype}.")
        label = frame[task].cast(pl.Float32)
        bad = (~label.is_finite()).fill_null(False).arg_true()
        if len(bad):
            raise DataError(
                f"{where}: task {task} must be finite, got {label[bad[0]]} in row {bad[0]}; a missing label is null."
            )
        labels.append(label)
    return frame.with_columns(labels)


def _checked_entities(
    where: str, frame: pl.DataFrame, id_column: str, features: tuple[Feature, ...], id_type: pl.DataType
) -> pl.DataFrame:
    frame = _checked_frame(where, frame, (id_column,), (), features)
    if frame.schema[id_column] != id_type:
        raise DataError(
            f"{where}: column {id_column} must be {id_type} as in the interactions, got {frame.schema[id_column]}."
        )
    repeated = (~frame[id_column].is_first_distinct()).arg_true()
    if len(repeated):
        row = repeated[0]
        raise DataError(f"{where}: column {id_column} must be unique, got {frame[id_column][row]!r} again (row {row}).")
    return frame


def _checked_frame(
    where: str, frame: pl.DataFrame, ids: Sequence[str], others: Sequence[str], features: tuple[Feature, ...]
) -> pl.DataFrame:
    """A table that has rows, ids in their types, its other columns and its features."""
    _check_columns(where, frame, (*ids, *others))
    if frame.is_empty():
        raise DataError(f"{where} is empty; expected at least one row.")
    for column in ids:
        frame = _with_id(where, frame, column)
    _check_features(where, frame, features)
    return frame


def _check_columns(where: str, frame: pl.DataFrame, needed: tuple[str, ...]) -> None:
    if not isinstance(frame, pl.DataFrame):
        raise DataError(f"{where} must be a polars DataFrame, got {type(frame).__name__}; use pl.DataFrame(...).")
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise DataError(f"{where} lacks columns {missing}; it has {frame.columns}.")


def _with_id(where: str, frame: pl.DataFrame, column: str) -> pl.DataFrame:
    dtype = frame.schema[column]
    if not (dtype.is_integer() or dtype == pl.String):
        raise DataError(f"{where}: column {column} must hold integers or strings, got {dtype}.")
    _refuse_nulls(where, frame[column])
    if dtype.is_integer() and dtype != pl.Int64:
        try:
            return frame.with_columns(pl.col(column).cast(pl.Int64))
        except pl.exceptions.InvalidOperationError:
            raise DataError(
                f"{where}: column {column} must fit into Int64, got {frame[column].max()!r}; use strings."
            ) from None
    return frame


def _refuse_nulls(where: str, column: pl.Series) -> None:
    if column.null_count():
        row = column.is_null().arg_true()[0]
        raise DataError(f"{where}: column {column.name} must not be null, got null in row {row}.")


def _check_features(where: str, frame: pl.DataFrame, features: tuple[Feature, ...]) -> None:
    names = tuple(feature.name for feature in features)
    if len(set(names)) != len(names):
        raise DataError(f"{where}: a feature is declared twice: {list(names)}.")
    _check_columns(where, frame, names)
    for feature in features:
        dtype = frame.schema[feature.name]
        listed = isinstance(dtype, pl.List)
        numeric = dtype.is_numeric() or dtype == pl.Boolean
        fits = {"categorical": not dtype.is_nested(), "numeric": numeric, "multi_hot": listed}
        if feature.kind not in fits:
            raise DataError(f"{where}: feature {feature.name} must be one of {list(fits)}, got {feature.kind!r}.")
        if not fits[feature.kind]:
            raise DataError(f"{where}: column {feature.name} is declared {feature.kind}, which {dtype} cannot be.")


def _check_content(
    where: str, items: pl.DataFrame | None, features: tuple[Feature, ...], content: tuple[str, ...]
) -> None:
    if content and items is None:
        raise DataError(f"{where} is missing, but content {list(content)} is declared for it.")
    if items is None:
        return
    _check_columns(where, items, content)
    kinds = {feature.name: feature.kind for feature in features}
    for name in content:
        if kinds.get(name) in ("categorical", "multi_hot"):
            continue
        dtype = items.schema[name]
        if not (isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric()):
            raise DataError(
                f"{where}: content {name} must be a categorical or multi_hot item feature, or one list of floats "
                f"per item, got {dtype}."
            )
        vectors = items[name].cast(pl.List(pl.Float64)).drop_nulls()
        lengths = vectors.list.len().unique().sort().to_list()
        if len(lengths) != 1 or lengths[0] == 0:
            raise DataError(f"{where}: content {name} must have one length above 0, got lengths {lengths[:5]}.")
        values = vectors.explode(empty_as_null=True)
        if values.null_count() or not values.is_finite().all():
            raise DataError(f"{where}: content {name} must be finite, or null for the whole item.")


def _check_item_vectors(
    name: str, vectors: tuple[ItemVectors, ...], content: tuple[str, ...], id_type: pl.DataType
) -> None:
    names = [*content, *(part.name for part in vectors)]
    if len(set(names)) != len(names):
        raise DataError(f"content of {name}: a part is declared twice: {names}; give it another name.")
    for part in vectors:
        where = f"vectors {part.name} of {name}"
        if part.ids.dtype != id_type or part.ids.null_count() or part.ids.n_unique() != len(part.ids):
            raise DataError(f"{where} must have unique ids of type {id_type}, none missing, got {part.ids.dtype}.")
        if part.values.ndim != 2 or part.values.shape[1] == 0 or len(part.values) != len(part.ids):
            raise DataError(f"{where} must have shape ({len(part.ids)}, above 0), got {part.values.shape}.")
        bad = np.flatnonzero(~np.isfinite(part.values).all(axis=1))
        if len(bad):
            raise DataError(f"{where} must be finite, those of item {part.ids[int(bad[0])]!r} are not.")


def id_array(ids: pl.Series) -> npt.NDArray[Any]:
    """Ids as int64, or as text of a fixed width, which can be saved without pickling."""
    return ids.to_numpy() if ids.dtype == pl.Int64 else ids.to_numpy().astype(np.str_)


def column_bytes(column: pl.Series) -> Iterator[bytes]:
    """Type, null mask and values of a column as bytes that depend on nothing else."""
    dtype = column.dtype
    yield f":{dtype}:{len(column)}:".encode()
    yield np.packbits(column.is_null().to_numpy()).tobytes()
    present = column.drop_nulls()
    if isinstance(dtype, pl.Array):
        present, dtype = present.arr.to_list(), pl.List(dtype.inner)
    if isinstance(dtype, pl.List):
        yield present.list.len().to_numpy().tobytes()
        yield from column_bytes(present.filter(present.list.len() > 0).explode(empty_as_null=True))
    elif dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean:
        yield np.ascontiguousarray(present.to_physical().to_numpy()).tobytes()
    else:
        text = present.cast(pl.String)
        yield text.str.len_bytes().to_numpy().tobytes()
        yield text.str.join("")[0].encode()
