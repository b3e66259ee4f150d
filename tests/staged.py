"""The analytic problem as something that is trained: values that come closer to their end with every step.

Step by step ``value += speed * (target - value)`` in float64, with the analytic quality as target and a speed that
depends on the genome, so that the order at a rung is not the order at the end. Cost counts the steps done, and a
step takes a second on its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from analytic import Analytic

from evorec.problem import Outcome, Problem, Spec

STEPS = 60
START = -3.0

Fault = Callable[[Spec, int], str | None]
"""Names what goes wrong with a spec that is trained to that many steps: ``raise``, ``memory`` or ``diverge``."""


class Call(NamedTuple):
    """One call of `Staged.evaluate`: where it began, where it ended, and whom it trained."""

    first: int
    last: int
    specs: list[dict[str, Any]]


@final
class Staged(Problem):
    """The problem; it records its calls."""

    name = "analytic"
    data_sha256 = Analytic.data_sha256

    def __init__(
        self,
        rungs: Sequence[int] = (),
        *,
        keep: float = 0.5,
        fault: Fault = lambda spec, steps: None,
        resumes: bool = True,
        **facts: Any,
    ) -> None:
        """`fault` says what goes wrong; without `resumes` it gives no states; `facts` are those of `Analytic`."""
        analytic = Analytic(**facts)
        self.space, self.objectives, self.constraints = analytic.space, analytic.objectives, analytic.constraints
        self.rungs, self.rung_keep = tuple(rungs), keep
        self.calls: list[Call] = []
        self._fault, self._resumes, self._analytic = fault, resumes, analytic

    def shape_key(self, spec: Spec) -> Hashable:
        return str(spec.get("method"))

    def evaluate(
        self, specs: Sequence[Spec], *, seed: int, rung: int | None = None, states: Sequence[Any] | None = None
    ) -> list[Outcome]:
        last = STEPS if rung is None else self.rungs[rung]
        first = 0 if states is None else states[0]["steps"]
        self.calls.append(Call(first, last, [dict(spec) for spec in specs]))
        faults = [self._fault(spec, last) for spec in specs]
        if "raise" in faults:
            raise ValueError("the spec is cursed")
        if "memory" in faults:
            raise MemoryError("too large")
        outcomes = []
        for position, (spec, end) in enumerate(zip(specs, self._analytic.evaluate(specs, seed=seed), strict=True)):
            if faults[position] == "diverge":
                outcomes.append(Outcome(None, f"diverged before step {last}"))
                continue
            assert end.metrics is not None
            value = START if states is None else states[position]["value"]
            for _ in range(first, last):
                value += (0.02 + 0.05 * spec["effort"]) * (end.metrics["quality"] - value)
            metrics = {"quality": value, "cost": 1.0 + (end.metrics["cost"] - 1.0) * last / STEPS}
            state = {"steps": last, "value": value} if rung is not None and self._resumes else None
            weights = None if rung is not None else {"w": np.full(4, value)}
            reached = None if rung is None else last
            seconds = float(last - first)
            outcomes.append(
                Outcome(metrics, weights=weights, rung=reached, state=state, seconds=seconds, extra={"n": 1})
            )
        return outcomes

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        return self._analytic.baselines()

    @property
    def n_steps(self) -> int:
        """Steps trained, all members together."""
        return sum((call.last - call.first) * len(call.specs) for call in self.calls)
