"""The adapter for DEAP: a toolbox for DEAP's own loops and for loops of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, final

import numpy as np
from deap import base, tools

from evorec.objectives import FloatArray
from evorec.problem import Problem
from evorec.search.executors import Executor, SerialExecutor
from evorec.search.values import GenomeValues
from evorec.seeds import generator
from evorec.space.operators import mutated, recombined


def as_deap(problem: Problem, *, seed: int, executor: Executor | None = None, chunk: int = 8) -> base.Toolbox:
    """A DEAP `Toolbox` whose ``map`` evaluates a generation at a time, in stacks, each genome once.

    ``individual()`` is a random genome and ``population(n)`` a list of different genomes, the problem's default first:
    lists of numbers with a ``fitness``. ``mate`` and ``mutate`` are evorec's typed operators and work in place, as in
    DEAP. ``map(evaluate, individuals)`` trains all of them in stacks; ``evaluate(individual)`` trains a single genome.
    ``select`` is ``selNSGA2``, and ``decode(individual)`` gives the spec. Everything is drawn from `seed`; DEAP's own
    tournaments and ``varAnd`` draw from the global ``random``, which you have to seed.

    Values are to be minimised and always finite. A fitness knows the constraint violation of its genome
    (``fitness.violation``, the sum over the constraints; 0 = feasible; a failed evaluation adds 1 for each). A feasible
    fitness dominates an infeasible fitness, the smaller violation dominates the larger, and equal violations are
    compared by their values (Deb et al. 2002). So selection, ``ParetoFront`` and tournaments handle constraints without
    a penalty to tune; a ``ParetoFront`` holds infeasible genomes only until it has met a feasible genome.

    Args:
        problem: space, objectives, constraints and evaluation; trainings use its own seed.
        seed: of genomes and operators.
        executor: evaluates the stacks; serial by default.
        chunk: most genomes in a stack.
    Example:
        >>> toolbox = as_deap(problem, seed=0)  # doctest: +SKIP
        >>> population = toolbox.population(n=24)  # doctest: +SKIP
        >>> algorithms.eaMuPlusLambda(population, toolbox, 24, 24, 0.6, 0.4, 8)  # doctest: +SKIP
    """
    space, rng, n_objectives = problem.space, generator(seed, "deap"), len(problem.objectives)
    values = GenomeValues(problem, executor=executor or SerialExecutor(), chunk=chunk)

    def individual() -> Individual:
        return Individual.of(space.sample(rng, 1)[0], n_objectives)

    def population(n: int) -> list[Individual]:
        rows = space.snap(np.vstack([space.default(), space.sample(rng, n)]))
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        return [Individual.of(row, n_objectives) for row in rows[first[:n]]]

    def mate(first: Individual, second: Individual) -> tuple[Individual, Individual]:
        children = recombined(space, np.array([[first], [second]], dtype=np.float64), rng)
        first[:], second[:] = children[0, 0].tolist(), children[1, 0].tolist()
        return first, second

    def mutate(individual: Individual) -> tuple[Individual]:
        individual[:] = mutated(space, np.array([individual], dtype=np.float64), rng)[0].tolist()
        return (individual,)

    def evaluate_all(individuals: Sequence[Individual]) -> list[Values]:
        if not individuals:
            return []
        F, G = values.matrices(np.array(individuals, dtype=np.float64))
        violations = np.maximum(G, 0.0).sum(axis=1)
        return [Values.of(row, float(violation)) for row, violation in zip(F, violations, strict=True)]

    def evaluate(individual: Individual) -> Values:
        return evaluate_all([individual])[0]

    def map_in_stacks(function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
        if getattr(function, "func", function) is evaluate:
            return evaluate_all(list(iterables[0]))
        return list(map(function, *iterables))

    toolbox = base.Toolbox()
    for function in (individual, population, mate, mutate, evaluate):
        toolbox.register(function.__name__, function)
    toolbox.register("map", map_in_stacks)
    toolbox.register("select", tools.selNSGA2)
    toolbox.register("decode", space.decode)
    return toolbox


class GenomeFitness(base.Fitness):  # type: ignore[misc]  # deap is untyped
    """Objectives to be minimised under constraints: feasible before infeasible, then less violation, then the values.

    Attributes:
        violation: sum of the violated constraints; 0.0 is feasible.
    """

    violation: float = 0.0

    def set_values(self, values: Sequence[float]) -> None:
        """Objectives, with the violation that an evaluation adds to them."""
        base.Fitness.setValues(self, values)
        self.violation = float(getattr(values, "violation", 0.0))

    def clear(self) -> None:
        """Neither values nor a violation."""
        base.Fitness.delValues(self)
        self.violation = 0.0

    values = property(base.Fitness.getValues, set_values, clear)

    def dominates(self, other: GenomeFitness, obj: slice = slice(None)) -> bool:
        """Whether this fitness is better under the constraints; `obj` selects objectives."""
        if self.violation != other.violation:
            return self.violation < other.violation
        return bool(base.Fitness.dominates(self, other, obj))

    @property
    def _rank(self) -> tuple[float, ...]:
        return (-self.violation, *self.wvalues)

    def __hash__(self) -> int:
        return hash(self._rank)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenomeFitness) and self._rank == other._rank

    def __lt__(self, other: GenomeFitness) -> bool:
        return self._rank < other._rank

    def __le__(self, other: GenomeFitness) -> bool:
        return self._rank <= other._rank

    def __deepcopy__(self, memo: dict[int, Any]) -> GenomeFitness:
        return _restored(len(self.weights), self.wvalues, self.violation)

    def __reduce__(self) -> tuple[Callable[..., GenomeFitness], tuple[Any, ...]]:
        return _restored, (len(self.weights), self.wvalues, self.violation)


@cache
def fitness_kind(n_objectives: int) -> type[GenomeFitness]:
    """The fitness of M objectives; a class, as DEAP looks for the weights there. No global creator is involved."""
    return type("GenomeFitness", (GenomeFitness,), {"weights": (-1.0,) * n_objectives})


def _restored(n_objectives: int, wvalues: tuple[float, ...], violation: float) -> GenomeFitness:
    fitness = fitness_kind(n_objectives)()
    fitness.wvalues, fitness.violation = wvalues, violation
    return fitness


@final
class Individual(list[float]):
    """A genome, V numbers, with its fitness; can be copied and pickled.

    Attributes:
        genome: the whole row ``(V,)``, where the numbers are only a part of it.
    """

    fitness: GenomeFitness
    genome: FloatArray

    @classmethod
    def of(cls, row: FloatArray, n_objectives: int) -> Individual:
        """A genome that is not evaluated yet."""
        made = cls(row.tolist())
        made.fitness = fitness_kind(n_objectives)()
        return made


@final
class Values(tuple[float, ...]):
    """Objectives of an evaluation; ``violation`` goes with them into ``fitness.values``."""

    violation: float

    @classmethod
    def of(cls, objectives: FloatArray, violation: float) -> Values:
        """Objectives ``(M,)`` and a violation."""
        made = cls(objectives.tolist())
        made.violation = violation
        return made
