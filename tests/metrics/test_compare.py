"""The paired bootstrap against normal theory, scipy and degenerate input."""

import numpy as np
import pytest
from scipy import stats

from evorec.errors import DataError
from evorec.metrics import compare
from evorec.metrics.compare import Interval, paired_bootstrap

MONTE_CARLO = 0.1  # of the interval's width: end points of 4,000 resamples scatter by about 2 % of it


def test_interval_of_a_constant_difference_is_a_point_with_the_smallest_p_value():
    a = np.array([0.5, 0.25, 0.75])
    assert paired_bootstrap(a + 0.125, a, seed=1, resamples=199) == Interval(0.125, 0.125, 0.125, 2 / 200, 3)


def test_equal_values_have_an_interval_at_zero_and_p_value_one():
    a = np.linspace(0, 1, 50)
    assert paired_bootstrap(a, a, seed=1) == Interval(0.0, 0.0, 0.0, 1.0, 50)


def test_interval_agrees_with_the_percentile_bootstrap_of_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.exponential(size=120), rng.exponential(size=120)
    found = paired_bootstrap(a, b, seed=3, resamples=4000)
    theirs = stats.bootstrap((a - b,), np.mean, n_resamples=4000, method="percentile", rng=rng).confidence_interval
    width = theirs.high - theirs.low
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=MONTE_CARLO * width)
    assert found.mean_difference == pytest.approx((a - b).mean())


def test_pairing_finds_a_difference_that_unpaired_users_would_hide():
    rng = np.random.default_rng(2)
    users = rng.normal(scale=10, size=300)
    found = paired_bootstrap(users + 0.1 + rng.normal(scale=0.2, size=300), users, seed=0)
    assert 0 < found.low < 0.1 < found.high
    assert found.p_value < 0.01


def test_swapping_the_models_mirrors_the_interval():
    rng = np.random.default_rng(3)
    a, b = rng.random(40), rng.random(40)
    ahead, behind = paired_bootstrap(a, b, seed=5), paired_bootstrap(b, a, seed=5)
    assert (ahead.low, ahead.high, ahead.p_value) == pytest.approx((-behind.high, -behind.low, behind.p_value))


def test_chunks_change_nothing(monkeypatch):
    rng = np.random.default_rng(4)
    a, b = rng.random(30), rng.random(30)
    whole = paired_bootstrap(a, b, seed=6, resamples=101)
    monkeypatch.setattr(compare, "DRAWS_AT_ONCE", 70)
    assert paired_bootstrap(a, b, seed=6, resamples=101) == whole


def test_a_seed_gives_the_same_interval_again_and_another_seed_another():
    rng = np.random.default_rng(5)
    a, b = rng.random(30), rng.random(30)
    assert paired_bootstrap(a, b, seed=1) == paired_bootstrap(a, b, seed=1)
    assert paired_bootstrap(a, b, seed=1) != paired_bootstrap(a, b, seed=2)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, 2.0], [1.0], "same users"),
        ([], [], "same users"),
        ([1.0, np.nan], [1.0, 1.0], "1 that are not"),
    ],
    ids=["lengths", "empty", "nan"],
)
def test_values_that_cannot_be_paired_are_refused(a, b, message):
    with pytest.raises(DataError, match=message):
        paired_bootstrap(np.array(a), np.array(b), seed=0)


@pytest.mark.parametrize("settings", [{"resamples": 0}, {"confidence": 1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(DataError, match="resamples >= 1"):
        paired_bootstrap(np.ones(3), np.zeros(3), seed=0, **settings)
