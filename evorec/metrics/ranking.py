"""How many held-out positives stand in each user's recommendation list, and how high.

Lists are ranked over the full catalogue, never against sampled negatives (Krichene & Rendle 2020). `hits` checks the
lists once; the metrics are then arithmetic on its result, one value per user.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.integer[Any]]

NO_ITEM = -1
"""Fills a list that has fewer than K items."""


class ItemSets(Protocol):
    """One set of items per user, rows of a sparse matrix; `evorec.data.dataset.Csr` and scipy's arrays are such."""

    @property
    def indptr(self) -> Ints:
        """Where each row starts, ``(U + 1,)``."""

    @property
    def indices(self) -> Ints:
        """Item ids, ascending within a row, no repeats."""


def top_k(scores: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.int64]:
    """Ids of the best `k` items per row, best first; equal scores stand by ascending id.

    Args:
        scores: float ``(U, I)``; ``-inf`` marks an item that must not be listed.
        k: length of the lists, >= 1; may be larger than I.
    Returns:
        int64 ``(U, k)``; `NO_ITEM` where a row has no further item.
    Raises:
        DataError: scores are not a matrix or hold NaN, or ``k < 1``.
    Cost: O(U I + U k log k).
    Example:
        >>> top_k(np.array([[0.1, 0.7, 0.7, -np.inf]]), 4)
        array([[ 1,  2,  0, -1]])
    """
    if scores.ndim != 2 or k < 1:
        raise DataError(f"top_k needs scores (users, items) and k >= 1, got shape {scores.shape} and k = {k}.")
    if np.isnan(scores).any():
        raise DataError(f"top_k cannot rank NaN, got {int(np.isnan(scores).sum())} NaN scores; the model diverged.")
    n_rows, n_items = scores.shape
    found = min(k, n_items)
    lists = np.full((n_rows, k), NO_ITEM, dtype=np.int64)
    if found == 0 or n_rows == 0:
        return lists
    last = np.partition(scores, n_items - found, axis=1)[:, n_items - found, None]  # the found-th best score
    above, level = scores > last, scores == last
    open_places = found - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1) <= open_places))
    ids = np.nonzero(chosen)[1].reshape(n_rows, found)
    values = np.take_along_axis(scores, ids, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    ids, values = np.take_along_axis(ids, order, axis=1), np.take_along_axis(values, order, axis=1)
    lists[:, :found] = np.where(np.isneginf(values), NO_ITEM, ids)
    return lists


def hits(lists: Ints, relevant: ItemSets, n_items: int) -> Bools:
    """Which places of each list hold a relevant item.

    Args:
        lists: item ids, integer ``(U, K)``, best first, `NO_ITEM` = empty place.
        relevant: the relevant items of the same U users.
        n_items: size of the catalogue, I.
    Returns:
        bool ``(U, K)``.
    Raises:
        DataError: the numbers of users differ, an id is outside ``[-1, I)``, or a list repeats an item.
    Cost: O(U K (log K + log nnz)).
    Example:
        >>> from scipy.sparse import csr_array
        >>> hits(np.array([[2, 0, -1]]), csr_array([[1, 1, 0]]), n_items=3)
        array([[False,  True, False]])
    """
    n_users = len(relevant.indptr) - 1
    check_lists(lists, n_items)
    if len(lists) != n_users:
        raise DataError(f"lists and relevant must be of the same users, got {len(lists)} and {n_users} rows.")
    owner = np.repeat(np.arange(n_users), np.diff(relevant.indptr))
    keys = owner * n_items + relevant.indices  # ascending: rows are in order, and items within a row
    if len(keys) == 0:
        return np.zeros(lists.shape, dtype=np.bool_)
    wanted = np.arange(n_users)[:, None] * n_items + lists
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.asarray((keys[place] == wanted) & (lists != NO_ITEM), dtype=np.bool_)


def n_relevant(relevant: ItemSets) -> npt.NDArray[np.int64]:
    """Number of relevant items per user, int64 ``(U,)``."""
    return np.diff(relevant.indptr).astype(np.int64)


def recall_at_k(hit: Bools, n_relevant: Ints) -> Floats:
    """Share of a user's relevant items that the list holds: ``hits / n_relevant``.

    Args:
        hit: from `hits`, bool ``(U, K)``.
        n_relevant: relevant items per user, integer ``(U,)``, all >= 1.
    Returns:
        float64 ``(U,)``, a share in [0, 1], no unit, higher is better; below 1 for a user with more than K positives.
    Raises:
        DataError: a user has no relevant item; such users are left out, not counted as 0.
    Source: Herlocker et al. 2004; the denominator is not cut at K. Cost: O(U K).
    Example:
        >>> recall_at_k(np.array([[True, False], [True, True]]), np.array([1, 4]))
        array([1. , 0.5])
    """
    return np.asarray(hit.sum(axis=1) / _at_least_one(hit, n_relevant))


def ndcg_at_k(hit: Bools, n_relevant: Ints) -> Floats:
    """Discounted hits over the best possible: ``sum_r hit_r / log2(r + 1)``, ideal list of ``min(K, n_relevant)`` hits.

    Args:
        hit: from `hits`, bool ``(U, K)``; ranks r start at 1, gain is 1.
        n_relevant: relevant items per user, integer ``(U,)``, all >= 1.
    Returns:
        float64 ``(U,)``, a share in [0, 1], no unit, higher is better.
    Raises:
        DataError: a user has no relevant item; such users are left out, not counted as 0.
    Source: Järvelin & Kekäläinen 2002. Cost: O(U K).
    Example:
        >>> ndcg_at_k(np.array([[False, True]]), np.array([1])).round(4)  # (1 / log2 3) / 1
        array([0.6309])
    """
    counts = _at_least_one(hit, n_relevant)
    k = hit.shape[1]
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(counts, k) - 1]
    return np.asarray(hit @ discount / ideal)


