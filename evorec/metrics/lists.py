"""Every metric of a set of recommendation lists, by its key: the one place that computes them for all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.metrics import diversity, ranking
from evorec.metrics.fairness import UserGroups
from evorec.metrics.ranking import ItemSets

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ListMetrics:
    """Values by metric key, such as ``recall@20``.

    `per_user` holds float64 ``(U,)`` for the metrics that have a value per user; `values` their means, and the
    metrics of all lists together.
    """

    values: dict[str, float]
    per_user: dict[str, Floats]


def list_metrics(
    lists: Ints,
    relevant: ItemSets,
    *,
    item_counts: Ints,
    item_content: npt.NDArray[np.floating[Any]],
    groups: Ints | None = None,
) -> ListMetrics:
    """All ranking and diversity metrics of the lists of one model.

    Args:
        lists: item ids, integer ``(U, K)``, best first, -1 = empty place.
        relevant: held-out positives of the same users, at least one each.
        item_counts: training interactions per item, integer ``(I,)``.
        item_content: fixed content, float ``(I, D)`` unit rows; with D = 0 there is no ``intra_list_distance``.
        groups: stated group of each user, integer ``(U,)``, -1 = none is known; ``None`` = no groups.
    Returns:
        Keys ``recall ndcg precision hit_rate mrr intra_list_distance novelty catalogue_coverage gini_diversity``,
        each with ``@K``, ``cold_start_recall`` where a user has a positive on an item without a training
        interaction, and ``group_gap`` (of recall) where there are two groups that are large enough.
    Raises:
        DataError: as the single metrics do.
    Example:
        >>> from scipy.sparse import csr_array
        >>> lists, relevant = np.array([[2, 0]]), csr_array([[1, 1, 0]])
        >>> found = list_metrics(lists, relevant, item_counts=np.ones(3, int), item_content=np.eye(3))
        >>> found.values["recall@2"], found.values["intra_list_distance@2"]
        (0.5, 1.0)
    """
    return ListScorer(relevant, item_counts=item_counts, item_content=item_content, groups=groups).measure(lists)


@final
class ListScorer:
    """`list_metrics` of many models on the same users: what does not depend on the lists is made once.

    Args:
        relevant: held-out positives of the users, at least one each.
        item_counts: training interactions per item, integer ``(I,)``.
        item_content: fixed content, float ``(I, D)`` unit rows.
        groups: stated group of each user, integer ``(U,)``, or ``None``.
    """

    def __init__(
        self,
        relevant: ItemSets,
        *,
        item_counts: Ints,
        item_content: npt.NDArray[np.floating[Any]],
        groups: Ints | None = None,
    ) -> None:
        self._relevant, self._n_items = relevant, len(item_counts)
        self._positives = ranking.n_relevant(relevant)
        self._bits = diversity.self_information(item_counts)
        self._is_cold = np.asarray(item_counts) == 0
        self._cold_positives = ranking.n_relevant_among(relevant, self._is_cold)
        self._groups = None if groups is None else UserGroups(groups)
        self._content: Floats | None = None
        if item_content.shape[1] > 0:
            content = diversity.unit_rows(item_content)
            self._content = np.append(content, np.zeros((1, content.shape[1])), axis=0)

    def measure(self, lists: Ints) -> ListMetrics:
        """All metrics of the lists ``(U, K)`` of one model, as `list_metrics` says."""
        hit = ranking.hits(lists, self._relevant, self._n_items)
        per_user = {
            "recall": ranking.recall_at_k(hit, self._positives),
            "ndcg": ranking.ndcg_at_k(hit, self._positives),
            "precision": ranking.precision_at_k(hit),
            "hit_rate": ranking.hit_rate_at_k(hit),
            "mrr": ranking.mrr_at_k(hit),
            "novelty": diversity.novelty_of_checked(lists, self._bits),
        }
        if self._content is not None:
            per_user["intra_list_distance"] = diversity.distance_of_checked(lists, self._content)
        values = {name: float(value.mean()) for name, value in per_user.items()}
        if self._cold_positives.any():
            cold = ranking.recall_among(lists, hit, self._is_cold, self._cold_positives)
            values["cold_start_recall"] = float(cold.mean())
        if self._groups is not None and self._groups.can_differ:
            values["group_gap"] = self._groups.gap(per_user["recall"])
        exposure = diversity.exposure_of_checked(lists, self._n_items)
        values["catalogue_coverage"] = float((exposure > 0).mean())
        values["gini_diversity"] = diversity.gini_of_exposure(exposure, len(lists))
        k = lists.shape[1]
        return ListMetrics(
            values={f"{name}@{k}": value for name, value in values.items()},
            per_user={f"{name}@{k}": value for name, value in per_user.items()},
        )
