"""A problem around another one, for experiments that count or remember what a search asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evorec.problem import Problem, Spec


class Wrapped(Problem):
    """Everything as the inner problem has it, but for `evaluate` and, unless a subclass says otherwise, the rungs."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.name, self.space, self.seed = problem.name, problem.space, problem.seed
        self.objectives, self.constraints = problem.objectives, problem.constraints
        self.data_sha256, self.mixes_shapes = problem.data_sha256, problem.mixes_shapes

    def shape_key(self, spec: Spec) -> Any:
        """As the inner problem's."""
        return self._problem.shape_key(spec)

    def stack_key(self, spec: Spec) -> Any:
        """As the inner problem's."""
        return self._problem.stack_key(spec)

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """As the inner problem's."""
        return self._problem.baselines()
