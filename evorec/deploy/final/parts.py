"""Metrics of parts of the test: rows of known users and items, of new users, of new items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Dataset
from evorec.metrics.accuracy import ordering, ordering_key

KNOWN, NEW_USERS, NEW_ITEMS = "known", "new_users", "new_items"
WITH_HISTORY, WITHOUT_HISTORY = "with_history", "without_history"


@final
class ColdParts:
    """The held-out rows and users of a fit, divided by its training rows; the same for all models.

    Args:
        dataset: its held-out part is divided.
        users: ids of the users with lists, int64 ``(U,)``.
    Attributes:
        rows: rows of `KNOWN` (user and item have a training row), `NEW_USERS` and `NEW_ITEMS`, bool ``(N,)`` each; a
            row of a new user on a new item is in both.
        users: `WITH_HISTORY` (a training positive of the target) and `WITHOUT_HISTORY`, bool
            ``(U,)`` each.
    """

    def __init__(self, dataset: Dataset, users: npt.NDArray[np.int64]) -> None:
        part = dataset.held_out
        new_users = part.users == dataset.n_users
        new_items = np.append(dataset.item_counts, 0)[part.items] == 0  # last entry: items outside the catalogue
        self.rows = {KNOWN: ~new_users & ~new_items, NEW_USERS: new_users, NEW_ITEMS: new_items}
        has_history = dataset.history.counts()[users] > 0
        self.users = {WITH_HISTORY: has_history, WITHOUT_HISTORY: ~has_history}
        self._tasks = [
            (task, kind, part.labels[:, column])
            for column, (task, kind) in enumerate(zip(dataset.tasks, dataset.kinds, strict=True))
        ]

    def of_rows(self, scores: Mapping[str, npt.NDArray[Any]]) -> dict[str, dict[str, float]]:
        """AUC or concordance of each task in each part.

        Args:
            scores: by task, ``(N,)``; a task may be missing.
        Returns:
            By part ``rows`` and the metric of each task. Tasks with a single class in a part have no metric there and
            are counted by ``n_undefined``; without such tasks, ``accuracy`` is the mean.
        """
        out: dict[str, dict[str, float]] = {}
        for name, rows in self.rows.items():
            found = {
                ordering_key(task, kind): ordering(kind, labels[rows], scores[task][rows])
                for task, kind, labels in self._tasks
                if task in scores
            }
            defined = {key: value for key, value in found.items() if value is not None}
            n_undefined = len(self._tasks) - len(defined)
            rest: dict[str, float] = {"n_undefined": n_undefined} if n_undefined else {}
            if defined and not n_undefined:
                rest = {"accuracy": float(np.mean(list(defined.values())))}
            out[name] = {"rows": int(rows.sum()), **defined, **rest}
        return out

    def of_users(self, per_user: Mapping[str, npt.NDArray[Any]], recall: str) -> dict[str, dict[str, float]]:
        """Mean recall of the users with and without a history.

        Args:
            per_user: by metric, ``(U,)``.
            recall: key of the metric.
        """
        return {
            name: {"users": int(some.sum())} | ({recall: float(per_user[recall][some].mean())} if some.any() else {})
            for name, some in self.users.items()
        }
