"""From tables to the arrays that training and metrics use; everything is fitted on the training rows alone.

All fields of users, items and context share one embedding table. Row 0 is the padding row; each field then has a row
for "unknown" followed by one row per known value. An entity's vector is ``sum_f weight[f] * table[row[f]]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.data.features import PADDING, Block, content_vectors, fit_block, id_block
from evorec.data.splits import Split
from evorec.data.statistics import History
from evorec.data.statistics import statistics as fit_statistics
from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
HISTORY_LENGTH = 30
"""Past positives of a user that enter the retrieval vector; the latest ones."""
SECONDS_PER_DAY = 86_400

Fit = Literal["train", "train+validation"]
"""train = search (held out: validation); train+validation = final training (held out: test)."""


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Impressions of one part, file order.

    Args:
        users: int64 ``(N,)`` in ``[0, U]``; U = a user without a training row.
        items: int64 ``(N,)`` in ``[0, I]``; I = an item outside the catalogue.
        context: int64 ``(N, Fc)``, rows of the embedding table.
        labels: float32 ``(N, T)``, NaN = not observed.
        statistics: float32 ``(N, S)``, what was known on earlier days (`evorec.data.statistics`).
        target: float32 ``(N,)``, NaN = not observed; a positive is > 0.
        time: int64 ``(N,)``, seconds since 1970 UTC.
    """

    users: Int64
    items: Int64
    context: Int64
    labels: Float32
    statistics: Float32
    target: Float32
    time: Int64

    @property
    def n_rows(self) -> int:
        """Number of impressions N."""
        return len(self.users)


@final
@dataclass(frozen=True, eq=False)
class Csr:
    """A sparse Boolean matrix: for each row a sorted set of columns.

    Args:
        indptr: int64 ``(R + 1,)``.
        indices: int64 ``(nnz,)``, ascending and unique inside a row.
    Example:
        >>> Csr.from_pairs(np.array([1, 1, 1]), np.array([7, 2, 7]), n_rows=3).row(1).tolist()
        [2, 7]
    """

    indptr: Int64
    indices: Int64

    @classmethod
    def from_pairs(cls, rows: Int64, columns: Int64, *, n_rows: int) -> Csr:
        """Matrix with ones at ``(rows[n], columns[n])``; a repeated pair counts once.

        Args:
            rows: int64 ``(N,)`` in ``[0, n_rows)``.
            columns: int64 ``(N,)``, not negative.
            n_rows: R.
        """
        width = int(columns.max()) + 1 if len(columns) else 1
        pairs = np.unique(rows * width + columns)
        counts = np.bincount(pairs // width, minlength=n_rows)
        return cls(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), pairs % width)

    @property
    def n_rows(self) -> int:
        """Number of rows R."""
        return len(self.indptr) - 1

    def row(self, index: int) -> Int64:
        """Columns of one row, ascending."""
        return self.indices[self.indptr[index] : self.indptr[index + 1]]

    def counts(self) -> Int64:
        """Number of columns of each row, int64 ``(R,)``."""
        return np.diff(self.indptr)

    def select(self, rows: Int64) -> Csr:
        """The matrix of the given rows, in the given order; ``rows``: int64 ``(B,)``."""
        counts = self.counts()[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], counts)
        return Csr(indptr, self.indices[places])

    def contains(self, rows: Int64, columns: Int64) -> npt.NDArray[np.bool_]:
        """Whether each pair ``(rows[n], columns[n])`` is set; bool ``(N,)``."""
        width = 1 + max(int(self.indices.max(initial=0)), int(columns.max(initial=0)))
        own = np.repeat(np.arange(self.n_rows), self.counts()) * width + self.indices
        return np.isin(rows * width + columns, own)

    def to_scipy(self, n_columns: int) -> csr_array[Any, tuple[int, int]]:
        """float32 ``(R, n_columns)`` of ones."""
        from scipy.sparse import csr_array

        ones = np.ones(len(self.indices), dtype=np.float32)
        return csr_array((ones, self.indices, self.indptr), shape=(self.n_rows, n_columns))


