"""The recommender problem as the search sees it."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from tiny import MECHANISMS

from evorec.config import SplitConfig, merge, parse_config
from evorec.data.simulator import simulate
from evorec.data.splits import split
from evorec.data.tables import Columns, Tables
from evorec.errors import ConfigError, DataError, TrainingError
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.recommender.trainers import StackTrainer
from evorec.search.pymoo_problem import as_pymoo
from evorec.training.plan import n_bytes
from evorec.training.precision import has_bfloat16
from problems import feed

TINY = {
    "data": {"simulator": {"n_users": 60, "n_items": 50, "n_interactions": 2400, "seed": 1}},
    "training": {"steps": 5, "batch_size": 64, "retrieval_batch": 32, "layers": 2},
    "evaluation": {"k": 5, "candidates": 12, "max_users": 30},
    "search": {"seed": 4},
    "run": {"device": "cpu"},
}
COUNTED = {"training_flops", "inference_flops", "parameters", "model_bytes"}
RUNGS = (2, 4)  # of 5 steps
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(torch.device("cpu")), reason="this processor does not compute in bfloat16"
)


def config(**overlay):
    return parse_config(merge(merge(feed.DEFAULTS, TINY), overlay))


@pytest.fixture(scope="module")
def problem():
    return feed.build(config())


def some_specs(problem, n, **changes):
    rows = problem.space.sample(np.random.default_rng(0), n)
    return [{**problem.space.decode(x), "embedding_dim": 8, "width": 16, **changes} for x in rows]


def member(problem, mechanism="shared_bottom", **changes):
    """The default genome with another mechanism and other settings."""
    of = problem.space.with_overrides({"mechanism": mechanism}, "test")
    return {**of.decode(of.default()), "embedding_dim": 8, "width": 16, **changes}


def timeless(outcome):
    return {name: value for name, value in outcome.metrics.items() if name != "train_seconds"}


def digest(outcome):
    """Everything about an outcome but how long it took."""
    weights = hashlib.sha256()
    for name, array in sorted((outcome.weights or {}).items()):
        weights.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return {**timeless(outcome), "weights": weights.hexdigest(), "rung": outcome.rung}


def with_memory(trainer, gib):
    """The same trainer with another `run.memory_gib`, which the problem itself might refuse."""
    settings = trainer.data.config
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"memory_gib": gib})})
    return replace(trainer, data=replace(trainer.data, config=settings))


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
from test_problem import config, digest, some_specs
from problems import feed
problem = feed.build(config())
print(json.dumps([digest(o) for o in problem.evaluate(some_specs(problem, 2), seed=4)]))
"""


def test_another_process_gets_the_same_metrics_and_weights(problem):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    here = [digest(outcome) for outcome in problem.evaluate(some_specs(problem, 2), seed=4)]
    assert json.loads(done.stdout) == json.loads(json.dumps(here))


KINDS = {"watch": "regression", "late": {"quantile": 0.9}}
OF_KINDS = {"ranked": ["click", "watch", "late"], "target": "click", "kinds": KINDS, "given": {"watch": "click"}}


def watched():
    """The simulated feed, with the seconds that an item was watched."""
    tables = simulate(config().data.simulator)
    log, rng = tables.interactions, np.random.default_rng(0)
    seconds = 30 * np.exp(rng.normal(size=log.height) + log["click"].to_numpy())
    return replace(tables, interactions=log.with_columns(watch=seconds, late=seconds), tasks=("click", "watch", "late"))


