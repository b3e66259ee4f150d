"""A gene that a user wrote varies by its own operators in every kind of search."""

import numpy as np
import pytest
from deap import algorithms
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.optimize import minimize
from space.examples import HourRange

from evorec import as_deap, as_pymoo
from evorec.config import RunConfig, SearchConfig
from evorec.errors import Interruption
from evorec.objectives import Objective
from evorec.problem import Outcome, Problem
from evorec.run.directory import RunDirectory
from evorec.search.engine import search
from evorec.space.genes import Boolean, When
from evorec.space.operators import TypedCrossover, TypedMutation, mutated, recombined
from evorec.space.space import SearchSpace

SPACE = SearchSpace((Boolean("open", True), HourRange("hours", text="opening hours", condition=When("open", (True,)))))
CONFIG = SearchConfig(surrogate="none", population=8, generations=4, seed=3)


class Shop(Problem):
    """Opens early or for long; a closed shop has neither."""

    name, space, constraints, data_sha256 = "shop", SPACE, (), "none"
    objectives = (
        Objective("earliness", "earliness", "max", "", 1.0, 0.0),
        Objective("length", "length", "min", "", 0.0, 1.0),
    )

    def __init__(self):
        self.n_evaluated = 0

    def shape_key(self, spec):
        return None

    def baselines(self):
        return {}

    def evaluate(self, specs, *, seed):
        self.n_evaluated += len(specs)
        hours = [spec.get("hours", (23.0, 23.0)) for spec in specs]
        return [Outcome({"earliness": 1 - first / 24, "length": (last - first) / 24}) for first, last in hours]


def test_operators_use_the_gene_s_own_mutation_and_crossover():
    rng = np.random.default_rng(0)
    X = np.tile(SPACE.encode({"open": True, "hours": (8, 12)}), (200, 1))
    lengths = [last - first for first, last in (SPACE.decode(x).get("hours", (0, 4)) for x in mutated(SPACE, X, rng))]
    assert set(lengths) == {4.0}, "both hours move together"
    other = np.tile(SPACE.encode({"open": True, "hours": (2, 20)}), (200, 1))
    children = recombined(SPACE, np.stack([X, other]), rng).reshape(-1, 3)
    assert {SPACE.decode(x)["hours"] for x in children} == {(8, 12), (2, 20), (8, 20), (2, 12)}


def test_the_gene_is_described_like_any_other():
    info = SPACE.describe()[1]
    assert (info["kind"], info["domain"], info["default"]) == ("hourrange", "two hours in 0..23", (8.0, 20.0))
    assert (info["condition"], info["text"]) == ("open is true", "opening hours")


def test_a_search_with_the_gene_is_resumed_to_the_same_archive(tmp_path):
    whole = search(Shop(), CONFIG)
    config = RunConfig(problem="shop", search=CONFIG)
    with RunDirectory.create(tmp_path, config=config, fingerprint=config.fingerprint("none"), environment={}) as run:
        stops = iter([False] * 5)
        with pytest.raises(Interruption, match="interrupted in generation"):
            search(Shop(), CONFIG, run=run, chunk=4, stop=lambda: next(stops, True))
        rest = Shop()
        result = search(rest, CONFIG, run=run, chunk=4)
    assert 0 < rest.n_evaluated < result.n_evaluated
    assert [(e.seq, e.genome, e.metrics) for e in result.archive] == [
        (e.seq, e.genome, e.metrics) for e in whole.archive
    ]
    assert len({member.spec["hours"] for member in result.archive if "hours" in member.spec}) > 1


def test_pymoo_and_deap_take_the_gene():
    problem = Shop()
    algorithm = NSGA2(pop_size=8, crossover=TypedCrossover(SPACE), mutation=TypedMutation(SPACE))
    assert len(minimize(as_pymoo(problem), algorithm, ("n_gen", 3), seed=0).F)
    toolbox = as_deap(problem, seed=0)
    population = algorithms.eaMuPlusLambda(toolbox.population(n=8), toolbox, 8, 8, 0.5, 0.5, 2, verbose=False)[0]
    assert all(np.array_equal(SPACE.snap(np.array([x])), [x]) for x in population)
