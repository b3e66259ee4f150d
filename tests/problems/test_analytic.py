import itertools

import moocore
import numpy as np
import pytest

from evorec.archive.indicators import hypervolume_share
from evorec.archive.pareto import non_dominated
from evorec.config import parse_config
from evorec.errors import ConfigError
from evorec.search.engine import search
from evorec.space.genes import Boolean, Categorical, Integer, Real, Simplex
from problems import analytic

SETS = [("quality", "cost"), ("cost", "click", "like")]
N_STEPS = {2: 400, 3: 60}
"""Grid steps of effort, and with three objectives also of the share, in the brute force."""
STAIRS = {2: 1 / 400, 3: 2 / 60}
"""Hypervolume that a front of so few points may miss.

Two objectives: half a step under a curve that rises by 1; twice that is allowed. Three: a step of effort raises the
cost by 2/60 at most, on an area of 1/2, and a step of the share does no more.
"""

every_set = pytest.mark.parametrize("objectives", SETS, ids="-".join)


def built(*settings):
    return analytic.build(parse_config(analytic.DEFAULTS, overrides=settings, kind=analytic.CONFIG))


def brute_force(objectives):
    """Objectives of a fine grid over effort and weights, with some values of every other gene."""
    n = N_STEPS[len(objectives)]
    efforts, shares = np.linspace(0, 1, n + 1), ((0.75,) if len(objectives) == 2 else np.linspace(0, 1, n))
    others = [
        {"method": method, "bias": bias, "rate": rate, **({} if method == "line" else {"depth": depth})}
        for method, depth, bias, rate in itertools.product(("line", "tree", "net"), (2, 3), (True, False), (0.01, 0.1))
    ]
    rows = [
        analytic.measured({"effort": t, "weights": (2 * s, 2 - 2 * s), **other})
        for t, s, other in itertools.product(efforts, shares, others)
    ]
    return [{name: row[name] for name in objectives} for row in rows]


@every_set
def test_the_known_hypervolume_is_that_of_a_fine_grid(objectives):
    problem = built(f"objectives={list(objectives)}")
    exact = analytic.known_hypervolume(objectives)
    found = hypervolume_share(brute_force(objectives), problem.objectives)
    assert exact - STAIRS[len(objectives)] < found < exact


@every_set
def test_the_known_hypervolume_is_that_of_the_points_of_the_front(objectives):
    problem = built(f"objectives={list(objectives)}")
    places = [
        one.normalised(y) for one, y in zip(problem.objectives, analytic.known_front(objectives, 40_000).T, strict=True)
    ]
    points = np.stack(places, axis=1)
    share = moocore.hypervolume(points, ref=np.ones(len(objectives)))
    exact = analytic.known_hypervolume(objectives)
    assert exact - 0.01 < share < exact, "200 x 200 points leave stairs of half a percent of each axis"


@every_set
def test_no_spec_dominates_the_known_front(objectives):
    front = analytic.known_front(objectives, 2500)
    sign = np.array([1.0 if name == "cost" else -1.0 for name in objectives])
    assert non_dominated(front * sign).sum() >= len(front) - len(front) ** 0.5, (
        "without effort all shares are one point"
    )
    space = built().space
    for x in space.sample(np.random.default_rng(0), 500):
        found = analytic.measured(space.decode(x))
        gain = max(found["quality"], 0.0) if "quality" in objectives else max(found["click"], 0) + max(found["like"], 0)
        assert found["cost"] >= 1 + gain**2 - 1e-12, "float64 rounding; seed 0"


def test_metrics_of_a_spec_by_hand():
    spec = {"effort": 0.5, "rate": 0.1, "method": "net", "depth": 5, "bias": False, "weights": (0.5, 1.5)}
    # p = 0.4 for the method, 0.05 * 2 for the depth, 0.2 for the bias, 0.1 for the rate = 0.8; s = 1/4.
    assert analytic.measured(spec) == pytest.approx(
        {"quality": 0.5 - 0.8 - 0.4 * 0.5, "click": 0.125 - 0.8, "like": 0.375 - 0.8, "cost": 1 + 0.25 + 0.8}, abs=1e-12
    )
    assert analytic.measured({"effort": 0.5, **analytic.BEST})["quality"] == 0.5


def test_its_space_has_every_kind_of_gene():
    assert {type(gene) for gene in analytic.GENES} == {Real, Integer, Categorical, Boolean, Simplex}
    assert {gene.scale for gene in analytic.GENES if isinstance(gene, Real)} == {"linear", "log"}
    assert any(gene.condition for gene in analytic.GENES)


@every_set
def test_a_search_comes_closer_to_the_known_front_and_never_beyond(objectives):
    problem = built(f"objectives={list(objectives)}")
    share = search(
        problem, parse_config(analytic.DEFAULTS, overrides=["search.generations=12"], kind=analytic.CONFIG).search
    ).hypervolume
    assert share[0] < share[-1] < analytic.known_hypervolume(objectives)


def test_unsupported_sets_of_objectives_are_refused():
    with pytest.raises(ConfigError, match="must be cost, quality or click, cost, like, got quality, like"):
        built('objectives=["quality", "like"]')


def test_settings_that_change_nothing_are_refused():
    with pytest.raises(
        ConfigError, match=r"training \(command line\) is not a known key.*\n.*data \(command line\) is not"
    ):
        built("training.steps=5", "data.path=x")
    with pytest.raises(ConfigError, match=r"constraints \(command line\) must be a list of texts, at most 0"):
        built('constraints=["quality >= 0.5"]')


def test_a_gene_can_be_fixed():
    problem = built("space.method=tree", "space.depth={low=2, high=4}")
    assert problem.space.gene("depth").domain == "2..4"
    assert problem.evaluate([problem.space.decode(problem.space.default())], seed=0)[0].metrics
