"""The problem of a search, and the outcome of an evaluation."""

from __future__ import annotations

import abc
import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from evorec.config import RunConfig, problem_definition
from evorec.errors import ConfigError
from evorec.objectives import Constraint, Objective
from evorec.space.space import SearchSpace

Spec = Mapping[str, Any]
"""A decoded genome: active genes by name, plain JSON values."""
Weights = Mapping[str, np.ndarray]
"""Arrays of a trained model by name."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of an evaluated spec: metrics, or the cause of failure.

    Attributes:
        metrics: every metric by its name, finite; None when the evaluation failed.
        failure: the cause in a line; None when it succeeded.
        weights: arrays by name, kept for archive members; None when the problem trains nothing.
        seconds: wall time of this evaluation, or its share of the stack it was trained in.
        extra: further facts for the ledger, plain JSON.
        energy: joules by source (`evorec.energy`), its share of the stack; the search measures it.
        rung: steps after which it was measured; None at the end of training.
        state: from which `Problem.evaluate` can continue the training after the rung; kept in memory only while the
            generation is trained. None: training starts anew.
    """

    metrics: Mapping[str, float] | None
    failure: str | None = None
    weights: Weights | None = field(default=None, repr=False)
    seconds: float = 0.0
    energy: Mapping[str, float] = field(default_factory=dict, compare=False)
    extra: Mapping[str, Any] = field(default_factory=dict)
    rung: int | None = None
    state: Any = field(default=None, repr=False, compare=False)


class Problem(abc.ABC):
    """A search space, objectives and constraints, and the means to evaluate specs.

    Attributes:
        name: names the run directory.
        space: of the genomes.
        objectives: M objectives, each with the metric that it reads.
        constraints: on members of the archive; may be empty.
        data_sha256: hash of the data behind the metrics; part of the run's fingerprint.
        seed: of the random streams of the problem; evaluations use it by default.
        environment: facts besides configuration and versions that results depend on, e.g. the device; plain JSON.
        rungs: steps at which the members of a generation are compared and the worst of them dropped, rising; without
            any, everything is trained to its end.
        rung_keep: share of the members compared at a rung that go on, in [0.5, 1].
        mixes_shapes: whether specs of different `shape_key` may share a stack.
        inherits: whether training begins with the weights of the nearest genome of earlier generations.
        remarks: sentences that whoever starts the search should read, e.g. what the data do not allow.
        facts: size of the data, e.g. ``users`` and ``items``; memories of earlier searches prefer similar data.
    """

    name: str
    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    data_sha256: str
    seed: int = 0
    environment: Mapping[str, Any] = MappingProxyType({})
    rungs: tuple[int, ...] = ()
    rung_keep: float = 0.5
    mixes_shapes: bool = False
    inherits: bool = False
    remarks: tuple[str, ...] = ()
    facts: Mapping[str, float] = MappingProxyType({})

    def __repr__(self) -> str:
        goals = ", ".join(objective.name for objective in self.objectives)
        return f"{type(self).__name__}({self.name!r}, {len(self.space.genes)} genes, objectives {goals})"

    @abc.abstractmethod
    def shape_key(self, spec: Spec) -> Hashable:
        """Specs with equal keys may be evaluated in a stack, others only if the problem `mixes_shapes`."""

    def stack_key(self, spec: Spec) -> Any:
        """Sort key of specs when stacks mix shapes.

        Specs of similar cost should be neighbours in this order. By default the `shape_key`.
        """
        return self.shape_key(spec)

    @property
    def device_type(self) -> str:
        """``cpu``, unless the environment names another device."""
        return str(self.environment.get("device", "cpu"))

    def inheritance_key(self, spec: Spec) -> Hashable:
        """Specs inherit weights from specs of equal key; by default from all."""
        return None

    @abc.abstractmethod
    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        seed: int,
        rung: int | None = None,
        states: Sequence[Any] | None = None,
        parents: Sequence[Weights | None] | None = None,
    ) -> list[Outcome]:
        """Evaluate a stack; an outcome is independent of the other members of the stack.

        It is also independent of interruptions: values measured at a rung, or at the end, are the same whether training
        continues from `states` or starts anew.

        Args:
            specs: decoded genomes that may share a stack (`shape_key`, `mixes_shapes`).
            seed: seed of the run; every stream is derived from it by purpose and step (`evorec.seeds`).
            rung: train up to ``rungs[rung]`` steps and measure there; None trains to the end.
            states: `Outcome.state` at an earlier rung, of each spec; None starts anew.
                A problem without rungs is never given `rung` or `states` and may do without these arguments.
            parents: weights (`Outcome.weights`) that the training of each spec begins with; None starts from scratch.
                A problem that does not inherit is never given `parents` and may do without it.
        Returns:
            An outcome per spec, in order. A spec that fails by itself (divergence) is a failed outcome; an exception
            means that the stack as a whole could not be evaluated, and the search then splits it.
        """

    def known_metrics(self, spec: Spec) -> Mapping[str, float]:
        """Metrics of a spec that are known exactly without an evaluation, e.g. a counted cost; by default none."""
        return {}

    def with_seed(self, seed: int) -> Self:
        """The same problem for evaluations with another seed; data, users and objectives stay as they are."""
        other = copy.copy(self)
        other.seed = seed
        return other

    def check_first_start(self) -> None:  # noqa: B027
        """Refuse what is checked once, before the first start of a search; by default nothing.

        Raises:
            ConfigError, DataError: lists every reason.
        """

    def first_specs(self) -> Sequence[Spec]:
        """Values of some genes of genomes that the first generation begins with, as in ``search.start``; by default
        none. They are stored with the run and read from there when it goes on.
        """
        return ()

    @abc.abstractmethod
    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Validation metrics of every baseline, by its name; empty when there are none."""

    def baseline_facts(self) -> Mapping[str, Any]:
        """What else a run stores of the baselines, plain JSON; by default nothing.

        ``baseline_settings``: those that were chosen, by baseline. ``skipped_baselines``: why a baseline is missing, in
        words that follow its name.
        """
        return {}


def load_problem(config: RunConfig) -> Problem:
    """The problem that a configuration names, built; reads its data.

    Raises:
        ConfigError: the problem is unknown, or cannot be built.
    """
    definition = problem_definition(config.problem)
    problem = definition.build(config)
    if not isinstance(problem, Problem):
        raise ConfigError(f"problem {config.problem!r}: build must return an evorec.Problem, got {problem!r}.")
    return problem
