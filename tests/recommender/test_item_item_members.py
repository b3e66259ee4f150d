"""Members with item-item scores: searched, resumed, in workers, and alone without any training."""

from dataclasses import replace

import numpy as np
import pytest
from feed_run import config, searched

from evorec.errors import ConfigError
from evorec.models.spec import ModelSpec
from evorec.recommender import checks
from evorec.recommender.problem import build_problem
from evorec.recommender.search_space import recommender_space
from evorec.run.directory import RunDirectory

RETRIEVAL_ONLY = {
    "tasks": {"ranked": [], "funnel": [], "given": {}, "target": "click"},
    "objectives": ["recall@k", "catalogue_coverage@k", "cost"],
    "finalize": {"picks": ["best:recall@k"]},
}


def retrieval_only(**overlay):
    return config(**RETRIEVAL_ONLY, **overlay)


@pytest.fixture(scope="module")
def problem():
    return build_problem(retrieval_only())


def reproduced(metrics):
    """All metrics but the time."""
    return {name: value for name, value in metrics.items() if name != "train_seconds"}


def genes(problem, **changes):
    space = problem.space.with_overrides(changes)
    return space.decode(space.default())


def test_the_blend_and_the_kinds_of_item_item_scores_follow_from_the_genes(problem):
    own = {"item_item", "item_item_blend", "item_item_share", "past_decay", "past_half_life", "item_item_l2"}
    assert own < set(problem.space.names)
    without = build_problem(retrieval_only(space={"item_item": "none"})).space.names
    assert own & set(without) == {"item_item"}
    assert ModelSpec.from_genes(genes(problem)).item_item == "none"
    blend = ModelSpec.from_genes(genes(problem, item_item="ease", item_item_share=0.6, past_decay=0.9))
    assert (blend.item_item_share, blend.past_decay, blend.setting("item_item_l2")) == (0.6, 0.9, 100.0)
    assert blend.is_trained
    alone = ModelSpec.from_genes(genes(problem, item_item="knn", item_item_blend=False))
    assert (alone.item_item_share, alone.is_trained) == (1.0, False)
    assert ModelSpec.from_genes(genes(build_problem(config(space={"item_item": "knn"})))).is_trained


def test_item_item_scores_alone_are_not_trained_and_cost_what_they_compute(problem):
    alone = genes(problem, item_item="knn", item_item_blend=False, neighbours=64)
    blend = genes(problem, item_item="knn", neighbours=64)
    plain = genes(problem)
    found = problem.evaluate([plain, alone, blend, alone], seed=problem.seed)
    values = [reproduced(outcome.metrics) for outcome in found]
    positives = problem.data.dataset.history
    counts = positives.counts()
    n_items, n_pairs = problem.data.dataset.n_items, int((counts**2).sum())
    fit = 2 * n_pairs + 4 * (n_pairs + counts.sum())
    assert values[1]["training_flops"] == fit
    assert values[2]["training_flops"] == values[0]["training_flops"] + fit
    assert values[1]["parameters"] == min(64, n_items) * n_items
    length = counts.sum() / np.count_nonzero(counts)
    assert values[1]["inference_flops"] == 2 * round(length * min(64, n_items))
    assert all(not array.any() for array in found[1].weights.values())
    assert values[1] == values[3]
    for index, own in enumerate((plain, alone, blend)):
        (single,) = problem.evaluate([own], seed=problem.seed)
        assert reproduced(single.metrics) == values[index]
        for name, array in single.weights.items():
            np.testing.assert_array_equal(array, found[index].weights[name])
    best = max(value["recall@5"] for value in values)
    assert best > 0


def test_states_of_a_rung_go_on_to_the_end(problem):
    rungs = build_problem(retrieval_only(training={"rungs": [2]}))
    specs = [genes(rungs, item_item="ease", item_item_blend=False), genes(rungs, item_item="low_rank"), genes(rungs)]
    first = rungs.evaluate(specs, seed=rungs.seed, rung=0)
    ended = rungs.evaluate(specs, seed=rungs.seed, states=[outcome.state for outcome in first])
    direct = rungs.evaluate(specs, seed=rungs.seed)
    for own, other in zip(ended, direct, strict=True):
        assert reproduced(own.metrics) == reproduced(other.metrics)


def test_a_search_over_the_kinds_is_the_same_in_workers(tmp_path):
    named = {"space": {"neighbours": 64}}
    _, path = searched(tmp_path / "one", retrieval_only(**named))
    workers = retrieval_only(**named, run={"workers": 2, "executor": "processes"})
    _, other = searched(tmp_path / "two", workers)
    members = []
    for folder in (path, other):
        with RunDirectory.open(folder, read_only=True) as run:
            members.append([(found.key, reproduced(found.metrics)) for found in run.members()])
            kinds = {row.spec["item_item"] for row in run.ledger.evaluations()}
    assert members[0] == members[1]
    assert len(kinds) > 2


def test_a_matrix_that_the_memory_does_not_hold_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "memory_budget", lambda gib, workers=1: 100_000)
    with pytest.raises(ConfigError, match=r"space\.item_item.*: ease takes .* raise run\.memory_gib"):
        build_problem(retrieval_only(space={"item_item": "ease"}))


def test_without_times_there_is_no_half_life_of_the_past():
    settings = retrieval_only(space={"item_item": "knn", "past_half_life": 3.0})
    problem = build_problem(settings)
    assert problem.space.gene("past_half_life").default == 3.0
    timeless = replace(problem.data.dataset, times="none")
    assert "past_half_life" not in recommender_space(settings, timeless).names
