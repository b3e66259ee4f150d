"""What holds for every problem definition that this package offers, and for every metric of the catalogue."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_data import copy_part

from evorec.config import (
    RecommenderConfig,
    RunConfig,
    SearchConfig,
    installed_problems,
    kind_name,
    load_config,
    problem_definition,
    recommender_config,
)
from evorec.data.paths import cache_folder, resolve_path
from evorec.data.readers import SIMULATOR
from evorec.errors import DataError
from evorec.metrics.metric import METRICS
from evorec.objectives import resolve
from evorec.problem import Problem
from evorec.recommender.problem import RecProblem
from evorec.search.engine import search

TINY_WORLD = {"n_users": 80, "n_items": 60, "n_interactions": 3000}
TINY_BUDGET = (
    "training.steps=2",
    "training.batch_size=64",
    "training.retrieval_batch=16",
    "evaluation.max_users=20",
    "constraints=[]",
)

SEED = 5

every_problem = pytest.mark.parametrize(
    "name",
    [name for name, entry in installed_problems().items() if entry.dist is not None and entry.dist.name == "evorec"],
)


def world_settings(name: str, sizes: Mapping[str, int] = TINY_WORLD) -> list[str]:
    """Overrides that make a small simulated world; not all worlds have all settings."""
    fields = type(recommender_config(load_config(problem=name)).data.simulator).model_fields
    return [f"data.simulator.{size}={value}" for size, value in sizes.items() if size in fields]


@cache
def part_of_data(name: str) -> Path:
    """A folder with a part of the published data of a problem; skips where they are not on this machine."""
    try:
        source = resolve_path(recommender_config(load_config(problem=name)).data.path or "")
    except DataError as missing:
        pytest.skip(str(missing))
    return copy_part(source, cache_folder() / "parts" / name)


def configured(name: str, *overrides: str) -> RunConfig:
    """Settings of a tiny training; a problem that trains nothing refuses them and is quick anyway."""
    config = load_config(problem=name)
    if not isinstance(config, RecommenderConfig):
        return config
    data = [] if config.data.reader == SIMULATOR else [f"data.path='{part_of_data(name)}'"]
    return load_config(problem=name, overrides=[*world_settings(name), *data, *TINY_BUDGET, *overrides])


@cache
def built(name: str, *overrides: str) -> Problem:
    """The problem, with a rung after the first step where there are steps."""
    config = configured(name, "training.rungs=[1]", *overrides)
    problem = problem_definition(name).build(config)
    assert isinstance(problem, Problem)
    assert problem.name == config.problem
    return problem


def first_metrics(problem: Problem) -> Mapping[str, float]:
    """Metrics of the default genome."""
    genome = problem.space.snap(problem.space.default()[None])[0]
    (outcome,) = problem.evaluate([problem.space.decode(genome)], seed=problem.seed)
    assert outcome.metrics is not None, outcome.failure
    missing = {objective.metric for objective in problem.objectives} - set(outcome.metrics)
    assert not missing
    return outcome.metrics


def test_there_are_problems() -> None:
    assert {"feed"} <= set(installed_problems())


@every_problem
def test_a_problem_has_a_scenario_settings_and_a_builder(name: str) -> None:
    definition = problem_definition(name)
    scenario = definition.scenario.splitlines()
    assert scenario[0].endswith((".", "?"))
    assert len(scenario) > 2, "one line does not tell what the tasks are"
    assert definition.defaults["problem"] == name, "the run would be resumed as another problem"
    (config,) = inspect.signature(definition.build).parameters.values()
    assert config.default is None, "build() must work without a configuration"
    assert load_config(problem=name).problem == name


@every_problem
def test_a_problem_evaluates_its_default_genome(name: str) -> None:
    problem = built(name)
    metrics = first_metrics(problem)
    assert all(np.isfinite(value) for value in metrics.values())
    assert np.isfinite([(objective.worst, objective.ideal) for objective in problem.objectives]).all()


@every_problem
def test_a_genome_scores_the_same_at_the_same_rung_alone_and_in_any_company(name: str) -> None:
    problem = built(name)
    specs = [problem.space.decode(x) for x in problem.space.sample(np.random.default_rng(SEED), 4)]

    def scores(members: Sequence[int], rung: int | None) -> list[tuple[object, ...]]:
        outcomes = problem.evaluate([specs[i] for i in members], seed=problem.seed, rung=rung)
        return [
            (
                one.failure,
                {key: value for key, value in (one.metrics or {}).items() if key != "train_seconds"},
                {key: array.tobytes() for key, array in (one.weights or {}).items()},
            )
            for one in outcomes
        ]

    for rung in (*range(len(problem.rungs)), None):
        together = scores(range(4), rung)
        for company in ([3], [2, 0]):
            assert scores(company, rung) == [together[i] for i in company], f"seed {SEED}"


@every_problem
def test_two_generations_of_a_search_find_members(name: str) -> None:
    problem = built(name)
    result = search(problem, SearchConfig(surrogate="none", population=4, generations=2, seed=problem.seed))
    assert result.n_evaluated == 8
    assert result.failures == {}
    assert len(result.hypervolume) == 2
    assert result.archive, "nothing is constrained here, so every evaluation is feasible"
    for member in result.archive:
        assert member.metrics is not None
        assert all(np.isfinite(member.metrics[objective.metric]) for objective in problem.objectives)


@every_problem
def test_what_is_measured_on_demand_can_be_searched_for_in_every_problem_that_makes_lists(name: str) -> None:
    problem = built(name)
    if not isinstance(problem, RecProblem) or problem.config.of_rows:
        pytest.skip("it makes no lists")
    wanted = ('objectives=["recall@k", "sparsity"]', 'constraints=["attack_shift@k <= 1"]', "finalize.picks=[]")
    asked = configured(name, *wanted, "evaluation.attack.n_targets=3", "training.rungs=[]")
    problem = problem_definition(name).build(asked)
    metrics = first_metrics(problem)
    assert {constraint.metric for constraint in problem.constraints} <= set(metrics)
    assert 0 <= metrics["sparsity"] <= 1
    assert all(np.isfinite(value) for value in metrics.values())
    for task, kind in asked.tasks.kind_of_each().items():
        lower = task in asked.tasks.lower_is_better
        assert f"{'gain' if lower else 'harm'}/{task}" not in metrics, kind


@pytest.fixture(scope="module")
def measured() -> tuple[RunConfig, Mapping[str, float]]:
    """Everything that the feed problem measures, what must be asked for included; many items are never met."""
    settings = (
        'objectives=["accuracy", "cold_start_recall@k", "sparsity", "attack_shift@k", "latency_ms"]',
        'constraints=["long_tail_share@k >= 0"]',
        "box.latency_ms={ideal=0.1, worst=1000.0}",
        "data.simulator.n_items=900",
        'tasks.lower_is_better=["like"]',
        'tasks.kinds={like="regression"}',
        'evaluation.spend="like"',
        'evaluation.groups="segment"',
        "evaluation.max_users=80",
        "data.simulator.n_categories=2",
    )
    return configured("feed", *settings), first_metrics(built("feed", *settings))


DIRECTED = ("gain/<task>", "harm/<task>")
"""Metrics of the tasks whose label is good, or bad, as the metric's direction says."""


def keys(name: str, config: RunConfig) -> list[str]:
    """What a catalogue entry is called in the metrics of one evaluation."""
    tasks: Sequence[str] = ("",)
    if "<task>" in name:
        kinds = config.tasks.kind_of_each()
        tasks = [task for task, kind in kinds.items() if kind_name(kind) in METRICS[name].kinds]
        if name in DIRECTED:
            lower = config.tasks.lower_is_better
            tasks = [task for task in tasks if (task in lower) == (METRICS[name].direction == "min")]
    return [resolve(name.replace("<task>", task), config.evaluation.k) for task in tasks]


@pytest.mark.parametrize("name", [*METRICS, *(alias for metric in METRICS.values() for alias in metric.aliases)])
def test_every_metric_of_the_catalogue_is_measured(name: str, measured: tuple[RunConfig, Mapping[str, float]]) -> None:
    config, metrics = measured
    for key in keys(name, config):
        assert np.isfinite(metrics[key])


def test_every_measured_value_is_in_the_catalogue(measured: tuple[RunConfig, Mapping[str, float]]) -> None:
    config, metrics = measured
    assert set(metrics) <= {key for name in METRICS for key in keys(name, config)}
