"""A landscape whose best trade-offs are known: does the search find them, and how soon?

For tests and for teaching. An evaluation takes microseconds and trains nothing; the genes are of every kind: real on a
linear and on a logarithmic scale, integer, categorical, Boolean, weights on a simplex, and a gene that is active only
for two of three methods. Objectives are quality and cost, or click, like and cost
(``objectives = ["click", "like", "cost"]``).

With the effort ``t`` in [0, 1], the share ``s`` of the weight on click and the penalty ``p >= 0``, which is 0 exactly
for the method tree of depth 3 with bias and rate 0.01, an evaluation measures ``quality = t - p - 0.4 |s - 3/4|``,
``click = t s - p`` and ``like = t (1 - s) - p``, all to maximise, and ``cost = 1 + t ** 2 + p``, to minimise.

Two objectives: quality is at most t, so the front is ``cost = 1 + quality ** 2`` for quality in [0, 1], reached with
``p = 0`` and ``s = 3/4``. In the box from (0, 2) to (1, 1) it dominates, at every quality q, the costs from
``1 + q ** 2`` to 2: the integral of ``1 - q ** 2`` over [0, 1], which is 2/3.

Three objectives: ``click + like`` is at most t, so the front is ``cost = 1 + (click + like) ** 2`` over the triangle
``click + like <= 1``. In the box from (0, 0, 2) to (1, 1, 1) it dominates the integral of ``1 - (click + like) ** 2``
over that triangle. Lines of equal sum u are of measure u du there, so it is the integral of ``u (1 - u ** 2)`` over
[0, 1], which is 1/4.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np
from pydantic import Field

from evorec.config import Box, RunConfig, parse_config
from evorec.errors import ConfigError
from evorec.objectives import FloatArray, Objective
from evorec.problem import Outcome, Problem, Spec
from evorec.space.genes import Boolean, Categorical, Integer, Real, Simplex, When
from evorec.space.space import SearchSpace

DEFAULTS: Mapping[str, Any] = {
    "problem": "analytic",
    "objectives": ("quality", "cost"),
    "search": {"population": 24, "generations": 40},
    "run": {"executor": "serial"},
}
"""Settings of this problem, below a configuration file and above the field defaults."""
FORMULAS: Final = "evorec analytic 1"
"""Replaces the data in the fingerprint of a run; the number changes with the formulas."""

BEST: Final[Mapping[str, Any]] = {"method": "tree", "depth": 3, "bias": True, "weights": (1.5, 0.5), "rate": 0.01}
"""Values without penalty; with any effort they are on the front of quality and cost."""
GENES: Final = (
    Real("effort", 0.0, 1.0, default=0.5, text="buys quality, at a price that grows with its square"),
    Real("rate", 1e-4, 1.0, default=0.1, scale="log", text="best at 0.01"),
    Categorical("method", ("line", "tree", "net"), "line", text="best is tree"),
    Integer("depth", 1, 8, default=2, text="best at 3; a line has none", condition=When("method", ("tree", "net"))),
    Boolean("bias", False, text="best on"),
    Simplex("weights", ("click", "like"), text="3 to 1 is best for quality"),
)
OBJECTIVES: Final[Mapping[str, Objective]] = {
    "quality": Objective("quality", "quality", "max", "", ideal=1.0, worst=0.0),
    "click": Objective("click", "click", "max", "", ideal=1.0, worst=0.0),
    "like": Objective("like", "like", "max", "", ideal=1.0, worst=0.0),
    "cost": Objective("cost", "cost", "min", "", ideal=1.0, worst=2.0),
}
KNOWN_HYPERVOLUME: Final[Mapping[frozenset[str], float]] = {
    frozenset({"quality", "cost"}): 2 / 3,
    frozenset({"click", "like", "cost"}): 1 / 4,
}
"""Share of the box that the front of a set of objectives dominates; the module's docstring derives it."""


def penalty(spec: Spec) -> float:
    """How far method, depth, bias and rate are from their best values: p >= 0, and 0 for `BEST`."""
    p = 0.0 if spec.get("method", BEST["method"]) == BEST["method"] else 0.4
    p += 0.05 * abs(int(spec.get("depth", BEST["depth"])) - int(BEST["depth"]))
    p += 0.0 if spec.get("bias", BEST["bias"]) == BEST["bias"] else 0.2
    return p + 0.1 * abs(math.log10(float(spec.get("rate", BEST["rate"])) / float(BEST["rate"])))


