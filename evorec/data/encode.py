"""From tables to the arrays that training and metrics use; everything is fitted on the training rows alone.

A feature value that only one training user (or item) has says no more than the id and counts as unknown. A feature
that is the same for all of them is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import COOCCURRENCE, CooccurrenceContent, TaskKind
from evorec.data.content.cooccurrence import cooccurrence_vectors
from evorec.data.dataset import Csr, Dataset, Int64, Part
from evorec.data.features import Block, Content, FieldRows, content_vectors, fit_block, id_block, lay_out
from evorec.data.funnel import funnel_parents
from evorec.data.labels import LabelScales, checked_labels
from evorec.data.sorting import begins, stable_order
from evorec.data.splits import Split
from evorec.data.statistics import Sides, Statistics, history
from evorec.data.statistics import statistics as fit_statistics
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature, ItemVectors, Tables

Fit = Literal["train", "train+validation"]
"""train = search (held out: validation); train+validation = final training (held out: test)."""


def encode(
    tables: Tables,
    split: Split,
    *,
    tasks: Sequence[str],
    target: str,
    fit: Fit,
    statistics: Sequence[str] = (),
    history_length: int = 30,
    history_recency: float = 0.0,
    funnel: Sequence[str] = (),
    given: Mapping[str, str] = MappingProxyType({}),
    kinds: Mapping[str, TaskKind] = MappingProxyType({}),
    cooccurrence: CooccurrenceContent | None = None,
) -> Dataset:
    """Encode one data set for a fit; rows outside the two parts in use are never looked at.

    Args:
        tables: all interactions.
        split: row numbers of the parts.
        tasks: ranked label columns, in order.
        target: label column whose positives (> 0) are retrieved.
        fit: ``train`` holds out validation, ``train+validation`` holds out test.
        statistics: keys of dense statistics: ``user``, ``item``, a feature, or several joined by ``+``, all of them of
            the user and the moment or all of the item.
        history_length: H, latest positives of a user in the retrieval vector; history_recency: how their weights fall.
        funnel: ranked tasks in order; a positive of one implies a positive of all before it.
        given: ranked task -> label whose positives are the only rows it is learned and measured on; elsewhere the
            task's label counts as missing.
        kinds: ranked task -> what its labels are; binary where nothing is said. Numbers are standardised.
        cooccurrence: adds vectors of who met an item to the content; ``None`` = none.
    Raises:
        ConfigError: an unknown task or statistic.
        DataError: a task with one class or number, or no target positive, in either part; a row against the funnel.
    """
    rows, held_rows = rows_of_fit(split, fit)
    log, held = tables.interactions[rows], tables.interactions[held_rows]
    parts = {"training": rows, "held-out": held_rows}
    known: dict[str, TaskKind] = {task: kinds.get(task, "binary") for task in tasks}
    labels = checked_labels(tables, parts, kinds=known, target=target, funnel=funnel, given=given)
    scales = LabelScales.fitted(labels[0], tuple(known.values()))
    encoder = _Encoder.fitted(tables, tuple(tasks), scales, funnel_parents(tasks, funnel), target, log, held)
    train = encoder.part(log, labels[0], encoder.users.rows, encoder.items.rows, first_row=0)
    places = encoder.users.index(held[Columns.USER]), encoder.items.index(held[Columns.ITEM])
    held_out = encoder.part(held, labels[1], *places, first_row=log.height)
    context_mode = _most_frequent(train.context)
    names = (tuple(tasks), target, tuple(funnel), sorted(given.items()), fit, tuple(statistics))
    choices = (*names, history_length, history_recency, *_further_choices(known, cooccurrence))
    return encoder.dataset(
        train,
        held_out,
        encoder.statistics(statistics, _days(log), train, held_out, context_mode),
        context_mode=context_mode,
        notes={"n_cold_users": encoder.n_cold_users(held, places[0]), "n_constant_fields": encoder.n_constant_fields},
        sha256=_hash(tables, rows, held_rows, str(choices)),
        history_rows=_last_positives(train, encoder.item_history_row, encoder.users.n, history_length),
        history_recency=history_recency,
        content=encoder.content(train, cooccurrence),
    )


@final
@dataclass(frozen=True, eq=False)
class _Encoder:
    """What the training rows decide: who is known, and which row of the embedding table stands for which value."""

    tables: Tables
    tasks: tuple[str, ...]
    scales: LabelScales
    parents: tuple[int, ...]
    target: str
    users: _Entities
    items: _Entities
    by_user: FieldRows
    by_item: FieldRows
    by_row: FieldRows
    n_rows: int

    @classmethod
    def fitted(
        cls,
        tables: Tables,
        tasks: tuple[str, ...],
        scales: LabelScales,
        parents: tuple[int, ...],
        target: str,
        log: pl.DataFrame,
        held: pl.DataFrame,
    ) -> _Encoder:
        """Fitted on the rows of `log`; of `held` only the contexts are looked up."""
        users = _Entities.of(Columns.USER, log, tables.users, tables.user_features, catalogue=False)
        items = _Entities.of(Columns.ITEM, log, tables.items, tables.item_features, catalogue=True)
        context = _context_blocks(tables.context, log, held)
        by_user, next_row = lay_out(users.blocks, users.n + 1, first_row=1)
        by_item, next_row = lay_out(items.blocks, items.n + 1, first_row=next_row)
        by_row, n_rows = lay_out(context, log.height + held.height, first_row=next_row)
        return cls(tables, tasks, scales, parents, target, users, items, by_user, by_item, by_row, n_rows)

    @property
    def n_constant_fields(self) -> int:
        """Features that were left out because they are the same for all fitted rows."""
        tables = self.tables
        declared = sum(len(f) for f in (tables.user_features, tables.item_features, tables.context))
        kept = sum(len(rows.fields) for rows in (self.by_user, self.by_item, self.by_row))
        return declared - (kept - 2)  # the two ids are fields, not features

    def n_cold_users(self, frame: pl.DataFrame, users: Int64) -> int:
        """Users of a part who have no training row; ``users (N,)`` as in `Part`."""
        return frame[Columns.USER].filter(pl.Series(users == self.users.n)).n_unique()

    @property
    def item_history_row(self) -> Int64:
        """The row that stands for an item in a history ``(I + 1,)``; the unknown item has none."""
        return np.append(self.n_rows + np.arange(self.items.n), 0)

    def part(self, frame: pl.DataFrame, labels: pl.DataFrame, users: Int64, items: Int64, *, first_row: int) -> Part:
        """One part, without statistics; its contexts stand in `by_row` from `first_row` on."""
        known = self.scales.standardised(labels).select(pl.col(self.tasks).fill_null(float("nan")))
        return Part(
            users=users,
            items=items,
            context=self.by_row.rows[first_row : first_row + frame.height],
            labels=np.ascontiguousarray(known.to_numpy()),
            statistics=np.zeros((frame.height, 0), dtype=np.float32),
            target=frame[self.target].fill_null(float("nan")).to_numpy(),
            time=frame[Columns.TIME].to_numpy(),
        )

    def statistics(
        self, keys: Sequence[str], days: Int64, train: Part, held_out: Part, context_mode: Int64
    ) -> Statistics:
        """Dense statistics of both parts; ``days (N,)`` of the training rows."""
        sides = Sides(self.by_user, self.by_item, self.by_row.fields, context_mode)
        histories = [history(key, sides, train, held_out) for key in keys]
        numbers = [task for task, kind in zip(self.tasks, self.scales.kinds, strict=True) if kind != "binary"]
        sizes = {"n_users": self.users.n, "n_items": self.items.n}
        return fit_statistics(histories, days, train.labels, self.tasks, numbers=numbers, **sizes)

    def content(self, train: Part, cooccurrence: CooccurrenceContent | None) -> Content:
        """Fixed vectors of the items; those of co-occurrence are fitted on the training rows."""
        ids = self.items.ids
        if cooccurrence is None:
            return content_vectors(self.tables, ids)
        rows = np.ones(train.n_rows, dtype=np.bool_) if cooccurrence.rows == "all" else train.target > 0
        values = cooccurrence_vectors(
            train.users[rows],
            train.items[rows],
            n_users=self.users.n,
            n_items=self.items.n,
            source=cooccurrence,
            where=f"data.content.{COOCCURRENCE}",
        )
        learned = ItemVectors(COOCCURRENCE, pl.Series(ids), values, sha256="")
        return content_vectors(self.tables, ids, [learned])

    def dataset(
        self,
        train: Part,
        held_out: Part,
        known: Statistics,
        *,
        context_mode: Int64,
        notes: Mapping[str, int],
        sha256: str,
        history_rows: Int64,
        history_recency: float,
        content: Content,
    ) -> Dataset:
        """Both parts with their statistics, and the sets of items that follow from them."""
        users, items = self.users, self.items
        liked = train.target > 0
        seen = Csr.from_pairs(train.users, train.items, n_rows=users.n + 1)
        relevant, lost = _relevant(held_out, seen, items.counts)
        return Dataset(
            name=self.tables.name,
            tasks=self.tasks,
            parents=self.parents,
            kinds=self.scales.kinds,
            label_shift=self.scales.shift,
            label_scale=self.scales.scale,
            target=self.target,
            n_users=users.n,
            n_items=items.n,
            user_ids=users.ids,
            item_ids=items.ids,
            n_rows=self.n_rows + items.n,
            user_rows=self.by_user.rows,
            user_weights=self.by_user.weights,
            item_rows=self.by_item.rows,
            item_weights=self.by_item.weights,
            user_fields=self.by_user.fields,
            item_fields=self.by_item.fields,
            context_fields=tuple(field.name for field in self.by_row.fields),
            context_mode=context_mode,
            history_rows=history_rows,
            history_recency=history_recency,
            item_history_row=self.item_history_row,
            user_statistics=known.users,
            item_statistics=known.items,
            statistics=known.names,
            item_content=content.vectors,
            content_parts=content.parts,
            train=replace(train, statistics=known.train),
            held_out=replace(held_out, statistics=known.held_out) if known.names else held_out,
            seen=seen,
            history=Csr.from_pairs(train.users[liked], train.items[liked], n_rows=users.n + 1),
            relevant=relevant,
            item_counts=items.counts,
            target_counts=np.bincount(train.items[liked], minlength=items.n),
            notes={**lost, **notes},
            sha256=sha256,
            context_columns=self.by_row.fields,
            declared=tuple(_declared(self.tables, content)),
            no_statistics=known.nothing,
        )


@final
@dataclass(frozen=True, eq=False)
class _Entities:
    """Users or items.

    Args:
        known: external ids, ascending ``(n,)``; ids: the same as an array.
        rows: place of each training row's id, int64 ``(N,)``.
        counts: training rows of each id, int64 ``(n,)``.
        blocks: their features, of an unknown one too.
    """

    known: pl.Series
    ids: npt.NDArray[Any]
    rows: Int64
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
        rows = _index(ids, log[column])
        counts = np.bincount(rows, minlength=len(ids))
        fitted = counts > 0
        blocks = [id_block(column, fitted)]
        if table is not None and features:
            names = [feature.name for feature in features]
            described = ids.to_frame().join(table.select(column, *names), on=column, how="left", maintain_order="left")
            fits = [fit_block(feature, described[feature.name], fitted, min_count=2) for feature in features]
            blocks += [block for block in fits if not block.is_constant(fitted)]
        blocks = [block.with_unknown_entity() for block in blocks]
        # fixed-width text instead of Python objects, so that the ids can be saved without pickling
        array = ids.to_numpy() if ids.dtype == pl.Int64 else ids.to_numpy().astype(np.str_)
        return cls(ids, array, rows, counts, blocks)

    @property
    def n(self) -> int:
        return len(self.ids)

    def index(self, values: pl.Series) -> Int64:
        """Place of each external id ``(N,)``; ``n`` for one that is not here."""
        return _index(self.known, values)


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


def rows_of_fit(split: Split, fit: Fit) -> tuple[Int64, Int64]:
    """Row numbers of the training rows of a fit, and of the held-out ones, both ascending."""
    if fit == "train":
        return split.train, split.validation
    return np.sort(np.concatenate([split.train, split.validation])), split.test


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


def _last_positives(train: Part, item_history_row: Int64, n_users: int, length: int) -> Int64:
    """Rows of the items of each user's last target positives, latest first, int64 ``(U + 1, H)``."""
    liked = np.flatnonzero(train.target > 0)
    order = liked[stable_order(train.time[liked])][::-1]
    order = order[stable_order(train.users[order])]
    pairs = train.users[order] * len(item_history_row) + train.items[order]
    order = order[pl.Series(pairs).is_first_distinct().to_numpy()]  # a repeated item counts once, at its last time
    users = train.users[order]
    first = np.flatnonzero(begins(users))
    place = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    kept = place < length
    out = np.zeros((n_users + 1, min(int(place.max(initial=0)) + 1, length)), dtype=np.int64)
    out[users[kept], place[kept]] = item_history_row[train.items[order[kept]]]
    return out


