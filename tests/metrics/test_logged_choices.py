"""The better half of each user's logged rows, worked by hand and against a slow loop."""

import numpy as np
import pytest

from evorec.errors import DataError
from evorec.metrics.logged_choices import LoggedRows, cost_per_positive, mean_of_chosen

NAN = np.nan
ROUNDING = 1e-12  # a mean, added up in another order


def slow_half(users, scores, n_users):
    """Row numbers, user by user."""
    chosen = []
    for user in range(n_users):
        rows = [row for row, own in enumerate(users) if own == user]
        if len(rows) > 1:
            chosen += sorted(rows, key=lambda row: (-scores[row], row))[: len(rows) // 2]
    return sorted(chosen)


def test_each_user_gives_the_better_half_of_its_own_rows_and_ties_stand_by_row():
    users = np.array([1, 0, 1, 1, 0, 1, 2, 3, 1])  # user 1 has five rows, 0 two, 2 one; 3 is not known
    rows = LoggedRows(users, n_users=3)
    scores = np.array([0.5, 0.1, 0.9, 0.5, 0.2, 0.5, 9.0, 9.0, 0.4])
    # of user 1 two of five: row 2, and of the tied rows 0, 3, 5 the first; of user 0 the better of rows 1 and 4
    assert rows.better_half(scores).tolist() == [0, 2, 4]
    assert (rows.n_users, rows.n_left_out) == (2, 1)


def test_a_second_key_decides_among_ties_of_the_first():
    rows = LoggedRows(np.zeros(4, dtype=int), n_users=1)
    assert rows.better_half(np.array([1.0, 0.0, 1.0, 1.0]), np.array([-5.0, 0.0, -1.0, -2.0])).tolist() == [2, 3]


def test_the_half_is_that_of_a_slow_loop():
    rng = np.random.default_rng(0)
    for _ in range(20):
        users, scores = rng.integers(0, 9, 60), rng.integers(0, 5, 60) / 4
        assert LoggedRows(users, n_users=8).better_half(scores).tolist() == slow_half(users, scores, 8), "seed 0"


def test_nobody_has_a_choice_with_one_row_each():
    rows = LoggedRows(np.array([0, 1, 2, 2]), n_users=2)
    assert rows.better_half(np.arange(4.0)).tolist() == []
    assert (rows.n_users, rows.n_left_out) == (0, 2)
    assert LoggedRows(np.zeros(0, dtype=int), n_users=2).better_half(np.zeros(0)).tolist() == []


def test_a_user_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"users must be integers \(N,\) in \[0, 2\]"):
        LoggedRows(np.array([0, 3]), n_users=2)


def test_the_mean_of_the_chosen_leaves_out_what_was_not_observed():
    labels = np.array([1.0, NAN, 4.0, 9.0])
    assert mean_of_chosen(labels, np.array([0, 1, 2])) == pytest.approx(2.5, abs=ROUNDING)
    assert mean_of_chosen(labels, np.array([1])) is None
    assert mean_of_chosen(labels, np.zeros(0, dtype=int)) is None


def test_the_cost_of_a_positive_is_the_whole_spend_where_there_is_none():
    spend, labels = np.array([2.0, 3.0, NAN, 7.0]), np.array([1.0, 0.0, 1.0, NAN])
    assert cost_per_positive(spend, labels, np.array([0, 1, 2, 3])) == 6.0  # (2 + 3 + 7) / 2
    assert cost_per_positive(spend, labels, np.array([1, 3])) == 10.0
    assert cost_per_positive(spend, labels, np.zeros(0, dtype=int)) == 0.0