def test_errors_of_numbers_are_objectives_with_the_corners_of_a_constant():
    objectives = ["accuracy", "rmse/watch", "pinball/late", "concordance/late", "cost"]
    picks = ["mae/watch where rmse/watch <= 100"]
    settings = config(
        tasks=OF_KINDS, objectives=objectives, constraints=["auc/click >= 0.1"], finalize={"picks": picks}
    )
    problem = build_problem(settings, tables=watched())
    by_name = {objective.name: objective for objective in problem.objectives}
    data = problem.data.dataset
    click, watch = watched().interactions.select("click", "watch").to_numpy().T
    rows = split(watched(), settings.split).train
    spread = watch[rows][click[rows] > 0].std()
    assert by_name["rmse/watch"].worst == pytest.approx(spread, rel=1e-5)  # standardised in float32
    assert by_name["rmse/watch"].ideal == 0.0
    assert 0 < by_name["pinball/late"].worst < data.label_scale[2]
    for outcome in problem.evaluate(some_specs(problem, 2), seed=4):
        assert outcome.failure is None
        assert {o.metric for o in problem.objectives} | {"mae/watch"} <= outcome.metrics.keys()
        assert all(np.isfinite(value) for value in outcome.metrics.values())
        assert 0 < outcome.metrics["rmse/watch"] < 10 * spread


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"objectives": ["auc/watch"]}, "auc/watch is not measured: watch is regression"),
        (
            {"objectives": ["accuracy"], "constraints": ["rmse/late <= 3"]},
            "rmse/late is not measured: late is quantile",
        ),
        ({"finalize": {"picks": ["logloss/watch"]}}, "finalize.picks \\(config\\): logloss/watch is not measured"),
    ],
)
def test_a_metric_that_numbers_do_not_have_is_refused_before_anything_is_trained(overlay, message):
    settings = config(tasks=OF_KINDS, **overlay)
    with pytest.raises(ConfigError, match=message):
        build_problem(settings, tables=watched())


def test_another_seed_of_the_run_gives_other_weights(problem):
    other = feed.build(config(search={"seed": 5}))
    specs = some_specs(problem, 1)
    one, two = problem.evaluate(specs, seed=4)[0], other.evaluate(specs, seed=5)[0]
    assert digest(one)["weights"] != digest(two)["weights"]
    assert one.metrics["training_flops"] == pytest.approx(two.metrics["training_flops"], rel=0.05)  # other batches


def test_a_seed_that_is_not_the_runs_is_refused(problem):
    with pytest.raises(TrainingError, match=r"this problem has seed 4, got 0; use problem\.with_seed\(0\)"):
        problem.evaluate(some_specs(problem, 1), seed=0)


def test_the_problem_with_another_seed_has_the_same_data_and_leaves_the_first_as_it_is(problem):
    specs = some_specs(problem, 2)
    expected = [digest(outcome) for outcome in problem.evaluate(specs, seed=4)]
    other = problem.with_seed(5)
    found = [digest(outcome) for outcome in other.evaluate(specs, seed=5)]
    assert all(one["weights"] != two["weights"] for one, two in zip(found, expected, strict=True))
    assert other.baselines() == problem.baselines()
    assert (other.tables, other.objectives) == (problem.tables, problem.objectives)
    assert [digest(outcome) for outcome in other.with_seed(4).evaluate(specs, seed=4)] == expected
    assert [digest(outcome) for outcome in problem.evaluate(specs, seed=4)] == expected


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


def test_members_that_share_products_have_one_shape_key(problem):
    one = problem.shape_key(member(problem))
    for change in ({"sharing_depth": 0}, {"balancing": "dwa"}, {"optimizer": "adafactor"}, {"learning_rate": 0.1}):
        assert problem.shape_key(member(problem, **change)) == one
    assert problem.shape_key(member(problem, "esmm")) == one
    for change in ({"width": 32}, {"embedding_dim": 16}, {"balancing": "nash"}, {"mechanism": "cross_stitch"}):
        assert problem.shape_key(member(problem, **change)) != one
    experts = {problem.shape_key(member(problem, "mmoe", experts=n, expert_depth=d)) for n in (2, 4) for d in (1, 2)}
    assert len(experts) == 4


