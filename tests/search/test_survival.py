"""Survival by rank and by what a genome adds to the share of the box."""

from __future__ import annotations

import numpy as np
import pytest
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem

from evorec.archive.indicators import hypervolume_share
from evorec.objectives import Objective
from evorec.search import survival as module
from evorec.search.survival import RankAndHypervolume, box_coordinates, contributions, reduced_front

SEED = 3


def axes(n):
    return [Objective(str(i), str(i), "min", "", ideal=0.0, worst=1.0) for i in range(n)]


def share(points):
    """Dominated share of the box, by the indicator that measures the search."""
    n = points.shape[1]
    return hypervolume_share([{str(i): p[i] for i in range(n)} for p in points], axes(n))


def front(n, m, seed=SEED):
    points = np.abs(np.random.default_rng(seed).normal(size=(n, m)))
    return 1 - 0.9 * points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_a_contribution_is_what_the_share_loses_without_the_point(m):
    points = front(12, m)
    lost = [share(points) - share(np.delete(points, i, axis=0)) for i in range(len(points))]
    np.testing.assert_allclose(contributions(points), lost, atol=1e-12)


def test_points_out_of_the_box_rank_by_how_far_they_are_out():
    points = np.array([[0.2, 1.0], [0.5, 0.5], [1.5, 0.1], [1.2, 1.3]])
    np.testing.assert_allclose(contributions(points), [0.0, 0.25, -0.5, -0.5])


def test_values_become_coordinates_with_the_ideal_and_beyond_at_0():
    gain = Objective("gain", "gain", "max", "", ideal=0.5, worst=0.0)
    cost = Objective("cost", "cost", "min", "", ideal=1.0, worst=100.0, log10=True)
    F = np.array([[-0.25, 10.0], [-0.75, 1000.0]])
    np.testing.assert_allclose(box_coordinates(F, [gain, cost]), [[0.5, 0.5], [0.0, 1.5]])


def test_the_smallest_contributions_are_removed_point_by_point():
    """Of three points close together two contribute hardly anything; without the first, the second does."""
    points = np.array([[0.0, 0.9], [0.5, 0.5], [0.51, 0.49], [0.9, 0.0]])
    kept, gain = reduced_front(points, 3)
    assert sorted(kept.tolist()) in ([0, 1, 3], [0, 2, 3])
    np.testing.assert_allclose(gain, contributions(points[kept]))


def test_of_equal_points_all_but_the_last_are_removed_first():
    points = np.array([[0.3, 0.3], [0.3, 0.3], [0.1, 0.8], [0.3, 0.3]])
    assert reduced_front(points, 2)[0].tolist() == [2, 3]


def test_a_point_of_every_group_of_equals_is_kept_in_large_steps():
    points = np.repeat(front(40, 2), 3, axis=0)  # a surplus of 80, removed two by two
    assert reduced_front(points, 40)[0].tolist() == list(range(2, 120, 3))


def population_of(F, G):
    population = Population.new("X", np.arange(len(F), dtype=float)[:, None])
    population.set("F", F, "G", G)
    return population


def survivors_of(F, G, n, objectives):
    kind = RankAndHypervolume(objectives, crowding="mnn")
    problem = PymooProblem(n_var=1, n_obj=F.shape[1], n_ieq_constr=1)
    population = population_of(F, G)
    kept = kind.do(problem, population, n_survive=n, random_state=np.random.default_rng(0))
    return kept, sorted(int(x) for x in kept.get("X")[:, 0])


def test_feasible_genomes_survive_first_then_better_ranks():
    F = np.array([[0.1, 0.1], [0.4, 0.6], [0.6, 0.4], [0.7, 0.7]])
    G = np.array([[0.5], [-1.0], [-1.0], [-1.0]])
    assert survivors_of(F, G, 2, axes(2))[1] == [1, 2]
    kept, rows = survivors_of(F, G, 3, axes(2))
    assert rows == [1, 2, 3]
    assert dict(zip(kept.get("X")[:, 0], kept.get("rank"), strict=True)) == {1.0: 0, 2.0: 0, 3.0: 1}


def test_the_survivors_of_a_front_keep_more_of_the_box_than_those_of_crowding():
    points = front(60, 4)
    chosen = survivors_of(points, np.full((60, 1), -1.0), 15, axes(4))[1]
    crowded = module.RankAndCrowding(crowding_func="mnn").do(
        PymooProblem(n_var=1, n_obj=4), population_of(points, np.full((60, 1), -1.0)), n_survive=15,
        random_state=np.random.default_rng(0),
    )  # fmt: skip
    assert share(points[chosen]) > share(points[crowded.get("X")[:, 0].astype(int)])


def test_a_front_that_is_too_large_is_divided_by_crowding(monkeypatch):
    points = front(40, 3)
    G = np.full((40, 1), -1.0)
    exact = survivors_of(points, G, 10, axes(3))[1]
    monkeypatch.setattr(module, "MOST_POINTS", {3: 39})
    spread = survivors_of(points, G, 10, axes(3))[1]
    assert len(spread) == len(exact) == 10
    assert spread != exact


def test_six_objectives_are_divided_by_crowding():
    points = front(30, 6)
    assert len(survivors_of(points, np.full((30, 1), -1.0), 10, axes(6))[1]) == 10
