"""A problem of a millisecond with every kind of gene and a front that is known in closed form.

With ``t`` the gene ``effort`` and ``p >= 0`` the distance of all other genes from their best values, it measures

    quality = t - p    (to maximise)        cost = 1 + t ** 2 + p    (to minimise)

so exactly the genomes with ``p = 0`` are efficient, and the front is ``cost = 1 + quality ** 2``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, final

import numpy as np

from evorec.errors import TrainingError
from evorec.objectives import Constraint, Objective
from evorec.problem import Outcome, Problem, Spec
from evorec.seeds import generator
from evorec.space.genes import Boolean, Categorical, Conditional, Integer, Real, Simplex
from evorec.space.space import SearchSpace

BEST = {"method": "tree", "depth": 3, "bias": True, "weights": (1.5, 0.5), "rate": 0.01}

GENES = (
    Real("effort", 0.0, 1.0, default=0.5),
    Real("rate", 1e-4, 1.0, default=0.1, scale="log"),
    Categorical("method", ("line", "tree", "net"), "line"),
    Conditional(Integer("depth", 1, 8, default=2), parent="method", values=("tree", "net")),
    Boolean("bias", False),
    Simplex("weights", ("click", "like")),
)

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
        self.objectives = (
            Objective("quality", "quality", "max", "", ideal=1.0, worst=-3.0),
            Objective("cost", "cost", "min", "", ideal=1.0, worst=5.0),
        )
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
        penalty = distance(spec)
        metrics = {"quality": spec["effort"] - penalty, "cost": 1.0 + spec["effort"] ** 2 + penalty}
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


def distance(spec: Spec) -> float:
    """Penalty of a spec: 0 for the best method, depth, bias, weights and rate."""
    penalty = 0.0 if spec.get("method", "tree") == BEST["method"] else 0.4
    penalty += 0.05 * abs(spec.get("depth", BEST["depth"]) - BEST["depth"])
    penalty += 0.0 if spec.get("bias", True) == BEST["bias"] else 0.2
    penalty += 0.2 * abs(spec.get("weights", BEST["weights"])[0] - BEST["weights"][0])
    return penalty + 0.1 * abs(float(np.log10(spec.get("rate", BEST["rate"]) / BEST["rate"])))
