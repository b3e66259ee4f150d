"""A problem around another problem, for experiments that count or store evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evorec.problem import Problem, Spec


class ProblemWrapper(Problem):
    """Has all attributes of the inner problem except `evaluate` and, unless a subclass sets them, the rungs."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.name, self.space, self.seed = problem.name, problem.space, problem.seed
        self.objectives, self.constraints = problem.objectives, problem.constraints
        self.data_sha256, self.mixes_shapes = problem.data_sha256, problem.mixes_shapes

    def shape_key(self, spec: Spec) -> Any:
        """See `Problem`; of the inner problem."""
        return self._problem.shape_key(spec)

    def stack_key(self, spec: Spec) -> Any:
        """See `Problem`; of the inner problem."""
        return self._problem.stack_key(spec)

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """See `Problem`; of the inner problem."""
        return self._problem.baselines()

    def known_metrics(self, spec: Spec) -> Mapping[str, float]:
        """See `Problem`; of the inner problem."""
        return self._problem.known_metrics(spec)
