"""The adapter that turns a problem into a vectorised pymoo `Problem`."""

from __future__ import annotations

from typing import Any, final

from pymoo.core.problem import Problem as PymooProblem

from evorec.objectives import FloatArray
from evorec.problem import Problem
from evorec.search.executors import Executor, SerialExecutor
from evorec.search.values import GenomeValues


def as_pymoo(problem: Problem, *, executor: Executor | None = None, chunk: int = 8) -> EvorecProblem:
    """A vectorised pymoo `Problem`: a generation at a time, each genome evaluated once.

    ``X`` is snapped before it is evaluated, so algorithms for real numbers work as they are; read a result with
    ``problem.space.decode(x)``, which snaps too. ``F`` is to be minimised and ``G`` at most 0, both always finite. A
    failed evaluation violates every constraint and has the worst value of every objective; its cause is logged as a
    warning. Trainings use the problem's own seed.

    For a run directory, resume and rungs, pass the algorithm to `evorec.run_search` instead.

    Args:
        problem: space, objectives, constraints and evaluation.
        executor: evaluates the stacks; serial by default.
        chunk: most genomes in a stack.
    Example:
        >>> from pymoo.algorithms.moo.nsga2 import NSGA2
        >>> from pymoo.optimize import minimize
        >>> minimize(as_pymoo(problem), NSGA2(pop_size=24), ("n_gen", 8), seed=0)  # doctest: +SKIP
    """
    return EvorecProblem(problem, executor=executor or SerialExecutor(), chunk=chunk)


@final
class EvorecProblem(PymooProblem):  # type: ignore[misc]  # pymoo is untyped
    """The problem that `as_pymoo` returns."""

    def __init__(self, problem: Problem, *, executor: Executor, chunk: int) -> None:
        super().__init__(
            n_var=problem.space.n_var,
            n_obj=len(problem.objectives),
            n_ieq_constr=len(problem.constraints),
            xl=problem.space.low,
            xu=problem.space.high,
        )
        self._values = GenomeValues(problem, executor=executor, chunk=chunk)

    def _evaluate(self, X: FloatArray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        F, G = self._values.matrices(X)
        out["F"], out["G"] = F, G[:, : self.n_ieq_constr]
