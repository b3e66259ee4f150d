"""Choices, groups, sparsity and attacks as objectives and constraints of a problem, from the search to the report."""

import json
import pickle
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl
import pytest
from feed_run import config, searched
from test_problem import digest, some_specs, with_memory

from evorec.data.attack import attack
from evorec.data.encode import encode
from evorec.data.held_out import masked_items
from evorec.data.simulator import simulate
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.deploy.final.finalize import finalize
from evorec.errors import ConfigError, DataError
from evorec.metrics.metric import METRICS
from evorec.models.baselines import baseline_lists, popularity
from evorec.models.spec import ModelSpec
from evorec.plugins import load_plugins
from evorec.recommender.problem import build_problem
from evorec.recommender.trainers import StackTrainer
from evorec.run.directory import RunDirectory
from evorec.search.evaluator import evaluate
from evorec.search.executor_choice import executor_for
from evorec.training.evaluate import member_lists
from evorec.training.trainer import train

ROUNDING = 1e-12
RUNGS = [2, 4]  # of 5 steps
OBJECTIVES = ["gain/click", "harm/pain", "cost_per/click", "group_gap@k", "sparsity", "attack_shift@k"]
SETTINGS = {
    "tasks": {
        "ranked": ["click", "pain", "pay"],
        "target": "click",
        "kinds": {"pay": "regression"},
        "lower_is_better": ["pain", "pay"],
    },
    "evaluation": {"max_users": 60, "spend": "pay", "groups": "half", "attack": {"n_targets": 5, "size_percent": 20}},
    "objectives": OBJECTIVES,
    "space": {"rerank": True},
}


@cache
def tables():
    """The tiny feed with a side effect, a price, and users in two halves; everybody clicks in validation."""
    data = simulate(config(data={"simulator": {"n_interactions": 4000}}).data.simulator)
    rng = np.random.default_rng(0)
    n = data.n_rows
    pain, pay = (rng.random(n) < 0.3).astype(float), np.round(np.exp(rng.normal(size=n)), 2)
    click = np.maximum(data.interactions["click"].to_numpy(), (rng.random(n) < 0.4).astype(float))
    log = data.interactions.select(Columns.USER, Columns.ITEM, Columns.TIME, "hour")
    log = log.with_columns(click=click, pain=pain, pay=pay)
    half = pl.when(pl.col(Columns.USER) % 2 == 0).then(pl.lit("even")).otherwise(pl.lit("odd")).alias("half")
    users = data.users.with_columns(half)
    return replace(data, interactions=log, tasks=("click", "pain", "pay"), users=users)


def built(**changes):
    return build_problem(config(**{**SETTINGS, **changes}), tables=tables())


@pytest.fixture(scope="module")
def problem():
    return built()


@pytest.fixture(scope="module")
def specs(problem):
    return some_specs(problem, 4)


@pytest.fixture(scope="module")
def outcomes(problem, specs):
    return problem.evaluate(specs, seed=4)


