"""Intervals over users, against slow bootstraps."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evorec.deploy.final import intervals as module
from evorec.deploy.final.intervals import AucPieces, UserDraws, auc_intervals, row_units
from evorec.metrics.compare import paired_bootstrap

ROUNDING = 1e-12  # sums in another order
SAMPLING = 0.008  # two bootstraps of 800 resamples or more, ends of an interval about 0.1 wide
RNG_ROWS = 1500


def test_the_interval_of_a_mean_is_that_of_a_bootstrap_with_other_draws() -> None:
    values = np.random.default_rng(1).beta(0.5, 2, size=300)
    found = UserDraws(300, seed=3, resamples=2000).means({"recall@5": values, "one": np.ones(300)})
    expected = paired_bootstrap(values, np.zeros(300), seed=8, resamples=2000)
    assert (found["recall@5"]["low"], found["recall@5"]["high"]) == pytest.approx(
        (expected.low, expected.high), abs=SAMPLING
    )
    assert found["one"] == {"low": 1.0, "high": 1.0, "n": 300, "resamples": 2000}
    assert found == UserDraws(300, seed=3, resamples=2000).means({"recall@5": values, "one": np.ones(300)})


def test_resampled_sums_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = UserDraws(7, seed=0, resamples=10)
    whole = draws.sums(np.column_stack([np.ones(7), np.arange(7.0)]))
    assert whole.shape == (10, 2)
    np.testing.assert_array_equal(whole[:, 0], 7.0)
    assert len(set(whole[:, 1])) > 1
    monkeypatch.setattr(module, "DRAWS_PER_CHUNK", 21)
    np.testing.assert_array_equal(draws.sums(np.ones((7, 1)))[:, 0], [7.0] * 10)


def test_many_units_get_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DRAWS", 3000)
    assert [UserDraws(n, 0, 2000).n_resamples for n in (1, 10, 1000)] == [2000, 300, 200]
    assert UserDraws(1000, 0, 100).n_resamples == 100


def test_placements_are_shares_of_the_other_class() -> None:
    # positives .9 and .4, negatives .4 and .1, ties half: .9 beats both, .4 beats one and ties one
    labels, scores = np.array([1, 1, 0, 0, np.nan]), np.array([0.9, 0.4, 0.4, 0.1, 7.0])
    pieces = AucPieces.of(labels, scores, np.array([0, 1, 1, 2, 2]))
    assert pieces is not None
    assert pieces.value == 0.875
    # of the negatives .4 has one positive above it and one tied, .1 has both above
    np.testing.assert_array_equal(pieces.sums, [[1.0, 1, 0.0, 0], [0.75, 1, 0.75, 1], [0.0, 0, 1.0, 1]])
    assert AucPieces.of(np.ones(5), scores, np.zeros(5, dtype=np.int64)) is None


def rows_of_users() -> tuple[Any, Any, Any]:
    """Rows of 100 users who differ in how often they click, with scores that know something."""
    rng = np.random.default_rng(4)
    users = rng.integers(100, size=RNG_ROWS)
    taste = rng.normal(size=100)[users]
    labels = (taste + rng.normal(size=RNG_ROWS) > 0.5).astype(np.float32)
    labels[::50] = np.nan
    return users, labels, np.round(taste + rng.normal(scale=2, size=RNG_ROWS), 1)


def test_the_interval_of_an_auc_is_that_of_drawing_users_and_sorting_anew() -> None:
    users, labels, scores = rows_of_users()
    found = auc_intervals({"auc/click": labels}, [scores], users, seed=1, resamples=2000)["auc/click"]
    rng, drawn = np.random.default_rng(9), []
    known = ~np.isnan(labels)
    for _ in range(800):
        weight = np.bincount(rng.integers(100, size=100), minlength=100)[users][known]
        drawn.append(roc_auc_score(labels[known], scores[known], sample_weight=weight))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert high - low > 0.05, "else the tolerance says nothing"
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=SAMPLING)
    assert (found["n"], found["resamples"]) == (100, 2000)
    rows_alone = auc_intervals({"auc/click": labels}, [scores], np.arange(RNG_ROWS), seed=1, resamples=500)["auc/click"]
    assert rows_alone["high"] - rows_alone["low"] < 0.9 * (high - low), "rows of one user are not independent"


def test_tasks_are_independent_and_a_single_class_has_no_interval() -> None:
    users, labels, scores = rows_of_users()
    settings: dict[str, Any] = {"seed": 1, "resamples": 300}
    alone = auc_intervals({"auc/click": labels}, [scores], users, **settings)
    tasks = {"auc/none": np.zeros(RNG_ROWS), "auc/like": 1 - labels, "auc/click": labels}
    found = auc_intervals(tasks, [scores] * 3, users, **settings)
    assert found.keys() == {"auc/like", "auc/click"}
    assert found["auc/click"] == pytest.approx(alone["auc/click"], abs=ROUNDING)
    turned = {"low": 1 - alone["auc/click"]["high"], "high": 1 - alone["auc/click"]["low"]}
    assert {name: found["auc/like"][name] for name in turned} == pytest.approx(turned, abs=SAMPLING)
    assert auc_intervals({"auc/none": np.zeros(RNG_ROWS)}, [scores], users, **settings) == {}


def test_rows_of_unknown_users_are_separate_units() -> None:
    dataset: Any = SimpleNamespace(n_users=3, held_out=SimpleNamespace(users=np.array([2, 3, 0, 3, 2])))
    np.testing.assert_array_equal(row_units(dataset), [1, 2, 0, 3, 1])
