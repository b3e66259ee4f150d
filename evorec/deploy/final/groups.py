"""Validation metrics of an archive for groups of users, so that a member can be picked for each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt

from evorec.data.groups import user_groups, users_with
from evorec.deploy.final.finalize import measured_archive
from evorec.errors import ConfigError
from evorec.metrics.fairness import FEWEST_USERS
from evorec.objectives import Metrics
from evorec.recommender.problem import RecProblem
from evorec.run.directory import RunDirectory

ACTIVITY: Final = "activity"
"""Groups without a column: thirds of the users by their number of training positives."""
THIRDS: Final = ("few positives", "some positives", "many positives")


EVERYONE: Final = "all users"


@final
@dataclass(frozen=True)
class GroupMetrics:
    """Metrics of members and baselines on a group of users.

    Attributes:
        group: its name: a value of the column.
        n_users: with measured lists.
        members, baselines: by key and by name. Metrics with a value per user are means over the group, all others are
            those of all users.
    """

    group: str
    n_users: int
    members: Mapping[str, Metrics]
    baselines: Mapping[str, Metrics]


def measure_groups(run: RunDirectory, problem: RecProblem, column: str) -> list[GroupMetrics]:
    """Measure every member of an archive on all validation users, by groups; nothing is trained.

    Args:
        run: the run, may be open read-only.
        problem: the problem it searched.
        column: of the table of users, or `ACTIVITY`.
    Returns:
        All users first, then the groups with `FEWEST_USERS` users or more in the order of their values.
    Raises:
        DataError: there is no such column.
        ConfigError: there are fewer than two such groups.
    """
    if not problem.data.dataset.has_items:
        raise ConfigError(
            f"--groups {column} divides the users whose lists are measured, and a table of rows has none."
        )
    data = problem.data.with_all_users()
    names, group_of = _groups(problem, data.users.ids, column)
    groups = [(name, np.flatnonzero(group_of == number)) for number, name in enumerate(names)]
    large = [(name, rows) for name, rows in groups if len(rows) >= FEWEST_USERS]
    if len(large) < 2:
        raise ConfigError(
            f"--groups {column} must divide the users into two or more groups of {FEWEST_USERS} or more users whose "
            f"lists are measured, got {len(large)} such groups of {len(group_of)} users; name another column, or "
            f"{ACTIVITY}."
        )
    members = measured_archive(run, problem)
    stored = {evaluation.key: evaluation.metrics or {} for evaluation in run.members()}
    found = {key: ({**stored[key], **one.metrics}, one.per_user) for key, one in members.items()}
    baselines = data.with_settings(problem.data.baselines.settings).baselines
    known = {name: (one.values, one.per_user) for name, one in baselines.measured.items()}
    everyone = (EVERYONE, np.arange(len(group_of)))
    return [
        GroupMetrics(name, len(rows), _means(found, rows), _means(known, rows)) for name, rows in (everyone, *large)
    ]


def _means(
    measured: Mapping[str, tuple[Metrics, Mapping[str, npt.NDArray[np.float64]]]], rows: npt.NDArray[np.intp]
) -> dict[str, Metrics]:
    return {
        key: {**values, **{name: float(of_users[rows].mean()) for name, of_users in per_user.items()}}
        for key, (values, per_user) in measured.items()
    }


def _groups(problem: RecProblem, ids: npt.NDArray[np.int64], column: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Names of the groups, and the group of each user ``(U,)``, -1 = unknown."""
    tables, dataset = problem.tables, problem.data.dataset
    if column == ACTIVITY and (tables.users is None or ACTIVITY not in tables.users.columns):
        counts = dataset.history.counts()[ids]
        order = np.lexsort((ids, counts))  # equal counts are divided by the number of the user
        thirds = np.empty(len(ids), dtype=np.int64)
        thirds[order] = np.arange(len(ids)) * len(THIRDS) // len(ids)
        return list(THIRDS), thirds
    values = users_with(column, tables, key="--groups")[column].drop_nulls().unique().sort()
    return [f"{column} {value}" for value in values.to_list()], user_groups(tables, dataset.user_ids, column)[ids]
