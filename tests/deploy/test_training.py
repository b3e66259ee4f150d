"""Members of one stack that train to different numbers of steps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from feed_run import config

from evorec.deploy.final.training import FinalModel, stacks, train_members
from evorec.errors import TrainingError
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.recommender.trainers import StackTrainer
from evorec.training.trainer import TrainingResult

STEPS = {"a": 7, "b": 3, "c": 7, "d": 4, "e": 9}


@pytest.fixture(scope="module")
def problem() -> RecProblem:
    return build_problem(config())


@pytest.fixture(scope="module")
def specs(problem: RecProblem) -> dict[str, ModelSpec]:
    rows = problem.space.sample(np.random.default_rng(5), len(STEPS))
    return {key: ModelSpec.from_genes(problem.space.decode(x)) for key, x in zip(STEPS, rows, strict=True)}


def itself(model: FinalModel) -> FinalModel:
    return model


def with_training(problem: RecProblem, steps: int) -> StackTrainer:
    """A fit whose configuration asks for that many steps."""
    return StackTrainer.of(problem.tables, config(training={"steps": steps}), fit="train", seed=4, at_most=None)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_member_equals_a_separate_training_of_it(
    problem: RecProblem, specs: dict[str, ModelSpec], workers: int
) -> None:
    trainer = StackTrainer.of(problem.tables, config(run={"workers": workers}), fit="train", seed=4, at_most=None)
    found = dict(train_members(trainer, specs, STEPS, itself))
    assert found.keys() == specs.keys()
    for key, model in found.items():
        fit = with_training(problem, STEPS[key])
        alone = fit.train([specs[key]]).population
        for name, array in alone.member_arrays(0).items():
            np.testing.assert_array_equal(model.population.member_arrays(0)[name], array, err_msg=f"{key} {name}")
        (measured,) = fit.measure(alone, steps=STEPS[key])
        assert not isinstance(measured, TrainingError)
        assert model.measured.metrics == measured.metrics
        assert model.population.specs == (specs[key],)


def test_a_member_leaves_the_stack_at_its_last_step(
    problem: RecProblem, specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, seen = StackTrainer.train, []

    def watched(self: StackTrainer, own: Any, **options: Any) -> TrainingResult:
        first = int(options["states"][0]["at"]) if options["states"] else 0
        seen.append((first, options["last"], {next(k for k, s in specs.items() if s is spec) for spec in own}))
        return train(self, own, **options)

    monkeypatch.setattr(StackTrainer, "train", watched)
    list(train_members(with_training(problem, 5), specs, STEPS, itself))
    assert seen == [
        (0, 3, {"a", "b", "c", "d", "e"}),
        (3, 4, {"a", "c", "d", "e"}),
        (4, 7, {"a", "c", "e"}),
        (7, 9, {"e"}),
    ]


def test_the_stacks_leave_a_worker_nothing_to_wait_for_and_fit_the_memory(
    problem: RecProblem, specs: dict[str, ModelSpec]
) -> None:
    for run, sizes in (({"workers": 2}, [3, 2]), ({"chunk": 2}, [2, 2, 1]), ({"memory_gib": 1e-9}, [1] * 5)):
        trainer = StackTrainer.of(problem.tables, config(run=run), fit="train", seed=4, at_most=None)
        found = stacks(trainer, specs)
        assert [len(keys) for keys in found] == sizes
        assert sorted(key for keys in found for key in keys) == sorted(specs)


def test_a_longer_training_begins_with_the_same_steps(problem: RecProblem) -> None:
    longer = problem.trainer.with_steps(11)
    assert (len(longer.plan), len(problem.trainer.plan)) == (11, 5)
    for step in range(5):
        np.testing.assert_array_equal(longer.plan.step(step).rows, problem.trainer.plan.step(step).rows)
    assert problem.trainer.with_steps(5) is problem.trainer


def diverging(at: int) -> Callable[..., TrainingResult]:
    train = StackTrainer.train

    def watched(self: StackTrainer, own: Any, **options: Any) -> TrainingResult:
        return replace(train(self, own, **options), diverged=(at,) * len(own))

    return watched


def test_a_member_that_diverges_is_named(
    problem: RecProblem, specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StackTrainer, "train", diverging(2))
    words = r"member b diverged in the final training; leave it out of finalize\.picks"
    with pytest.raises(TrainingError, match=words):
        list(train_members(problem.trainer, specs, STEPS, itself))


def test_a_member_that_cannot_be_measured_is_named_with_the_cause(
    problem: RecProblem, specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    def attacked(self: StackTrainer, population: Any, *, steps: int) -> Any:
        return [TrainingError("under attack: no")] * population.size

    monkeypatch.setattr(StackTrainer, "measure", attacked)
    words = r"member b, in the final training: under attack: no; leave it out of finalize\.picks"
    with pytest.raises(TrainingError, match=words):
        list(train_members(problem.trainer, specs, STEPS, itself))
