import subprocess
import sys

import numpy as np
import pytest
from analytic import Analytic

from evorec.config import SearchConfig
from evorec.objectives import Objective
from evorec.search.algorithms import AskTell, nsga2
from evorec.space.genes import Boolean, Categorical
from evorec.space.space import SearchSpace

CONFIG = SearchConfig(population=12, generations=5, seed=3)

TINY = SearchSpace((Categorical("a", ("x", "y", "z"), "x"), Boolean("b", False)))  # 6 genomes


def axes(n_objectives):
    return [Objective(str(i), str(i), "min", "", ideal=-10.0, worst=10.0) for i in range(n_objectives)]


def algorithm(space, told, config=CONFIG):
    return AskTell(nsga2(space, config, axes(2), told=told), space, n_objectives=2, n_constraints=1, told=told)


def asked_by(space, told, *, config=CONFIG, generations=4):
    """Generations of a made-up minimisation whose value is the row itself."""
    ask_tell = algorithm(space, told, config)
    rows = []
    for _ in range(generations):
        X = ask_tell.ask()
        rows.append(X)
        if len(X) == 0:
            break
        F = np.column_stack([X.sum(axis=1), -X[:, 0]])
        told.update(space.key(x) for x in X)
        ask_tell.tell(F, np.zeros((len(X), 1)))
    return rows


def test_first_genome_is_the_default():
    space = Analytic().space
    assert space.decode(algorithm(space, set()).ask()[0]) == space.decode(space.default())


def test_asked_genomes_are_snapped():
    space = Analytic().space
    for X in asked_by(space, set()):
        np.testing.assert_array_equal(X, space.snap(X))


def test_no_genome_is_asked_twice():
    space = Analytic().space
    keys = [space.key(x) for X in asked_by(space, set(), generations=20) for x in X]
    assert len(keys) == len(set(keys)) == 20 * CONFIG.population


def test_what_was_told_before_is_not_asked():
    space = Analytic().space
    told = {space.key(space.default())}
    assert space.key(algorithm(space, told).ask()[0]) not in told


def test_an_exhausted_space_gives_every_genome_once_and_then_none():
    rows = asked_by(TINY, set(), config=SearchConfig(population=4, seed=0), generations=9)
    assert [len(X) for X in rows] == [4, 2, 0]
    assert len({TINY.key(x) for X in rows for x in X}) == 6


def test_equal_seeds_ask_alike_whatever_the_global_random_state():
    space = Analytic().space
    np.random.seed(1)  # noqa: NPY002  # the global stream is what must not matter
    first = asked_by(space, set())
    np.random.seed(2)  # noqa: NPY002
    second = asked_by(space, set())
    other = asked_by(space, set(), config=CONFIG.model_copy(update={"seed": 4}))

    np.testing.assert_array_equal(np.vstack(first), np.vstack(second))
    assert not np.array_equal(np.vstack(first), np.vstack(other))


@pytest.mark.parametrize("n_objectives", [1, 2, 4])
def test_any_number_of_objectives_is_taken(n_objectives):
    space = Analytic().space
    ask_tell = AskTell(
        nsga2(space, CONFIG, axes(n_objectives), told=set()), space, n_objectives=n_objectives, n_constraints=2, told=()
    )
    rng = np.random.default_rng(0)
    for _ in range(4):
        X = ask_tell.ask()
        ask_tell.tell(rng.normal(size=(len(X), n_objectives)), rng.normal(size=(len(X), 2)))
    assert len(ask_tell.ask()) == CONFIG.population


@pytest.mark.parametrize("n_objectives", [1, 2, 4])
@pytest.mark.parametrize("n_told", [1, 2, 7])
def test_a_part_of_every_generation_may_be_told(n_objectives, n_told):
    space, told = Analytic().space, set()
    ask_tell = AskTell(
        nsga2(space, CONFIG, axes(n_objectives), told=told),
        space,
        n_objectives=n_objectives,
        n_constraints=1,
        told=told,
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        X = ask_tell.ask()
        assert len(X) == CONFIG.population
        told.update(space.key(x) for x in X)
        which = np.zeros(len(X), dtype=bool)
        which[rng.choice(len(X), n_told, replace=False)] = True
        ask_tell.tell(rng.normal(size=(n_told, n_objectives)), np.zeros((n_told, 1)), told=which)
    assert len(told) == 20 * CONFIG.population


def test_values_reach_the_genomes_they_were_told_of():
    """The population is small as long as little is told: its rows and values are exactly what was told."""
    space = Analytic().space
    ask_tell = algorithm(space, set())
    X = ask_tell.ask()
    which = np.arange(len(X)) % 3 == 1
    F = np.column_stack([X[which].sum(axis=1), -X[which, 0]])
    ask_tell.tell(F, np.zeros((len(F), 1)), told=which)
    population = ask_tell._algorithm.pop
    order = np.lexsort(population.get("X").T)
    expected = np.lexsort(X[which].T)
    np.testing.assert_array_equal(population.get("X")[order], X[which][expected])
    np.testing.assert_array_equal(population.get("F")[order], F[expected])


def test_search_imports_no_torch():
    code = "import sys, evorec.search.engine, evorec.search.pymoo_problem; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
