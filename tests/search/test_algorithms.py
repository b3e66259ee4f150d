"""Built-in algorithms and the adapter for pymoo's: proposals, values, and algorithms that users bring."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from analytic import Analytic

from evorec.config import SearchConfig
from evorec.errors import ConfigError
from evorec.objectives import Constraint, Objective
from evorec.search.algorithm import ALGORITHMS, AlgorithmContext, Options, check_algorithm, create_algorithm
from evorec.search.algorithms.weighted_sum import weighted_sum
from evorec.space.genes import Boolean, Categorical, Real
from evorec.space.space import SearchSpace

CONFIG = SearchConfig(surrogate="none", population=12, generations=5, seed=3)
SPACE = Analytic().space
TINY = SearchSpace((Categorical("a", ("x", "y", "z"), "x"), Boolean("b", False)))  # 6 genomes
LINE = SearchSpace((Real("x", 0.0, 1.0, default=0.5),))
GAIN = Objective("gain", "gain", "max", "", ideal=1.0, worst=0.0)
COST = Objective("cost", "cost", "min", "", ideal=1.0, worst=100.0, log10=True)

every_algorithm = pytest.mark.parametrize("name", sorted(ALGORITHMS))
evolutionary = pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"mo_cma_es"}))  # that one may repeat genomes


@pytest.fixture(autouse=True)
def _skip_without_numba(request):
    if request.node.callspec.params.get("name") == "age_moea2" if hasattr(request.node, "callspec") else False:
        pytest.importorskip("numba")


def context(space=SPACE, *, n_objectives=2, n_constraints=0, evaluated=None, **settings):
    axes = [Objective(str(i), str(i), "min", "", ideal=-10.0, worst=10.0) for i in range(n_objectives)]
    config = SearchConfig(**{**CONFIG.model_dump(), **settings})
    known = set() if evaluated is None else evaluated
    bounds = tuple(Constraint(f"c{i}", "<=", 1.0, f"c{i} <= 1") for i in range(n_constraints))
    return AlgorithmContext(space, tuple(axes), bounds, config, Options(), known)


def generations(algorithm, context, n):
    """Proposals while a made-up function of the row is minimised; ends early with an empty generation."""
    rows = []
    for _ in range(n):
        X = algorithm.ask()
        rows.append(X)
        if len(X) == 0:
            break
        context.evaluated.update(context.space.key(x) for x in X)
        F = np.column_stack([X.sum(axis=1), -X[:, 0], X[:, 0] ** 2])[:, : len(context.objectives)]
        algorithm.tell(X, F, np.zeros((len(X), 1)))
    return rows


@every_algorithm
def test_the_first_generation_is_the_default_and_the_same_random_genomes(name):
    ctx = context(algorithm=name)
    asked = create_algorithm(name, ctx).ask()
    np.testing.assert_array_equal(asked, SPACE.snap(ctx.first_generation())[:12])
    assert SPACE.decode(asked[0]) == SPACE.decode(SPACE.default())


@evolutionary
def test_proposals_are_snapped_and_new(name):
    ctx = context(algorithm=name, evaluated={SPACE.key(SPACE.default())})
    rows = np.vstack(generations(create_algorithm(name, ctx), ctx, 20))
    np.testing.assert_array_equal(rows, SPACE.snap(rows))
    keys = {SPACE.key(x) for x in rows}
    assert len(keys) == len(rows) == 20 * CONFIG.population
    assert SPACE.key(SPACE.default()) not in keys


@evolutionary
def test_an_exhausted_space_gives_every_genome_once_and_then_none(name):
    ctx = context(TINY, algorithm=name, population=4)
    rows = generations(create_algorithm(name, ctx), ctx, 9)
    assert [len(X) for X in rows] == [4, 2, 0]
    assert len({TINY.key(x) for X in rows for x in X}) == 6


@every_algorithm
def test_the_seed_determines_the_proposals_whatever_the_global_random_state(name):
    def rows(global_seed, seed):
        np.random.seed(global_seed)  # noqa: NPY002  # the global stream is what must not matter
        ctx = context(algorithm=name, seed=seed)
        return np.vstack(generations(create_algorithm(name, ctx), ctx, 4))

    np.testing.assert_array_equal(rows(1, 3), rows(2, 3))
    assert not np.array_equal(rows(1, 3), rows(1, 4))


@pytest.mark.parametrize("n_objectives", [1, 2, 4])
@pytest.mark.parametrize("n_told", [1, 2, 7, 12])
def test_any_number_of_objectives_and_any_part_of_a_generation_may_be_told(n_objectives, n_told):
    ctx = context(n_objectives=n_objectives, n_constraints=2)
    algorithm, rng = create_algorithm("nsga2", ctx), np.random.default_rng(0)
    for _ in range(10):
        X = algorithm.ask()
        assert len(X) == CONFIG.population
        ctx.evaluated.update(SPACE.key(x) for x in X)
        told = X[np.sort(rng.choice(len(X), n_told, replace=False))]
        algorithm.tell(told, rng.normal(size=(n_told, n_objectives)), rng.normal(size=(n_told, 2)))
    assert len(ctx.evaluated) == 10 * CONFIG.population


def test_values_reach_their_genomes():
    """The population is small while little is told: its rows and values are exactly the told ones."""
    algorithm = create_algorithm("nsga2", context())
    X = algorithm.ask()[1::3]
    F = np.column_stack([X.sum(axis=1), -X[:, 0]])
    algorithm.tell(X, F, np.zeros((len(F), 1)))
    population = algorithm._algorithm.pop
    order, expected = np.lexsort(population.get("X").T), np.lexsort(X.T)
    np.testing.assert_array_equal(population.get("X")[order], X[expected])
    np.testing.assert_array_equal(population.get("F")[order], F[expected])


def test_a_weighted_sum_worked_by_hand():
    F = np.array([[-0.75, 10.0], [-0.75, 10.0]])  # gain .75 is at .25 of its axis, cost 10 at .5 of a log axis 1..100
    G = np.array([[0.2, -1.0], [-0.2, -1.0]])
    np.testing.assert_allclose(weighted_sum(F, G, (GAIN, COST), (3, 1), 0.5), [0.25 * 0.75 + 0.5 * 0.25 + 0.1, 0.3125])


@pytest.mark.parametrize(("weights", "best"), [((1, 0), 1.0), ((0, 1), 0.0)])
def test_the_weights_decide_which_end_of_a_front_is_found(weights, best):
    """Gain x against cost 1 + 99 x: every x is on the front."""
    ctx = context(LINE, algorithm="weighted_sum", weights=weights, population=10, seed=1)
    algorithm = create_algorithm("weighted_sum", replace(ctx, objectives=(GAIN, COST)))
    for _ in range(12):
        X = algorithm.ask()
        ctx.evaluated.update(LINE.key(x) for x in X)
        algorithm.tell(X, np.column_stack([-X[:, 0], 1 + 99 * X[:, 0]]), np.zeros((len(X), 1)))
    assert abs(algorithm.ask().mean() - best) < 0.2


def test_a_weighted_sum_needs_a_weight_for_each_objective():
    ctx = context(LINE, algorithm="weighted_sum", weights=(1, 2, 3))
    with pytest.raises(ConfigError, match=r"search.weights must have a number for each of gain, cost, got \[1"):
        create_algorithm("weighted_sum", replace(ctx, objectives=(GAIN, COST)))


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


def test_an_unknown_algorithm_and_unknown_options_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="unknown algorithm 'nsga'; did you mean 'nsga3'"):
        check_algorithm("nsga", {})
    with pytest.raises(ConfigError, match=r"search\.options\.size: Extra inputs .* got 3; options of nsga2: none"):
        check_algorithm("nsga2", {"size": 3})


def test_search_imports_no_torch():
    code = "import sys, evorec.search.engine, evorec.search.pymoo_problem; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
