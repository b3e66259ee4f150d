"""Counting rows that say the same again, by sorted whole numbers: several times faster than hashing rows of ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self, final

import numpy as np
import polars as pl

from evorec.data.dataset import Int64
from evorec.data.description import Repeats
from evorec.data.tables import SECONDS_PER_DAY, Columns, Tables

WIDEST: Final = 2**62
"""Keys stay below, so that two of them can be told apart as Int64."""
NARROW: Final = 2**31
"""Whole numbers in a range below this are their own key."""


def count_repeats(tables: Tables, users: pl.Series, items: pl.Series) -> Repeats:
    """Count the rows whose user, item or time an earlier row has too.

    Args:
        tables: all interactions.
        users: every user of the log once; items: every item.
    Cost: a few sorts of ``(N,)``.
    """
    log = tables.interactions
    user, item = _Key.of_ids(log[Columns.USER], users), _Key.of_ids(log[Columns.ITEM], items)
    time = _Key.of_numbers(log[Columns.TIME].to_numpy())
    pair = user.with_other(item)
    whole = pair.with_other(time)
    ordered = np.sort(whole.values)
    again = pl.Series(ordered[1:][ordered[1:] == ordered[:-1]])
    times = _distinct(np.sort(log[Columns.TIME].to_numpy()))
    return Repeats(
        n_rows=len(again),
        n_identical=_n_identical(tables, pl.Series(whole.values).is_in(again.implode())) if len(again) else 0,
        n_pairs=len(_distinct(np.sort(pair.values))),
        n_tied=log.height - len(_distinct(np.sort(user.with_other(time).values))),
        n_times=len(times),
        whole_days=bool((times % SECONDS_PER_DAY == times[0] % SECONDS_PER_DAY).all()),
    )


@final
@dataclass(frozen=True, eq=False)
class _Key:
    """One whole number per row, int64 ``(N,)`` in ``[0, size)``; equal where the rows are."""

    values: Int64
    size: int

    @classmethod
    def of_numbers(cls, values: Int64) -> Self:
        """Numbers themselves where they are close together, else their ranks."""
        low, high = int(values.min()), int(values.max())
        if high - low < NARROW:
            return cls(values - low, high - low + 1)
        return cls._dense(values)

    @classmethod
    def of_ids(cls, values: pl.Series, ids: pl.Series) -> Self:
        """Whole numbers or the places of texts in `ids`."""
        if values.dtype == pl.Int64:
            return cls.of_numbers(values.to_numpy())
        places = ids.alias("id").to_frame().with_row_index("place")
        found = values.alias("id").to_frame().join(places, on="id", how="left", maintain_order="left")["place"]
        return cls(found.cast(pl.Int64).to_numpy(), len(ids))

    @classmethod
    def _dense(cls, values: Int64) -> Self:
        known, ranks = np.unique(values, return_inverse=True)
        return cls(ranks.astype(np.int64), len(known))

    def with_other(self, other: _Key) -> _Key:
        """The key of both together."""
        if self.size * other.size < WIDEST:
            return _Key(self.values * other.size + other.values, self.size * other.size)
        # at most N different values each, so the product fits
        return self._dense(self.values).with_other(self._dense(other.values))


def _distinct(ordered: Int64) -> Int64:
    """Each of the sorted numbers once; ``np.unique`` would hash them, which takes far longer."""
    return np.asarray(ordered[np.append(True, ordered[1:] != ordered[:-1])])


def _n_identical(tables: Tables, again: pl.Series) -> int:
    """Of the rows that share user, item and time, those equal to an earlier one in every label and context."""
    contexts = [feature.name for feature in tables.context]
    names = [Columns.USER, Columns.ITEM, Columns.TIME, *tables.tasks, *contexts]
    rows = tables.interactions.select(names).filter(again)
    return rows.height - rows.unique().height
