"""What a model would have chosen among the rows that were logged: the better half of each user's rows.

A replay on logged rows: they are what the logging policy showed, to whom it showed it, and nothing is corrected for
that. A better label among the chosen rows says that the model ranks these rows well, not what would have happened had
it decided what to show; that would need rows shown at random (Li et al. 2011) and is no counterfactual estimate here.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]


@final
class LoggedRows:
    """The rows of users with two or more of them, for many models on the same rows.

    Args:
        users: user of each row, integer ``(N,)`` in ``[0, n_users]``; `n_users` = one that is not told from others.
        n_users: number of known users.

    Attributes:
        n_users: users with two or more rows, who have a choice.
        n_left_out: known users with a single row.
    Raises:
        DataError: a user is outside ``[0, n_users]``.
    Example:
        >>> rows = LoggedRows(np.array([0, 1, 0, 0, 2]), n_users=2)  # user 1 has one row, 2 is unknown
        >>> rows.better_half(np.array([0.1, 0.9, 0.3, 0.3, 0.9])), rows.n_users, rows.n_left_out  # 1 of user 0's three
        (array([2]), 1, 1)
    """

    def __init__(self, users: Ints, *, n_users: int) -> None:
        if users.ndim != 1 or (len(users) and not 0 <= users.min() <= users.max() <= n_users):
            raise DataError(f"users must be integers (N,) in [0, {n_users}], got shape {users.shape}.")
        counts = np.bincount(users, minlength=n_users + 1)[:n_users]
        self.n_users, self.n_left_out = int((counts > 1).sum()), int((counts == 1).sum())
        has_choice = np.append(counts > 1, False)
        rows = np.flatnonzero(has_choice[users])
        self._rows = rows[np.argsort(users[rows], kind="stable")]
        self._users = users[self._rows]
        counts = counts[counts > 1]
        place = np.arange(len(self._rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._is_better = place < np.repeat(counts // 2, counts)

    def better_half(self, *keys: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """The ``floor(n / 2)`` rows of each user with the highest keys, out of n.

        Args:
            keys: float ``(N,)`` each, no NaN; the first one decides, among its ties the next one; at last the earlier
                row wins.
        Returns:
            int64 row numbers, ascending.
        Cost: O(N log N).
        """
        order = np.lexsort((*(-key[self._rows] for key in reversed(keys)), self._users))
        return np.sort(self._rows[order[self._is_better]])


def mean_of_chosen(labels: Floats, chosen: Ints) -> float | None:
    """Mean label of the chosen rows: what a choice brings, or costs, per row.

    Args:
        labels: in their own unit, float64 ``(N,)``; NaN = not observed, such rows are left out.
        chosen: row numbers, from `LoggedRows.better_half`.
    Returns:
        In the unit of the labels; higher is better for a gain, lower for a harm. ``None`` if no chosen row has a label.
    Source: value of a policy by replay, Li et al. 2011, without their random logging; see the head of this module.
    Cost: O(N).
    Example:
        >>> mean_of_chosen(np.array([1.0, np.nan, 4.0, 9.0]), np.array([0, 1, 2]))  # (1 + 4) / 2
        2.5
    """
    known = labels[chosen]
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else None


def cost_per_positive(spend: Floats, labels: Floats, chosen: Ints) -> float:
    """Summed spend of the chosen rows per positive among them; without one the whole spend, as if there were one.

    Args:
        spend: what a row costs, float64 ``(N,)``; NaN = not known, adds nothing.
        labels: 0 and 1, float64 ``(N,)``; NaN = not observed, no positive.
        chosen: row numbers, from `LoggedRows.better_half`.
    Returns:
        In the unit of the spend, per positive; lower is better.
    Source: cost per acquisition, e.g. Farris et al. 2010, on logged rows; see the head of this module. Cost: O(N).
    Example:
        >>> spend, sold = np.array([2.0, 3.0, 7.0, np.nan]), np.array([1.0, 0.0, 1.0, 1.0])
        >>> cost_per_positive(spend, sold, np.array([0, 1, 3])), cost_per_positive(spend, sold, np.array([1]))
        (2.5, 3.0)
    """
    return float(np.nansum(spend[chosen]) / max(int((labels[chosen] > 0).sum()), 1))
