"""The surrogate: its process against scikit-learn, its gain against the exact hypervolume, and searches with it."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from analytic import Analytic
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from evorec.config import RunConfig, SearchConfig
from evorec.errors import Interruption
from evorec.run.directory import RunDirectory
from evorec.search.engine import search
from evorec.search.surrogate.gain import expected_gain, greedy_batch, reach, unit_directions
from evorec.search.surrogate.gaussian_process import GaussianProcess, GeneFeatures, rank_correlation
from evorec.search.surrogate.model import Rows, SurrogateModel, gene_features
from evorec.search.surrogate.search import FIRST_ROWS, SurrogateSearch
from evorec.space.genes import Boolean, Categorical, Real, Simplex
from evorec.space.space import SearchSpace
from problems import analytic

SAME_FORMULA = 1e-6  # sums in another order, and the jitter of the factorisation
HYPERVOLUME = 0.02  # standard error of 20,000 directions, times three
CONFIG = SearchConfig(population=8, generations=4, seed=4, surrogate="gp")
SPACE = SearchSpace(
    (
        Real("rate", 1e-4, 1e-1, scale="log", default=1e-3),
        Categorical("kind", ("a", "b", "c"), "a"),
        Boolean("on", False),
        Simplex("weights", ("x", "y")),
    )
)


def test_mean_and_variance_are_those_of_scikit_learn_with_the_same_kernel():
    rng = np.random.default_rng(0)
    points = rng.random((30, 3))
    values = np.sin(4 * points[:, 0]) + 0.1 * rng.standard_normal(30)
    process = GaussianProcess.fit(GeneFeatures(points, np.arange(3)), values)
    scales, (signal, noise) = np.exp(process.log_parameters[:-2]), np.exp(process.log_parameters[-2:])
    kernel = ConstantKernel(signal) * Matern(scales, nu=2.5) + WhiteKernel(noise)
    other = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(points, values)
    new = rng.random((5, 3))
    mean, covariance = other.predict(new, return_cov=True)
    np.testing.assert_allclose(process.mean(new), mean, atol=SAME_FORMULA)
    drawn = process.draws(new, np.eye(5)) - process.mean(new)  # rows of the root of the covariance
    noise_free = covariance - np.eye(5) * noise * values.std() ** 2
    np.testing.assert_allclose(drawn.T @ drawn, noise_free, atol=5e-6 * values.var() * signal + SAME_FORMULA)


def test_the_fit_finds_the_gene_that_matters_and_the_noise():
    rng = np.random.default_rng(1)
    points = rng.random((80, 10))
    values = np.cos(5 * points[:, 3]) + 0.05 * rng.standard_normal(80)
    process = GaussianProcess.fit(GeneFeatures(points, np.arange(10)), values)
    assert process.log_parameters[:-2].argmin() == 3
    new = rng.random((200, 10))
    assert rank_correlation(process.mean(new), np.cos(5 * new[:, 3])) > 0.95
    assert 0.01 < np.exp(0.5 * process.log_parameters[-1]) * values.std() < 0.1  # the noise was .05


def test_equal_values_and_equal_genomes_are_no_problem():
    points = np.zeros((4, 2))
    for values in (np.ones(4), np.array([0.0, 1.0, 0.0, 1.0])):
        process = GaussianProcess.fit(GeneFeatures(points, np.arange(2)), values)
        assert np.isfinite(process.draws(np.zeros((3, 2)), np.ones((2, 3)))).all()
        np.testing.assert_allclose(process.mean(np.zeros((1, 2))), values.mean(), atol=0.01)


def test_features_put_different_options_at_distance_one():
    X = np.array([SPACE.encode({"rate": 0.01, "kind": kind, "on": on, "weights": (1.0, 1.0)})
                  for kind in ("a", "b", "c") for on in (False, True)])  # fmt: skip
    features = gene_features(SPACE, X)
    assert features.genes.tolist() == [0, 1, 1, 1, 2, 3, 3]
    squared = features.squared_distances()
    np.testing.assert_allclose(squared[1, 0], [0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(squared[2, 0], [0, 1, 0, 1, 0, 1])
    np.testing.assert_allclose(squared[[0, 3]], 0.0, atol=1e-12)


@pytest.mark.parametrize("n_objectives", [2, 3, 4])
def test_the_mean_reach_of_a_front_is_its_hypervolume(n_objectives):
    rng = np.random.default_rng(2)
    points = rng.random((12, n_objectives)) * 1.2  # some outside of the box
    directions = unit_directions(rng, 1, 20_000, n_objectives)
    ideal = reach(np.zeros((1, 1, n_objectives)), directions).max(axis=1).mean()
    share = reach(points[None], directions).max(axis=1).mean() / ideal
    exact = moocore.hypervolume(points[(points < 1).all(axis=1)], ref=np.ones(n_objectives))
    assert abs(share - exact) < HYPERVOLUME


def test_a_batch_spreads_where_single_gains_repeat_themselves():
    directions = unit_directions(np.random.default_rng(3), 4, 500, 2)
    points = np.array([[0.5, 0.1], [0.5, 0.1], [0.1, 0.5], [0.9, 0.9], [2.0, 0.0]])
    reached = reach(np.broadcast_to(points, (4, 5, 2)), directions)
    base = np.zeros((4, 500))
    gains = expected_gain(reached, base)
    assert np.argsort(-gains)[:3].tolist() != [0, 2, 1]
    assert set(greedy_batch(reached, base, 2)) in ({0, 2}, {1, 2})
    assert gains[4] == 0


def test_a_constraint_on_an_objective_follows_from_it_and_a_known_cost_is_exact():
    problem = Analytic()
    axes = problem.objectives
    known = np.array([[np.nan] * (len(axes) - 1) + [0.25]])
    model = SurrogateModel(problem.space, axes, problem.constraints, lambda X: np.repeat(known, len(X), axis=0))
    rng = np.random.default_rng(0)
    X = problem.space.sample(rng, 20)
    points = rng.random((20, len(axes)))
    model.fit(Rows(X, points, np.full((20, len(problem.constraints)), -1.0)))
    assert (model.means(X)[:, -1] == 0.25).all()
    draws, _ = model.draws(X[:4], rng, 3)
    assert (draws[:, :, -1] == 0.25).all()
    assert np.isfinite(draws).all()


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "mo_cma_es"])
def test_a_surrogate_improves_an_algorithm(name):
    """At 64 evaluations, on a landscape with a known front."""
    with_model, without = (
        search(analytic.build(), SearchConfig(algorithm=name, population=16, generations=4, seed=0, surrogate=model))
        for model in ("gp", "none")
    )
    assert with_model.hypervolume[-1] > 1.1 * without.hypervolume[-1]


def test_a_search_with_a_surrogate_is_interrupted_and_resumed_to_the_same_archive(tmp_path):
    def run(folder, stop_after=None):
        calls = iter(range(10**6))
        directory = RunDirectory.create(folder, config=config, fingerprint="0" * 12, environment={})
        with directory:
            try:
                return search(problem, CONFIG, run=directory, stop=lambda: next(calls) == stop_after)
            except Interruption:
                pass
        with RunDirectory.open(directory.path) as directory:
            return search(problem, CONFIG, run=directory)

    problem, config = Analytic(), RunConfig(problem="feed")
    whole = run(tmp_path / "a")
    again = run(tmp_path / "b", 7)
    assert [member.key for member in again.archive] == [member.key for member in whole.archive]
    assert again.hypervolume == whole.hypervolume


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_failures_never_reach_the_model_and_no_genome_is_trained_twice(share, monkeypatch):
    rng = np.random.default_rng(0)
    problem = Analytic(fault=lambda spec: "raise" if rng.random() < share else None)
    told = []
    original = SurrogateModel.fit
    monkeypatch.setattr(SurrogateModel, "fit", lambda self, rows: (told.append(rows), original(self, rows))[1])
    result = search(problem, CONFIG)
    assert result.n_failed > 0
    assert result.n_evaluated == CONFIG.population * CONFIG.generations  # all of them different
    assert told
    for rows in told:
        assert len(rows) >= FIRST_ROWS
        assert np.isfinite(rows.points).all()
        assert not (rows.points == 1.0).all(axis=1).any()


def test_plain_offspring_are_evaluated_while_the_model_predicts_nothing(monkeypatch):
    """Values without any order: the rank correlation is near 0, or the model would be trusted for nothing."""
    monkeypatch.setattr(SurrogateSearch, "_skill", lambda self, name: 0.05)
    notes = []
    original = SurrogateSearch.ask
    monkeypatch.setattr(SurrogateSearch, "ask", lambda self: (original(self), notes.append(self.notes))[0])
    search(Analytic(), CONFIG)
    assert all(note["chosen"] == {"plain": CONFIG.population} for note in notes)
