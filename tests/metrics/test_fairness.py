"""The gap between groups of users, worked by hand and against a slow loop."""

import numpy as np
import pytest
from measured_lists import list_metrics
from scipy.sparse import csr_array

from evorec.errors import DataError
from evorec.metrics.fairness import FEWEST_USERS, NO_GROUP, UserGroups

ROUNDING = 1e-12


def test_the_gap_is_between_the_best_and_the_worst_served_group():
    values = np.array([0.5, 0.7, 0.1, 0.3, 0.4, 0.4, 1.0, 0.0])
    groups = UserGroups(np.array([0, 0, 1, 1, 5, 5, 7, NO_GROUP]), fewest=2)
    # means 0.6, 0.2 and 0.4; group 7 has one user
    assert groups.gap(values) == pytest.approx(0.4, abs=ROUNDING)
    assert ([own.tolist() for own in groups.members], groups.n_left_out) == ([[0, 1], [2, 3], [4, 5]], 2)


def test_a_group_of_nineteen_users_is_left_out_and_one_of_twenty_counts():
    assert FEWEST_USERS == 20
    groups = np.repeat([0, 1, 2], [20, 19, 20])
    values = np.repeat([0.5, 0.0, 0.25], [20, 19, 20])
    found = UserGroups(groups)
    assert ([len(own) for own in found.members], found.n_left_out) == ([20, 20], 19)
    assert found.gap(values) == 0.25


def test_one_group_has_no_gap():
    with pytest.raises(DataError, match="a gap needs two groups or more, got 1"):
        UserGroups(np.zeros(30, dtype=int)).gap(np.zeros(30))
    with pytest.raises(DataError, match="a gap needs two groups or more, got 0"):
        UserGroups(None).gap(np.zeros(30))


def test_the_gap_of_lists_is_that_of_a_slow_loop_over_recalls():
    rng = np.random.default_rng(0)
    groups = rng.integers(-1, 3, 120)
    relevant = csr_array((rng.random((120, 12)) < 0.3) | (np.arange(12) == 0))
    lists = np.argsort(rng.random((120, 12)), axis=1)[:, :4]
    found = list_metrics(lists, relevant, item_counts=np.ones(12, int), item_content=np.zeros((12, 0)), groups=groups)
    means = []
    for group in range(3):
        users = [user for user in range(120) if groups[user] == group]
        wanted = {user: set(relevant[[user]].indices.tolist()) for user in users}
        recalls = [len(wanted[user] & set(lists[user].tolist())) / len(wanted[user]) for user in users]
        means.append(sum(recalls) / len(recalls))
    assert found.values["group_gap@4"] == pytest.approx(max(means) - min(means), abs=ROUNDING)
    assert "group_gap@4" not in found.per_user
    few = list_metrics(lists, relevant, item_counts=np.ones(12, int), item_content=np.zeros((12, 0)),
                       groups=np.arange(120))  # fmt: skip
    assert "group_gap@4" not in few.values
