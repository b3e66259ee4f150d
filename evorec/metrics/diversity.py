"""How different the recommended items are, inside a list and over all lists.

Distances are between fixed content vectors that no candidate trains; with trained vectors a search would learn to
inflate them. A random list is the most diverse, so diversity is only worth reading together with recall.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from evorec.errors import DataError
from evorec.metrics.lists import NO_ITEM, Floats, Ints, ListData
from evorec.metrics.metric import metric
from evorec.metrics.ranking import LISTS


def _has_no_content(data: ListData) -> str | None:
    if data.item_content.shape[1]:
        return None
    return f"needs content of the items, {data.name} has none; choose catalogue_coverage@k."


@metric(
    "intra_list_distance@k",
    text="mean cosine distance of the content inside each list",
    aliases=("diversity", "diversity@k"),
    unavailable=_has_no_content,
    **LISTS,
)
def intra_list_distance(lists: Ints, item_vectors: npt.NDArray[np.floating[Any]]) -> Floats:
    """Mean cosine distance over the pairs of items inside each user's list.

    ``1 - mean_{i<j} <f_i, f_j>``, computed as ``1 - (|sum f|^2 - sum |f|^2) / (n (n - 1))`` for n items: K sums
    instead of K^2 products.

    Args:
        lists: item ids, integer ``(U, K)``; empty slots (-1) make no pairs.
        item_vectors: fixed content, float ``(>= I, D)``, rows as `evorec.metrics.lists.unit_rows` checks them.
    Returns:
        float64 ``(U,)`` in [0, 2], cosine distance, higher is more diverse; 0.0 for a list with fewer than two items.
    Source: Ziegler et al. 2005, as mean distance instead of summed similarity. Cost: O(U K D), memory O(U D).
    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> intra_list_distance(np.array([[0, 1], [0, 2], [1, -1]]), vectors)
        array([1., 0., 0.])
    """
    n_users, k = lists.shape
    filled = (lists != NO_ITEM).astype(np.float64)
    items = np.where(lists == NO_ITEM, 0, lists)  # weighs 0
    # A sparse product sums the vectors of a list without an array of [U, K, D].
    listed = csr_array(
        (filled.reshape(-1), items.reshape(-1), np.arange(0, lists.size + 1, k)), shape=(n_users, len(item_vectors))
    )
    total = listed @ item_vectors
    # Summed, not taken as n: rows from half precision have length 1 only to about 1e-3.
    squares = (np.einsum("id,id->i", item_vectors, item_vectors)[items] * filled).sum(axis=1)
    n = filled.sum(axis=1)
    similarity = (np.einsum("ud,ud->u", total, total) - squares) / np.maximum(n * (n - 1), 1)
    # Rounding may leave the range.
    return np.where(n < 2, 0.0, np.clip(1 - similarity, 0.0, 2.0))


@metric("catalogue_coverage@k", text="share of the catalogue that is in any list", **LISTS)
def catalogue_coverage(lists: Ints, n_items: int) -> float:
    """Share of the catalogue that is recommended to any user: ``|union of lists| / I``.

    Args:
        lists: item ids, integer ``(U, K)``; empty slots (-1) cover nothing.
        n_items: size of the catalogue, I >= 1.
    Returns:
        A share in [0, 1], no unit, higher is more diverse; grows with the number of users, so compare equal U.
    Source: Herlocker et al. 2004; Ge et al. 2010. Cost: O(U K + I).
    Example:
        >>> catalogue_coverage(np.array([[0, 1], [1, -1]]), n_items=4)
        0.5
    """
    return float((exposure(lists, n_items) > 0).mean())


@metric("gini_diversity@k", text="1 - Gini of how often each item is recommended", **LISTS)
def gini_diversity(lists: Ints, n_items: int) -> float:
    """1 minus the Gini index of how often each item of the catalogue is recommended.

    ``Gini = sum_i (2 i - I - 1) c_(i) / (I sum c)`` with counts c ascending, i = 1..I, zeros included.

    Args:
        lists: item ids, integer ``(U, K)``; empty slots (-1) count for nothing.
        n_items: size of the catalogue, I >= 1.
    Returns:
        A number in [1/I, 1], no unit, higher is more diverse; 1 when every item is recommended equally often.
    Raises:
        DataError: no list holds an item.
    Source: Gini 1912; Shani & Gunawardana 2011, over the whole catalogue. Cost: O(U K + I log I).
    Example:
        >>> gini_diversity(np.array([[0, 1], [0, 2]]), n_items=4)  # counts 0 1 1 2: Gini = 6 / 16
        0.625
    """
    counts = exposure(lists, n_items)
    total = int(counts.sum())
    if total == 0:
        raise DataError(
            f"gini_diversity needs a recommended item, all {len(lists)} lists are empty: every user has met the whole "
            'catalogue in training; bring more items, or set evaluation.mask = "positives".'
        )
    weights = 2 * np.arange(1, n_items + 1) - n_items - 1  # integers: the sum is exact in any order
    return 1 - int(weights @ np.sort(counts)) / (n_items * total)


@metric("novelty@k", text="mean self-information of the recommended items", **{**LISTS, "ideal": 20.0, "unit": "bit"})
def novelty(lists: Ints, item_counts: Ints) -> Floats:
    """Mean self-information of each user's listed items: how unlikely they are in the training log.

    ``mean_i -log2((c_i + 1) / (sum c + I))``; 1 is added so that an item without a training row has a finite value.

    Args:
        lists: item ids, integer ``(U, K)``; empty slots (-1) are left out of the mean.
        item_counts: training interactions per item, integer ``(I,)``, >= 0.
    Returns:
        float64 ``(U,)`` in [0, log2(sum c + I)], bits, higher is more novel; 0.0 for an empty list.
    Source: Zhou et al. 2010, with add-1 smoothing. Cost: O(U K + I).
    Example:
        >>> novelty(np.array([[0, 1], [1, -1]]), np.array([5, 1, 0]))  # shares 6/9, 2/9, 1/9
        array([1.37744375, 2.169925  ])
    """
    bits = np.log2(item_counts.sum() + len(item_counts)) - np.log2(item_counts + 1)
    filled = lists != NO_ITEM
    # An empty slot, -1, reads the last item and is replaced by 0.
    total = np.where(filled, bits[lists], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(filled.sum(axis=1), 1))


HEAD_SHARE = 0.8
"""Share of the training interactions that the items outside the long tail have."""


@metric(
    "long_tail_share@k",
    text="mean share of the list that is in the long tail: outside the items with 80 % of the interactions (APLT)",
    on_demand=True,
    **LISTS,
)
def long_tail_share(lists: Ints, item_counts: Ints) -> Floats:
    """Share of each user's list that is in the long tail; its mean is the average percentage of tail items (APLT).

    The head are the most popular items as long as they have at most 80 % of the training interactions together, of
    equally popular items the first in order of ids; all others are the tail.

    Args:
        lists: item ids, integer ``(U, K)``; an empty slot (-1) is not in the tail.
        item_counts: training interactions per item, integer ``(I,)``, >= 0.
    Returns:
        float64 ``(U,)``, a share in [0, 1], no unit, higher is more diverse.
    Source: Abdollahpouri et al. 2017; the head as in Anelli et al. 2021 (Elliot). Cost: O(U K + I log I).
    Example:
        >>> long_tail_share(np.array([[0, 1], [2, -1]]), np.array([7, 1, 2]))  # head: 7 of 10; 9 are too many
        array([0.5, 0.5])
    """
    order = np.argsort(-np.asarray(item_counts), kind="stable")
    running = np.cumsum(np.asarray(item_counts)[order])
    in_tail = np.zeros(len(order) + 1, dtype=np.bool_)  # an empty slot, -1, reads the last entry
    in_tail[order[running > HEAD_SHARE * running[-1]]] = True
    return np.asarray(in_tail[lists].mean(axis=1))


SPARSITY = "pairs of user and item whose predicted preference is below evaluation.sparsity_threshold"


@metric("sparsity", text=SPARSITY, on_demand=True, **LISTS)
def sparsity(n_improbable: Ints, n_items: int) -> float:
    """Share of the pairs of user and item that hardly count in the predicted preferences.

    Args:
        n_improbable: items of each user with ``softmax(scores) <= threshold / I``, integer ``(U,)``
            (`evorec.models.recommend.improbable`).
        n_items: size of the catalogue, I.
    Returns:
        A share in [0, 1], no unit, higher is sparser.
    Source: Hurley & Rickard 2009, the measure l0 with a threshold. Cost: O(U) here, an exponential per pair there.
    Example:
        >>> sparsity(np.array([3, 1]), n_items=4)
        0.5
    """
    return float(n_improbable.sum() / (len(n_improbable) * n_items))


def exposure(lists: Ints, n_items: int) -> npt.NDArray[np.int64]:
    """How many lists hold each item, int64 ``(I,)``."""
    return np.bincount(lists[lists != NO_ITEM], minlength=n_items)
