"""How many held-out positives each user's recommendation list holds, and at which ranks.

Lists are ranked over the full catalogue, never against sampled negatives (Krichene & Rendle 2020). A metric is
arithmetic on the hits of `evorec.metrics.lists.hits`, with a value per user.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from evorec.errors import DataError
from evorec.metrics.lists import Bools, Floats, Ints, ItemSets, ListData, RecommendedLists
from evorec.metrics.metric import SHARE, metric

LISTS: Final[dict[str, Any]] = {"of": RecommendedLists, **SHARE}


@metric("recall@k", text="held-out positives found in the list, over the whole catalogue", **LISTS)
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


@metric("candidate_recall", text="held-out positives among the candidates that retrieval hands to the ranker", **LISTS)
def candidate_recall(retrieved_hit: Bools, n_relevant: Ints) -> Floats:
    """`recall_at_k` of all candidates of the first stage; ``retrieved_hit``: bool ``(U, C)``."""
    return recall_at_k(retrieved_hit, n_relevant)


@metric("retrieval_recall@k", text="recall of the first stage alone, before the ranker re-orders", **LISTS)
def retrieval_recall_at_k(retrieved_hit: Bools, n_relevant: Ints, k: int) -> Floats:
    """`recall_at_k` of the first `k` candidates of the first stage; ``retrieved_hit``: bool ``(U, C)``."""
    return recall_at_k(retrieved_hit[:, :k], n_relevant)


def _has_no_cold_positive(data: ListData) -> str | None:
    if n_relevant_among(data.relevant, np.asarray(data.item_counts) == 0).any():
        return None
    return (
        f"needs a held-out positive on an item without a training row, {data.name} has none for the users that lists "
        "are measured on; choose recall@k, or hold out a later part."
    )


COLD = "recall of held-out positives on items without a training row"


@metric("cold_start_recall@k", text=COLD, unavailable=_has_no_cold_positive, **LISTS)
def cold_start_recall_at_k(lists: Ints, hit: Bools, relevant: ItemSets, item_counts: Ints) -> float:
    """Mean recall of the relevant items without a training interaction, over the users who have such an item.

    Args:
        lists: item ids, integer ``(U, K)``, `NO_ITEM` = empty slot.
        hit: from `hits`, bool ``(U, K)``.
        relevant: the relevant items of the users.
        item_counts: training interactions per item, integer ``(I,)``.
    Returns:
        A share in [0, 1], no unit, higher is better.
    Source: recall as in `recall_at_k`; cold-start items as in Schein et al. 2002. Cost: O(U K + nnz).
    Example:
        >>> from scipy.sparse import csr_array
        >>> hit, counts = np.array([[True, True], [True, False]]), np.array([3, 0, 1])
        >>> cold_start_recall_at_k(np.array([[0, 1], [0, 2]]), hit, csr_array([[1, 1, 0], [1, 0, 0]]), counts)
        1.0
    """
    is_cold = np.asarray(item_counts) == 0
    n_cold = n_relevant_among(relevant, is_cold)
    some = n_cold > 0
    found = hit[some] & is_cold[lists[some]]  # an empty slot is no hit, so the item it points to does not matter
    return float(recall_at_k(found, n_cold[some]).mean())


def n_relevant_among(relevant: ItemSets, is_wanted: Bools) -> Ints:
    """Number of relevant items per user that are wanted, int64 ``(U,)``; ``is_wanted``: bool ``(I,)``.

    Example:
        >>> from scipy.sparse import csr_array
        >>> n_relevant_among(csr_array([[1, 1, 0], [0, 1, 1]]), np.array([True, False, False]))
        array([1, 0])
    """
    # Differences of running sums: unlike `reduceat`, they give 0 for a user without items.
    before = np.concatenate([[0], np.cumsum(is_wanted[relevant.indices])])
    return np.asarray(before[relevant.indptr[1:]] - before[relevant.indptr[:-1]], dtype=np.int64)


@metric("ndcg@k", text="recall discounted by rank", **LISTS)
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
    # A list of K cannot hold more than K hits, so a user with more positives can still reach 1.
    ideal = np.cumsum(discount)[np.minimum(counts, k) - 1]
    return np.asarray(hit @ discount / ideal)


@metric("precision@k", text="share of the list that is relevant", **LISTS)
def precision_at_k(hit: Bools) -> Floats:
    """Share of the K slots that hold a relevant item: ``hits / K``; an empty slot is a miss.

    Args:
        hit: from `hits`, bool ``(U, K)``, K >= 1.
    Returns:
        float64 ``(U,)``, a share in [0, 1], no unit, higher is better; at most ``n_relevant / K``.
    Source: Herlocker et al. 2004. Cost: O(U K).
    Example:
        >>> precision_at_k(np.array([[True, False, False, False]]))
        array([0.25])
    """
    return np.asarray(hit.mean(axis=1), dtype=np.float64)


@metric("hit_rate@k", text="share of users with a hit", **LISTS)
def hit_rate_at_k(hit: Bools) -> Floats:
    """Whether the list holds any relevant item; the mean over users is the hit rate.

    Args:
        hit: from `hits`, bool ``(U, K)``, K >= 1.
    Returns:
        float64 ``(U,)``, 0 or 1, no unit, higher is better.
    Source: Deshpande & Karypis 2004. Cost: O(U K).
    Example:
        >>> hit_rate_at_k(np.array([[False, True], [False, False]]))
        array([1., 0.])
    """
    return np.asarray(hit.any(axis=1), dtype=np.float64)


@metric("mrr@k", text="reciprocal rank of the first hit", **LISTS)
def mrr_at_k(hit: Bools) -> Floats:
    """Reciprocal rank of the first relevant item, 0 when the list holds none; the mean over users is the MRR.

    Args:
        hit: from `hits`, bool ``(U, K)``, K >= 1; ranks start at 1.
    Returns:
        float64 ``(U,)`` in {0, 1/K, ..., 1/2, 1}, no unit, higher is better.
    Source: Voorhees 1999, cut at K. Cost: O(U K).
    Example:
        >>> mrr_at_k(np.array([[False, True, True], [False, False, False]]))
        array([0.5, 0. ])
    """
    # argmax is 0 in a row without a hit; the hit rate, 0 there, decides.
    return np.asarray(hit_rate_at_k(hit) / (1 + hit.argmax(axis=1)))


def _at_least_one(hit: Bools, n_relevant: Ints) -> Ints:
    if n_relevant.shape != (len(hit),):
        raise DataError(f"n_relevant must have a number per user, {len(hit)}, got shape {n_relevant.shape}.")
    if (n_relevant < 1).any():
        raise DataError(
            f"{int((n_relevant < 1).sum())} of {len(hit)} users have no relevant item; leave them out of the metric."
        )
    return n_relevant
