"""Search algorithms: the ask/tell interface, the registry, and the adapter for algorithms of pymoo.

An algorithm in a file of your own registers a function that builds it:

    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.util.ref_dirs import get_reference_directions

    from evorec.search.algorithm import AlgorithmContext, Options, register_algorithm

    class NSGA3Options(Options):
        partitions: int = 4

    @register_algorithm("my_nsga3", options=NSGA3Options)
    def my_nsga3(context: AlgorithmContext) -> NSGA3:
        directions = get_reference_directions(
            "das-dennis", len(context.objectives), n_partitions=context.options.partitions
        )
        return NSGA3(directions, **context.operators())

A configuration then says ``search.algorithm = "my_nsga3"`` and ``search.options = {partitions = 6}``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias, TypeVar, final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from pymoo.core.algorithm import Algorithm
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.termination.max_gen import MaximumGenerationTermination

from evorec.config import SearchConfig
from evorec.errors import ConfigError
from evorec.objectives import FAILED_VIOLATION, Constraint, FloatArray, Objective, to_matrices
from evorec.registry import Registry
from evorec.search.start import start_genomes
from evorec.seeds import child_seed, generator
from evorec.space.operators import TypedCrossover, TypedMutation
from evorec.space.space import SearchSpace

Builder = TypeVar("Builder", bound="Callable[[AlgorithmContext], Any]")
DRAWS_PER_GENOME = 50
"""How often random genomes are drawn again for known ones before a generation stays short."""


class AskTell(Protocol):
    """A search algorithm: it proposes genomes and learns their values.

    It must be deterministic given its seed, because a resumed search repeats all calls and takes the values from the
    ledger. (Of pymoo 0.6.2, CMOPSO draws from an unseeded generator: such a run cannot be resumed.)
    """

    def ask(self) -> FloatArray:
        """The next generation, float64 ``(P, V)``; no rows end the search.

        The search snaps the rows. Rows that were evaluated before are answered without a second evaluation.
        """
        ...

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """Values of the last generation.

        Args:
            X: snapped genomes ``(N, V)`` in the order of asking, without those that were dropped at a rung.
            F: objectives to minimise, float64 ``(N, M)``, finite.
            G: constraints, float64 ``(N, max(C, 1))``, finite; at most 0 is feasible. A failed evaluation is
                infeasible and has the worst value of every objective.
        """
        ...


class Options(BaseModel):
    """Base of an algorithm's own settings, the table ``search.options``; this base has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@final
