"""The rows that a model would have chosen among the logged rows: the better half of each user's rows.

A replay on logged rows, which the logging policy chose; nothing corrects for that. A better mean label of the chosen
rows says that the model ranks these rows well, which differs from the outcome if the model had decided which rows are
shown: estimating that needs rows shown at random (Li et al. 2011). The metrics are not counterfactual estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.config import RecommenderConfig, TaskKind
from evorec.errors import DataError
from evorec.metrics.metric import metric

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]
TEXT: Final = "of the held-out rows that the model would choose, the better half of each user's"


@final
class LoggedRows:
    """The rows of users with two or more rows, for many models on the same rows.

    Args:
        users: user of each row, integer ``(N,)`` in ``[0, n_users]``; `n_users` = unknown users, who have no choice.
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
        rank = np.arange(len(self._rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        # In rows sorted by user and key, the better half has the same positions for every model.
        self._is_better = rank < np.repeat(counts // 2, counts)

    def better_half(self, *keys: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """The ``floor(n / 2)`` rows of each user with the highest keys, out of n.

        Args:
            keys: float ``(N,)`` each, no NaN; the first decides, ties are broken by the next, at last by the earlier
                row.
        Returns:
            int64 row numbers, ascending.
        Cost: O(N log N).
        """
        order = np.lexsort((*(-key[self._rows] for key in reversed(keys)), self._users))
        return np.sort(self._rows[order[self._is_better]])


@final
@dataclass(frozen=True, eq=False)
class LoggedChoices:
    """The held-out rows of a task as choices: the same for all models.

    Attributes:
        task: its name.
        kind: of its labels.
        sign: -1 when high labels are bad (tasks.lower_is_better), else 1.
        labels: in their own unit, float64 ``(N,)``, NaN = unknown.
        spend: cost of each row, float64 ``(N,)``; ``None`` without evaluation.spend.
        rows: which rows the users choose among.
        name: of the data set, for messages.
    """

    task: str
    kind: TaskKind
    sign: int
    labels: Floats
    spend: Floats | None
    rows: LoggedRows
    name: str = "the data"


@final
@dataclass(frozen=True, eq=False)
class ChosenRows:
    """The rows that a model chooses.

    Attributes:
        chosen: row numbers, int64, from `LoggedRows.better_half` of the model's scores.
        data: the rows and labels of a task.
    """

    chosen: Ints
    data: LoggedChoices


def why_no_choice(data: LoggedChoices) -> str:
    """Why a metric without corners on these rows is refused."""
    rows = data.rows
    return (
        f"needs users with two or more held-out rows whose labels differ; of {data.name} {rows.n_users} users have two "
        f"or more held-out rows, {rows.n_left_out} have a single row; hold out a longer part, or leave the metric out."
    )


def _corners_of_label(data: LoggedChoices) -> tuple[float, float] | None:
    """Values of choosing by the label itself: the best half and the worst half."""
    labels, known = data.labels, ~np.isnan(data.labels)
    key = data.sign * np.nan_to_num(labels)
    halves = (np.where(known, key, -np.inf), np.where(known, -key, -np.inf))  # rows without a label come last
    best, worst = (mean_of_chosen(labels, data.rows.better_half(half)) for half in halves)
    return None if best is None or worst is None or best == worst else (best, worst)


def _is_harm(config: RecommenderConfig, name: str) -> str | None:
    task = name.partition("/")[2]
    if task not in config.tasks.lower_is_better:
        return None
    return f"{name}: {task} is in tasks.lower_is_better; write harm/{task}."


def _is_gain(config: RecommenderConfig, name: str) -> str | None:
    task = name.partition("/")[2]
    if task not in config.tasks.ranked or task in config.tasks.lower_is_better:
        return None
    return f"{name}: {task} is not in tasks.lower_is_better; write gain/{task}, or name it there."


LABEL: Final[dict[str, Any]] = {"of": ChosenRows, "ideal": None, "worst": None, "unit": ""}


@metric(
    "gain/<task>",
    direction="max",
    text=f"mean label {TEXT}",
    requires=_is_harm,
    corners=lambda data: _corners_of_label(data) if data.sign > 0 else None,
    **LABEL,
)
@metric(
    "harm/<task>",
    direction="min",
    text=f"mean label, of a task of tasks.lower_is_better, {TEXT}",
    requires=_is_gain,
    corners=lambda data: _corners_of_label(data) if data.sign < 0 else None,
    **LABEL,
)
def mean_of_chosen(labels: Floats, chosen: Ints) -> float | None:
    """Mean label of the chosen rows: the gain, or the harm, of a choice per row.

    Args:
        labels: in their own unit, float64 ``(N,)``; NaN = unknown, such rows are left out.
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


def _corners_of_cost(data: LoggedChoices) -> tuple[float, float] | None:
    """Ideal: the positives, then the cheapest rows. Worst: the most expensive half, per positive in it.

    If that is not worse than the ideal, its spend per positive of the choice with the fewest positives.
    """
    if data.spend is None or data.sign < 0:
        return None
    spend, labels, half = data.spend, data.labels, data.rows.better_half
    positive = (labels > 0).astype(np.float64)
    ideal = cost_per_positive(spend, labels, half(positive, -spend))
    expensive = half(spend, -positive)
    # The most expensive half may hold more positives than others, and so be the cheaper per positive.
    worst = cost_per_positive(spend, labels, expensive)
    if worst <= ideal:
        worst = float(spend[expensive].sum() / max(positive[half(-positive)].sum(), 1.0))
    return (ideal, worst) if ideal < worst else None


def _lacks_spend(config: RecommenderConfig, name: str) -> str | None:
    if not config.evaluation.spend:
        return f"{name} needs evaluation.spend, the ranked task whose label is the cost of a row."
    return _is_harm(config, name)


@metric(
    "cost_per/<task>",
    direction="min",
    text=f"evaluation.spend per positive {TEXT}",
    kinds=("binary",),
    requires=_lacks_spend,
    corners=_corners_of_cost,
    **LABEL,
)
def cost_per_positive(spend: Floats, labels: Floats, chosen: Ints) -> float:
    """Summed spend of the chosen rows per positive among them; without a positive, the whole spend.

    Args:
        spend: cost of each row, float64 ``(N,)``; NaN = unknown, adds nothing.
        labels: 0 and 1, float64 ``(N,)``; NaN = unknown, no positive.
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
