"""The recommender problem as the search sees it."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from evorec.config import SplitConfig, merge, parse_config
from evorec.data.simulate import simulate
from evorec.data.splits import split
from evorec.data.tables import Columns, Tables
from evorec.errors import ConfigError, DataError, TrainingError
from evorec.rec_problem import RecProblem, build_problem
from evorec.search.pymoo_problem import as_pymoo
from problems import feed

TINY = {
    "data": {"simulator": {"n_users": 60, "n_items": 50, "n_interactions": 2400, "seed": 1}},
    "training": {"steps": 5, "batch_size": 64, "retrieval_batch": 32, "layers": 2},
    "evaluation": {"k": 5, "candidates": 12, "max_users": 30},
    "search": {"seed": 4},
    "run": {"device": "cpu"},
}
COUNTED = {"training_flops", "inference_flops", "parameters", "model_bytes"}


def config(**overlay):
    return parse_config(merge(merge(feed.DEFAULTS, TINY), overlay))


@pytest.fixture(scope="module")
def problem():
    return feed.build(config())


def some_specs(problem, n, **changes):
    rows = problem.space.sample(np.random.default_rng(0), n)
    return [{**problem.space.decode(x), "embedding_dim": 8, "width": 16, **changes} for x in rows]


def digest(outcome):
    """Everything about an outcome but how long it took."""
    weights = hashlib.sha256()
    for name, array in sorted(outcome.weights.items()):
        weights.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return {**{n: v for n, v in outcome.metrics.items() if n != "train_seconds"}, "weights": weights.hexdigest()}


def test_every_metric_of_objectives_and_constraints_is_measured(problem):
    outcomes = problem.evaluate(some_specs(problem, 3), seed=4)
    wanted = {o.metric for o in problem.objectives} | {c.metric for c in problem.constraints}
    for outcome in outcomes:
        assert outcome.failure is None
        assert wanted | COUNTED <= outcome.metrics.keys()
        assert all(np.isfinite(value) for value in outcome.metrics.values())
        assert outcome.seconds > 0


def test_an_outcome_does_not_depend_on_the_company(problem):
    specs = some_specs(problem, 5)
    together = [digest(outcome) for outcome in problem.evaluate(specs, seed=4)]
    for company in ([2], [4, 0], [3, 1, 2]):
        found = problem.evaluate([specs[i] for i in company], seed=4)
        assert [digest(outcome) for outcome in found] == [together[i] for i in company]


SCRIPT = """
import json, sys
from test_rec_problem import config, digest, some_specs
from problems import feed
problem = feed.build(config())
print(json.dumps([digest(o) for o in problem.evaluate(some_specs(problem, 2), seed=4)]))
"""


def test_another_process_gets_the_same_metrics_and_weights(problem):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    here = [digest(outcome) for outcome in problem.evaluate(some_specs(problem, 2), seed=4)]
    assert json.loads(done.stdout) == json.loads(json.dumps(here))


def test_another_seed_of_the_run_gives_other_weights(problem):
    other = feed.build(config(search={"seed": 5}))
    specs = some_specs(problem, 1)
    one, two = problem.evaluate(specs, seed=4)[0], other.evaluate(specs, seed=5)[0]
    assert digest(one)["weights"] != digest(two)["weights"]
    assert one.metrics["training_flops"] == pytest.approx(two.metrics["training_flops"], rel=0.05)  # other batches


def test_a_seed_that_is_not_the_runs_is_refused(problem):
    with pytest.raises(TrainingError, match=r"built for search\.seed = 4, got seed 0"):
        problem.evaluate(some_specs(problem, 1), seed=0)


def test_a_diverged_spec_is_a_failed_outcome_with_its_cause_and_the_others_stay(problem):
    specs = some_specs(problem, 3)
    expected = [digest(outcome) for outcome in problem.evaluate(specs, seed=4)]
    wild = {**specs[1], "learning_rate": 1e30, "embedding_learning_rate": 1e30}
    found = problem.evaluate([specs[0], wild, specs[2]], seed=4)
    assert found[1].metrics is None
    assert found[1].weights is None
    assert found[1].failure.startswith("diverged: the loss was not finite at step ")
    assert found[1].failure.endswith(" of 5")
    assert [digest(found[0]), digest(found[2])] == [expected[0], expected[2]]


def test_a_nan_setting_fails_in_the_first_step(problem):
    outcome = problem.evaluate(some_specs(problem, 1, temperature=float("nan")), seed=4)[0]
    assert outcome.failure == "diverged: the loss was not finite at step 1 of 5"


def test_members_of_different_shape_have_different_keys(problem):
    one = some_specs(problem, 1)[0]
    assert problem.shape_key(one) == (8, 16)
    assert problem.shape_key({**one, "width": 32}) == (8, 32)


def test_stored_weights_are_the_members_own(problem):
    specs = some_specs(problem, 2, sharing_depth=0)
    specs[1]["sharing_depth"] = 2
    towers, shared = (outcome.weights for outcome in problem.evaluate(specs, seed=4))
    assert towers["layer0.weight"].shape[0] == 3
    assert shared["layer0.weight"].shape[0] == 1
    assert towers["table"].shape == shared["table"].shape == (problem.fitted.dataset.n_rows, 8)


def test_one_generation_of_pymoo_is_one_stack_per_shape():
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize

    fixed = feed.build(config(space={"width": 16, "embedding_dim": {"low": 4, "high": 8}}))
    sizes, evaluate = [], fixed.evaluate
    fixed.evaluate = lambda specs, *, seed: sizes.append(len(specs)) or evaluate(specs, seed=seed)
    result = minimize(as_pymoo(fixed), NSGA2(pop_size=8), ("n_gen", 1), seed=0)
    assert sum(sizes) == 8
    assert len(sizes) == 2  # embedding_dim 4 and 8
    assert np.isfinite(result.pop.get("F")).all()
    assert result.pop.get("F").shape == (8, 4)


def test_cost_bounds_hold_every_genome(problem):
    objective = next(o for o in problem.objectives if o.metric == "training_flops")
    for x in problem.space.sample(np.random.default_rng(1), 20):
        spec = problem.space.decode(x)
        flops = problem.fitted.cost(_model(spec))["training_flops"]
        assert min(objective.ideal, objective.worst) <= flops <= max(objective.ideal, objective.worst)


def _model(spec):
    from evorec.models.spec import ModelSpec

    return ModelSpec.from_genes(spec)


def test_shape_genes_may_be_fixed():
    fixed = feed.build(config(space={"width": 16, "sharing_depth": 1, "history": False}))
    outcome = fixed.evaluate([fixed.space.decode(fixed.space.default())], seed=4)[0]
    assert outcome.failure is None


def test_candidates_beyond_the_catalogue_cost_nothing():
    few, many = (
        feed.build(config(evaluation={"k": 5, "candidates": n})).fitted.cost(_model({**BLENDED}))["inference_flops"]
        for n in (50, 5000)
    )
    assert few == many


BLENDED = {
    "task_weights": (1.0, 1.0, 1.0),
    "sharing_depth": 1,
    "embedding_dim": 4,
    "width": 16,
    "dropout": 0.0,
    "learning_rate": 0.01,
    "embedding_learning_rate": 0.01,
    "embedding_decay": 0.1,
    "dense_decay": 0.1,
    "retrieval_weight": 1.0,
    "temperature": 0.2,
    "history_weight": 1.0,
    "popularity_weight": 1.0,
    "popularity_smoothing": 1.0,
    "popularity_half_life": 7.0,
    "rank_blend": 1.0,
}


def test_latency_is_measured_of_each_member_when_it_is_wanted():
    wanted = feed.build(
        config(objectives=["accuracy", "recall@k", "latency_ms"], box={"latency_ms": {"ideal": 0.01, "worst": 9.0}})
    )
    for outcome in wanted.evaluate(some_specs(wanted, 2), seed=4):
        assert outcome.metrics["latency_ms"] > 0


def with_log(change):
    """The tiny tables with another log."""
    tables = simulate(config().data.simulator)
    return replace(tables, interactions=change(tables.interactions))


def without_positives(task, *, part):
    """The tiny tables, a task's labels being 0 in one part."""
    tables = simulate(config().data.simulator)
    rows = getattr(split(tables, SplitConfig()), part)
    chosen = pl.Series(np.isin(np.arange(tables.n_rows), rows))
    labels = pl.when(chosen).then(pl.lit(0.0, pl.Float32)).otherwise(task).alias(task)
    return replace(tables, interactions=tables.interactions.with_columns(labels))


