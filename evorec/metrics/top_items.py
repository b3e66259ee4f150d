"""The best items per row of a score matrix: the only code that cuts lists from scores on a CPU.

Equal scores are ordered by item id. ``numpy.partition`` leaves ties in any order and ``argsort`` sorts the whole
catalogue; here a floor is found that at least k and hardly more scores of a row reach, and only those are sorted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError
from evorec.metrics.lists import NO_ITEM

ID_BITS, MAX_ROWS = 26, 64
"""A row, a float32 score and an item id share a sortable integer of 64 bits."""
GROUPS_PER_SLOT = 4
"""Groups of items per slot of a list, whose maxima bound the last listed score from below."""
SCORES_AT_ONCE = 1 << 18
"""Scores in the processor's cache at a time."""


def top_k(scores: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.int64]:
    """Ids of the best `k` items per row, best first, equal scores by ascending id.

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
    """Scores and ids of the best `k` items per row, best first, equal scores by ascending id.

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
    # The row number has the 6 highest bits of a key.
    at_once = max(1, min(MAX_ROWS, SCORES_AT_ONCE // max(n_items, 1)))
    for start in range(0, n_rows if k else 0, at_once):
        rows = slice(start, start + at_once)
        ids[rows] = _best_ids(scores[rows], k)
        values[rows] = np.take_along_axis(scores[rows], ids[rows], axis=1)
    return values, ids


def _best_ids(scores: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.int64]:
    """Ids of `best_items` of at most `MAX_ROWS` rows.

    The k-th largest of the maxima of ``>= k`` disjoint groups of items is a floor: at least k items reach it. With
    four groups per slot few more do, and only those are sorted.
    """
    n_rows, n_items = scores.shape
    groups = min(n_items, GROUPS_PER_SLOT * k)
    in_group = n_items // groups
    # Group g holds every groups-th item, so the maxima read memory in order. The items after the last full round are
    # in no group; they are compared with the floor all the same.
    best = scores[:, : groups * in_group].reshape(n_rows, in_group, groups).max(axis=1)
    best.partition(groups - k, axis=1)
    # Ascending, so the ids of a row ascend too: a stable sort by score keeps ties in their order.
    flat = np.flatnonzero(scores >= best[:, groups - k, None])
    first = np.searchsorted(flat, np.arange(n_rows) * n_items)
    row = np.repeat(np.arange(n_rows), np.diff(np.append(first, len(flat))))
    values, ids = scores.reshape(-1)[flat], flat - row * n_items
    listed = first[:, None] + np.arange(k)
    if scores.dtype != np.float32 or n_items > 1 << ID_BITS:
        return np.asarray(ids[np.lexsort((-values, row))[listed]])
    # Row, descending score and id in one integer each: one sort instead of the two of a lexsort.
    keys = (row.astype(np.uint64) << np.uint64(32 + ID_BITS)) | ids.astype(np.uint64)
    # Inverted bits sort the scores from high to low, while ids ascend among equals.
    keys |= (~ordered_bits(values)).astype(np.uint64) << np.uint64(ID_BITS)
    keys.sort()
    return np.asarray(keys[listed] & np.uint64((1 << ID_BITS) - 1)).astype(np.int64)


def ordered_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Unsigned integers in the order of the numbers; equal for equal numbers, 0 and -0 included.

    IEEE 754 floats are ordered like their bits once negative numbers have all bits flipped, and positive numbers the
    sign bit.

    Example:
        >>> ordered_bits(np.array([-2.0, -0.0, 0.0, np.inf], dtype=np.float32)).argsort().tolist()
        [0, 1, 2, 3]
    """
    bits = (values + np.float32(0)).view(np.int32)  # -0 + 0 = 0
    return (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32)
