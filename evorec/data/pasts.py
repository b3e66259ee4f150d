"""What each user liked, latest first: the past from which item-item methods score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.data.sorting import begins, stable_order
from evorec.data.tables import SECONDS_PER_DAY

if TYPE_CHECKING:
    from scipy.sparse import csr_array

WINDOW_DECAY = 0.7
"""Share that a pair of items keeps with each further step between them."""

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Past:
    """Items of each user's positives, latest first; a repeated item counts once, at its last time.

    Unlike `evorec.data.dataset.Dataset.history_rows` it is complete: EASE and ItemKNN read all that a user liked.

    Args:
        indptr: int64 ``(U + 1,)``, where the rows of the U users begin and end.
        items: int64 ``(n,)``.
        ages_days: float64 ``(n,)``, days before the user's latest positive, not negative.
    Example:
        >>> past = Past.of(np.array([0, 0, 0]), np.array([7, 2, 7]), np.array([0, 86_400, 172_800]), n_users=1)
        >>> past.items.tolist(), past.ages_days.tolist()
        ([7, 2], [0.0, 1.0])
    """

    indptr: Int64
    items: Int64
    ages_days: Float64

    @classmethod
    def of(cls, users: Int64, items: Int64, times: Int64, *, n_users: int) -> Past:
        """The past of all users.

        Args:
            users, items: int64 ``(N,)``, positives in the order of the file.
            times: int64 ``(N,)``, seconds; equal times keep the order of the file.
            n_users: U.
        """
        order = latest_first(users, items, times)
        users, items, times = users[order], items[order], times[order]
        counts = np.bincount(users, minlength=n_users)
        latest = np.repeat(times[np.flatnonzero(begins(users))], counts[counts > 0])
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(indptr, items, (latest - times) / SECONDS_PER_DAY)

    @property
    def steps(self) -> Int64:
        """Steps back from the user's latest positive, int64 ``(n,)``."""
        return np.arange(len(self.items)) - np.repeat(self.indptr[:-1], np.diff(self.indptr))

    def faded(self, n_items: int, *, decay: float = 1.0, half_life: float = np.inf) -> csr_array[Any, tuple[int, int]]:
        """Weights ``decay ** steps * 2 ** (-age / half_life)``, float32 ``(U, n_items)``.

        Args:
            n_items: I.
            decay: per step back, in (0, 1]; 1 = no fading.
            half_life: in days, > 0.
        """
        from scipy.sparse import csr_array

        weights = decay ** self.steps.astype(np.float64) * np.exp2(self.ages_days * (-1 / half_life))
        shape = (len(self.indptr) - 1, n_items)
        return csr_array((weights.astype(np.float32), self.items, self.indptr), shape=shape)

    def followers(self, n_items: int, *, window: int = 1) -> csr_array[Any, tuple[int, int]]:
        """How often item j comes at most `window` positives after item i, float32 ``(n_items, n_items)``.

        At a distance of k positives a pair counts ``WINDOW_DECAY ** (k - 1)``.
        """
        from scipy.sparse import coo_array, csr_array

        rows, columns, values = [], [], []
        for distance in range(1, window + 1):
            before = np.flatnonzero(self.steps >= distance)  # the others have no item that many steps later
            rows.append(self.items[before])
            columns.append(self.items[before - distance])
            values.append(np.full(len(before), WINDOW_DECAY ** (distance - 1), dtype=np.float32))
        pairs = (np.concatenate(rows), np.concatenate(columns))
        return csr_array(coo_array((np.concatenate(values), pairs), shape=(n_items, n_items)))


def latest_first(users: Int64, items: Int64, times: Int64) -> Int64:
    """Indices that order positives by user, then latest first, and keep the last of every repeated item.

    Args:
        users, items, times: int64 ``(N,)`` in the order of the file; of equal times the later in the file is later.
    Returns:
        int64 ``(n,)``, n <= N.
    """
    order = stable_order(times)[::-1]
    order = order[stable_order(users[order])]
    pairs = users[order] * (int(items.max(initial=0)) + 1) + items[order]
    return np.asarray(order[pl.Series(pairs).is_first_distinct().to_numpy()])