def test_members_of_one_shape_are_neighbours_in_the_order_of_stacks(problem):
    specs = [problem.space.decode(x) for x in problem.space.sample(np.random.default_rng(2), 300)]
    keys = [problem.shape_key(spec) for spec in sorted(specs, key=problem.stack_key)]
    runs = [key for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    assert len(runs) == len(set(keys)) > 20


def test_stored_weights_are_the_members_own(problem):
    specs = [member(problem, sharing_depth=0), member(problem, sharing_depth=2), member(problem, "single_task")]
    towers, shared, single = (outcome.weights for outcome in problem.evaluate(specs, seed=4))
    assert towers["layer0.weight"].shape[0] == 3
    assert shared["layer0.weight"].shape[0] == 1
    n_rows = problem.data.dataset.n_rows
    assert towers["table"].shape == shared["table"].shape == single["table"].shape == (n_rows, 8)
    assert single["task_table"].shape == (n_rows, 3 * 8)
    assert "task_table" not in shared


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_is_trained_and_measured(problem, mechanism):
    (outcome,) = problem.evaluate([member(problem, mechanism)], seed=4)
    assert outcome.failure is None
    assert all(np.isfinite(value) for value in outcome.metrics.values())


@pytest.mark.parametrize(("chunk", "expected"), [(8, [8]), (3, [2, 3, 3])])
def test_a_generation_of_pymoo_is_cut_into_stacks_of_mixed_shape(problem, chunk, expected, monkeypatch):
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.optimize import minimize

    sizes, evaluate = [], problem.evaluate
    monkeypatch.setattr(
        problem, "evaluate", lambda specs, *, seed: sizes.append(len(specs)) or evaluate(specs, seed=seed), raising=True
    )
    result = minimize(as_pymoo(problem, chunk=chunk), NSGA2(pop_size=8), ("n_gen", 1), seed=0)
    assert sorted(sizes) == expected
    assert np.isfinite(result.pop.get("F")).all()
    assert result.pop.get("F").shape == (8, 4)


def with_rungs(**overlay):
    return feed.build(config(**merge({"training": {"rungs": RUNGS}}, overlay)))


def test_survivors_are_bitwise_what_they_are_without_rungs(problem):
    staged, specs = with_rungs(), some_specs(problem, 6)
    expected = [digest(outcome) for outcome in problem.evaluate(specs, seed=4)]
    members, states = list(range(6)), None
    for rung, kept in ((0, [5, 0, 3, 1]), (1, [1, 5]), (None, None)):
        found = staged.evaluate([specs[i] for i in members], seed=4, rung=rung, states=states)
        assert [outcome.rung for outcome in found] == [None if rung is None else RUNGS[rung]] * len(members)
        if kept is not None:
            states = [found[members.index(i)].state for i in kept]
            members = kept
    assert [digest(outcome) for outcome in found] == [expected[i] for i in members]
    assert all(outcome.state is None for outcome in found)


def test_a_rung_is_worth_the_same_anew_or_from_an_earlier_one_and_is_a_shorter_training(problem):
    staged, specs = with_rungs(), some_specs(problem, 3)
    first = staged.evaluate(specs, seed=4, rung=0)
    second = staged.evaluate(specs, seed=4, rung=1, states=[outcome.state for outcome in first])
    anew = staged.evaluate(specs, seed=4, rung=1)
    assert [digest(outcome) for outcome in second] == [digest(outcome) for outcome in anew]
    short = feed.build(config(training={"steps": RUNGS[1]}))
    for one, other in zip(anew, short.evaluate(specs, seed=4), strict=True):
        of_model = {name for name in one.metrics if name not in ("train_seconds", "training_flops")}
        assert {name: one.metrics[name] for name in of_model} == {name: other.metrics[name] for name in of_model}


def test_a_rung_stores_no_weights_and_leaves_a_state_to_go_on_from(problem):
    for outcome in with_rungs().evaluate(some_specs(problem, 2), seed=4, rung=0):
        assert outcome.weights is None
        assert int(outcome.state["at"]) == RUNGS[0]
        assert all(isinstance(array, np.ndarray) for array in outcome.state.values())
        assert timeless(outcome).keys() >= COUNTED


def test_the_cost_of_a_rung_is_that_of_its_steps(problem):
    staged, (spec,) = with_rungs(), some_specs(problem, 1)
    (rung,), (whole,) = staged.evaluate([spec], seed=4, rung=0), staged.evaluate([spec], seed=4)
    assert rung.metrics["training_flops"] == pytest.approx(whole.metrics["training_flops"] * RUNGS[0] / 5, rel=1e-12)
    for name in COUNTED - {"training_flops"}:
        assert rung.metrics[name] == whole.metrics[name]


def test_a_member_that_diverges_before_a_rung_has_no_state_and_the_others_go_on(problem):
    staged, specs = with_rungs(), some_specs(problem, 3)
    expected = digest(problem.evaluate(specs, seed=4)[2])
    wild = {**specs[1], "learning_rate": 1e30, "embedding_learning_rate": 1e30}
    found = staged.evaluate([specs[0], wild, specs[2]], seed=4, rung=1)
    assert found[1].failure.startswith("diverged: the loss was not finite at step ")
    assert (found[1].metrics, found[1].state, found[1].rung) == (None, None, RUNGS[1])
    assert digest(staged.evaluate([specs[2]], seed=4, states=[found[2].state])[0]) == expected


def test_little_memory_trains_one_after_the_other_to_the_same_results(problem, monkeypatch):
    small, specs = with_rungs(), some_specs(problem, 4)
    small.trainer = with_memory(small.trainer, 1e-6)
    models = [ModelSpec.from_genes(spec) for spec in specs]
    assert problem.trainer.slices(models, workers=1) == [slice(0, 4)]
    assert small.trainer.slices(models, workers=1) == [slice(i, i + 1) for i in range(4)]
    sizes, train = [], StackTrainer.train
    monkeypatch.setattr(
        StackTrainer, "train", lambda self, specs, **options: sizes.append(len(specs)) or train(self, specs, **options)
    )
    expected = [digest(outcome) for outcome in problem.evaluate(specs, seed=4)]
    assert [digest(outcome) for outcome in small.evaluate(specs, seed=4)] == expected
    states = [outcome.state for outcome in small.evaluate(specs, seed=4, rung=0)]
    assert [digest(outcome) for outcome in small.evaluate(specs, seed=4, states=states)] == expected
    assert sizes == [4] + [1] * 12


def test_memory_that_holds_no_stack_is_refused_before_training(problem):
    with pytest.raises(ConfigError, match=r"run\.memory_gib .* leaves \S+ GiB for the stack of each of") as tight:
        feed.build(config(run={"memory_gib": 0.001, "workers": 2}))
    enough = float(re.search(r"set it to at least ([\d.]+),", str(tight.value))[1])
    assert feed.build(config(run={"memory_gib": enough, "workers": 2})).space == problem.space
    with pytest.raises(ConfigError, match=r", or leave out training\.rungs\.$") as staged:
        with_rungs(run={"memory_gib": 0.001, "workers": 2}, search={"population": 400})
    more = float(re.search(r"set it to at least ([\d.]+),", str(staged.value))[1])
    assert more > enough
    with_rungs(run={"memory_gib": more, "workers": 2}, search={"population": 400})


def test_kept_batches_take_a_quarter_of_a_workers_memory_and_change_no_step(problem):
    whole, tight = problem.trainer, with_memory(problem.trainer, 1e-4)
    room = int(1e-4 * 2**30 / 4 / problem.config.run.n_workers("cpu"))
    for index in range(len(whole.plan)):
        kept, built = whole.plan.step(index), tight.plan.step(index)
        assert (kept.rows == built.rows).all()
        assert whole.plan.step(index) is kept
    same = [tight.plan.step(index) is tight.plan.step(index) for index in range(len(tight.plan))]
    size = n_bytes(whole.plan.step(0))
    assert sum(same) <= room // size + 1 < len(same)


def test_memory_is_divided_among_the_workers(problem):
    specs = [ModelSpec.from_genes(member(problem))] * 64
    few, many = (with_memory(problem.trainer, 0.01).slices(specs, workers=n) for n in (1, 4))
    assert 64 >= few[0].stop > many[0].stop > 1
    assert [part.start for part in many] == [0, *(part.stop for part in many[:-1])]
    assert many[-1].stop >= 64


def test_the_precision_is_part_of_the_environment(problem):
    assert problem.environment["precision"] == "float32"
    assert feed.build(config(training={"precision": "float64"})).environment["precision"] == "float64"


def test_bfloat16_is_refused_where_it_is_emulated(monkeypatch):
    monkeypatch.setattr("evorec.training.precision.has_bfloat16", lambda device: False)
    with pytest.raises(
        ConfigError, match=r"training\.precision \(config\) is bfloat16, which this cpu does not compute in"
    ):
        feed.build(config(training={"precision": "bfloat16"}))
    assert feed.build(config(training={"precision": "auto"})).environment["precision"] == "float32"


@needs_bfloat16
def test_bfloat16_members_are_stored_and_measured_in_float32_and_the_same_in_any_company(problem):
    low, specs = feed.build(config(training={"precision": "bfloat16"})), some_specs(problem, 4)
    together = low.evaluate(specs, seed=4)
    for outcome, exact in zip(together, problem.evaluate(specs, seed=4), strict=True):
        assert {array.dtype for array in outcome.weights.values()} == {np.dtype(np.float32)}
        assert digest(outcome)["weights"] != digest(exact)["weights"]
        assert outcome.metrics["accuracy"] == pytest.approx(exact.metrics["accuracy"], abs=0.05)
        assert outcome.metrics["model_bytes"] == exact.metrics["model_bytes"]
    for company in ([2], [3, 0]):
        found = low.evaluate([specs[i] for i in company], seed=4)
        assert [digest(outcome) for outcome in found] == [digest(together[i]) for i in company]


def test_cost_bounds_hold_every_genome(problem):
    objective = next(o for o in problem.objectives if o.metric == "training_flops")
    for x in problem.space.sample(np.random.default_rng(1), 20):
        spec = problem.space.decode(x)
        flops = problem.trainer.cost(ModelSpec.from_genes(spec))["training_flops"]
        assert min(objective.ideal, objective.worst) <= flops <= max(objective.ideal, objective.worst)


def test_shape_genes_may_be_fixed():
    fixed = feed.build(config(space={"width": 16, "sharing_depth": 1, "history": False}))
    outcome = fixed.evaluate([fixed.space.decode(fixed.space.default())], seed=4)[0]
    assert outcome.failure is None


def test_candidates_beyond_the_catalogue_cost_nothing(problem):
    reranked = ModelSpec.from_genes(member(problem, rerank=True, rank_blend=0.5))
    costs = [
        feed.build(config(evaluation={"k": 5, "candidates": n})).trainer.cost(reranked)["inference_flops"]
        for n in (20, 50, 5000)
    ]
    assert costs[0] < costs[1] == costs[2]


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


@pytest.mark.parametrize(("part", "name"), [("train", "training"), ("validation", "validation"), ("test", "test")])
def test_a_task_with_a_single_class_is_refused(part, name):
    with pytest.raises(DataError, match=f"task like of simulator must have two or more classes in the {name} rows"):
        RecProblem(config(), without_positives("like", part=part)).check_first_start()


def test_a_log_without_a_held_out_click_is_refused():
    with pytest.raises(DataError, match="click of simulator must have a positive in the validation rows"):
        RecProblem(config(tasks={"ranked": ["like"]}), without_positives("click", part="validation"))


def test_an_empty_log_is_refused():
    with pytest.raises(DataError, match="table interactions of simulator is empty"):
        RecProblem(config(), with_log(lambda log: log.clear()))


def test_a_log_too_short_to_split_is_refused():
    with pytest.raises(DataError, match="must leave rows of simulator in each part"):
        RecProblem(config(), with_log(lambda log: log.head(2)))


def test_unknown_tasks_and_genes_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="must name label columns of simulator, click, like, purchase; got 'sold'"):
        build_problem(config(tasks={"ranked": ["click", "sold"], "target": "click"}))
    with pytest.raises(ConfigError, match="widht"):
        build_problem(config(space={"widht": 16}))


