"""A problem definition used from DEAP, as its users would write it; README and guides have the lines for pymoo."""

from __future__ import annotations

import random

import numpy as np
import pytest

from evorec.config import merge
from problems import ads, recommender

TINY = {
    "data": {"simulator": {"n_users": 80, "n_items": 60, "n_interactions": 3000}},
    "training": {"steps": 2, "batch_size": 64, "retrieval_batch": 16},
}


@pytest.fixture(autouse=True)
def tiny_ads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ads, "build", recommender(merge(ads.DEFAULTS, TINY)))


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
