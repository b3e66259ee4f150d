"""The landscape of `problems.analytic` as a test needs it: it fails on demand, is slow on demand, and keeps a diary.

Genes, formulas, objectives and box are those of the problem; what a problem must not have is here: faults, delays,
weights to store, and the record of what was evaluated together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, final

import numpy as np

from evorec.errors import TrainingError
from evorec.objectives import Constraint
from evorec.problem import Outcome, Problem, Spec
from evorec.seeds import generator
from evorec.space.space import SearchSpace
from problems import analytic
from problems.analytic import BEST, GENES, OBJECTIVES

__all__ = ["BEST", "GENES", "Analytic"]

Fault = Callable[[Spec], str | None]
"""Names what goes wrong with a spec: ``raise``, ``memory``, ``nan``, ``inf``, ``missing`` or ``diverge``; else None."""


@final
class Analytic(Problem):
    """The problem; it records how often each spec was evaluated, and in which stacks."""

    name = "analytic"
    data_sha256 = "0" * 64

    def __init__(
        self,
        *,
        genes: Sequence[Any] = GENES,
        constraints: Sequence[Constraint] = (),
        fault: Fault = lambda spec: None,
        delay_s: float = 0.0,
    ) -> None:
        """`fault` says which specs go wrong and how; `delay_s` is slept per stack."""
        self.space = SearchSpace(tuple(genes))
        self.objectives = (OBJECTIVES["quality"], OBJECTIVES["cost"])
        self.constraints = tuple(constraints)
        self.stacks: list[list[dict[str, Any]]] = []
        self._fault, self._delay_s = fault, delay_s

    def shape_key(self, spec: Spec) -> Hashable:
        return spec.get("method")

    def evaluate(self, specs: Sequence[Spec], *, seed: int) -> list[Outcome]:
        self.stacks.append([dict(spec) for spec in specs])
        time.sleep(self._delay_s)
        for spec in specs:
            fault = self._fault(spec)
            if fault == "raise":
                raise ValueError("the spec is cursed")
            if fault == "memory":
                raise MemoryError("too large")
        return [self._outcome(spec, seed) for spec in specs]

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        return {"trivial": {"quality": 0.0, "cost": 1.0}}

    def _outcome(self, spec: Spec, seed: int) -> Outcome:
        fault = self._fault(spec)
        if fault == "diverge":
            return Outcome(metrics=None, failure=str(TrainingError("the loss is not finite")))
        found = analytic.measured(spec)
        metrics = {name: found[name] for name in ("quality", "cost")}
        if fault in ("nan", "inf"):
            metrics["quality"] = float(fault)
        if fault == "missing":
            del metrics["cost"]
        weights = generator(seed, "weights").normal(size=64).astype(np.float32) * np.float32(spec["effort"])
        return Outcome(metrics=metrics, weights={"w": weights}, extra={"n_parameters": 64})

    @property
    def evaluated(self) -> list[dict[str, Any]]:
        """Every spec that was evaluated, in order, once per evaluation."""
        return [spec for stack in self.stacks for spec in stack]