def _days(log: pl.DataFrame) -> Int64:
    """Calendar day of each row, as a number."""
    if Columns.DAY in log.columns:
        return log[Columns.DAY].cast(pl.Int32).cast(pl.Int64).to_numpy()
    return log[Columns.TIME].to_numpy() // SECONDS_PER_DAY


def _declared(tables: Tables, content: Content) -> Iterator[tuple[str, str]]:
    """Side and name of everything that describes a user, an item or the moment, whatever the training rows are."""
    sides = {"user": tables.user_features, "item": tables.item_features, "context": tables.context}
    for side, features in sides.items():
        yield from ((side, feature.name) for feature in features)
    sources, parts = (vectors.name for vectors in tables.vectors), (part.name for part in content.parts)
    yield from (("content", name) for name in dict.fromkeys((*tables.content, *sources, *parts)))


def _most_frequent(context: Int64) -> Int64:
    """The context that occurs most often as a whole, ``(Fc,)``; of equally frequent ones the first in order."""
    frame = pl.DataFrame(context)
    if not frame.width:
        return np.zeros(0, dtype=np.int64)
    counts = frame.group_by(frame.columns).len()
    most = counts.filter(pl.col("len") == pl.col("len").max()).drop("len").sort(frame.columns)
    return np.asarray(most.head(1).to_numpy()[0])


def _further_choices(
    kinds: Mapping[str, TaskKind], cooccurrence: CooccurrenceContent | None
) -> Iterator[tuple[str, str]]:
    """Those that are not made by default, which leave the hash as it is."""
    yield from sorted((task, str(kind)) for task, kind in kinds.items() if kind != "binary")
    if cooccurrence is not None:
        yield COOCCURRENCE, str(cooccurrence)


def _hash(tables: Tables, rows: Int64, held_rows: Int64, choices: str) -> str:
    digest = hashlib.sha256(f"{tables.sha256()} {choices} {len(rows)} ".encode())
    digest.update(rows.tobytes())
    digest.update(held_rows.tobytes())
    return digest.hexdigest()