def test_objectives_that_the_data_cannot_give_are_refused():
    tables = replace(simulate(config().data.simulator), content=())
    with pytest.raises(DataError, match=r"objectives \(config\): intra_list_distance@5 needs content of the items"):
        RecProblem(config(objectives=["accuracy", "diversity"]), tables)
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


@pytest.fixture(scope="module")
def switching():
    return feed.build(config(inputs="search"))


def test_every_feature_and_part_of_the_content_is_a_switch(problem, switching):
    switches = [name for name in switching.space.names if name.startswith("use_")]
    assert set(switches) == {
        "use_segment", "use_tenure_days", "use_item_category", "use_price", "use_hour", "use_content",
        "use_content_category",
    }  # fmt: skip
    for each in (problem, switching):
        assert all(each.space.decode(each.space.default())[name] is True for name in switches)
        assert "pretrained" not in each.space.names
    ranks = {"rank_content", "rank_content_category"}
    assert switching.space.n_var == problem.space.n_var + len({*switches, *ranks})
    assert not any(ModelSpec.from_genes(one).off for one in some_specs(problem, 20))
    assert any(ModelSpec.from_genes(one).off for one in some_specs(switching, 20))


def test_a_configuration_switches_a_feature_off_for_everybody():
    quiet = feed.build(config(inputs="search", space={"use_hour": False, "use_price": True, "use_content": False}))
    for x in quiet.space.sample(np.random.default_rng(0), 10):
        spec = ModelSpec.from_genes(quiet.space.decode(x))
        assert {"hour", "content"} <= set(spec.off)
        assert "price" not in spec.off
    (outcome,) = quiet.evaluate(some_specs(quiet, 1), seed=4)
    assert outcome.failure is None
    part = next(part for part in quiet.data.dataset.content_parts if part.name == "content")
    assert not outcome.weights["content.weight"][0, part.first_column : part.first_column + part.n_columns].any()
    closed = feed.build(config(space={"use_hour": False, "rank_content": 2}))
    spec = ModelSpec.from_genes(closed.space.decode(closed.space.default()))
    assert (spec.off, spec.ranks) == (("hour",), (("content", 2),))
    with pytest.raises(ConfigError, match=r"space\.use_huor \(config\) is not a gene; did you mean 'use_hour'\?"):
        feed.build(config(space={"use_huor": False}))