class Field(NamedTuple):
    """The columns of one feature in `Dataset.user_rows` or `Dataset.item_rows`."""

    name: str
    first_column: int
    n_columns: int


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set, encoded for one fit.

    Args:
        name: of the data set.
        tasks: the T ranked label columns, in the order of `Part.labels`.
        target: label column whose positives are retrieved.
        n_users: U, users with a training row.
        n_items: I, the catalogue: the item table's ids and the training rows' ids.
        user_ids: external ids ``(U,)``, ascending; int64 or str.
        item_ids: external ids ``(I,)``, ascending; int64 or str.
        n_rows: R, rows of the embedding table; row 0 is padding and is never trained.
        user_rows: int64 ``(U + 1, Fu)``; entity U is the unknown user, column 0 the id.
        user_weights: float32 ``(U + 1, Fu)``; a multi-hot value weighs 1 / number of values, padding 0.
        item_rows: int64 ``(I + 1, Fi)``; entity I is the unknown item, column 0 the id. All items that were never in
            training share the "unknown item" id row and keep their feature rows.
        item_weights: float32 ``(I + 1, Fi)``.
        user_fields: which columns of `user_rows` a feature has.
        item_fields: which columns of `item_rows` a feature has.
        context_fields: names of the Fc context features.
        context_mode: int64 ``(Fc,)``, the most frequent context of the training rows.
        history_rows: int64 ``(U + 1, H)``, embedding rows of the items of a user's last H training target positives,
            padded with row 0; these rows are a table of their own, one per item.
        item_history_row: int64 ``(I + 1,)``, the row that stands for an item in `history_rows`.
        user_statistics: float32 ``(U + 1, su)``, at the end of training, in the usual context.
        item_statistics: float32 ``(I + 1, S - su)``, at the end of training.
        statistics: names of the S columns of `Part.statistics`, user side first.
        item_content: float32 ``(I + 1, D)``, fixed unit rows, the last one the mean; D = 0 without content.
        train: training impressions.
        held_out: impressions to be predicted.
        seen: ``(U + 1)`` rows: items of all training rows of a user.
        history: ``(U + 1)`` rows: training target positives.
        relevant: ``(U + 1)`` rows: held-out target positives in the catalogue; row U is empty. One that is masked when
            lists are made stays here and counts as a miss.
        item_counts: int64 ``(I,)``, training rows per item.
        target_counts: int64 ``(I,)``, training target positives per item.
        notes: what was left out, as counts (see `encode`).
        sha256: hash of the tables, the rows and the choices that made this.
    """

    name: str
    tasks: tuple[str, ...]
    target: str
    n_users: int
    n_items: int
    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    n_rows: int
    user_rows: Int64
    user_weights: Float32
    item_rows: Int64
    item_weights: Float32
    user_fields: tuple[Field, ...]
    item_fields: tuple[Field, ...]
    context_fields: tuple[str, ...]
    context_mode: Int64
    history_rows: Int64
    item_history_row: Int64
    user_statistics: Float32
    item_statistics: Float32
    statistics: tuple[str, ...]
    item_content: Float32
    train: Part
    held_out: Part
    seen: Csr
    history: Csr
    relevant: Csr
    item_counts: Int64
    target_counts: Int64
    notes: Mapping[str, int]
    sha256: str

    @property
    def n_tasks(self) -> int:
        """T."""
        return len(self.tasks)


def encode(
    tables: Tables, split: Split, *, tasks: Sequence[str], target: str, fit: Fit, statistics: Sequence[str] = ()
) -> Dataset:
    """Encode one data set for a fit; rows outside the two parts in use are never looked at.

    A feature value that only one training user (or item) has says no more than the id and counts as unknown. A feature
    that is the same for all of them is left out.

    Args:
        tables: all interactions.
        split: row numbers of the parts.
        tasks: ranked label columns, in order.
        target: label column whose positives (> 0) are retrieved.
        fit: ``train`` holds out validation, ``train+validation`` holds out test.
        statistics: keys of dense statistics: ``user``, ``item``, a feature, or several joined by ``+``, all of them of
            the user and the moment or all of the item.
    Returns:
        The data set. Its ``notes`` count ``n_constant_fields``; of the held-out rows ``n_cold_users`` (no training row)
        with their ``n_cold_user_rows``, and ``n_cold_item_rows`` (item never in training); and the held-out target
        positives that are not in ``relevant``, each under its first reason: ``n_cold_user_positives``,
        ``n_unknown_item_positives`` (outside the catalogue). ``n_seen_positives`` are in it although the user's
        training has the item, so that a list that leaves out seen items cannot hit them.
    Raises:
        DataError: an unknown task, a task with a single class, or no target positive, in either part.
    """
    rows, held_rows = _parts(split, fit)
    log, held = tables.interactions[rows], tables.interactions[held_rows]
    _check_labels(tables, tasks, target, {"training": log, "held-out": held})
    users = _Entities.of(Columns.USER, log, tables.users, tables.user_features, catalogue=False)
    items = _Entities.of(Columns.ITEM, log, tables.items, tables.item_features, catalogue=True)
    context = _context_blocks(tables.context, log, held)
    by_user, next_row = _lay_out(users.blocks, users.n + 1, first_row=1)
    by_item, next_row = _lay_out(items.blocks, items.n + 1, first_row=next_row)
    by_row, n_rows = _lay_out(context, log.height + held.height, first_row=next_row)
    n_constant = sum(len(f) for f in (tables.user_features, tables.item_features, tables.context)) - (
        len(users.blocks) + len(items.blocks) + len(context) - 2  # the two ids are fields, not features
    )

    train = _part(log, users, items, by_row.rows[: log.height], tasks, target)
    held_out = _part(held, users, items, by_row.rows[log.height :], tasks, target)
    sides = _Sides(by_user, by_item, by_row.fields, _most_frequent(train.context))
    known = fit_statistics(
        [sides.history(key, train, held_out) for key in statistics],
        _days(log),
        train.labels,
        tasks,
        n_users=users.n,
        n_items=items.n,
    )
    train, held_out = replace(train, statistics=known.train), replace(held_out, statistics=known.held_out)
    item_history_row = np.append(n_rows + np.arange(items.n), 0)
    n_cold_users = held[Columns.USER].filter(pl.Series(held_out.users == users.n)).n_unique()
    liked = train.target > 0
    seen = Csr.from_pairs(train.users, train.items, n_rows=users.n + 1)
    relevant, notes = _relevant(held_out, seen, items.counts)
    return Dataset(
        name=tables.name,
        tasks=tuple(tasks),
        target=target,
        n_users=users.n,
        n_items=items.n,
        user_ids=users.ids,
        item_ids=items.ids,
        n_rows=n_rows + items.n,
        user_rows=by_user.rows,
        user_weights=by_user.weights,
        item_rows=by_item.rows,
        item_weights=by_item.weights,
        user_fields=by_user.fields,
        item_fields=by_item.fields,
        context_fields=tuple(field.name for field in by_row.fields),
        context_mode=sides.context_mode,
        history_rows=_last_positives(train, item_history_row, users.n),
        item_history_row=item_history_row,
        user_statistics=known.users,
        item_statistics=known.items,
        statistics=known.names,
        item_content=content_vectors(tables, items.ids),
        train=train,
        held_out=held_out,
        seen=seen,
        history=Csr.from_pairs(train.users[liked], train.items[liked], n_rows=users.n + 1),
        relevant=relevant,
        item_counts=items.counts,
        target_counts=np.bincount(train.items[liked], minlength=items.n),
        notes={**notes, "n_cold_users": n_cold_users, "n_constant_fields": n_constant},
        sha256=_hash(tables, rows, held_rows, f"{list(tasks)} {target} {fit} {list(statistics)}"),
    )


@final
@dataclass(frozen=True, eq=False)
class _Entities:
    """Users or items: sorted external ids ``(n,)``, training rows of each ``(n,)``, and their features."""

    ids: npt.NDArray[Any]
    counts: Int64
    blocks: list[Block]

    @classmethod
    def of(
        cls, column: str, log: pl.DataFrame, table: pl.DataFrame | None, features: Sequence[Feature], *, catalogue: bool
    ) -> _Entities:
        """Those of the training rows; with ``catalogue`` also those that only the table knows."""
        ids = log[column].unique()
        if catalogue and table is not None:
            ids = ids.append(table[column]).unique()
        ids = ids.sort()
        counts = np.bincount(_index(ids, log[column]), minlength=len(ids))
        fitted = counts > 0
        blocks = [id_block(column, fitted)]
        if table is not None and features:
            names = [feature.name for feature in features]
            described = ids.to_frame().join(table.select(column, *names), on=column, how="left", maintain_order="left")
            fits = [fit_block(feature, described[feature.name], fitted, min_count=2) for feature in features]
            blocks += [block for block in fits if not block.is_constant(fitted)]
        blocks = [block.with_unknown_entity() for block in blocks]
        # fixed-width text instead of Python objects, so that the ids can be saved without pickling
        return cls(ids.to_numpy() if ids.dtype == pl.Int64 else ids.to_numpy().astype(np.str_), counts, blocks)

    @property
    def n(self) -> int:
        return len(self.ids)

    def index(self, values: pl.Series) -> Int64:
        """Place of each external id ``(N,)``; ``n`` for one that is not here."""
        return _index(pl.Series(self.ids), values)


@final
class _Rows(NamedTuple):
    """Blocks side by side in the embedding table, one line per entity; of users and items the unknown one last."""

    rows: Int64
    weights: Float32
    fields: tuple[Field, ...]


def _index(ids: pl.Series, values: pl.Series) -> Int64:
    places = ids.alias("id").to_frame().with_row_index("place")
    found = values.alias("id").to_frame().join(places, on="id", how="left", maintain_order="left")["place"]
    return found.cast(pl.Int64).fill_null(len(ids)).to_numpy()


def _context_blocks(features: Sequence[Feature], log: pl.DataFrame, held: pl.DataFrame) -> list[Block]:
    fitted = np.arange(log.height + held.height) < log.height
    names = [feature.name for feature in features]
    rows = pl.concat([log.select(names), held.select(names)])
    blocks = [fit_block(feature, rows[feature.name], fitted, min_count=1) for feature in features]
    return [block for block in blocks if not block.is_constant(fitted)]


def _lay_out(blocks: Sequence[Block], n_lines: int, first_row: int) -> tuple[_Rows, int]:
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
        fields.append(Field(block.name, column, block.codes.shape[1]))
        column += block.codes.shape[1]
        first_row += block.size
    return _Rows(np.concatenate(rows, axis=1), np.concatenate(weights, axis=1), tuple(fields)), first_row


def _parts(split: Split, fit: Fit) -> tuple[Int64, Int64]:
    if fit == "train":
        return split.train, split.validation
    return np.sort(np.concatenate([split.train, split.validation])), split.test


def _check_labels(tables: Tables, tasks: Sequence[str], target: str, parts: Mapping[str, pl.DataFrame]) -> None:
    unknown = [task for task in (*tasks, target) if task not in tables.tasks]
    if unknown or not tasks:
        raise DataError(
            f"tasks.ranked and tasks.target must name label columns of {tables.name}, {list(tables.tasks)}; "
            f"got ranked = {list(tasks)}, target = {target!r}."
        )
    for part, frame in parts.items():
        for task in tasks:
            if frame[task].drop_nulls().n_unique() < 2:
                raise DataError(
                    f"task {task} of {tables.name} must have two or more classes in the {part} rows, got "
                    f"{_class_counts(frame[task])}; drop it from tasks.ranked or give the part more rows."
                )
        if not (frame[target] > 0).any():
            raise DataError(
                f"target {target} of {tables.name} must have a positive in the {part} rows, got "
                f"{_class_counts(frame[target])}; choose another tasks.target or give the part more rows."
            )


def _class_counts(labels: pl.Series) -> str:
    counts = labels.value_counts(sort=True).rows()
    return ", ".join(f"{'missing' if value is None else f'{value:g}'}: {count} rows" for value, count in counts)


def _part(
    frame: pl.DataFrame, users: _Entities, items: _Entities, context: Int64, tasks: Sequence[str], target: str
) -> Part:
    labels = frame.select(pl.col([*tasks, target]).fill_null(float("nan")))
    return Part(
        users=users.index(frame[Columns.USER]),
        items=items.index(frame[Columns.ITEM]),
        context=context,
        labels=np.ascontiguousarray(labels.select(tasks).to_numpy()),
        statistics=np.zeros((frame.height, 0), dtype=np.float32),
        target=labels[target].to_numpy(),
        time=frame[Columns.TIME].to_numpy(),
    )


def _relevant(held_out: Part, seen: Csr, item_counts: Int64) -> tuple[Csr, dict[str, int]]:
    """Held-out positives of known users and items, and the counts of those that a list cannot hit."""
    n_users, n_items = seen.n_rows - 1, len(item_counts)
    positive = held_out.target > 0
    cold_user, unknown_item = held_out.users == n_users, held_out.items == n_items
    already_seen = seen.contains(held_out.users, held_out.items)
    hittable = positive & ~cold_user & ~unknown_item
    never_trained = np.append(item_counts == 0, True)[held_out.items]
    notes = {
        "n_cold_user_rows": cold_user,
        "n_cold_item_rows": never_trained,
        "n_cold_user_positives": positive & cold_user,
        "n_unknown_item_positives": positive & ~cold_user & unknown_item,
        "n_seen_positives": positive & ~cold_user & ~unknown_item & already_seen,
    }
    relevant = Csr.from_pairs(held_out.users[hittable], held_out.items[hittable], n_rows=seen.n_rows)
    return relevant, {name: int(rows.sum()) for name, rows in notes.items()}


@final
class _Sides(NamedTuple):
    """Where the value of a statistics key is found, for a row and for a served user or item."""

    by_user: _Rows
    by_item: _Rows
    context_fields: tuple[Field, ...]
    context_mode: Int64

    def history(self, key: str, train: Part, held_out: Part) -> History:
        """Codes of one key, such as ``author_id`` or ``user+tab``; of several values the first one counts."""
        known = {"user": "user", "item": "item"}
        known |= {field.name: "item" for field in self.by_item.fields[1:]}
        known |= {field.name: "user" for field in (*self.by_user.fields[1:], *self.context_fields)}
        names = [name.strip() for name in key.split("+")]
        sides = {known.get(name, "unknown") for name in names}
        if len(sides) != 1 or "unknown" in sides:
            raise ConfigError(
                f"data.statistics: {key!r} must be made of user-side fields "
                f"{sorted(n for n, side in known.items() if side == 'user')} or of item-side fields "
                f"{sorted(n for n, side in known.items() if side == 'item')}, joined by +."
            )
        side: Literal["user", "item"] = "item" if sides == {"item"} else "user"
        n_served = len((self.by_item if side == "item" else self.by_user).rows)
        served = np.zeros(n_served, dtype=np.int64)
        of_train, of_held = np.zeros(train.n_rows, dtype=np.int64), np.zeros(held_out.n_rows, dtype=np.int64)
        for name in names:
            values = [self._values(name, part) for part in (train, held_out, None)]
            span = 1 + max(int(v.max(initial=0)) for v in values)
            of_train, of_held = of_train * span + values[0], of_held * span + values[1]
            served = served * span + values[2]
        return History(key, side, of_train, of_held, served)

    def _values(self, name: str, part: Part | None) -> Int64:
        """Codes of one field for the rows of a part, or served (one per entity)."""
        for place, field in enumerate(self.context_fields):
            if field.name == name:
                mode = np.full(len(self.by_user.rows), self.context_mode[place])
                return mode if part is None else part.context[:, place]
        entities = self.by_user if name == "user" or name in {f.name for f in self.by_user.fields[1:]} else self.by_item
        column = next((f.first_column for f in entities.fields[1:] if f.name == name), None)
        codes = np.arange(len(entities.rows)) if column is None else entities.rows[:, column]
        if part is None:
            return codes
        return codes[part.users if entities is self.by_user else part.items]


def _last_positives(train: Part, item_history_row: Int64, n_users: int) -> Int64:
    """Rows of the items of each user's last target positives, latest first, int64 ``(U + 1, H)``."""
    liked = np.flatnonzero(train.target > 0)
    order = liked[np.lexsort((-liked, -train.time[liked], train.users[liked]))]
    pairs = np.column_stack([train.users[order], train.items[order]])
    _, first = np.unique(pairs, axis=0, return_index=True)
    order = order[np.sort(first)]  # a repeated item counts once, at its last time
    users = train.users[order]
    place = np.arange(len(order)) - np.searchsorted(users, users)
    kept = place < HISTORY_LENGTH
    out = np.zeros((n_users + 1, min(int(place.max(initial=0)) + 1, HISTORY_LENGTH)), dtype=np.int64)
    out[users[kept], place[kept]] = item_history_row[train.items[order[kept]]]
    return out


def _days(log: pl.DataFrame) -> Int64:
    """Calendar day of each row, as a number."""
    if Columns.DAY in log.columns:
        return log[Columns.DAY].cast(pl.Int32).cast(pl.Int64).to_numpy()
    return log[Columns.TIME].to_numpy() // SECONDS_PER_DAY


def _most_frequent(context: Int64) -> Int64:
    """The context that occurs most often as a whole, ``(Fc,)``; of equally frequent ones the first in order."""
    moments, counts = np.unique(context, axis=0, return_counts=True)
    return np.asarray(moments[np.argmax(counts)])


def _hash(tables: Tables, rows: Int64, held_rows: Int64, choices: str) -> str:
    digest = hashlib.sha256(f"{tables.sha256()} {choices} {len(rows)} ".encode())
    digest.update(rows.tobytes())
    digest.update(held_rows.tobytes())
    return digest.hexdigest()
