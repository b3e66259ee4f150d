"""The shift of an attack, worked by hand and against a slow loop."""

import numpy as np
import pytest

from evorec.errors import DataError
from evorec.metrics.robustness import attack_shift, target_hit_rate

ROUNDING = 1e-12


def test_the_hit_rate_is_a_mean_over_targets_of_a_share_of_users():
    lists = np.array([[3, 1], [1, 2], [0, -1]])
    # target 1 stands in two of three lists, 3 in one, 9 in none
    assert target_hit_rate(lists, np.array([1, 3])) == pytest.approx((2 / 3 + 1 / 3) / 2, abs=ROUNDING)
    assert target_hit_rate(lists, np.array([1, 3, 9])) == pytest.approx((2 / 3 + 1 / 3 + 0) / 3, abs=ROUNDING)


def test_the_shift_is_what_an_attack_adds_and_may_be_negative():
    quiet, loud = np.array([[3, 4], [4, 5]]), np.array([[1, 4], [4, 1]])
    assert attack_shift(quiet, loud, np.array([1])) == 1.0
    assert attack_shift(loud, quiet, np.array([1])) == -1.0
    assert attack_shift(loud, loud, np.array([1, 4])) == 0.0


def test_the_shift_is_that_of_a_slow_loop():
    rng = np.random.default_rng(0)
    before, after = (np.argsort(rng.random((30, 12)), axis=1)[:, :4] for _ in range(2))
    targets = [2, 5, 11]
    rates = [
        np.mean([np.mean([target in row for row in lists.tolist()]) for target in targets]) for lists in (before, after)
    ]
    assert attack_shift(before, after, np.array(targets)) == pytest.approx(rates[1] - rates[0], abs=ROUNDING)


def test_lists_that_cannot_be_compared_are_refused():
    with pytest.raises(DataError, match=r"of the same users, got \(2, 1\) and \(3, 1\)"):
        attack_shift(np.zeros((2, 1), int), np.zeros((3, 1), int), np.array([0]))
    with pytest.raises(DataError, match=r"and a target, got .* 0 targets"):
        target_hit_rate(np.zeros((2, 1), int), np.zeros(0, int))
    with pytest.raises(DataError, match=r"expected lists \(U >= 1, K\)"):
        target_hit_rate(np.zeros((0, 3), int), np.array([0]))