def test_every_objective_has_its_direction_and_corners(problem):
    found = {objective.name: objective for objective in problem.objectives}
    assert [found[name].direction for name in found] == ["max", "min", "min", "min", "max", "min"]
    assert [(o.ideal, o.worst) for o in problem.objectives[3:]] == [(0.0, 1.0), (1.0, 0.0), (0.0, 1.0)]
    rows = tables().interactions[split(tables(), problem.config.split).validation]
    halves = {"gain/click": ("click", 1), "harm/pain": ("pain", -1)}
    for name, (label, sign) in halves.items():
        corners = []
        for way in (sign, -sign):
            chosen = []
            for user, own in rows.group_by(Columns.USER):
                if own.height > 1 and user[0] in set(problem.data.dataset.user_ids):
                    chosen += sorted((way * own[label]).to_list(), reverse=True)[: own.height // 2]
            corners.append(way * np.mean(chosen))
        assert (found[name].ideal, found[name].worst) == pytest.approx(tuple(corners), abs=ROUNDING)


def test_every_objective_is_measured_and_finite(problem, outcomes):
    for outcome in outcomes:
        assert outcome.failure is None
        assert {objective.metric for objective in problem.objectives} <= outcome.metrics.keys()
        assert all(np.isfinite(value) for value in outcome.metrics.values())
        assert 0 < outcome.metrics["sparsity"] < 1
        assert 0 <= outcome.metrics["group_gap@5"] <= 1


def test_an_outcome_does_not_depend_on_the_company(problem, specs, outcomes):
    for company in ([2], [3, 0]):
        found = problem.evaluate([specs[i] for i in company], seed=4)
        assert [digest(outcome) for outcome in found] == [digest(outcomes[i]) for i in company]


def test_a_copy_of_the_problem_in_another_process_measures_the_same(problem, specs, outcomes):
    copy = pickle.loads(pickle.dumps(problem))
    assert digest(copy.evaluate(specs[:1], seed=4)[0]) == digest(outcomes[0])


def slow_shift(problem, spec):
    """Two trainings, each alone, and a loop over users and targets."""
    settings = problem.config
    found = attack(tables(), split(tables(), settings.split), settings.evaluation.attack, fit="train", target="click")
    plain = config(**{**SETTINGS, "objectives": ["accuracy"]})
    model, rates = ModelSpec.from_genes(spec), []
    clean = StackTrainer.of(tables(), plain, fit="train", seed=4, at_most=60)
    dirty = StackTrainer.of(found.tables, plain, fit="train", seed=4, at_most=60, parts=found.split)
    for trainer in (clean, dirty):
        encoded = trainer.data
        lists = member_lists(
            trainer.train([model]).population, encoded.dataset, encoded.tensors, encoded.users, plain.evaluation
        ).final[0]
        by_user = {
            encoded.dataset.user_ids[user]: set(encoded.dataset.item_ids[own[own >= 0]].tolist())
            for user, own in zip(encoded.users.ids, lists, strict=True)
        }
        shares = [np.mean([target in by_user[user] for user in sorted(by_user)]) for target in found.targets.tolist()]
        rates.append((np.mean(shares), sorted(by_user)))
    assert rates[0][1] == rates[1][1], "the same genuine users"
    return rates[1][0] - rates[0][0]


def test_the_shift_of_an_attack_is_that_of_two_trainings_by_hand(problem, specs, outcomes):
    for spec, outcome in zip(specs[:2], outcomes, strict=False):
        assert outcome.metrics["attack_shift@5"] == pytest.approx(slow_shift(problem, spec), abs=ROUNDING)
    assert any(outcome.metrics["attack_shift@5"] != 0 for outcome in outcomes)


def test_baselines_have_the_gap_and_the_shift_and_so_they_can_be_bounds(problem):
    known = problem.baselines()
    for name in ("popularity", "item_knn", "ease"):
        assert {"group_gap@5", "attack_shift@5"} <= known[name].keys()
        assert "sparsity" not in known[name]
    trainer = problem.trainer
    rates = []
    own = trainer.data.users.ids
    for one, users in ((trainer.data, own), (trainer.attacked.data, trainer.attack.users[own])):
        masked = masked_items(one.dataset, problem.config.evaluation)
        scorer = popularity(one.dataset.history, one.dataset.n_items)
        lists = baseline_lists(scorer, users, 5, masked=masked, n_items=one.dataset.n_items)
        rates.append(np.mean([[target in row for row in lists.tolist()] for target in trainer.attack.targets.tolist()]))
    assert known["popularity"]["attack_shift@5"] == pytest.approx(rates[1] - rates[0], abs=ROUNDING)
    bounds = ["group_gap@k <= 1.0 * popularity", "attack_shift@k <= 0.5", "harm/pain <= 0.3"]
    limited = built(objectives=["accuracy"], constraints=bounds)
    assert limited.constraints[0].bound == pytest.approx(known["popularity"]["group_gap@5"], abs=ROUNDING)
    (outcome,) = limited.evaluate(some_specs(limited, 1), seed=4)
    assert {"group_gap@5", "attack_shift@5", "harm/pain"} <= outcome.metrics.keys()


@pytest.fixture(scope="module")
def plain():
    return built(objectives=["accuracy"])


def test_expensive_metrics_are_measured_only_where_they_are_wanted(plain):
    assert plain.trainer.attack is None
    (outcome,) = plain.evaluate(some_specs(plain, 1), seed=4)
    assert not {"sparsity", "attack_shift@5"} & outcome.metrics.keys()
    assert {"gain/click", "harm/pain", "cost_per/click", "group_gap@5"} <= outcome.metrics.keys()
    assert "attack_shift@5" not in plain.baselines()["popularity"]


def test_the_cost_is_that_of_one_training(plain, specs, outcomes):
    for spec, outcome in zip(specs, outcomes, strict=True):
        cost = plain.trainer.cost(ModelSpec.from_genes(spec))
        assert {name: outcome.metrics[name] for name in cost} == cost
        assert outcome.metrics["train_seconds"] < outcome.seconds


def test_rungs_go_on_from_where_both_trainings_stopped_and_change_nothing(specs, outcomes, monkeypatch):
    staged = built(training={"rungs": RUNGS})
    ranges = []

    def watched(*arguments, last, checkpoints, **options):
        ranges.append((0 if checkpoints is None else int(checkpoints[0]["at"]), last))
        return train(*arguments, last=last, checkpoints=checkpoints, **options)

    monkeypatch.setattr("evorec.recommender.trainers.train", watched)
    members, states = [0, 1, 2, 3], None
    for rung, kept in ((0, [3, 1]), (1, [1]), (None, [1])):
        found = staged.evaluate([specs[i] for i in members], seed=4, rung=rung, states=states)
        assert all("attack_shift@5" in outcome.metrics for outcome in found)
        if rung is not None:
            assert all(
                isinstance(array, np.ndarray)
                for outcome in found
                for state in outcome.state
                for array in state.values()
            )
            anew = staged.evaluate([specs[i] for i in members], seed=4, rung=rung)
            assert [digest(outcome) for outcome in anew] == [digest(outcome) for outcome in found]
            states = [found[members.index(i)].state for i in kept]
        members = kept if rung is not None else members
    assert [digest(outcome) for outcome in found] == [digest(outcomes[1])]
    assert found[0].state is None
    assert (2, 4) in ranges
    assert ranges[-2:] == [(4, None), (4, None)], "neither training starts anew"


def test_a_member_that_diverges_under_attack_alone_fails_and_the_others_do_not(problem, specs, outcomes, monkeypatch):
    attacked, found = problem.trainer.attacked, StackTrainer.train

    def diverging(self, some, **options):
        trained = found(self, some, **options)
        return replace(trained, diverged=(3, *trained.diverged[1:])) if self is attacked else trained

    monkeypatch.setattr(StackTrainer, "train", diverging)
    first, second = problem.evaluate(specs[:2], seed=4)
    assert first.failure == "under attack: diverged: the loss was not finite at step 3 of 5"
    assert (first.metrics, first.weights, first.state) == (None, None, None)
    assert digest(second) == digest(outcomes[1])


def test_little_memory_is_divided_between_both_trainings(problem):
    models = [ModelSpec.from_genes(spec) for spec in some_specs(problem, 40)]
    sizes = [
        with_memory(built(objectives=names).trainer, 0.05).slices(models, workers=1)[0].stop
        for names in (["accuracy"], ["accuracy", "attack_shift@k"])
    ]
    assert 40 > sizes[0] > sizes[1] >= 1


def test_groups_that_are_too_few_or_not_there_are_refused():
    with pytest.raises(DataError, match=r"evaluation\.groups \(config\) must be a column of the users of simulator"):
        built(evaluation={**SETTINGS["evaluation"], "groups": "age"})
    with pytest.raises(DataError, match="group_gap@5 needs two or more groups of 20 or more users"):
        built(evaluation={**SETTINGS["evaluation"], "groups": "tenure_days"})
    assert (
        "group_gap@5"
        not in built(
            objectives=["accuracy"], evaluation={**SETTINGS["evaluation"], "groups": "tenure_days"}
        ).baselines()["popularity"]
    )


def test_a_gap_that_is_not_there_is_refused_as_such_where_a_baseline_bounds_it():
    with pytest.raises(DataError, match="group_gap@5 needs two or more groups of 20 or more users"):
        built(
            constraints=["group_gap@k <= popularity"],
            evaluation={**SETTINGS["evaluation"], "groups": "tenure_days"},
        )


def test_a_gain_of_what_is_better_low_is_refused_before_anything_is_read():
    with pytest.raises(ConfigError, match=r"gain/pain: pain is in tasks\.lower_is_better; write harm/pain"):
        built(objectives=["gain/pain"])


def test_an_attack_on_more_items_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"evaluation\.attack\.n_targets \(config\) must be below the \d+ items"):
        built(evaluation={**SETTINGS["evaluation"], "attack": {"n_targets": 500}})