def test_switching_features_off_makes_a_member_cheaper(problem):
    full, bare = (
        member(problem, **{name: on for name in problem.space.names if name.startswith("use_")}) for on in (True, False)
    )
    dear, cheap = problem.evaluate([full, {n: v for n, v in bare.items() if not n.startswith("rank_content")}], seed=4)
    assert all(cheap.metrics[name] < dear.metrics[name] for name in COUNTED)


def test_the_rows_of_items_can_start_from_who_met_them():
    met = feed.build(config(data={"content": {"cooccurrence": {"kind": "cooccurrence", "dims": 6}}}, inputs="search"))
    assert {"use_cooccurrence", "rank_cooccurrence", "pretrained"} <= set(met.space.names)
    plain, other = met.evaluate([member(met), member(met, pretrained=True)], seed=4)
    assert plain.failure is other.failure is None
    assert (plain.weights["table"] != other.weights["table"]).any()
    for name in COUNTED:
        assert plain.metrics[name] == other.metrics[name]


def test_the_recall_of_cold_items_can_be_an_objective_only_where_somebody_wants_one():
    names = {"objectives": ["accuracy", "cold_start_recall@k"], "constraints": []}
    with pytest.raises(DataError, match=r"cold_start_recall@5 needs a held-out positive on an item without a training"):
        feed.build(config(**names))
    cold = feed.build(config(**names, data={"simulator": {"n_items": 900}}))
    (outcome,) = cold.evaluate(some_specs(cold, 1), seed=4)
    assert 0 <= outcome.metrics["cold_start_recall@5"] <= 1
