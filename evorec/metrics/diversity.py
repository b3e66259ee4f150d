"""How different the recommended items are, inside a list and over all lists.

Distances are between fixed content vectors that no candidate trains; with trained vectors a search would learn to
inflate them. A random list is the most diverse one, so diversity is only worth reading beside recall.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from evorec.errors import DataError
from evorec.metrics.ranking import NO_ITEM, check_lists

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

UNIT_NORM_TOLERANCE = 1e-3
"""A float32 row of some hundred entries is a unit vector to about 1e-6; half precision to about 1e-3."""


def intra_list_distance(lists: Ints, item_vectors: npt.NDArray[np.floating[Any]]) -> Floats:
    """Mean cosine distance over the pairs of items inside each user's list.

    ``1 - mean_{i<j} <f_i, f_j>``, computed as ``1 - (|sum f|^2 - sum |f|^2) / (n (n - 1))`` for n items.

    Args:
        lists: item ids, integer ``(U, K)``; empty places (-1) make no pairs.
        item_vectors: fixed content, float ``(I, D)``, unit rows, D >= 1.
    Returns:
        float64 ``(U,)`` in [0, 2], cosine distance, higher is more diverse; 0.0 for a list with fewer than two items.
    Raises:
        DataError: an id is outside ``[-1, I)``, a list repeats an item, or the vectors are missing or not unit rows.
    Source: Ziegler et al. 2005, as mean distance instead of summed similarity. Cost: O(U K D), memory O(U D).
    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> intra_list_distance(np.array([[0, 1], [0, 2], [1, -1]]), vectors)
        array([1., 0., 0.])
    """
    vectors = unit_rows(item_vectors)
    check_lists(lists, len(vectors))
    return distance_of_checked(lists, np.append(vectors, np.zeros((1, vectors.shape[1])), axis=0))


def distance_of_checked(lists: Ints, vectors: Floats) -> Floats:
    """`intra_list_distance` of checked lists and `unit_rows` with a row of zeros behind them for empty places."""
    n_users, k = lists.shape
    items = np.where(lists == NO_ITEM, len(vectors) - 1, lists).reshape(-1)
    member = csr_array((np.ones(len(items)), items, np.arange(0, len(items) + 1, k)), shape=(n_users, len(vectors)))
    total, squares = member @ vectors, np.einsum("id,id->i", vectors, vectors)[items].reshape(n_users, k).sum(axis=1)
    n = (lists != NO_ITEM).sum(axis=1)
    similarity = (np.einsum("ud,ud->u", total, total) - squares) / np.maximum(n * (n - 1), 1)
    return np.where(n < 2, 0.0, np.clip(1 - similarity, 0.0, 2.0))


def catalogue_coverage(lists: Ints, n_items: int) -> float:
    """Share of the catalogue that is recommended to at least one user: ``|union of lists| / I``.

    Args:
        lists: item ids, integer ``(U, K)``; empty places (-1) cover nothing.
        n_items: size of the catalogue, I >= 1.
    Returns:
        A share in [0, 1], no unit, higher is more diverse; grows with the number of users, so compare equal U.
    Raises:
        DataError: an id is outside ``[-1, I)`` or a list repeats an item.
    Source: Herlocker et al. 2004; Ge et al. 2010. Cost: O(U K log K + I).
    Example:
        >>> catalogue_coverage(np.array([[0, 1], [1, -1]]), n_items=4)
        0.5
    """
    return float((exposure(lists, n_items) > 0).mean())


def gini_diversity(lists: Ints, n_items: int) -> float:
    """One minus the Gini index of how often each item of the catalogue is recommended.

    ``Gini = sum_i (2 i - I - 1) c_(i) / (I sum c)`` with counts c ascending, i = 1..I, zeros included.

    Args:
        lists: item ids, integer ``(U, K)``; empty places (-1) count for nothing.
        n_items: size of the catalogue, I >= 1.
    Returns:
        A number in [1/I, 1], no unit, higher is more diverse; 1 when every item is recommended equally often.
    Raises:
        DataError: no list holds an item, an id is outside ``[-1, I)``, or a list repeats an item.
    Source: Gini 1912; Shani & Gunawardana 2011, over the whole catalogue. Cost: O(U K log K + I log I).
    Example:
        >>> gini_diversity(np.array([[0, 1], [0, 2]]), n_items=4)  # counts 0 1 1 2: Gini = 6 / 16
        0.625
    """
    return gini_of_exposure(exposure(lists, n_items), len(lists))


def gini_of_exposure(counts: Ints, n_lists: int) -> float:
    """`gini_diversity` from how many lists hold each item, ``(I,)``."""
    n_items, total = len(counts), int(counts.sum())
    if total == 0:
        raise DataError(
            f"gini_diversity needs a recommended item, all {n_lists} lists are empty: every user has met the whole "
            'catalogue in training; bring more items, or set evaluation.mask = "positives".'
        )
    weights = 2 * np.arange(1, n_items + 1) - n_items - 1
    return 1 - int(weights @ np.sort(counts)) / (n_items * total)


def novelty(lists: Ints, item_counts: Ints) -> Floats:
    """Mean self-information of each user's listed items: how unlikely they are in the training log.

    ``mean_i -log2((c_i + 1) / (sum c + I))``; one is added so that an item never seen has a finite value.

    Args:
        lists: item ids, integer ``(U, K)``; empty places (-1) are left out of the mean.
        item_counts: training interactions per item, integer ``(I,)``.
    Returns:
        float64 ``(U,)`` in [0, log2(sum c + I)], bits, higher is more novel; 0.0 for an empty list.
    Raises:
        DataError: an id is outside ``[-1, I)``, a list repeats an item, or a count is negative.
    Source: Zhou et al. 2010, with add-one smoothing. Cost: O(U K log K + I).
    Example:
        >>> novelty(np.array([[0, 1], [1, -1]]), np.array([5, 1, 0]))  # shares 6/9, 2/9, 1/9
        array([1.37744375, 2.169925  ])
    """
    bits = self_information(item_counts)
    check_lists(lists, len(item_counts))
    return novelty_of_checked(lists, bits)


def self_information(item_counts: Ints) -> Floats:
    """Bits of each item, ``(I,)``, see `novelty`."""
    if item_counts.ndim != 1 or (item_counts < 0).any():
        raise DataError(f"item_counts must be a vector of counts >= 0, got shape {item_counts.shape}.")
    return np.asarray(np.log2(item_counts.sum() + len(item_counts)) - np.log2(item_counts + 1))


def novelty_of_checked(lists: Ints, bits: Floats) -> Floats:
    """`novelty` of checked lists from the items' `self_information`."""
    filled = lists != NO_ITEM
    total = np.where(filled, bits[lists], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(filled.sum(axis=1), 1))


def exposure(lists: Ints, n_items: int) -> npt.NDArray[np.int64]:
    """How many lists hold each item, int64 ``(I,)``."""
    check_lists(lists, n_items)
    return exposure_of_checked(lists, n_items)


def exposure_of_checked(lists: Ints, n_items: int) -> npt.NDArray[np.int64]:
    """`exposure` of checked lists."""
    return np.bincount(lists[lists != NO_ITEM], minlength=n_items)


def unit_rows(item_vectors: npt.NDArray[np.floating[Any]]) -> Floats:
    """The vectors in float64, if they are unit rows."""
    if item_vectors.ndim != 2 or item_vectors.shape[1] == 0:
        raise DataError(
            f"item_vectors must be (items, D >= 1), got shape {item_vectors.shape}; the data have no item content: "
            "choose another diversity objective, such as catalogue_coverage@k."
        )
    vectors = item_vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("id,id->i", vectors, vectors))
    off = np.abs(norms - 1)
    if not (off <= UNIT_NORM_TOLERANCE).all():
        row = int(np.nanargmax(np.where(np.isnan(off), np.inf, off)))
        raise DataError(f"item_vectors must be unit rows, got length {norms[row]:g} in row {row}; divide by the norm.")
    return vectors