def test_a_search_for_all_of_them_is_finalized_and_the_test_has_all_of_them(tmp_path):
    settings = config(**{**SETTINGS, "run": {"device": "cpu", "workers": 2, "executor": "processes"}})
    settings = settings.model_copy(update={"finalize": settings.finalize.model_copy(update={"picks": ("knee",)})})
    problem, path = searched(tmp_path, settings, tables=tables())
    with RunDirectory.open(path) as run:
        assert run.members()
        report = finalize(run, problem, settings.finalize)
    (entry,) = report["picks"]
    for name in (o.metric for o in problem.objectives):
        assert {name} <= entry["validation"].keys() & entry["test"].keys()
        assert np.isfinite(entry["test"][name]["mean"])
    assert "attack_shift@5" in report["baselines"]["popularity"]
    rows = tables().interactions[split(tables(), settings.split).test]
    counts = rows[Columns.USER].value_counts()["count"]  # every user has a training row
    assert (report["rows"]["choice_users"], report["rows"]["n_single_row_users"]) == (
        int((counts > 1).sum()),
        int((counts == 1).sum()),
    )
    assert report["rows"]["n_users_of_no_large_group"] == 0
    assert json.dumps(report)


def test_the_encoding_of_the_attacked_rows_is_that_of_the_final_fit_too():
    settings = config(**SETTINGS)
    trainer = StackTrainer.of(tables(), settings, fit="train+validation", seed=1, at_most=None)
    found = attack(
        tables(), split(tables(), settings.split), settings.evaluation.attack, fit="train+validation", target="click"
    )
    names = trainer.data.dataset.item_ids[trainer.attack.targets]
    np.testing.assert_array_equal(names, found.targets)
    dirty = encode(found.tables, found.split, tasks=("click", "pain"), target="click", fit="train+validation")
    np.testing.assert_array_equal(trainer.attacked.data.dataset.user_ids, dirty.user_ids)
    again = trainer.with_seed(9)
    assert again.attacked.seed == 9
    assert trainer.attacked.seed == 1


