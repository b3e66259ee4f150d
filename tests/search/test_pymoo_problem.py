import numpy as np
import pytest
from analytic import BEST, Analytic
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.optimize import minimize
from pymoo.util.ref_dirs import get_reference_directions

from evorec.objectives import Constraint
from evorec.search.executors import ThreadExecutor
from evorec.search.pymoo_problem import as_pymoo

ROUNDING = 1e-12  # a handful of float64 operations


def test_values_are_those_of_the_problem_to_be_minimised():
    problem = Analytic(constraints=[Constraint("quality", ">=", 0.5, "quality >= 0.5")])
    x = problem.space.encode({"effort": 0.25, **BEST})
    out = as_pymoo(problem).evaluate(x[None, :], return_as_dictionary=True, return_values_of=["F", "G"])
    # By hand: quality 0.25, cost 1 + 0.25 ** 2; the bound 0.5 is missed by half of itself, r / (1 + r) = 1/3.
    np.testing.assert_allclose(out["F"], [[-0.25, 1.0625]], atol=ROUNDING)
    np.testing.assert_allclose(out["G"], [[1 / 3]], atol=ROUNDING)


def test_rows_are_snapped_before_they_are_evaluated():
    problem = Analytic()
    x = problem.space.default()
    moved = x.copy()
    moved[problem.space.slices["method"]] += 0.3  # still the option "line"
    pymoo_problem = as_pymoo(problem)
    F = pymoo_problem.evaluate(np.vstack([x, moved]), return_values_of=["F"])
    np.testing.assert_array_equal(F[0], F[1])
    assert len(problem.evaluated) == 1


def test_a_genome_is_evaluated_once_in_a_whole_run():
    problem = Analytic()
    minimize(as_pymoo(problem), NSGA2(pop_size=16), ("n_gen", 10), seed=0)
    keys = [problem.space.key(problem.space.encode(spec)) for spec in problem.evaluated]
    assert len(keys) == len(set(keys))


def test_a_failed_candidate_is_finite_and_infeasible_and_its_cause_is_logged(caplog):
    fault, bound = (
        (lambda spec: "nan" if spec["effort"] > 0.5 else None),
        Constraint("quality", ">=", 0.0, "quality >= 0"),
    )
    problem = Analytic(fault=fault, constraints=[bound])
    X = np.vstack([problem.space.encode({"effort": effort, **BEST}) for effort in (0.25, 0.75)])
    F, G = as_pymoo(problem).evaluate(X, return_values_of=["F", "G"])
    assert np.isfinite(F).all()
    assert (G <= 0).all(axis=1).tolist() == [True, False]
    worst = [0.0, 2.0]  # quality 0, cost 2
    np.testing.assert_array_equal(F[1], worst)
    np.testing.assert_array_equal(as_pymoo(Analytic(fault=fault)).evaluate(X, return_values_of=["F"])[1], worst)
    record, _ = caplog.records
    assert "failed: metric" in record.getMessage()


def test_a_problem_without_constraints_declares_none():
    """Algorithms that handle no constraints, as MOEA/D, refuse a problem that declares any."""
    problem = as_pymoo(Analytic())
    assert problem.n_ieq_constr == 0
    directions = get_reference_directions("das-dennis", 2, n_partitions=5)
    assert len(minimize(problem, MOEAD(directions, n_neighbors=3), ("n_gen", 3), seed=0).F)


@pytest.mark.parametrize(
    "algorithm",
    [
        NSGA2(pop_size=16),
        SMSEMOA(pop_size=16),
        NSGA3(get_reference_directions("das-dennis", 2, n_partitions=15)),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)
def test_algorithms_of_pymoo_find_feasible_trade_offs(algorithm):
    problem = Analytic(constraints=[Constraint("quality", ">=", 0.0, "quality >= 0")])
    result = minimize(as_pymoo(problem, executor=ThreadExecutor(2)), algorithm, ("n_gen", 15), seed=1)
    assert len(result.F) > 1
    assert (result.F[:, 0] <= 0).all()  # quality of at least 0, minimised
    spec = problem.space.decode(result.X[0])
    assert problem.space.decode(problem.space.encode(spec)) == spec
