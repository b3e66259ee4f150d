"""What holds for every problem definition that this package offers, and for every metric of the catalogue."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest

from evorec.cli.problems import configure, known_problems, problem_module
from evorec.config import RunConfig, kind_name, load_config
from evorec.data.readers import SIMULATOR, resolve_path
from evorec.errors import DataError
from evorec.objectives import ALIASES, CATALOGUE, resolve
from evorec.problem import Problem

TINY_WORLD = (
    "data.simulator.n_users=80",
    "data.simulator.n_items=60",
    "data.simulator.n_interactions=3000",
)
TINY_BUDGET = (
    "training.steps=2",
    "training.batch_size=64",
    "training.retrieval_batch=16",
    "evaluation.max_users=20",
    "constraints=[]",
)

SEED = 5

every_problem = pytest.mark.parametrize(
    "name", [name for name, entry in known_problems().items() if entry.dist is not None and entry.dist.name == "evorec"]
)


def configured(name: str, *overrides: str) -> RunConfig:
    return configure(None, name, [*TINY_WORLD, *TINY_BUDGET, *overrides])


def needs_data(config: RunConfig) -> None:
    """Skips where the data set is not on this machine."""
    if config.data.reader != SIMULATOR:
        try:
            resolve_path(config.data.path or "")
        except DataError as missing:
            pytest.skip(str(missing))


@cache
def built(name: str, *overrides: str) -> Problem:
    """The problem, with a rung after the first step."""
    config = configured(name, "training.rungs=[1]", *overrides)
    needs_data(config)
    problem = problem_module(name).build(config)
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
    assert {"feed"} <= set(known_problems())


@every_problem
def test_a_problem_has_a_scenario_settings_and_a_builder(name: str) -> None:
    module = problem_module(name)
    scenario = inspect.cleandoc(module.__doc__ or "").splitlines()
    assert scenario[0].endswith((".", "?"))
    assert len(scenario) > 2, "one line does not tell what the tasks are"
    assert module.DEFAULTS["problem"] == name, "the run would be resumed as another problem"
    (config,) = inspect.signature(module.build).parameters.values()
    assert config.default is None, "build() must work without a configuration"
    assert load_config(defaults=module.DEFAULTS).problem == name


@every_problem
def test_a_problem_evaluates_its_default_genome(name: str) -> None:
    metrics = first_metrics(built(name))
    assert all(np.isfinite(value) for value in metrics.values())


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

    for rung in (0, None):
        together = scores(range(4), rung)
        for company in ([3], [2, 0]):
            assert scores(company, rung) == [together[i] for i in company], f"seed {SEED}"


@pytest.fixture(scope="module")
def measured() -> tuple[RunConfig, Mapping[str, float]]:
    """Everything that the feed problem measures, measured latency included; some of its many items are never met."""
    settings = (
        'objectives=["accuracy", "cold_start_recall@k", "latency_ms"]',
        "box.latency_ms={ideal=0.1, worst=1000.0}",
        "data.simulator.n_items=900",
    )
    return configured("feed", *settings), first_metrics(built("feed", *settings))


def keys(name: str, config: RunConfig) -> list[str]:
    """What a catalogue entry is called in the metrics of one evaluation."""
    tasks: Sequence[str] = ("",)
    if "<task>" in name:
        kinds = config.tasks.kind_of_each()
        tasks = [task for task, kind in kinds.items() if kind_name(kind) in CATALOGUE[name].kinds]
    return [resolve(name.replace("<task>", task), config.evaluation.k) for task in tasks]


@pytest.mark.parametrize("name", [*CATALOGUE, *ALIASES])
def test_every_metric_of_the_catalogue_is_measured(name: str, measured: tuple[RunConfig, Mapping[str, float]]) -> None:
    config, metrics = measured
    for key in keys(name, config):
        assert np.isfinite(metrics[key])


def test_every_measured_value_is_in_the_catalogue(measured: tuple[RunConfig, Mapping[str, float]]) -> None:
    config, metrics = measured
    assert set(metrics) <= {key for name in CATALOGUE for key in keys(name, config)}
