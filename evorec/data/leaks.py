"""Features that give a label away: what a single feature of the context, the user or the item tells about it.

A label that a feature tells almost perfectly was probably written after the label was known, e.g. a payment that tells
the purchase. A model learns it, all figures look excellent, and nothing of it is known when a list is requested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.data.dataset import Float64, Int64
from evorec.data.tables import Columns, Feature, Tables
from evorec.seeds import generator

ALMOST: Final = 0.95
"""Mean share of the positives and of the negatives that a feature tells, from which on it gives the label away."""
FEWEST: Final = 20
"""Rows of each class, at least: fewer agree with a feature by chance."""
MOST_ROWS: Final = 500_000
"""Training rows that are looked at; of more rows a random sample."""
BINS: Final = 64
"""Groups of equal size that a numeric feature is divided into, if it has more values."""


@final
@dataclass(frozen=True)
class Leak:
    """A feature that gives a label away.

    Attributes:
        side: ``context``, ``user`` or ``item``.
        feature: its name.
        label: that it tells.
        share: of a label of two classes the share of the rows whose label it tells, of numbers the share of the
            variance; 0..1.
    """

    side: str
    feature: str
    label: str
    share: float

    def __str__(self) -> str:
        told = f"{np.floor(1000 * self.share) / 10:g} %"
        key = {"context": "data.log.context", "user": "data.users.features", "item": "data.items.features"}[self.side]
        return (
            f'{self.side} feature "{self.feature}" tells label {self.label} in {told} of the training rows: is it '
            f"known when a list is requested? If not, remove it from {key}"
        )


def leaks(tables: Tables, rows: Int64, labels: Iterable[str]) -> list[Leak]:
    """The features that give a label away.

    A value of a feature predicts the class that most of the other rows with this value have; so a value of a single
    row, such as an id, tells nothing.

    Args:
        tables: all interactions.
        rows: row numbers of the training part, int64 ``(N,)``.
        labels: label columns.
    Cost: O(N) per feature and label.
    """
    if len(rows) > MOST_ROWS:
        rows = np.sort(generator(0, "rows for leaks").choice(rows, MOST_ROWS, replace=False))
    log = tables.interactions[rows]
    known = {label: log[label].cast(pl.Float64).to_numpy() for label in dict.fromkeys(labels) if label in tables.tasks}
    sides: tuple[tuple[str, str, pl.DataFrame | None, Sequence[Feature]], ...] = (
        ("context", "", log, tables.context),
        ("user", Columns.USER, tables.users, tables.user_features),
        ("item", Columns.ITEM, tables.items, tables.item_features),
    )
    found = []
    for side, key, table, features in sides:
        if table is None:
            continue
        for feature in features:
            column = table[feature.name]
            if key:
                pair = table.select(key, feature.name)
                column = log.select(key).join(pair, on=key, how="left", maintain_order="left")[feature.name]
            codings = list(_codings(column, feature.kind))
            for label, values in known.items():
                share = max((_told(codes, values) for codes in codings), default=0.0)
                if share >= ALMOST:
                    found.append(Leak(side, feature.name, label, share))
    return found


def _codings(column: pl.Series, kind: str) -> Iterable[Int64]:
    """Groups of equal values ``(N,)``; of lists whether they have any value, and their values as a whole."""
    if kind == "numeric":
        numbers = column.cast(pl.Float64).fill_nan(None)
        if numbers.n_unique() > BINS:
            ranks = numbers.rank("dense").to_numpy()
            edges = np.nanquantile(ranks, np.linspace(0, 1, BINS + 1)[1:-1])
            yield np.where(np.isnan(ranks), -1, np.searchsorted(edges, ranks)).astype(np.int64)
        yield numbers.is_null().cast(pl.Int64).to_numpy()
        column = numbers if numbers.n_unique() <= BINS else numbers.gt(0).cast(pl.Int64)
    elif kind == "multi_hot":
        yield (column.list.len().fill_null(0) > 0).cast(pl.Int64).to_numpy()
        column = column.hash()
    yield column.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _told(codes: Int64, values: npt.NDArray[np.floating]) -> float:
    """Share of a label that groups of rows tell; 0 for too few rows."""
    there = ~np.isnan(values)
    groups, label = np.unique(codes[there], return_inverse=True)[1], values[there]
    if not np.isin(label, (0.0, 1.0)).all():
        return _variance_told(groups, label)
    positive = label == 1
    if min(positive.sum(), (~positive).sum()) < FEWEST:
        return 0.0
    n = np.bincount(groups)[groups] - 1  # the other rows of the group
    others = np.bincount(groups, label)[groups] - label
    right = np.where(2 * others == n, 0.5, (2 * others > n) == positive)
    balanced = (right[positive].mean() + right[~positive].mean()) / 2
    return float(right.mean()) if balanced >= ALMOST else 0.0


def _variance_told(groups: Int64, label: Float64) -> float:
    """Share of the variance of numbers that the mean of the other rows of a group explains."""
    n = np.bincount(groups)[groups] - 1
    total = ((label - label.mean()) ** 2).sum()
    if len(label) < 2 * FEWEST or total == 0:
        return 0.0
    others = np.where(n > 0, (np.bincount(groups, label)[groups] - label) / np.maximum(n, 1), label.mean())
    return float(1 - ((label - others) ** 2).sum() / total)
