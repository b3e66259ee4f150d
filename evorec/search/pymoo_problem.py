"""A problem as pymoo sees it, for every algorithm that pymoo has."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

import numpy as np
from pymoo.core.problem import Problem as PymooProblem

from evorec.objectives import FloatArray, to_matrices
from evorec.problem import Problem
from evorec.search.evaluator import evaluate
from evorec.search.executors import Executor, SerialExecutor

_logger = logging.getLogger(__name__)


def as_pymoo(problem: Problem, *, executor: Executor | None = None, chunk: int = 8) -> EvorecProblem:
    """A vectorised pymoo `Problem`: a generation at a time, each genome evaluated once.

    ``X`` is snapped before it is evaluated, so algorithms for real numbers work as they are; read a result with
    ``problem.space.decode(x)``, which snaps too. ``F`` is to be minimised and ``G`` at most 0, both always finite: a
    failed evaluation is infeasible, and its cause is logged as a warning. Trainings use the problem's own seed.

    Args:
        problem: space, objectives, constraints and evaluation.
        executor: where stacks are evaluated; one after another by default.
        chunk: most genomes in one stack.
    Example:
        >>> from pymoo.algorithms.moo.nsga2 import NSGA2
        >>> from pymoo.optimize import minimize
        >>> minimize(as_pymoo(problem), NSGA2(pop_size=24), ("n_gen", 8), seed=0)  # doctest: +SKIP
    """
    return EvorecProblem(problem, executor=executor or SerialExecutor(), chunk=chunk)


@final
class EvorecProblem(PymooProblem):  # type: ignore[misc]  # pymoo is untyped
    """What `as_pymoo` returns."""

    def __init__(self, problem: Problem, *, executor: Executor, chunk: int) -> None:
        super().__init__(
            n_var=problem.space.n_var,
            n_obj=len(problem.objectives),
            n_ieq_constr=max(1, len(problem.constraints)),
            xl=problem.space.low,
            xu=problem.space.high,
        )
        self._evorec, self._executor, self._chunk = problem, executor, chunk
        self._known: dict[str, Mapping[str, float] | None] = {}

    def _evaluate(self, X: FloatArray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        problem = self._evorec
        X = problem.space.snap(np.asarray(X, dtype=np.float64))
        keys = [problem.space.key(x) for x in X]
        new = {key: x for key, x in zip(keys, X, strict=True) if key not in self._known}
        names, specs = list(new), [problem.space.decode(x) for x in new.values()]
        for stack in evaluate(problem, specs, seed=problem.seed, executor=self._executor, chunk=self._chunk):
            for position, outcome in stack:
                self._known[names[position]] = outcome.metrics
                if outcome.metrics is None:
                    _logger.warning("%s: genome %s failed: %s", problem.name, names[position], outcome.failure)
        metrics = [self._known[key] for key in keys]
        out["F"], out["G"] = to_matrices(metrics, problem.objectives, problem.constraints)
