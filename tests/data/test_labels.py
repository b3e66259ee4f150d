"""Labels that are numbers: standardised by the training rows alone, checked, and their statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from evorec.config import EvaluationConfig, QuantileKind, TaskKind
from evorec.data.dataset import Dataset
from evorec.data.encode import encode
from evorec.data.held_out import HeldOut, ranking_users
from evorec.data.labels import best_constants
from evorec.data.splits import Split
from evorec.data.statistics import PRIOR_ROWS, History, statistics
from evorec.data.tables import Tables
from evorec.errors import DataError

BY_POSITION = Split(np.arange(8), np.arange(8, 10), np.arange(10, 12))
WATCH = [0.0, 10.0, None, 20.0, 30.0, 40.0, 50.0, 60.0, 35.0, 1e3, 5.0, 6.0]
MEDIAN = QuantileKind(quantile=0.5)
SINGLE = 1e-6  # float32


def timed(small: Tables, watch: list[float | None] = WATCH) -> Tables:
    """The small data set with the seconds that an item was watched."""
    log = small.interactions.with_columns(pl.Series("watch", watch, dtype=pl.Float64))
    return replace(small, interactions=log, tasks=("click", "like", "watch"))


def encoded(tables: Tables, kinds: dict[str, TaskKind], **options: object) -> Dataset:
    given = {"tasks": ("click", "watch"), "target": "click", "fit": "train", **options}
    return encode(tables, BY_POSITION, kinds=kinds, **given)  # type: ignore[arg-type]


def test_numbers_are_standardised_with_the_training_rows_alone(small: Tables) -> None:
    data = encoded(timed(small), {"watch": "regression"})
    known = np.array([0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    assert data.kinds == ("binary", "regression")
    assert data.label_shift.tolist() == [0.0, 30.0]
    assert data.label_scale.tolist() == [1.0, 20.0]  # mean of 30^2, 20^2, 10^2, 0, 10^2, 20^2, 30^2 is 400
    np.testing.assert_allclose(data.train.labels[:, 1], [-1.5, -1, np.nan, -0.5, 0, 0.5, 1, 1.5], atol=SINGLE)
    np.testing.assert_allclose(data.held_out.labels[:, 1], [0.25, 48.5], atol=SINGLE)  # 35 and 1,000 seconds
    np.testing.assert_array_equal(data.train.labels[:, 0], small.interactions["click"].to_numpy()[:8])
    assert (known.mean(), known.std()) == (30.0, 20.0)
    assert data.train.labels.dtype == np.float32


def test_only_the_rows_of_the_given_label_count(small: Tables) -> None:
    log = small.interactions.with_columns(pl.Series("click", [1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0]))
    tables = timed(small.with_interactions(log))
    data = encoded(tables, {"watch": MEDIAN}, tasks=("watch",), given={"watch": "click"})
    clicked = np.array([0.0, 20.0, 40.0, 60.0])  # rows 0, 3, 5, 7; row 2 was clicked and has no label
    assert (data.label_shift[0], data.label_scale[0]) == (clicked.mean(), clicked.std())
    assert np.isnan(data.train.labels[[1, 2, 4, 6], 0]).all()


def test_a_task_said_to_be_binary_changes_nothing(small: Tables) -> None:
    plain = encode(small, BY_POSITION, tasks=("click",), target="click", fit="train", statistics=("user",))
    said = encode(
        small,
        BY_POSITION,
        tasks=("click",),
        target="click",
        fit="train",
        statistics=("user",),
        kinds={"click": "binary"},
    )
    assert said.sha256 == plain.sha256
    np.testing.assert_array_equal(said.train.statistics, plain.train.statistics)


def test_the_hash_knows_the_kinds(small: Tables) -> None:
    kinds: list[TaskKind] = ["regression", MEDIAN, QuantileKind(quantile=0.9)]
    assert len({encoded(timed(small), {"watch": kind}).sha256 for kind in kinds}) == 3


@pytest.mark.parametrize(
    ("watch", "message"),
    [
        (
            [7.0] * 8 + WATCH[8:],
            r"watch of small must have two or more different numbers in the training rows, got 7: 8",
        ),
        (WATCH[:8] + [5.0] * 4, r"two or more different numbers in the validation rows, got 5: 2 rows; drop it"),
        ([0.0, 1e-30] * 4 + [3e38] * 2 + WATCH[10:], "two or more different numbers in the validation rows"),
        ([0.0, 1e-30] * 4 + [3e38, 1.0] + WATCH[10:], "task watch has a label too far from those of training"),
    ],
)
def test_numbers_that_cannot_be_learned_are_refused(small: Tables, watch: list[float | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        encoded(timed(small, watch), {"watch": "regression"})


def test_numbers_that_nobody_declared_are_refused_with_the_way_to_declare_them(small: Tables) -> None:
    with pytest.raises(DataError, match=r'watch of small must be 0 or 1 .* or say tasks.kinds: "regression"'):
        encoded(timed(small), {})


def test_the_best_constants_cost_least(small: Tables) -> None:
    tables = timed(small)
    tables = replace(
        tables, interactions=tables.interactions.with_columns(late=pl.col("watch")), tasks=(*tables.tasks, "late")
    )
    kinds: dict[str, TaskKind] = {"watch": "regression", "late": QuantileKind(quantile=0.8)}
    data = encoded(tables, kinds, tasks=("click", "watch", "late"))
    click, watch, late = best_constants(data)
    assert click == pytest.approx(np.log(5 / 3), abs=SINGLE)  # 5 of 8 rows
    assert watch == 0.0
    assert late == pytest.approx(1.0, abs=SINGLE)  # 50 s: 6 of 7 are not above, 5 of 7 = .71 would be too few
    users = ranking_users(data, EvaluationConfig(), seed=0, at_most=None)
    corners = HeldOut(data, EvaluationConfig(), users).all_corners()
    errors = {name: worst for name, (ideal, worst) in corners.items() if ideal == 0 and not name.startswith("gain")}
    assert errors["rmse/watch"] == pytest.approx(20.0, rel=SINGLE)
    assert errors["mae/watch"] == pytest.approx(120 / 7, rel=SINGLE)  # from the median, 30 s
    # label - 50: -50, -40, -30, -20, -10, 0, 10; (0.2 * 150 + 0.8 * 10) / 7
    assert errors["pinball/late"] == pytest.approx(38 / 7, rel=SINGLE)
    assert set(errors) == {"rmse/watch", "mae/watch", "pinball/late"}


def test_statistics_of_numbers_are_smoothed_means_of_earlier_days() -> None:
    rng = np.random.default_rng(2)
    n, n_codes = 80, 4
    codes, days = rng.integers(0, n_codes, n), rng.integers(0, 5, n)
    labels = np.column_stack([rng.integers(0, 2, n), rng.normal(size=n)]).astype(np.float32)
    labels[rng.random((n, 2)) < 0.2] = np.nan
    keyed = History("item", "item", codes, codes[:9], np.arange(n_codes + 1))
    found = statistics([keyed], days, labels, ("a", "watch"), n_users=2, n_items=n_codes, numbers=("watch",))
    base = np.nanmean(labels[:, 1].astype(np.float64))

    def mean(rows: np.ndarray) -> float:
        known = labels[rows, 1][~np.isnan(labels[rows, 1])].astype(np.float64)
        return float((known.sum() + PRIOR_ROWS * base) / (len(known) + PRIOR_ROWS))

    train = np.array([mean((codes == codes[row]) & (days < days[row])) for row in range(n)])
    after = np.array([mean(codes == code) for code in range(n_codes + 1)])
    centre, spread = train.mean(), train.std()
    np.testing.assert_allclose(found.train[:, 2], np.clip((train - centre) / spread, -5, 5), atol=1e-5)
    np.testing.assert_allclose(found.items[:, 2], np.clip((after - centre) / spread, -5, 5), atol=1e-5)
    np.testing.assert_allclose(found.held_out[:, 2], found.items[codes[:9], 2])
    plain = statistics([keyed], days, labels[:, :1], ("a",), n_users=2, n_items=n_codes)
    np.testing.assert_array_equal(found.train[:, :2], plain.train)
