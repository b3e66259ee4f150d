"""The adapter for Optuna: suggestions that are conditional, values in their own unit, failures that are told."""

import numpy as np
import optuna
import pytest
from analytic import BEST, Analytic

from evorec.errors import ConfigError
from evorec.objectives import Constraint
from evorec.search.optuna_study import as_optuna
from evorec.space.genes import Boolean, Categorical, Fixed, Integer, Real, Simplex, When

GENES = (
    Real("effort", 0.0, 1.0, default=0.5),
    Real("rate", 1e-4, 1e-1, scale="log", default=1e-2),
    Categorical("method", ("line", "tree", "net"), "line"),
    Integer("depth", 1, 8, default=3, condition=When("method", ("tree",))),
    Boolean("bias", True),
    Simplex("weights", ("a", "b"), (1.0, 3.0)),
    Integer("width", 16, 128, scale="log2", default=32),
    Categorical("odd", (1, 1.0, True, "1"), "1", condition=When("bias", (True,))),
    Fixed("seed", 7),
)


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_parameters_genomes_and_specs_are_the_same_thing():
    problem = Analytic(genes=GENES)
    objective, space = as_optuna(problem), problem.space
    study = objective.study(seed=0, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=40)
    for trial in study.trials:
        row = objective.genome(trial.params)
        spec = space.decode(row)
        np.testing.assert_array_equal(space.snap(row[None])[0], row)
        np.testing.assert_array_equal(space.encode(spec), row)
        np.testing.assert_array_equal(objective.genome(objective.params(spec)), row)
        assert ("depth" in trial.params) == (spec["method"] == "tree") == ("depth" in spec)
        assert ("index(odd)" in trial.params) == spec["bias"]
        assert 16 <= spec["width"] == 2 ** trial.params["log2(width)"] <= 128
    np.testing.assert_array_equal(objective.genome(study.trials[0].params), space.default())
    assert isinstance(study.trials[0].distributions["rate"], optuna.distributions.FloatDistribution)
    assert study.trials[0].distributions["rate"].log
    assert study.trials[0].distributions["method"].choices == ("line", "tree", "net")
    with pytest.raises(ConfigError, match="the parameters of a trial must have 'rate', got effort"):
        objective.genome({"effort": 0.5})


def test_values_are_those_of_the_problem_and_equal_specs_are_evaluated_once():
    problem = Analytic(constraints=[Constraint("quality", ">=", 0.5, "quality >= 0.5")])
    objective = as_optuna(problem)
    study = objective.study(seed=0)
    for _ in range(2):
        study.enqueue_trial(objective.params({"effort": 0.25, **BEST}))
    study.optimize(objective, n_trials=3)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    # By hand: quality 0.25, cost 1 + 0.25 ** 2; the bound 0.5 is missed by half of itself, r / (1 + r) = 1/3.
    for trial in study.trials[1:]:
        assert trial.values == pytest.approx([0.25, 1.0625])
        assert objective.constraints(trial) == pytest.approx([1 / 3])
        assert trial.constraints == pytest.approx({"quality >= 0.5": 1 / 3})
    assert len(problem.evaluated) == 2


@pytest.mark.parametrize("constrained", [False, True])
def test_a_failed_evaluation_is_a_pruned_trial_with_its_cause(constrained):
    constraints = [Constraint("quality", ">=", -5.0, "quality >= -5")] if constrained else []
    for in_batches in (False, True):
        problem = Analytic(constraints=constraints, fault=lambda spec: "nan" if spec["effort"] > 0.3 else None)
        objective = as_optuna(problem)
        study = objective.study(seed=1)
        if in_batches:
            objective.run(study, 60, batch=20)
        else:
            study.optimize(objective, n_trials=60)  # NSGA-II has 50 trials in a generation
        for trial in study.trials:
            failed = trial.params["effort"] > 0.3
            assert trial.state.name == ("PRUNED" if failed else "COMPLETE")
            assert trial.user_attrs.get("failure") == ("metric quality is nan" if failed else None)
        assert len(study.trials) == 60
        assert study.best_trials
        assert max(map(len, problem.stacks)) == (1 if not in_batches else 8)
