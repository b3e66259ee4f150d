"""How differently a model serves stated groups of users."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

NO_GROUP = -1
"""Group of a user of whom none is known."""
FEWEST_USERS = 20
"""A group with fewer users is left out: the mean recall of a handful says little about the group."""


@final
class UserGroups:
    """Which users are of one group, for many models on the same users.

    Args:
        groups: group of each user, integer ``(U,)``, `NO_GROUP` = none is known.
        fewest: users of a group that is looked at, at least.

    Attributes:
        sizes: users of each group that is looked at, int64 ``(n_groups,)``, by ascending group.
        n_left_out: users of no group, or of a smaller one.
    Example:
        >>> groups = UserGroups(np.array([0, 0, 1, 1, 2, -1]), fewest=2)  # group 2 has one user
        >>> groups.gap(np.array([0.5, 0.7, 0.1, 0.3, 1.0, 0.0])).__round__(4), groups.sizes, groups.n_left_out
        (0.4, array([2, 2]), 2)
    """

    def __init__(self, groups: Ints, *, fewest: int = FEWEST_USERS) -> None:
        known, counts = np.unique(groups[groups != NO_GROUP], return_counts=True)
        large = known[counts >= fewest]
        self._members = [np.flatnonzero(groups == group) for group in large]
        self.sizes = np.array([len(own) for own in self._members], dtype=np.int64)
        self.n_left_out = len(groups) - int(self.sizes.sum())

    @property
    def can_differ(self) -> bool:
        """Whether there are two groups or more."""
        return len(self._members) > 1

    def gap(self, values: Floats) -> float:
        """Largest difference between the groups' means: that of the best served group less that of the worst served.

        Args:
            values: of each user, e.g. recall, float ``(U,)``.
        Returns:
            At least 0, in the unit of the values: of recall a share in [0, 1]; lower is better, 0 = all alike.
        Raises:
            DataError: there are fewer than two groups.
        Source: Ekstrand et al. 2018 (means by demographic group); Li et al. 2021 (user-oriented fairness: the
            difference of two groups), here the largest of any two. Cost: O(U).
        """
        if not self.can_differ:
            raise DataError(f"a gap needs two groups or more, got {len(self._members)}; choose another grouping.")
        means = [float(values[own].mean()) for own in self._members]
        return max(means) - min(means)
