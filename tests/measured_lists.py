"""Metrics of lists from plain arrays."""

from typing import Any

import numpy.typing as npt

from evorec.metrics.lists import ItemSets, ListData, RecommendedLists
from evorec.metrics.metric import Measurements, measure, metrics_of


def list_metrics(lists: npt.NDArray[Any], relevant: ItemSets, **data: Any) -> Measurements:
    """Every metric of lists that a baseline has too; `data` are the other fields of `ListData`."""
    known = ListData(relevant, **data)
    metrics = [metric for metric in metrics_of(RecommendedLists, data=known) if metric.has_baselines]
    return measure(RecommendedLists(lists, known), metrics)