SHOP = """
import numpy as np

from evorec.metrics.cost import ModelCounts
from evorec.metrics.lists import NO_ITEM, RecommendedLists
from evorec.metrics.metric import metric
from evorec.metrics.task_rows import TaskPredictions


@metric(
    "mean_price@k", of=RecommendedLists, direction="max", ideal=100.0, worst=0.0, unit="EUR",
    text="mean price of the listed items", item_columns=("price",),
)
def mean_price(lists, item_columns):
    return np.where(lists == NO_ITEM, 0.0, item_columns["price"][lists]).mean(axis=1)


@metric("brier/<task>", of=TaskPredictions, kinds=("binary",), direction="min", ideal=0.0, worst=0.25, unit="",
        text="mean squared error of the probability")
def brier(scores, labels):
    return float(((1 / (1 + np.exp(-scores.astype(np.float64))) - labels) ** 2).mean())


@metric("joules", of=ModelCounts, direction="min", ideal=None, worst=None, unit="J", text="energy", log10=True)
def joules(steps, forward_macs):
    return 1e-11 * steps * forward_macs


@metric("undefined", of=RecommendedLists, direction="min", ideal=0.0, worst=1.0, unit="", text="NaN of members",
        on_demand=True)
def undefined(lists, retrieved):
    return float("nan")


@metric("colour_share@k", of=RecommendedLists, direction="max", ideal=1.0, worst=0.0, unit="", text="red items",
        item_columns=("colour",))
def colour_share(lists, item_columns):
    return 0.0
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Metrics of a file that is not part of evorec, as the key plugins loads them."""
    len(METRICS)
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    (tmp_path / "shop_metrics.py").write_text(SHOP, encoding="utf-8")
    load_plugins(["shop_metrics.py"], folder=tmp_path)


def test_a_metric_in_a_file_of_its_own_is_objective_constraint_and_pick_and_baselines_have_it(shop):
    problem = built(
        objectives=["mean_price@k", "brier/click", "joules"],
        constraints=["mean_price@k >= 0.1 * popularity", "brier/click <= 0.9"],
        finalize={"picks": ["mean_price where brier/click <= 0.9"]},
    )
    corners = [(o.direction, o.unit, o.log10) for o in problem.objectives]
    assert corners == [("max", "EUR", False), ("min", "", False), ("min", "J", True)]
    assert 0 < problem.objectives[2].ideal < problem.objectives[2].worst, "found in the search space"
    (spec,) = some_specs(problem, 1)
    (outcome,) = problem.evaluate([spec], seed=4)
    encoded = problem.data
    price = dict(zip(*(tables().items[name].to_list() for name in (Columns.ITEM, "price")), strict=True))
    lists = member_lists(
        problem.trainer.train([ModelSpec.from_genes(spec)]).population, encoded.dataset, encoded.tensors, encoded.users,
        problem.config.evaluation,
    ).final[0]  # fmt: skip
    known = encoded.dataset.item_ids.tolist()
    means = [np.mean([price[known[item]] if item >= 0 else 0.0 for item in row]) for row in lists.tolist()]
    assert outcome.metrics["mean_price@5"] == pytest.approx(np.mean(means), abs=ROUNDING)
    assert 0 < outcome.metrics["brier/click"] < 1
    assert problem.constraints[0].bound == pytest.approx(0.1 * problem.baselines()["popularity"]["mean_price@5"])
    assert not {"undefined", "colour_share@5"} & outcome.metrics.keys()
    with pytest.raises(DataError, match="colour_share@5 needs the columns colour of the item table"):
        built(objectives=["colour_share@k"])


def test_a_member_whose_metric_is_nan_fails(shop):
    problem = built(objectives=["accuracy", "undefined"])
    executor = executor_for(problem.config.run, device="cpu")
    [((_, outcome),)] = evaluate(problem, some_specs(problem, 1), seed=4, executor=executor, chunk=4)
    assert (outcome.metrics, outcome.failure) == (None, "metric undefined is nan")