@dataclass(frozen=True)
class AlgorithmContext:
    """Everything that an algorithm may use.

    Attributes:
        space: the space of the genomes.
        objectives: M objectives with their boxes.
        constraints: C constraints, which may be none.
        config: population, generations, seed and the settings of the built-in algorithms.
        options: the algorithm's own settings, validated.
        evaluated: keys (`SearchSpace.key`) of all genomes evaluated so far; the search keeps it up to date.
        known_metrics: metrics of a spec that are known without an evaluation (`Problem.known_metrics`).
        first: of the problem (`Problem.first_specs`).
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    config: SearchConfig
    options: Any
    evaluated: Container[str]
    known_metrics: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda spec: {}
    first: tuple[Mapping[str, Any], ...] = ()

    def known_points(self, X: FloatArray) -> FloatArray:
        """Box coordinates that are known without an evaluation, ``(N, M)``; NaN where unknown."""
        rows = [self.known_metrics(self.space.decode(x)) for x in X]
        columns = [o.normalised([row.get(o.metric, math.nan) for row in rows]) for o in self.objectives]
        return np.array(columns, dtype=np.float64).reshape(len(self.objectives), len(X)).T

    @cached_property
    def start(self) -> FloatArray:
        """The different genomes of ``search.start`` and of the problem, snapped ``(N, V)``."""
        return start_genomes(self.space, (*self.config.start, *self.first))

    def first_generation(self) -> FloatArray:
        """The N genomes of `start`, the default genome and P random ones, ``(N + 1 + P, V)``.

        An algorithm takes the first P different rows.
        """
        sampled = self.space.sample(generator(self.config.seed, "first generation"), self.config.population)
        return np.vstack([self.start, self.space.default(), sampled])

    def new_genomes(self, rng: np.random.Generator, n: int, *, besides: Container[str] = ()) -> FloatArray:
        """Different random genomes that were not evaluated yet, snapped ``(n, V)``.

        Args:
            rng: source of randomness.
            n: number of rows; fewer are returned if the space has hardly any new genomes left.
            besides: keys of further genomes to avoid.
        """
        found: dict[str, FloatArray] = {}
        for _ in range(DRAWS_PER_GENOME):
            for x in self.space.snap(self.space.sample(rng, n)):
                key = self.space.key(x)
                if len(found) < n and key not in self.evaluated and key not in besides:
                    found.setdefault(key, x)
            if len(found) == n:
                break
        return np.array(list(found.values())).reshape(len(found), self.space.n_var)

    def operators(self) -> dict[str, Any]:
        """Arguments of a genetic algorithm of pymoo: the first generation, the typed operators, no genome twice."""
        return {
            "sampling": self.first_generation(),
            "crossover": TypedCrossover(self.space),
            "mutation": TypedMutation(self.space),
            "eliminate_duplicates": EvaluatedElimination(self.space, self.evaluated),
        }


AlgorithmLike: TypeAlias = str | AskTell | Algorithm | Callable[[AlgorithmContext], Any]
"""Types that `create_algorithm` accepts."""


@final
@dataclass(frozen=True)
class AlgorithmEntry:
    """A registered algorithm.

    Attributes:
        build: makes it for a search; returns an `AskTell` or an algorithm of pymoo.
        options: model of its own settings.
        reads_budget: whether its proposals depend on the number of generations, as those of RVEA do; a search with it
            cannot be extended.
        takes_any: whether it may be told rows that it did not propose; only then a surrogate chooses its offspring.
        asks_ahead: whether it may be asked again before it was told its last proposals, and told any rows of several
            proposals together; only then it suits ``search.mode = "steady"``.
    """

    build: Callable[[AlgorithmContext], Any]
    options: type[Options]
    reads_budget: bool = False
    takes_any: bool = False
    asks_ahead: bool = False


ALGORITHMS: Registry[AlgorithmEntry] = Registry(
    "algorithm", package="evorec.search.algorithms", group="evorec.algorithms"
)
"""Search algorithms by the name that ``search.algorithm`` gives them."""


def register_algorithm(
    name: str,
    *,
    options: type[Options] = Options,
    reads_budget: bool = False,
    takes_any: bool = False,
    asks_ahead: bool = False,
) -> Callable[[Builder], Builder]:
    """Decorator of the function that builds an algorithm; see `AlgorithmEntry`."""

    def register(build: Builder) -> Builder:
        ALGORITHMS.register(name, AlgorithmEntry(build, options, reads_budget, takes_any, asks_ahead))
        return build

    return register


def check_algorithm(name: str, options: Mapping[str, Any]) -> Options:
    """The options of a registered algorithm, validated.

    Args:
        name: ``search.algorithm``.
        options: ``search.options``.
    Raises:
        ConfigError: no algorithm has this name, or it refuses the options.
    """
    model = ALGORITHMS[name].options
    try:
        return model.model_validate(options)
    except ValidationError as error:
        known = ", ".join(model.model_fields) or "none"
        problems = [
            f"search.options.{'.'.join(map(str, found['loc']))}: {found['msg']}, got {found['input']!r}; options of "
            f"{name}: {known}."
            for found in error.errors(include_url=False)
        ]
        raise ConfigError("\n".join(problems)) from None


def has_surrogate(algorithm: AlgorithmLike, config: SearchConfig) -> bool:
    """Whether a surrogate chooses the offspring of an algorithm; it must be registered and take any row."""
    return config.surrogate == "gp" and isinstance(algorithm, str) and ALGORITHMS[algorithm].takes_any


def create_algorithm(algorithm: AlgorithmLike, context: AlgorithmContext) -> AskTell:
    """An algorithm that is ready for a search.

    Args:
        algorithm: registered name, function that builds an algorithm from a context, ask/tell object, or algorithm of
            pymoo that was not used yet; the last is copied.
        context: given to the function that builds a registered algorithm.
    Raises:
        ConfigError: the name is unknown, or the algorithm does not suit the problem.
    """
    if isinstance(algorithm, str):
        algorithm = ALGORITHMS[algorithm].build
    if isinstance(algorithm, Algorithm):
        return PymooAlgorithm(copy.deepcopy(algorithm), context)
    built: Any = algorithm(context) if callable(algorithm) else algorithm
    return PymooAlgorithm(built, context) if isinstance(built, Algorithm) else built


@final
class FirstRows:
    """An algorithm of which only the first rows of a proposal are evaluated.

    Attributes:
        n: rows; 0 = all.
    """

    def __init__(self, inner: AskTell) -> None:
        self._inner, self.n = inner, 0

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        return self._inner.ask()[: self.n or None]

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """See `AskTell.tell`."""
        self._inner.tell(X, F, G)


class _ToldValues(PymooProblem):  # type: ignore[misc]  # pymoo is untyped
    """The problem of an algorithm of pymoo; it returns the values passed to `PymooAlgorithm.tell`."""

    values: tuple[FloatArray, FloatArray] | None = None

    def _evaluate(self, X: FloatArray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        if self.values is None:
            raise ConfigError(
                "an algorithm of pymoo evaluates genomes by itself, without ask and tell; run it with "
                "pymoo.optimize.minimize on evorec.as_pymoo(problem)."
            )
        out["F"], out["G"] = self.values


@final
class PymooAlgorithm:
    """An algorithm of pymoo as an `AskTell`.

    By default, every proposal gets values. A genome that was dropped at a rung gets the worst value of every objective
    and violates every constraint, like a failed evaluation. Algorithms that compare each offspring with its own parent,
    as differential evolution and particle swarms do, need the whole batch.

    Attributes:
        fills: see `__init__`.
    """

    def __init__(
        self, algorithm: Algorithm, context: AlgorithmContext, *, n_objectives: int | None = None, fills: bool = False
    ) -> None:
        """Set the algorithm up.

        Args:
            algorithm: not set up yet; without a seed it gets that of the search. The search decides when it ends.
            context: space, constraints and budget.
            n_objectives: columns of ``F``; ``None`` = the objectives of the context.
            fills: for genetic algorithms whose survival takes any number of offspring. Where mating finds too few new
                genomes, random ones fill the generation; genomes dropped at a rung are left out; and a failed
                evaluation violates a constraint even if the problem has none.
        Raises:
            ConfigError: it was used before, or does not suit the problem, e.g. because it cannot handle constraints.
        """
        name, config = type(algorithm).__name__, context.config
        if algorithm.problem is not None:
            raise ConfigError(f"algorithm {name} was set up before; pass a new object.")
        self._context, self.fills = context, fills
        seed = algorithm.seed if algorithm.seed is not None else child_seed(config.seed, "algorithm of pymoo")
        self._rng = generator(seed, "genomes beside the offspring")
        # A failed evaluation has the worst corner of every objective, but a trained genome can be worse than the corner
        # in an objective: without a constraint to violate, the failed genome would then be non-dominated, survive and
        # mate. Algorithms that are passed in may refuse constraints, so the column is added for our own only.
        n_constraints = max(1, len(context.constraints)) if fills else len(context.constraints)
        self._problem = _ToldValues(
            n_var=context.space.n_var,
            n_obj=n_objectives or len(context.objectives),
            n_ieq_constr=n_constraints,
            xl=context.space.low,
            xu=context.space.high,
        )
        size = getattr(algorithm, "n_offsprings", None) or getattr(algorithm, "pop_size", None) or 1
        termination = MaximumGenerationTermination(math.ceil(config.generations * config.population / size))
        try:
            self._algorithm = algorithm.setup(self._problem, termination=termination, seed=seed)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"algorithm {name} of pymoo does not suit this problem with {len(context.objectives)} objectives and "
                f"{len(context.constraints)} constraints: {error} Change the problem or choose another algorithm."
            ) from error
        self._infills: Any = None

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        space = self._context.space
        infills = self._algorithm.ask()
        self._single = isinstance(infills, Individual)  # MOEA/D proposes a single genome at a time
        self._infills = Population.new() if infills is None else Population.create(infills) if self._single else infills
        if self.fills:
            self._infills = self._infills[: self._algorithm.pop_size]
        X = np.empty((0, space.n_var))
        if len(self._infills):
            X = space.snap(self._infills.get("X").astype(np.float64))
            self._infills.set("X", X)
        if self.fills and (missing := self._algorithm.pop_size - len(X)) > 0:
            more = self._context.new_genomes(self._rng, missing, besides={space.key(x) for x in X})
            self._infills = Population.merge(self._infills, Population.new("X", more))
            X = np.vstack([X, more])
        return X

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """See `AskTell.tell`."""
        infills, G = self._infills, G[:, : self._problem.n_ieq_constr]
        if self.fills:
            infills = Population.new("X", X)  # also genomes that a surrogate proposed
        else:
            told = {x.tobytes() for x in X}
            kept = np.array([x.tobytes() in told for x in infills.get("X")])
            told_F, told_G = F, G
            F, _ = to_matrices([None] * len(kept), self._context.objectives, ())
            G = np.full((len(kept), told_G.shape[1]), FAILED_VIOLATION)
            F[kept], G[kept] = told_F, told_G
        self._problem.values = F, G
        self._algorithm.evaluator.eval(self._problem, infills, skip_already_evaluated=False)
        self._problem.values = None
        self._algorithm.tell(infills=infills[0] if self._single else infills)


@final
class EvaluatedElimination(DuplicateElimination):  # type: ignore[misc]  # pymoo is untyped
    """Drops genomes that were ever evaluated; pymoo's own elimination looks at the current population only."""

    def __init__(self, space: SearchSpace, evaluated: Container[str]) -> None:
        super().__init__()
        self._space, self._evaluated = space, evaluated

    def _do(self, pop: Any, other: Any, is_duplicate: Any) -> Any:
        """Mark the repeats in `pop`: of itself if `other` is None, else of `other`."""
        seen = set() if other is None else {self._space.key(individual.X) for individual in other}
        for i, individual in enumerate(pop):
            key = self._space.key(individual.X)
            is_duplicate[i] = key in seen or key in self._evaluated
            if other is None:
                seen.add(key)
        return is_duplicate
