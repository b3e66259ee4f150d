"""From tables to the arrays that training and metrics use; everything is fitted on the training rows only.

A feature value of a single training user (or item) says no more than the id and counts as unknown. A feature
that is the same for all of them is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import COOCCURRENCE, CooccurrenceContent, TaskKind
from evorec.data.content.cooccurrence import cooccurrence_vectors
from evorec.data.dataset import Csr, Dataset, Field, Int64, Part
from evorec.data.features import Block, content_vectors, fit_block, id_block, lay_out
from evorec.data.funnel import funnel_parents
from evorec.data.labels import checked_labels, label_scales, standardised
from evorec.data.negatives import with_negatives
from evorec.data.pasts import latest_first
from evorec.data.sorting import begins, index_in
from evorec.data.splits import Split
from evorec.data.statistics import Sides, history
from evorec.data.statistics import statistics as fit_statistics
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature, ItemVectors, Tables, id_array
from evorec.seeds import generator

Fit = Literal["train", "train+validation", "train for test", "all"]
"""train = search (held out: validation); train+validation = final training (held out: test); train for test = the
same without validation; all = shipping, where the held-out rows are those of the test, which are trained on, too."""


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
    negatives: int = 0,
    seed: int = 0,
) -> Dataset:
    """Encode a data set for a fit; rows outside the two parts in use are not read.

    Args:
        tables: all interactions.
        split: row numbers of the parts.
        tasks: ranked label columns, in order; empty = retrieval only.
        target: label column whose positives (> 0) are retrieved; empty for a table of rows, in which nothing is.
        fit: ``train`` holds out validation, ``train+validation`` and ``train for test`` hold out test, ``all`` trains
            on every row.
        statistics: keys of dense statistics: ``user``, ``item``, a feature, or several joined by ``+``, all of them of
            the user and the moment or all of the item.
        history_length: H, latest positives of a user in the retrieval vector; history_recency: how their weights fall.
        funnel: ranked tasks in order; a positive implies a positive of all tasks before it.
        given: ranked task -> label whose positives are the only rows it is learned and measured on; elsewhere the
            task's label counts as missing.
        kinds: ranked task -> kind of its labels; binary by default. Numbers are standardised.
        cooccurrence: adds vectors of who met an item to the content; ``None`` = none.
        negatives: items drawn at random per positive row, which the user has not met, as rows with label 0 of the
            binary tasks without a condition in `given`; 0 = none. They are rows of the ranker alone.
        seed: of these draws.
    Statistics need times and are left out without them, and so is the recency of histories without an order.

    Raises:
        ConfigError: an unknown task or statistic.
        DataError: a task with a single class or number, or no target positive, in either part; a row against the
            funnel.
    """
    moment = tables.context if tasks else ()  # only the ranker reads context and statistics
    if tables.times != "seconds" or not tasks:
        statistics = ()  # counts and rates of earlier days
    if tables.times == "none":
        history_recency = 0.0
    if not tables.has_items:
        statistics, history_length = (), 0
    rows, held_rows = rows_of_fit(split, fit)
    log, held = tables.interactions[rows], tables.interactions[held_rows]
    kinds = {task: kinds.get(task, "binary") for task in tasks}
    names_of_parts = {"train": ("training", "validation"), "train for test": ("training", "test")}.get(
        fit, ("training and validation", "test")
    )
    parts = dict(zip(names_of_parts, (rows, held_rows), strict=True))
    sampled = [task for task in tasks if negatives and kinds[task] == "binary" and task not in given]
    labels = checked_labels(tables, parts, kinds=kinds, target=target, funnel=funnel, given=given, sampled=sampled)
    task_kinds = tuple(kinds.values())
    shift, scale = label_scales(labels[0], task_kinds)

    if tables.has_items:
        users = _Entities.of(Columns.USER, log, tables.users, tables.user_features, catalogue=False)
        items = _Entities.of(Columns.ITEM, log, tables.items, tables.item_features, catalogue=True)
    else:
        users = items = _Entities.none(log.height)
    by_user, next_row = lay_out(users.blocks, users.n + 1, first_row=1)
    by_item, next_row = lay_out(items.blocks, items.n + 1, first_row=next_row)
    names = [feature.name for feature in moment]
    context_rows = pl.concat([log.select(names), held.select(names)])
    is_trained = np.arange(log.height + held.height) < log.height
    # Numbers of a row keep their place between two knots: they are its only inputs, and bins would lose too much.
    linear = not tables.has_items
    fits = [fit_block(f, context_rows[f.name], is_trained, min_count=1, linear=linear) for f in moment]
    context = [block for block in fits if not block.is_constant(is_trained)]
    by_row, n_rows = lay_out(context, log.height + held.height, first_row=next_row)
    del context_rows, fits, context  # as large as the log

    def part(frame: pl.DataFrame, labels: pl.DataFrame, users: Int64, items: Int64, rows: slice) -> Part:
        known = standardised(labels, task_kinds, shift, scale).select(pl.col(tasks).fill_null(float("nan")))
        values = known.to_numpy() if tasks else np.zeros((frame.height, 0), dtype=np.float32)
        return Part(
            users=users,
            items=items,
            context=by_row.rows[rows],
            labels=np.ascontiguousarray(values),
            statistics=np.zeros((frame.height, 0), dtype=np.float32),
            target=frame[target].fill_null(float("nan")).to_numpy()
            if target
            else np.full(frame.height, np.nan, dtype=np.float32),
            time=frame[Columns.TIME].to_numpy(),
            context_weights=None if tables.has_items else by_row.weights[rows],
        )

    train = part(log, labels[0], users.rows, items.rows, slice(log.height))
    held_users, held_items = users.index(held[Columns.USER]), items.index(held[Columns.ITEM])
    held_out = part(held, labels[1], held_users, held_items, slice(log.height, None))

    context_mode, days = _most_frequent(train.context), _days(log)
    n_met = train.n_rows if tables.has_items else 0  # rows without items meet none
    seen = Csr.from_pairs(train.users[:n_met], train.items[:n_met], n_rows=users.n + 1)
    relevant, lost = _relevant(held_out, seen, items.counts) if tables.has_items else (seen, {})
    ranked_train, ranked_held = train, held_out
    if sampled:
        columns = np.array([list(tasks).index(task) for task in sampled])
        inside = held_out.items < items.n
        pairs = [np.concatenate([np.repeat(np.arange(users.n + 1), seen.counts()), held_out.users[inside]])]
        pairs.append(np.concatenate([seen.indices, held_out.items[inside]]))
        draw = partial(with_negatives, sampled=columns, per_positive=negatives, n_items=items.n)
        ranked_train, own = draw(train, seen, rng=generator(seed, "sampled negatives", 0))
        ranked_held, _ = draw(
            held_out, Csr.from_pairs(*pairs, n_rows=users.n + 1), rng=generator(seed, "sampled negatives", 1)
        )
        days = days[own]
    sides = Sides(by_user, by_item, by_row.fields, context_mode)
    dense = fit_statistics(
        [history(key, sides, ranked_train, ranked_held) for key in statistics],
        days,
        ranked_train.labels,
        tasks,
        n_users=users.n,
        n_items=items.n,
        numbers=[task for task, kind in kinds.items() if kind != "binary"],
    )
    learned = []
    if cooccurrence is not None:
        rows_met = np.ones(train.n_rows, dtype=np.bool_) if cooccurrence.rows == "all" else train.target > 0
        where = f"data.content.{COOCCURRENCE}"
        met = train.users[rows_met], train.items[rows_met]
        values = cooccurrence_vectors(*met, n_users=users.n, n_items=items.n, source=cooccurrence, where=where)
        learned = [ItemVectors(COOCCURRENCE, pl.Series(items.ids), values, sha256="")]
    item_content, content_parts = content_vectors(tables, items.ids, learned)
    liked = train.target > 0
    item_history_row = np.append(n_rows + np.arange(items.n), 0)  # the unknown item has no row
    n_ids = 2 if tables.has_items else 0  # ids are fields, not features
    n_kept = sum(len(known.fields) for known in (by_user, by_item, by_row)) - n_ids
    n_declared = sum(len(known) for known in (tables.user_features, tables.item_features, moment))

    further = sorted((task, str(kind)) for task, kind in kinds.items() if kind != "binary")
    further += [("negatives", f"{negatives} {seed}")] if sampled else []
    further += [] if cooccurrence is None else [(COOCCURRENCE, str(cooccurrence))]
    chosen = (tuple(tasks), target, tuple(funnel), sorted(given.items()), fit, tuple(statistics))
    # `further` is empty by default, which keeps the hash of earlier versions
    choices = (*chosen, history_length, history_recency, *further)
    digest = hashlib.sha256(f"{tables.sha256()} {choices} {len(rows)} ".encode())
    digest.update(rows.tobytes())
    digest.update(held_rows.tobytes())
    return Dataset(
        name=tables.name,
        tasks=tuple(tasks),
        parents=funnel_parents(tasks, funnel),
        kinds=task_kinds,
        label_shift=shift,
        label_scale=scale,
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
        context_mode=context_mode,
        history_rows=_last_positives(train, item_history_row, users.n, history_length),
        history_recency=history_recency,
        item_history_row=item_history_row,
        user_statistics=dense.users,
        item_statistics=dense.items,
        statistics=dense.names,
        item_content=item_content,
        content_parts=content_parts,
        train=replace(ranked_train, statistics=dense.train),
        held_out=replace(ranked_held, statistics=dense.held_out) if dense.names else ranked_held,
        seen=seen,
        history=Csr.from_pairs(train.users[liked], train.items[liked], n_rows=users.n + 1),
        relevant=relevant,
        item_counts=items.counts,
        target_counts=np.bincount(train.items[liked], minlength=items.n),
        notes={
            **lost,
            **(
                {"n_cold_users": held[Columns.USER].filter(pl.Series(held_users == users.n)).n_unique()}
                if tables.has_items
                else {}
            ),
            "n_constant_fields": n_declared - n_kept,
            **({"n_sampled_negatives": ranked_held.n_rows - held_out.n_rows} if sampled else {}),
        },
        sha256=digest.hexdigest(),
        context_columns=by_row.fields,
        declared=tuple(_declared(tables, content_parts)),
        no_statistics=dense.nothing,
        times=tables.times,
    )


@final
@dataclass(frozen=True, eq=False)
class _Entities:
    """Users or items.

    Args:
        known: external ids, ascending ``(n,)``; ids: the same as an array.
        rows: index of each training row's id, int64 ``(N,)``.
        counts: training rows of each id, int64 ``(n,)``.
        blocks: their features, with the unknown entity last.
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
        rows = index_in(ids, log[column], missing=len(ids))
        counts = np.bincount(rows, minlength=len(ids))
        fitted = counts > 0
        blocks = [id_block(column, fitted)]
        if table is not None and features:
            names = [feature.name for feature in features]
            described = ids.to_frame().join(table.select(column, *names), on=column, how="left", maintain_order="left")
            fits = [fit_block(feature, described[feature.name], fitted, min_count=2) for feature in features]
            blocks += [block for block in fits if not block.is_constant(fitted)]
        blocks = [block.with_unknown_entity() for block in blocks]
        return cls(ids, id_array(ids), rows, counts, blocks)

    @classmethod
    def none(cls, n_rows: int) -> _Entities:
        """No entity: all rows belong to the unknown entity, which has no feature."""
        ids, no_rows = pl.Series([], dtype=pl.Int64), np.zeros(0, dtype=np.int64)
        return cls(ids, no_rows, np.zeros(n_rows, dtype=np.int64), no_rows, [])

    @property
    def n(self) -> int:
        return len(self.ids)

    def index(self, values: pl.Series) -> Int64:
        """Index of each external id ``(N,)``; ``n`` for an unknown id."""
        return index_in(self.known, values, missing=self.n)


