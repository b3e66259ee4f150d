"""How differently a model serves stated groups of users."""

from __future__ import annotations

from typing import final

import numpy as np

from evorec.config import RecommenderConfig
from evorec.errors import DataError
from evorec.metrics.lists import Bools, Floats, Ints, ListData, RecommendedLists
from evorec.metrics.metric import GAP, metric
from evorec.metrics.ranking import recall_at_k

NO_GROUP = -1
"""Group of a user whose group is unknown."""
FEWEST_USERS = 20
"""A smaller group is left out: the mean recall of a handful of users says little about the group."""


@final
class UserGroups:
    """The groups of users that are large enough to be compared.

    Args:
        groups: group of each user, integer ``(U,)``, `NO_GROUP` = unknown; ``None`` = no groups.
        fewest: smallest size of a group that is compared.

    Attributes:
        members: user numbers of each compared group, by ascending group.
        n_left_out: users without a group, or of a smaller group.
    Example:
        >>> groups = UserGroups(np.array([0, 0, 1, 1, 2, -1]), fewest=2)  # group 2 has one user
        >>> groups.gap(np.array([0.5, 0.7, 0.1, 0.3, 1.0, 0.0])).__round__(4), groups.n_left_out
        (0.4, 2)
    """

    def __init__(self, groups: Ints | None, *, fewest: int = FEWEST_USERS) -> None:
        groups = np.zeros(0, dtype=np.int64) if groups is None else groups
        known, counts = np.unique(groups[groups != NO_GROUP], return_counts=True)
        self.members = [np.flatnonzero(groups == group) for group in known[counts >= fewest]]
        self.n_left_out = len(groups) - sum(map(len, self.members))

    def gap(self, values: Floats) -> float:
        """Largest difference between the means of two groups.

        Args:
            values: of each user, e.g. recall, float ``(U,)``.
        Returns:
            At least 0, in the unit of the values; 0 when all groups have the same mean.
        Raises:
            DataError: there are fewer than two groups.
        """
        if len(self.members) < 2:
            raise DataError(f"a gap needs two groups or more, got {len(self.members)}; choose another grouping.")
        means = [float(values[own].mean()) for own in self.members]
        return max(means) - min(means)


def _has_no_groups(data: ListData) -> str | None:
    found = UserGroups(data.groups)
    if len(found.members) > 1:
        return None
    return (
        f"needs two or more groups of {FEWEST_USERS} or more users whose lists are measured, {data.name} has "
        f"{len(found.members)}, and {found.n_left_out} users in smaller groups or in none; choose other "
        "evaluation.groups, or raise evaluation.max_users."
    )


def _lacks_setting(config: RecommenderConfig, name: str) -> str | None:
    if config.evaluation.groups:
        return None
    return f"{name} needs evaluation.groups, the column of the user table that states the groups."


@metric(
    "group_gap@k",
    of=RecommendedLists,
    text="largest difference of recall between evaluation.groups of users",
    requires=_lacks_setting,
    unavailable=_has_no_groups,
    **GAP,
)
def group_gap(hit: Bools, n_relevant: Ints, groups: Ints) -> float:
    """Mean recall of the best served group less that of the worst served.

    Args:
        hit, n_relevant: see `recall_at_k`.
        groups: group of each user, integer ``(U,)``, `NO_GROUP` = unknown.
    Returns:
        A difference of shares in [0, 1], lower is better, 0 = all groups have the same recall.
    Raises:
        DataError: fewer than two groups have `FEWEST_USERS` users.
    Source: Ekstrand et al. 2018 (means by demographic group); Li et al. 2021 (user-oriented fairness: the difference
        of two groups), here the largest of any two. Cost: O(U K).
    """
    return UserGroups(groups).gap(recall_at_k(hit, n_relevant))
