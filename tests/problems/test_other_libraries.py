"""A problem definition in the hands of a pymoo user and of a DEAP user, as they would write it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from evorec.config import merge
from problems import ads

TINY = {
    "data": {"simulator": {"n_users": 80, "n_items": 60, "n_interactions": 3000}},
    "training": {"steps": 2, "batch_size": 64, "retrieval_batch": 16},
}


@pytest.fixture(autouse=True)
def tiny_ads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ads, "DEFAULTS", merge(ads.DEFAULTS, TINY))


def test_ten_lines_of_a_pymoo_user() -> None:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize

    import evorec
    from problems import ads

    problem = ads.build()
    result = minimize(evorec.as_pymoo(problem), NSGA2(pop_size=6), ("n_gen", 3), seed=0)

    assert result.pop.get("F").shape == (6, 4)
    assert problem.space.decode(result.pop.get("X")[0])["mechanism"]


def test_ten_lines_of_a_deap_user() -> None:
    from deap import algorithms, tools

    import evorec
    from problems import ads

    random.seed(0)
    problem = ads.build()
    toolbox = evorec.as_deap(problem, seed=0)
    front = tools.ParetoFront()
    population = toolbox.population(n=6)
    algorithms.eaMuPlusLambda(population, toolbox, 6, 6, 0.6, 0.4, 2, halloffame=front, verbose=False)

    assert len(population) == 6
    assert len(front) >= 1
    assert all(np.isfinite(individual.fitness.values).all() for individual in front)
    assert toolbox.decode(front[0])["mechanism"]