def rows_of_fit(split: Split, fit: Fit) -> tuple[Int64, Int64]:
    """Row numbers of the training rows of a fit, and of the held-out rows, both ascending."""
    if fit in ("train", "train for test"):
        return split.train, split.validation if fit == "train" else split.test
    parts = [split.train, split.validation, *([split.test] if fit == "all" else [])]
    return np.sort(np.concatenate(parts)), split.test


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
    order = liked[latest_first(train.users[liked], train.items[liked], train.time[liked])]
    users = train.users[order]
    first = np.flatnonzero(begins(users))
    rank = np.arange(len(order)) - np.repeat(first, np.diff(first, append=len(order)))
    kept = rank < length
    out = np.zeros((n_users + 1, min(int(rank.max(initial=0)) + 1, length)), dtype=np.int64)
    out[users[kept], rank[kept]] = item_history_row[train.items[order[kept]]]
    return out


def _days(log: pl.DataFrame) -> Int64:
    """Calendar day of each row, as a number."""
    if Columns.DAY in log.columns:
        return log[Columns.DAY].cast(pl.Int32).cast(pl.Int64).to_numpy()
    return log[Columns.TIME].to_numpy() // SECONDS_PER_DAY


def _declared(tables: Tables, content_parts: Sequence[Field]) -> Iterator[tuple[str, str]]:
    """Side and name of everything that describes a user, an item or the moment, independent of the training rows."""
    sides = {"user": tables.user_features, "item": tables.item_features, "context": tables.context}
    for side, features in sides.items():
        yield from ((side, feature.name) for feature in features)
    sources, parts = (vectors.name for vectors in tables.vectors), (part.name for part in content_parts)
    yield from (("content", name) for name in dict.fromkeys((*tables.content, *sources, *parts)))


def _most_frequent(context: Int64) -> Int64:
    """The context that occurs most often as a whole, ``(Fc,)``; of equally frequent contexts the first in order."""
    frame = pl.DataFrame(context)
    if not frame.width:
        return np.zeros(0, dtype=np.int64)
    counts = frame.group_by(frame.columns).len()
    most = counts.filter(pl.col("len") == pl.col("len").max()).drop("len").sort(frame.columns)
    return np.asarray(most.head(1).to_numpy()[0])
