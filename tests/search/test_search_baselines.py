"""Random search and the weighted sum: what they ask for, what they learn, and that the search runs with each."""

from __future__ import annotations

import numpy as np
import pytest
from analytic import Analytic

from evorec.config import SearchConfig
from evorec.errors import ConfigError
from evorec.objectives import Objective
from evorec.search.algorithms import first_generation
from evorec.search.baselines import RandomSearch, WeightedSumSearch, weighted_sum
from evorec.search.choice import algorithm_for
from evorec.search.engine import search
from evorec.space.genes import Boolean, Categorical, Real
from evorec.space.space import SearchSpace

UNIT = Objective("gain", "gain", "max", "", ideal=1.0, worst=0.0)
COST = Objective("cost", "cost", "min", "", ideal=1.0, worst=100.0, log10=True)
TINY = SearchSpace((Categorical("a", ("x", "y", "z"), "x"), Boolean("b", False)))  # 6 genomes
LINE = SearchSpace((Real("x", 0.0, 1.0, default=0.5),))


def test_a_weighted_sum_worked_by_hand():
    F = np.array([[-0.75, 10.0], [-0.75, 10.0]])  # gain .75 is at .25 of its axis, cost 10 at .5 of a log axis 1..100
    G = np.array([[0.2, -1.0], [-0.2, -1.0]])
    np.testing.assert_allclose(weighted_sum(F, G, (UNIT, COST), (3, 1), 0.5), [0.25 * 0.75 + 0.5 * 0.25 + 0.1, 0.3125])


@pytest.mark.parametrize(("weights", "best"), [((1, 0), 1.0), ((0, 1), 0.0)])
def test_the_weights_decide_which_end_of_a_front_is_found(weights, best):
    """Gain x against cost 1 + 99 x: every x is on the front."""
    config = SearchConfig(algorithm="weighted_sum", weights=weights, population=10, seed=1)
    algorithm = algorithm_for(LINE, config, (UNIT, COST), n_constraints=1, told=(told := set()))
    for _ in range(12):
        X = algorithm.ask()
        told.update(LINE.key(x) for x in X)
        algorithm.tell(np.column_stack([-X[:, 0], 1 + 99 * X[:, 0]]), np.zeros((len(X), 1)))
    assert abs(algorithm.ask().mean() - best) < 0.2


def test_one_weight_per_objective_is_asked_for():
    config = SearchConfig(algorithm="weighted_sum", weights=(1, 2, 3))
    with pytest.raises(ConfigError, match=r"search.weights must have one number for each of gain, cost, got \[1"):
        WeightedSumSearch(LINE, config, (UNIT, COST), told=set())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "random", "weights": (1,)}, 'only algorithm = "weighted_sum" has weights'),
        ({"algorithm": "weighted_sum", "weights": (0, 0)}, "must not all be 0"),
        ({"algorithm": "weighted_sum", "weights": (1, -1)}, "greater than or equal to 0"),
    ],
)
def test_weights_that_make_no_sum_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**settings)


def test_random_search_asks_for_every_genome_once_and_then_for_none():
    told: set[str] = set()
    algorithm = RandomSearch(TINY, SearchConfig(algorithm="random", population=4, seed=2), told=told)
    sizes = []
    for _ in range(3):
        X = algorithm.ask()
        sizes.append(len(X))
        told.update(TINY.key(x) for x in X)
    assert sizes == [4, 2, 0]
    assert len(told) == 6


@pytest.mark.parametrize("name", ["nsga2", "weighted_sum", "random"])
def test_all_algorithms_start_with_the_same_generation(name):
    space = Analytic().space
    config = SearchConfig(algorithm=name, population=9, seed=5)
    objectives = Analytic().objectives
    asked = algorithm_for(space, config, objectives, n_constraints=1, told=set()).ask()
    np.testing.assert_array_equal(asked, space.snap(first_generation(space, config))[:9])


@pytest.mark.parametrize("name", ["weighted_sum", "random"])
def test_a_search_with_a_baseline_keeps_what_no_other_dominates(name):
    result = search(Analytic(), SearchConfig(algorithm=name, population=8, generations=4, seed=0))
    assert result.n_evaluated == 32
    assert result.archive
    again = search(Analytic(), SearchConfig(algorithm=name, population=8, generations=4, seed=0))
    assert [one.key for one in again.archive] == [one.key for one in result.archive]
