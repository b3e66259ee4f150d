"""Indicators against figures worked by hand and slow loops."""

import math

import numpy as np
import pytest

from evorec.archive.indicators import epsilon, hypervolume_share, igd_plus, normalised
from evorec.errors import DataError
from evorec.objectives import Objective

A = Objective("a", "a", "max", "", ideal=1.0, worst=0.0)
B = Objective("b", "b", "max", "", ideal=2.0, worst=0.0)
COST = Objective("cost", "flops", "min", "FLOP", ideal=1e2, worst=1e4, log10=True)
EXACT = 1e-12  # a few roundings of numbers near 1
SEED = 9


def test_hypervolume_share_is_the_area_worked_by_hand():
    rows = [{"a": 0.5, "b": 1.0}, {"a": 0.25, "b": 2.0}]
    # in the box: rectangles 0.5 x 0.5 and 0.25 x 1.0, overlapping in 0.25 x 0.5
    assert hypervolume_share(rows, [A, B]) == pytest.approx(0.25 + 0.25 - 0.125, abs=EXACT)
    # cost 1e3 is half way on a log scale
    assert hypervolume_share([{"a": 0.5, "flops": 1e3}], [A, COST]) == pytest.approx(0.25, abs=EXACT)


def test_hypervolume_share_clips_at_the_ideal_and_ignores_rows_outside_the_box():
    assert hypervolume_share([{"a": 5.0, "b": 9.0}], [A, B]) == 1.0
    assert hypervolume_share([{"a": 1.0, "b": -0.1}], [A, B]) == 0.0
    assert hypervolume_share([{"a": 0.0, "b": 2.0}], [A, B]) == 0.0
    assert hypervolume_share([], [A, B]) == 0.0


def test_hypervolume_share_is_the_share_of_dominated_grid_cells():
    rng = np.random.default_rng(SEED)
    axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in "abcd"]
    points = rng.integers(0, 7, size=(12, 4)) / 6  # on the corners of a 6 x 6 x 6 x 6 grid
    cells = np.stack(np.meshgrid(*[np.arange(6)] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    dominated = ((cells[:, None] + 1) <= np.rint(points * 6)[None]).all(axis=2).any(axis=1)
    rows = [dict(zip("abcd", point, strict=True)) for point in points]
    assert hypervolume_share(rows, axes) == pytest.approx(dominated.mean(), abs=EXACT), f"seed {SEED}"


def test_a_dominated_row_or_another_order_changes_no_share():
    rows = [{"a": 0.5, "b": 1.0}, {"a": 0.25, "b": 2.0}]
    more = [{"a": 0.1, "b": 0.5}, rows[1], rows[0], rows[1]]
    assert hypervolume_share(more, [A, B]) == hypervolume_share(rows, [A, B])


def test_igd_plus_counts_only_what_is_worse():
    # in the box: reference (0, 0.5); row (0.3, 0.1) is worse by 0.3 on a only, row (0.4, 0.9) by 0.4 on both
    reference = [{"a": 1.0, "b": 1.0}]
    rows = [{"a": 0.7, "b": 1.8}, {"a": 0.6, "b": 0.2}]
    assert igd_plus(rows, reference, [A, B]) == pytest.approx(0.3, abs=EXACT)
    assert igd_plus(rows[1:], reference, [A, B]) == pytest.approx(math.hypot(0.4, 0.4), abs=EXACT)
    assert igd_plus(reference, reference, [A, B]) == 0.0


def test_epsilon_is_the_largest_lag_of_the_best_row():
    reference = [{"a": 1.0, "b": 1.0}, {"a": 0.5, "b": 2.0}]  # in the box (0, 0.5) and (0.5, 0)
    rows = [{"a": 0.8, "b": 1.0}]  # (0.2, 0.5): behind by 0.2 on a, by 0.5 on b
    assert epsilon(rows, reference, [A, B]) == pytest.approx(0.5, abs=EXACT)
    assert epsilon(reference, rows, [A, B]) == pytest.approx(0.0, abs=EXACT)


def test_missing_or_infinite_metrics_are_refused():
    with pytest.raises(DataError, match="b of row 1 must be a finite number"):
        normalised([{"a": 1.0, "b": 1.0}, {"a": 1.0}], [A, B])
    with pytest.raises(DataError, match="a of row 0"):
        hypervolume_share([{"a": math.nan, "b": 1.0}], [A, B])


def test_distances_need_two_sets():
    for indicator in (igd_plus, epsilon):
        with pytest.raises(DataError, match="both sets must have members, got 0 rows and 1 reference rows"):
            indicator([], [{"a": 1.0, "b": 1.0}], [A, B])
