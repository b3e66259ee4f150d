"""What the search needs to know about a problem, and what one evaluation gives back."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from evorec.objectives import Constraint, Objective
from evorec.space.space import SearchSpace

Spec = Mapping[str, Any]
"""A decoded genome: active genes by name, plain JSON values."""


@dataclass(frozen=True)
class Outcome:
    """One evaluated spec: metrics, or the cause of failure.

    Attributes:
        metrics: every metric by its name, finite; None when the evaluation failed.
        failure: the cause in one line; None when it succeeded.
        weights: arrays by name, kept for archive members; None when the problem trains nothing.
        seconds: wall time of this evaluation, or its share of the stack it was trained in.
        extra: further facts for the ledger, plain JSON.
    """

    metrics: Mapping[str, float] | None
    failure: str | None = None
    weights: Mapping[str, np.ndarray] | None = None
    seconds: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


class Problem(abc.ABC):
    """A search space, objectives and constraints, and the means to evaluate specs.

    Attributes:
        name: names the run directory.
        space: what a genome encodes.
        objectives: what is optimised, M of them, each the metric it reads.
        constraints: what a member must satisfy; may be empty.
        data_sha256: hash of the data behind the metrics; part of the run's fingerprint.
        seed: seed that the problem's own streams were made with; evaluations use it unless told otherwise.
        environment: what results depend on besides configuration and versions, e.g. the device; plain JSON.
    """

    name: str
    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    data_sha256: str
    seed: int = 0
    environment: Mapping[str, Any] = MappingProxyType({})

    @abc.abstractmethod
    def shape_key(self, spec: Spec) -> Hashable:
        """Specs with equal keys may be evaluated as one stack."""

    @abc.abstractmethod
    def evaluate(self, specs: Sequence[Spec], *, seed: int) -> list[Outcome]:
        """Evaluate one stack; an outcome never depends on who is in the stack beside it.

        Args:
            specs: decoded genomes of one `shape_key`.
            seed: seed of the run; every stream is derived from it by purpose and step (`evorec.seeds`).
        Returns:
            One outcome per spec, in order. A spec that fails by itself (divergence) is a failed outcome; an exception
            means that the stack as a whole could not be evaluated, and the search then splits it.
        """

    @abc.abstractmethod
    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Validation metrics of every baseline, by its name; empty when there are none."""
