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
ID_BITS, MAX_ROWS = 26, 64
"""A row, a float32 score and an item id share one sortable integer of 64 bits."""
GROUPS_PER_PLACE = 4
"""Groups of items per place of a list, whose maxima bound the last listed score from below."""
SCORES_AT_ONCE = 1 << 18
"""Scores in the processor's cache at a time."""
MARKS_AT_ONCE = 1 << 20
"""Cells of the table of relevant items that is held at a time."""


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
    found = min(k, scores.shape[1])
    values, ids = best_items(scores, found)
    lists = np.full((len(scores), k), NO_ITEM, dtype=np.int64)
    lists[:, :found] = np.where(np.isneginf(values), NO_ITEM, ids)
    return lists


def best_items(scores: npt.NDArray[np.floating[Any]], k: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Scores and ids of the best `k` items per row, best first; equal scores stand by ascending id.

    Args:
        scores: float ``(U, I)``, no NaN.
        k: in ``0..I``.
    Returns:
        Scores and int64 ids, both ``(U, k)``.
    Cost: O(U I + U k log k).
    Example:
        >>> best_items(np.array([[0.1, 0.7, 0.7, 0.2]]), 3)[1]
        array([[1, 2, 3]])
    """
    n_rows, n_items = scores.shape
    values, ids = np.empty((n_rows, k), dtype=scores.dtype), np.empty((n_rows, k), dtype=np.int64)
    at_once = max(1, min(MAX_ROWS, SCORES_AT_ONCE // max(n_items, 1)))
    for start in range(0, n_rows if k else 0, at_once):
        rows = slice(start, start + at_once)
        ids[rows] = _best_ids(scores[rows], k)
        values[rows] = np.take_along_axis(scores[rows], ids[rows], axis=1)
    return values, ids


def _best_ids(scores: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.int64]:
    """Ids of `best_items` of at most `MAX_ROWS` rows.

    The k-th largest of the maxima of more than k groups of items is a floor: k items at least reach it, few more do,
    and only those are sorted.
    """
    n_rows, n_items = scores.shape
    flat = np.flatnonzero(scores >= _floor(scores, k)[:, None])
    first = np.searchsorted(flat, np.arange(n_rows) * n_items)
    row = np.repeat(np.arange(n_rows), np.diff(np.append(first, len(flat))))
    values, ids = scores.reshape(-1)[flat], flat - row * n_items
    best = first[:, None] + np.arange(k)
    if scores.dtype != np.float32 or n_items > 1 << ID_BITS:
        return np.asarray(ids[np.lexsort((-values, row))[best]])
    keys = (row.astype(np.uint64) << np.uint64(32 + ID_BITS)) | ids.astype(np.uint64)
    keys |= (~ordered_bits(values)).astype(np.uint64) << np.uint64(ID_BITS)
    keys.sort()
    return np.asarray(keys[best] & np.uint64((1 << ID_BITS) - 1)).astype(np.int64)


def ordered_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Unsigned integers in the order of the numbers; equal for equal numbers, 0 and -0 included.

    Example:
        >>> ordered_bits(np.array([-2.0, -0.0, 0.0, np.inf], dtype=np.float32)).argsort().tolist()
        [0, 1, 2, 3]
    """
    bits = (values + np.float32(0)).view(np.int32)  # -0 + 0 = 0
    return (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32)


def _floor(scores: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.floating[Any]]:
    """A number per row, ``(U,)``, that at least `k` of its scores reach and hardly more."""
    n_rows, n_items = scores.shape
    groups = min(n_items, GROUPS_PER_PLACE * k)
    in_group = n_items // groups
    best = scores[:, : groups * in_group].reshape(n_rows, in_group, groups).max(axis=1)
    best.partition(groups - k, axis=1)
    return np.asarray(best[:, groups - k])


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
    Cost: O(U K log K + nnz), memory O(I).
    Example:
        >>> from scipy.sparse import csr_array
        >>> hits(np.array([[2, 0, -1]]), csr_array([[1, 1, 0]]), n_items=3)
        array([[False,  True, False]])
    """
    n_users = len(relevant.indptr) - 1
    check_lists(lists, n_items)
    if len(lists) != n_users:
        raise DataError(f"lists and relevant must be of the same users, got {len(lists)} and {n_users} rows.")
    return hits_of_checked(lists, relevant, n_items)


def hits_of_checked(lists: Ints, relevant: ItemSets, n_items: int) -> Bools:
    """`hits` of lists that `check_lists` need not see: those that `best_items` makes."""
    width = n_items + 1  # the last column is `NO_ITEM`, one before the first
    at_once = max(1, MARKS_AT_ONCE // width)
    marked = np.zeros(at_once * width, dtype=np.bool_)
    out = np.empty(lists.shape, dtype=np.bool_)
    for start in range(0, len(lists), at_once):
        rows = lists[start : start + at_once]
        offset = np.arange(len(rows)) * width
        bounds = relevant.indptr[start : start + len(rows) + 1]
        own = np.repeat(offset, np.diff(bounds)) + relevant.indices[bounds[0] : bounds[-1]]
        marked[own] = True
        np.take(marked, rows + offset[:, None], out=out[start : start + len(rows)], mode="wrap")
        marked[own] = False
    return out


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


def n_relevant_among(relevant: ItemSets, is_wanted: Bools) -> npt.NDArray[np.int64]:
    """Number of relevant items per user that are wanted, int64 ``(U,)``; ``is_wanted``: bool ``(I,)``.

    Example:
        >>> from scipy.sparse import csr_array
        >>> n_relevant_among(csr_array([[1, 1, 0], [0, 1, 1]]), np.array([True, False, False]))
        array([1, 0])
    """
    before = np.concatenate([[0], np.cumsum(is_wanted[relevant.indices])])
    return np.asarray(before[relevant.indptr[1:]] - before[relevant.indptr[:-1]], dtype=np.int64)


def recall_among(lists: Ints, hit: Bools, is_wanted: Bools, n_wanted: Ints) -> Floats:
    """Recall of the relevant items of one kind, such as those that were never in training.

    Args:
        lists: item ids, integer ``(U, K)``, `NO_ITEM` = empty place.
        hit: from `hits`, bool ``(U, K)``.
        is_wanted: which items are of the kind, bool ``(I,)``.
        n_wanted: from `n_relevant_among`, ``(U,)``.
    Returns:
        float64 ``(U',)`` in [0, 1] of the users with at least one such item, in order; the others have no recall.
    Source: recall as in `recall_at_k`; cold-start items as in Schein et al. 2002. Cost: O(U K).
    Example:
        >>> hit, cold = np.array([[True, True], [True, False]]), np.array([False, True, False])
        >>> recall_among(np.array([[0, 1], [0, 2]]), hit, cold, np.array([2, 0]))  # item 1 of two cold ones
        array([0.5])
    """
    some = n_wanted > 0
    return recall_at_k(hit[some] & is_wanted[lists[some]], n_wanted[some])  # an empty place is no hit


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
