"""Who goes on after a rung, by what is expected at the end of the training."""

import numpy as np
import pytest
from analytic import Analytic
from staged import Staged

from evorec.config import SearchConfig
from evorec.search.algorithm import AlgorithmContext, create_algorithm
from evorec.search.engine import search
from evorec.search.surrogate.curves import NOISE, LearningCurves
from evorec.search.surrogate.search import SurrogateSearch

CONFIG = SearchConfig(population=8, generations=4, seed=2)


def test_the_end_is_expected_at_the_rung_until_trainings_have_shown_another():
    rng = np.random.default_rng(0)
    rungs, model = rng.random((40, 2, 3)), rng.random((40, 3))
    curves = LearningCurves(3)
    means, spreads = curves.predict(rungs, model)
    np.testing.assert_array_equal(means, rungs[:, 1])
    np.testing.assert_array_equal(spreads, NOISE)
    last, rise = rungs[:, 1], rungs[:, 1] - rungs[:, 0]
    end = last - 0.1 + 0.5 * (model - last) + 0.2 * rise
    curves.add(rungs, model, end)
    np.testing.assert_allclose(curves.predict(rungs, model)[0], end, atol=0.01)
    first = curves.predict(rungs[:, :1], model)  # at the first rung the rise is unknown
    assert np.abs(first[0] - end).max() > 0.05
    assert (first[1] > curves.predict(rungs, model)[1]).all()
    alone = curves.predict(rungs, np.full((40, 3), np.nan))[0]  # without an opinion of the model
    np.testing.assert_allclose(alone, last - 0.1 + 0.2 * rise, atol=0.02)


def context_of(problem):
    return AlgorithmContext(problem.space, problem.objectives, tuple(problem.constraints), CONFIG, None, {})


def test_those_go_on_that_gain_most_at_the_end_even_if_they_are_behind_at_the_rung():
    context = context_of(Analytic())
    search_ = SurrogateSearch(create_algorithm("nsga2", context), context)
    X = context.space.snap(search_.ask())
    objectives, ok = context.objectives, np.zeros((8, 1))

    def at(box):
        """Box coordinates ``(..., M)`` as objectives to minimise."""
        values = [o.minimised(np.asarray(o.natural(column))) for o, column in zip(objectives, box.T, strict=True)]
        return np.array(values).T

    rungs = np.linspace(0.2, 0.9, 8)[:, None, None] * np.ones((1, 1, 2))
    assert search_.survivors(X, at(rungs), ok, 0.5)[0]  # nothing else is known yet
    failed = np.where(np.arange(8) < 3, 1.0, 0.0)[:, None]
    assert not search_.survivors(X, at(rungs), failed, 0.5)[:3].any()
    early = np.concatenate([rungs[::-1], rungs], axis=1)  # the worst rise most
    search_._curves.add(early, np.full((8, 2), np.nan), rungs[:, 0] + 1.5 * (rungs[:, 0] - early[:, 0]))
    kept = search_.survivors(X, at(early), ok, 0.5)
    assert kept.sum() == 4


@pytest.mark.parametrize("surrogate", ["gp", "none"])
def test_a_search_drops_the_same_number_with_and_without_a_surrogate(surrogate):
    problem = Staged((10, 30))
    result = search(problem, CONFIG.model_copy(update={"surrogate": surrogate, "memory": "none"}))
    assert result.dropped == {10: 16, 30: 8}
    assert result.n_evaluated == 32
