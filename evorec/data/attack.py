"""Shilling attacks: fake users, added to the training rows only, who promote a few items with few interactions.

Every fake row is a copy of a genuine row with another user, item and time, so that its labels are consistent and its
context is plausible. A fake user has the features of a genuine user.

Source: Lam & Riedl 2004 (random and average attack); Mobasher et al. 2007 (bandwagon attack).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import AttackConfig
from evorec.data.dataset import Int64
from evorec.data.encode import Fit, rows_of_fit
from evorec.data.sorting import stable_order
from evorec.data.splits import Split
from evorec.data.tables import Columns, Tables, id_array
from evorec.errors import DataError
from evorec.seeds import generator

RARE_SHARE = 0.25
"""Targets are drawn from this share of the items with a training row, those with the fewest."""


@final
@dataclass(frozen=True, eq=False)
class AttackedData:
    """A data set with fake users.

    Args:
        tables: the genuine rows with their row numbers, and the rows of the fake users after them.
        split: the same parts, with the new rows in training.
        targets: external ids of the promoted items, ascending.
    """

    tables: Tables
    split: Split
    targets: npt.NDArray[Any]


def attack(tables: Tables, split: Split, config: AttackConfig, *, fit: Fit, target: str) -> AttackedData:
    """Adds fake users to the training rows.

    Each fake user has a row with each target item, copied from a row that is positive for `target`, and `filler` rows
    with different other items. ``random``: any items, copied from any rows. ``average``: any items, each copied from a
    row of its own. ``bandwagon``: half of them, rounded up, the items with most positives, copied from such rows; the
    others as in ``random``.

    Args:
        tables: all interactions.
        split: row numbers of the parts; validation and test stay as they are.
        config: kind, size and seed; the same in every run and for every member.
        fit: which parts are trained on.
        target: label column whose positives promote an item.
    Raises:
        DataError: there are not more trained items than targets, or no training row is positive for `target`.
    """
    log = tables.interactions[rows_of_fit(split, fit)[0]]
    items, item_of_row = np.unique(id_array(log[Columns.ITEM]), return_inverse=True)
    every = _RowsByItem(np.arange(log.height), item_of_row, len(items))
    liked = _RowsByItem(np.flatnonzero((log[target] > 0).fill_null(value=False).to_numpy()), item_of_row, len(items))
    n_targets = config.n_targets
    if len(items) <= n_targets:
        raise DataError(
            f"evaluation.attack.n_targets must be below the {len(items)} items of {tables.name} that have a training "
            f"row, got {n_targets}."
        )
    if len(liked.rows) == 0:
        raise DataError(
            f"an attack on {tables.name} copies training rows with {target} > 0, and there are none; choose another "
            "target, or leave attack_shift@k out."
        )
    rare = stable_order(every.counts)[: max(n_targets, ceil(RARE_SHARE * len(items)))]
    targets = np.sort(generator(config.seed, "attack targets").choice(rare, n_targets, replace=False))
    rng = generator(config.seed, "attack profiles")
    users, rows_of_user = np.unique(id_array(log[Columns.USER]), return_counts=True)
    n_fake = max(1, round(config.size_percent / 100 * len(users)))
    n_filler = min(config.filler or max(1, round(float(np.median(rows_of_user)))), len(items) - n_targets)

    promoted = np.tile(targets, (n_fake, 1))
    sources = [rng.choice(liked.rows, promoted.shape)]
    others = np.setdiff1d(np.arange(len(items)), targets)
    popular = np.zeros(0, dtype=np.int64)
    if config.kind == "bandwagon":
        best = others[stable_order(-liked.counts[others])][: ceil(n_filler / 2)]
        popular = best[liked.counts[best] > 0]
        others = np.setdiff1d(others, popular)
    n_drawn = n_filler - len(popular)
    drawn = np.stack([rng.choice(others, n_drawn, replace=False) for _ in range(n_fake)])
    known = np.tile(popular, (n_fake, 1))
    sources.append(liked.draw(known, rng))
    sources.append(every.draw(drawn, rng) if config.kind == "average" else rng.integers(0, log.height, drawn.shape))
    profiles = np.hstack([promoted, known, drawn])  # items of each fake user, (n_fake, n)

    fake_ids = _fake_ids(tables, n_fake)
    moments = log[rng.integers(0, log.height, profiles.size)]
    added = log[np.hstack(sources).ravel()].with_columns(
        fake_ids[np.repeat(np.arange(n_fake), profiles.shape[1])].alias(Columns.USER),
        pl.Series(Columns.ITEM, items[profiles.ravel()].tolist(), dtype=log.schema[Columns.ITEM]),
        *(moments[name] for name in (Columns.TIME, Columns.DAY) if name in log.columns),
    )
    described = _with_features(tables, fake_ids, rng.choice(users, n_fake))
    new = np.arange(tables.n_rows, tables.n_rows + added.height)
    return AttackedData(
        replace(tables, interactions=pl.concat([tables.interactions, added]), users=described),
        replace(split, train=np.concatenate([split.train, new])),
        items[targets],
    )


@final
class _RowsByItem:
    """Some training rows grouped by item.

    Args:
        rows: row numbers, ascending.
        item_of_row: index of the item of every training row.
        n_items: number of items.
    """

    def __init__(self, rows: Int64, item_of_row: Int64, n_items: int) -> None:
        self.rows = rows
        self.counts = np.bincount(item_of_row[rows], minlength=n_items)
        self._grouped = rows[stable_order(item_of_row[rows])]
        self._first = np.cumsum(self.counts) - self.counts

    def draw(self, items: Int64, rng: np.random.Generator) -> Int64:
        """A random row of each item; every item must have a row."""
        drawn: Int64 = (rng.random(items.shape) * self.counts[items]).astype(np.int64)
        return np.asarray(self._grouped[self._first[items] + drawn])


def _fake_ids(tables: Tables, n_fake: int) -> pl.Series:
    """New ids: above the largest number, or texts with a new prefix."""
    known = [tables.interactions[Columns.USER], *([] if tables.users is None else [tables.users[Columns.USER]])]
    taken = pl.concat(known).unique()
    if taken.dtype == pl.Int64:
        first = 1 + int(taken.to_numpy().max())
        return pl.Series(Columns.USER, np.arange(first, first + n_fake))
    prefix = "fake-"
    while taken.str.starts_with(prefix).any():
        prefix = f"{prefix}-"
    return pl.Series(Columns.USER, [f"{prefix}{number}" for number in range(n_fake)])


def _with_features(tables: Tables, fake_ids: pl.Series, models: npt.NDArray[Any]) -> pl.DataFrame | None:
    """The table of users with the fake users, who copy the features of genuine users ``(n_fake,)``."""
    users = tables.users
    if users is None:
        return None
    model = f"described as, beside {users.columns}"  # no column of the table has this name
    copied = pl.DataFrame({Columns.USER: fake_ids, model: pl.Series(models.tolist(), dtype=fake_ids.dtype)})
    found = copied.join(users, left_on=model, right_on=Columns.USER, how="inner", maintain_order="left")
    return pl.concat([users, found.select(users.columns)])
