"""Shilling attacks: fake users, added to the training rows alone, who push a few items that hardly anybody knows.

Every fake row is a copy of a genuine one with another user, item and time, so that labels agree with each other and
contexts occur: only who met what is made up. A fake user's features are those of a genuine user.

Source: Lam & Riedl 2004 (random and average attack); Mobasher et al. 2007 (bandwagon attack).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import AttackConfig
from evorec.data.dataset import Int64
from evorec.data.encode import Fit, rows_of_fit
from evorec.data.sorting import stable_order
from evorec.data.splits import Split
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError
from evorec.seeds import generator

RARE_SHARE = 0.25
"""Targets are drawn from this share of the items with a training row, those with the fewest."""


@final
@dataclass(frozen=True, eq=False)
class Attacked:
    """A data set with fake users.

    Args:
        tables: the same rows in the same places, those of the fake users after them.
        split: the same parts, with the new rows in training.
        targets: external ids of the items that are pushed, ascending.
    """

    tables: Tables
    split: Split
    targets: npt.NDArray[Any]


def attack(tables: Tables, split: Split, config: AttackConfig, *, fit: Fit, target: str) -> Attacked:
    """Adds fake users to the training rows.

    Each of them has a row with each target item, copied from a row that is positive for `target`, and `filler` rows
    with different other items. ``random``: any items, copied from any rows. ``average``: any items, each copied from a
    row of its own. ``bandwagon``: half of them, rounded up, the items with most positives, copied from such rows; the
    others as in ``random``.

    Args:
        tables: all interactions.
        split: row numbers of the parts; validation and test stay as they are.
        config: kind, size and seed; the same in every run and for every member.
        fit: which parts are trained on.
        target: label column whose positives push an item.
    Raises:
        DataError: there are not more trained items than targets, or no training row is positive for `target`.
    """
    log = tables.interactions[rows_of_fit(split, fit)[0]]
    rows = _TrainingRows.of(log, target)
    n_targets = config.n_targets
    if len(rows.items) <= n_targets:
        raise DataError(
            f"evaluation.attack.n_targets must be below the {len(rows.items)} items of {tables.name} that have a "
            f"training row, got {n_targets}."
        )
    if len(rows.liked) == 0:
        raise DataError(
            f"an attack on {tables.name} copies training rows with {target} > 0, and there are none; choose another "
            "target, or leave attack_shift@k out."
        )
    rare = stable_order(rows.counts)[: max(n_targets, ceil(RARE_SHARE * len(rows.items)))]
    targets = np.sort(generator(config.seed, "attack targets").choice(rare, n_targets, replace=False))
    rng = generator(config.seed, "attack profiles")
    users, rows_of_user = np.unique(_array(log[Columns.USER]), return_counts=True)
    n_fake = max(1, round(config.size_percent / 100 * len(users)))
    n_filler = min(config.filler or max(1, round(float(np.median(rows_of_user)))), len(rows.items) - n_targets)
    pushed = _Profiles(np.tile(targets, (n_fake, 1)), rng.choice(rows.liked, (n_fake, n_targets)))
    filler = _filler(rows, config.kind, np.setdiff1d(np.arange(len(rows.items)), targets), n_fake, n_filler, rng)
    profiles = _Profiles(*(np.hstack(pair) for pair in zip(pushed, filler, strict=True)))
    fake_ids = _fake_ids(tables, n_fake)
    added = _rows(log, rows, profiles, fake_ids, rng)
    people = _with_features(tables, fake_ids, rng.choice(users, n_fake))
    new = np.arange(tables.n_rows, tables.n_rows + added.height)
    return Attacked(
        replace(tables, interactions=pl.concat([tables.interactions, added]), users=people),
        replace(split, train=np.concatenate([split.train, new])),
        rows.items[targets],
    )


@final
@dataclass(frozen=True, eq=False)
class _TrainingRows:
    """Genuine training rows by item.

    Args:
        items: external ids ``(n,)``, ascending; counts: rows of each.
        by_item: row numbers, those of an item together; first: where each item's begin.
        liked: row numbers of the positives; liked_by_item, n_liked, first_liked: as above, of the positives.
    """

    items: npt.NDArray[Any]
    counts: Int64
    by_item: Int64
    first: Int64
    liked: Int64
    liked_by_item: Int64
    n_liked: Int64
    first_liked: Int64

    @classmethod
    def of(cls, log: pl.DataFrame, target: str) -> _TrainingRows:
        items, place = np.unique(_array(log[Columns.ITEM]), return_inverse=True)
        liked = np.flatnonzero((log[target] > 0).fill_null(value=False).to_numpy())
        counts, n_liked = (np.bincount(place[rows], minlength=len(items)) for rows in (slice(None), liked))
        return cls(
            items=items,
            counts=counts,
            by_item=stable_order(place),
            first=np.cumsum(counts) - counts,
            liked=liked,
            liked_by_item=liked[stable_order(place[liked])],
            n_liked=n_liked,
            first_liked=np.cumsum(n_liked) - n_liked,
        )


class _Profiles(NamedTuple):
    """Items of the fake users, as places, and the genuine rows that theirs are copied from, both ``(n_fake, n)``."""

    items: Int64
    sources: Int64


def _filler(
    rows: _TrainingRows, kind: str, others: Int64, n_fake: int, n_filler: int, rng: np.random.Generator
) -> _Profiles:
    """Rows of the fake users with items that are not pushed, `others` ``(n,)``."""
    popular = np.zeros(0, dtype=np.int64)
    if kind == "bandwagon":
        best = others[stable_order(-rows.n_liked[others])][: ceil(n_filler / 2)]
        popular = best[rows.n_liked[best] > 0]
        others = np.setdiff1d(others, popular)
    n_drawn = n_filler - len(popular)
    drawn = np.stack([rng.choice(others, n_drawn, replace=False) for _ in range(n_fake)])
    if kind == "average":
        place = rows.first[drawn] + (rng.random(drawn.shape) * rows.counts[drawn]).astype(np.int64)
        return _Profiles(drawn, rows.by_item[place])
    items = np.hstack([np.tile(popular, (n_fake, 1)), drawn])
    place = (rng.random((n_fake, len(popular))) * rows.n_liked[popular]).astype(np.int64)
    liked = rows.liked_by_item[rows.first_liked[popular] + place]
    return _Profiles(items, np.hstack([liked, rng.integers(0, len(rows.by_item), drawn.shape)]))


def _rows(
    log: pl.DataFrame, rows: _TrainingRows, profiles: _Profiles, fake_ids: pl.Series, rng: np.random.Generator
) -> pl.DataFrame:
    """The rows of the fake users; their times are those of other genuine rows."""
    sources, items = profiles.sources.ravel(), profiles.items.ravel()
    moments = log[rng.integers(0, log.height, len(sources))]
    when = [name for name in (Columns.TIME, Columns.DAY) if name in log.columns]
    repeated = np.repeat(np.arange(len(fake_ids)), profiles.items.shape[1])
    return log[sources].with_columns(
        fake_ids[repeated].alias(Columns.USER),
        pl.Series(Columns.ITEM, rows.items[items].tolist(), dtype=log.schema[Columns.ITEM]),
        *(moments[name] for name in when),
    )


def _fake_ids(tables: Tables, n_fake: int) -> pl.Series:
    """Ids that nobody has: after the largest number, or texts of a new beginning."""
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
    """The table of users with the fake ones, each described as a genuine one ``(n_fake,)`` is, if that one is."""
    users = tables.users
    if users is None:
        return None
    model = f"described as, beside {users.columns}"  # no column of the table has this name
    copied = pl.DataFrame({Columns.USER: fake_ids, model: pl.Series(models.tolist(), dtype=fake_ids.dtype)})
    found = copied.join(users, left_on=model, right_on=Columns.USER, how="inner", maintain_order="left")
    return pl.concat([users, found.select(users.columns)])


def _array(ids: pl.Series) -> npt.NDArray[Any]:
    return ids.to_numpy() if ids.dtype == pl.Int64 else ids.to_numpy().astype(np.str_)
