"""Choosing the steps of the final training on validation."""

from typing import Any

import numpy as np
import pytest
from feed_run import config, positives, recalls, recommended, task_aucs

from evorec.config import FinalizeConfig
from evorec.deploy.final import steps as module
from evorec.deploy.final.steps import checkpoint_steps, choose_steps, is_finished, least_regret
from evorec.errors import TrainingError
from evorec.models.spec import ModelSpec
from evorec.recommender.problem import RecProblem, build_problem
from evorec.recommender.trainers import StackTrainer
from evorec.training.evaluate import MemberMetrics

ROUNDING = 1e-12  # a mean over users, added up in another order
RECALL = "recall@5"
TASKS = ("auc/click", "auc/like", "auc/purchase")


def test_the_checkpoints_are_the_tenths_from_the_half_to_the_longest() -> None:
    assert checkpoint_steps(200, 3.0) == tuple(range(100, 601, 20))
    assert checkpoint_steps(300, 1.0) == (150, 180, 210, 240, 270, 300)
    assert checkpoint_steps(1, 2.5) == (1, 2, 3)  # 25 tenths of one step
    for n in range(1, 60):
        found = checkpoint_steps(n, 1.7)
        assert n in found, "the search's own training is one of them"
        assert list(found) == sorted(set(found))
        assert found[0] == -(-n // 2)
        assert found[-1] == int(np.ceil(1.7 * n - 1e-9))


@pytest.mark.parametrize(
    ("values", "patience", "finished"),
    [
        ([0.5], 1, False),
        ([0.5, 0.4], 1, True),
        ([0.5, 0.5], 1, True),  # as good is not better
        ([0.5, 0.4], 2, False),
        ([0.5, 0.4, 0.45], 2, True),
        ([0.5, 0.4, 0.45, 0.6], 2, False),  # it rose after all
    ],
)
def test_a_metric_is_finished_when_its_best_is_long_ago(values: list[float], patience: int, finished: bool) -> None:
    assert is_finished(values, patience) is finished


def test_the_steps_are_those_of_the_least_mean_regret() -> None:
    # mean regret in AUC, with recall as a share of its best: (.04 + 0)/2 = .02, (.01 + .02)/2 = .015, (0 + .04)/2 = .02
    assert least_regret({"auc/click": (0.70, 0.73, 0.74), RECALL: (0.50, 0.49, 0.48)}, RECALL) == 1
    # of recall .1 the same .01 is a tenth: (.04 + 0)/2 = .02, (.01 + .1)/2 = .055, (0 + .2)/2 = .1
    assert least_regret({"auc/click": (0.70, 0.73, 0.74), RECALL: (0.10, 0.09, 0.08)}, RECALL) == 0
    # .03 + 0 and 0 + .03: the one that costs less
    assert least_regret({"auc/click": (0.70, 0.73), "auc/like": (0.73, 0.70)}, RECALL) == 0
    assert least_regret({"auc/click": (0.70, 0.73), RECALL: (0.0, 0.0)}, RECALL) == 1, "no recall, no regret"


@pytest.fixture(scope="module")
def problem() -> RecProblem:
    return build_problem(config())


@pytest.fixture(scope="module")
def specs(problem: RecProblem) -> dict[str, ModelSpec]:
    rows = problem.space.sample(np.random.default_rng(6), 4)
    return {f"m{i}": ModelSpec.from_genes(problem.space.decode(x)) for i, x in enumerate(rows)}


def test_a_curve_equals_separate_trainings_of_those_steps(problem: RecProblem, specs: dict[str, ModelSpec]) -> None:
    trainer = StackTrainer(problem.data.with_all_users(), problem.seed, problem.config.training.steps)
    settings = FinalizeConfig(patience=2, longest=1.4)
    found = choose_steps(trainer, specs, settings)
    relevant = positives(problem, "validation")
    for key, chosen in found.items():
        assert chosen.curve.keys() == {*TASKS, RECALL}
        assert chosen.at == (3, 4, 5, 6, 7)[: len(chosen.at)]
        assert len(chosen.at) >= 3
        for place, steps in enumerate(chosen.at):
            longer = config(training={"steps": steps})
            alone = StackTrainer.of(problem.tables, longer, fit="train", seed=problem.config.search.seed, at_most=None)
            population = alone.train([specs[key]]).population
            expected = {
                f"auc/{task}": auc for task, auc in task_aucs(problem, alone.data, population, "validation").items()
            }
            expected[RECALL] = float(np.mean(recalls(recommended(alone.data, population), relevant)))
            measured = {name: values[place] for name, values in chosen.curve.items()}
            assert measured == pytest.approx(expected, abs=ROUNDING)
    for key, chosen in found.items():
        assert choose_steps(trainer, {key: specs[key]}, settings) == {key: chosen}, "whatever the company"


def told(monkeypatch: pytest.MonkeyPatch, curves: dict[str, dict[str, list[float] | None]], specs: Any) -> list[Any]:
    """Makes validation say what `curves` say at each checkpoint; ``None`` = scores that are not finite."""
    asked: list[Any] = []
    seen: dict[str, int] = dict.fromkeys(curves, 0)

    def measure(population: Any, *_: Any, **__: Any) -> list[MemberMetrics | TrainingError]:
        out: list[MemberMetrics | TrainingError] = []
        keys = [next(key for key, one in specs.items() if one is spec) for spec in population.specs]
        asked.append(keys)
        for key in keys:
            at = seen[key]
            seen[key] += 1
            values = {name: None if own is None or at >= len(own) else own[at] for name, own in curves[key].items()}
            metrics = {name: value for name, value in values.items() if value is not None}
            out.append(MemberMetrics(metrics, {}) if len(metrics) == len(values) else TrainingError("not finite"))
        return out

    monkeypatch.setattr(module, "measure", measure)
    return asked


def curves_of(click: list[float], rest: float = 0.5) -> dict[str, list[float] | None]:
    others = [*TASKS[1:], RECALL]
    return {TASKS[0]: click, **{name: [rest] * len(click) for name in others}}


def test_a_member_stops_when_all_its_metrics_have_run_out_of_patience(
    problem: RecProblem, specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    up = [0.5 + 0.01 * i for i in range(8)]
    curves = {
        "m0": curves_of([0.5, 0.6, 0.6, 0.4]),  # best at the second checkpoint, two more without a better one
        "m1": curves_of(up),
        "m2": curves_of([0.6, 0.5]),  # not finite at the third
        "m3": curves_of([0.6, 0.5, 0.4]),
    }
    asked = told(monkeypatch, curves, specs)
    trainer = StackTrainer.of(problem.tables, config(training={"steps": 10}), fit="train", seed=4, at_most=None)
    found = choose_steps(trainer, specs, FinalizeConfig(patience=2, longest=1.2))
    assert {key: (one.steps, one.ended) for key, one in found.items()} == {
        "m0": (6, "patience"),
        "m1": (12, "longest"),
        "m2": (5, "diverged"),
        "m3": (5, "patience"),
    }
    assert found["m0"].at == (5, 6, 7, 8)
    assert found["m0"].as_json() == {
        "curve": {"steps": [5, 6, 7, 8], **{name: curves["m0"][name] for name in (*TASKS, RECALL)}},
        "best_step": {TASKS[0]: 6, TASKS[1]: 5, TASKS[2]: 5, RECALL: 5},
        "ended": "patience",
    }
    assert [sorted(keys) for keys in asked] == [
        ["m0", "m1", "m2", "m3"], ["m0", "m1", "m2", "m3"], ["m0", "m1", "m2", "m3"], ["m0", "m1"], *[["m1"]] * 4,
    ]  # fmt: skip


def test_a_member_without_any_checkpoint_is_named(
    problem: RecProblem, specs: dict[str, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    told(monkeypatch, {"m0": curves_of([])}, specs)
    words = r"member m0 diverged before step 3 when trained again on train; .*finalize\.steps to search"
    with pytest.raises(TrainingError, match=words):
        choose_steps(problem.trainer, {"m0": specs["m0"]}, FinalizeConfig())
