"""Attainment surfaces by hand, and against a slow count."""

import numpy as np
import pytest

from evorec.archive.comparing import Trajectory, attainment
from evorec.errors import DataError
from evorec.objectives import Objective

AXES = [Objective(name, name, "min", "", ideal=0.0, worst=1.0) for name in ("a", "b", "c", "d")]


def run(method, *points, n=None):
    rows = [dict(zip("abcd", map(float, point), strict=False)) for point in points]
    return Trajectory(method, method, rows, range(1, len(rows) + 1), [0.0] * len(rows), n or max(len(rows), 1))


def test_surfaces_of_three_runs_by_hand():
    runs = [run("x", (0.1, 0.5), (0.5, 0.1), n=2), run("x", (0.3, 0.3), n=2), run("x", (2.0, 0.2), n=2)]
    # a quarter is one run of three: any; half is two: where both of the first two are; no point is reached by all three
    found = attainment(runs, AXES[:2])["x"]
    assert found[25].tolist() == [[0.1, 0.5], [0.3, 0.3], [0.5, 0.1]]
    assert found[50].tolist() == [[0.3, 0.5], [0.5, 0.3]]
    assert found[75].tolist() == [[1.0, 1.0]], "a run outside of the box counts as a run"


def test_only_as_many_trainings_count_as_all_runs_have():
    runs = [run("x", (0.4, 0.4), (0.1, 0.1)), run("y", (0.5, 0.5))]
    assert attainment(runs, AXES[:2], [50])["x"][50].tolist() == [[0.4, 0.4]]


def test_a_surface_agrees_with_a_count_of_the_runs_that_reach_a_point():
    rng = np.random.default_rng(0)
    runs = [run("x", *rng.random((6, 3))) for _ in range(8)]
    surfaces = attainment(runs, AXES[:3])["x"]
    for point in rng.random((200, 3)):
        n = sum(any(all(row[k] <= p for k, p in zip("abc", point, strict=True)) for row in own.rows) for own in runs)
        for percent, corners in surfaces.items():
            assert bool((corners <= point).all(axis=1).any()) == (100 * n >= percent * len(runs))


def test_surfaces_of_four_objectives_are_refused():
    with pytest.raises(DataError, match="2 or 3 objectives, got 4"):
        attainment([run("x", (0.1, 0.1, 0.1, 0.1))], AXES)