def measured(spec: Spec) -> dict[str, float]:
    """All metrics of a spec, by name; a gene that is fixed away counts as its best value."""
    t, p = float(spec["effort"]), penalty(spec)
    weights = spec.get("weights", BEST["weights"])
    s, best = weights[0] / sum(weights), BEST["weights"][0] / sum(BEST["weights"])
    return {
        "quality": t - p - 0.4 * abs(s - best),
        "click": t * s - p,
        "like": t * (1 - s) - p,
        "cost": 1.0 + t**2 + p,
    }


def known_front(objectives: Sequence[str], n: int) -> FloatArray:
    """Points of the front, evenly spread over effort and, with three objectives, over the share of click.

    Args:
        objectives: a set of `KNOWN_HYPERVOLUME`, in any order.
        n: number of points, at least; a square number of them with three objectives.
    Returns:
        float64 ``(N, M)`` in natural units, columns as in `objectives`.
    Raises:
        ConfigError: no front of these is known.
    Example:
        >>> known_front(["quality", "cost"], 3).tolist()
        [[0.0, 1.0], [0.5, 1.25], [1.0, 2.0]]
    """
    _check_objectives(objectives)
    if "quality" in objectives:
        t = np.linspace(0.0, 1.0, n)
        columns = {"quality": t, "cost": 1 + t**2}
    else:
        side = np.linspace(0.0, 1.0, math.ceil(math.sqrt(n)))
        t, s = (axis.ravel() for axis in np.meshgrid(side, side))
        columns = {"click": t * s, "like": t * (1 - s), "cost": 1 + t**2}
    front: FloatArray = np.stack([columns[name] for name in objectives], axis=1)
    return front


def known_hypervolume(objectives: Sequence[str]) -> float:
    """Share of the box that the front dominates, exactly.

    The genes have a grid, so a search comes close to it and not quite there: by the grid of the effort alone, 0.0005 is
    left of two objectives' 2/3.

    Args:
        objectives: a set of `KNOWN_HYPERVOLUME`, in any order.
    Raises:
        ConfigError: no front of these is known.
    Example:
        >>> known_hypervolume(["click", "like", "cost"])
        0.25
    """
    _check_objectives(objectives)
    return KNOWN_HYPERVOLUME[frozenset(objectives)]


def _check_objectives(objectives: Sequence[str]) -> None:
    if frozenset(objectives) not in KNOWN_HYPERVOLUME or len(set(objectives)) != len(objectives):
        known = " or ".join(", ".join(sorted(names)) for names in KNOWN_HYPERVOLUME)
        raise ConfigError(f"objectives of problem analytic must be {known}, got {', '.join(objectives) or 'none'}.")


class AnalyticConfig(RunConfig):
    """Settings of this problem; its box is fixed, so that hypervolumes can be compared."""

    objectives: tuple[str, ...] = ("quality", "cost")
    """metrics to optimise: quality and cost, or click, like and cost"""
    constraints: tuple[str, ...] = Field((), max_length=0)
    """this problem has none"""
    box: dict[str, Box] = Field({}, max_length=0)
    """this problem has a fixed box"""


CONFIG = AnalyticConfig
"""Class of the configuration of this problem."""


@final
class Analytic(Problem):
    """The landscape as a problem.

    Args:
        config: its `objectives` and `space`, and the seed of its search.
    Raises:
        ConfigError: lists wrong genes or objectives.
    """

    def __init__(self, config: AnalyticConfig) -> None:
        _check_objectives(config.objectives)
        self.name = config.problem_name
        self.space = SearchSpace(GENES).with_overrides(config.space)
        self.objectives = tuple(OBJECTIVES[name] for name in config.objectives)
        self.constraints = ()
        self.seed = config.search.seed
        self.data_sha256 = hashlib.sha256(FORMULAS.encode()).hexdigest()

    def shape_key(self, spec: Spec) -> Hashable:
        """All specs may be evaluated at once."""
        return ()

    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        seed: int,
        rung: int | None = None,
        states: Sequence[Any] | None = None,
        **_: Any,
    ) -> list[Outcome]:
        """Compute the formulas, without noise or rungs."""
        return [Outcome(measured(spec)) for spec in specs]

    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """The default genome: the result without a search."""
        return {"default": measured(self.space.decode(self.space.default()))}


def build(config: AnalyticConfig | None = None) -> Analytic:
    """The problem, with two objectives unless `config` names three."""
    return Analytic(config or parse_config(DEFAULTS, source="problems.analytic", kind=AnalyticConfig))