@pytest.mark.parametrize(("part", "name"), [("train", "training"), ("validation", "held-out")])
def test_a_task_with_a_single_class_is_refused(part, name):
    with pytest.raises(DataError, match=f"task like of simulator must have two or more classes in the {name} rows"):
        RecProblem(config(), without_positives("like", part=part))


def test_a_log_without_a_held_out_click_is_refused():
    with pytest.raises(DataError, match="target click of simulator must have a positive in the held-out rows"):
        RecProblem(config(tasks={"ranked": ["like"]}), without_positives("click", part="validation"))


def test_an_empty_log_is_refused():
    with pytest.raises(DataError, match="table interactions of simulator is empty"):
        RecProblem(config(), with_log(lambda log: log.clear()))


def test_a_log_too_short_to_split_is_refused():
    with pytest.raises(DataError, match="must leave rows of simulator in each part"):
        RecProblem(config(), with_log(lambda log: log.head(2)))


def test_unknown_tasks_and_genes_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"must name label columns of simulator, \['click', 'like', 'purchase'\]"):
        build_problem(config(tasks={"ranked": ["click", "sold"], "target": "click"}))
    with pytest.raises(ConfigError, match="widht"):
        build_problem(config(space={"widht": 16}))


def test_objectives_that_the_data_cannot_give_are_refused():
    tables = replace(simulate(config().data.simulator), content=())
    with pytest.raises(DataError, match=r"intra_list_distance@5 needs content of the items"):
        RecProblem(config(), tables)
    assert isinstance(RecProblem(config(objectives=["accuracy", "recall@k"]), tables), RecProblem)


def test_data_without_context_statistics_or_features_can_be_searched():
    log = simulate(config().data.simulator).interactions
    bare = Tables(
        name="bare",
        interactions=log.select(Columns.USER, Columns.ITEM, Columns.TIME, "click"),
        tasks=("click",),
        users=None,
        items=None,
        context=(),
        user_features=(),
        item_features=(),
        content=(),
    )
    settings = config(
        data={"statistics": []},
        tasks={"ranked": ["click"]},
        objectives=["accuracy", "recall@k", "cost"],
    )
    bare_problem = RecProblem(settings, bare)
    outcomes = bare_problem.evaluate(some_specs(bare_problem, 2, rerank=True, rank_blend=0.5), seed=4)
    assert [outcome.failure for outcome in outcomes] == [None, None]