def precision_at_k(hit: Bools) -> Floats:
    """Share of the K places that hold a relevant item: ``hits / K``; an empty place is a miss.

    Args:
        hit: from `hits`, bool ``(U, K)``.
    Returns:
        float64 ``(U,)``, a share in [0, 1], no unit, higher is better; at most ``n_relevant / K``.
    Raises:
        DataError: there is no place, K = 0.
    Source: Herlocker et al. 2004. Cost: O(U K).
    Example:
        >>> precision_at_k(np.array([[True, False, False, False]]))
        array([0.25])
    """
    return np.asarray(_places(hit).mean(axis=1), dtype=np.float64)


def hit_rate_at_k(hit: Bools) -> Floats:
    """Whether the list holds any relevant item; the mean over users is the hit rate.

    Args:
        hit: from `hits`, bool ``(U, K)``.
    Returns:
        float64 ``(U,)``, 0 or 1, no unit, higher is better.
    Raises:
        DataError: there is no place, K = 0.
    Source: Deshpande & Karypis 2004. Cost: O(U K).
    Example:
        >>> hit_rate_at_k(np.array([[False, True], [False, False]]))
        array([1., 0.])
    """
    return np.asarray(_places(hit).any(axis=1), dtype=np.float64)


def mrr_at_k(hit: Bools) -> Floats:
    """Reciprocal rank of the first relevant item, 0 when the list holds none; the mean over users is the MRR.

    Args:
        hit: from `hits`, bool ``(U, K)``; ranks start at 1.
    Returns:
        float64 ``(U,)`` in {0, 1/K, ..., 1/2, 1}, no unit, higher is better.
    Raises:
        DataError: there is no place, K = 0.
    Source: Voorhees 1999, cut at K. Cost: O(U K).
    Example:
        >>> mrr_at_k(np.array([[False, True, True], [False, False, False]]))
        array([0.5, 0. ])
    """
    return np.asarray(hit_rate_at_k(hit) / (1 + hit.argmax(axis=1)))


def check_lists(lists: Ints, n_items: int) -> None:
    """Refuse recommendation lists that no metric may score.

    Raises:
        DataError: lists are not an integer matrix, an id is outside ``[-1, n_items)``, or a list repeats an item.
    """
    if lists.ndim != 2 or lists.shape[1] == 0 or not np.issubdtype(lists.dtype, np.integer):
        raise DataError(f"lists must be integer (users, K >= 1), got {lists.dtype} {lists.shape}.")
    if lists.size and (lists.min() < NO_ITEM or lists.max() >= n_items):
        raise DataError(f"lists must hold item ids in [-1, {n_items}), got {lists.min()}..{lists.max()}.")
    ordered = np.sort(lists, axis=1)
    repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_ITEM)).any(axis=1)
    if repeated.any():
        row = int(repeated.argmax())
        raise DataError(f"a list must not repeat an item, got {lists[row].tolist()} in row {row}.")


def _places(hit: Bools) -> Bools:
    if hit.ndim != 2 or hit.shape[1] == 0:
        raise DataError(f"hit must be bool (users, K >= 1), got shape {hit.shape}.")
    return hit


def _at_least_one(hit: Bools, n_relevant: Ints) -> Ints:
    if n_relevant.shape != (len(_places(hit)),):
        raise DataError(f"n_relevant must have one number per user, {len(hit)}, got shape {n_relevant.shape}.")
    if (n_relevant < 1).any():
        raise DataError(
            f"{int((n_relevant < 1).sum())} of {len(hit)} users have no relevant item; leave them out of the metric."
        )
    return n_relevant
