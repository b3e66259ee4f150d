"""Objectives and constraints of genomes for algorithms that bring their own loop: each genome evaluated once."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import final

import numpy as np

from evorec.objectives import FloatArray, to_matrices
from evorec.problem import Outcome, Problem
from evorec.search.evaluator import evaluate
from evorec.search.executors import Executor

_logger = logging.getLogger(__name__)


@final
class GenomeValues:
    """Evaluates genomes in stacks, with the problem's own seed, and caches the metrics.

    Args:
        problem: space, objectives, constraints and evaluation.
        executor: evaluates the stacks.
        chunk: most genomes in a stack.
    """

    def __init__(self, problem: Problem, *, executor: Executor, chunk: int) -> None:
        self._problem, self._executor, self._chunk = problem, executor, chunk
        self._known: dict[str, Outcome] = {}

    def matrices(self, X: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``F (N, M)`` to be minimised and ``G (N, max(C, 1))``, at most 0 is feasible, of genomes ``X (N, V)``.

        Rows are snapped first. Both are finite: a failed evaluation is infeasible; its cause is logged as a warning.
        """
        problem = self._problem
        X = problem.space.snap(np.asarray(X, dtype=np.float64))
        keys = [problem.space.key(x) for x in X]
        new = {key: x for key, x in zip(keys, X, strict=True) if key not in self._known}
        names, specs = list(new), [problem.space.decode(x) for x in new.values()]
        for stack in evaluate(problem, specs, seed=problem.seed, executor=self._executor, chunk=self._chunk):
            for position, outcome in stack:
                self._known[names[position]] = replace(outcome, weights=None, state=None)
                if outcome.metrics is None:
                    _logger.warning("%s: genome %s failed: %s", problem.name, names[position], outcome.failure)
        return to_matrices([self._known[key].metrics for key in keys], problem.objectives, problem.constraints)

    def failure(self, x: FloatArray) -> str | None:
        """The cause why the evaluation of a snapped row ``(V,)`` of `matrices` failed; None when it succeeded."""
        return self._known[self._problem.space.key(x)].failure
