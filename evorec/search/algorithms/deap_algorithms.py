"""Algorithms of DEAP: MO-CMA-ES over the continuous genes, and NSGA-II as an independent second implementation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import numpy as np
from deap import cma, tools

from evorec.errors import ConfigError
from evorec.objectives import FloatArray
from evorec.search.algorithm import AlgorithmContext, register_algorithm
from evorec.search.deap_toolbox import Individual, Values
from evorec.search.survival import box_coordinates
from evorec.seeds import child_seed, generator
from evorec.space.genes import Real
from evorec.space.operators import mutated, recombined

FIRST_STEP = 0.2
"""First standard deviation of MO-CMA-ES, as a share of a gene's range."""


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """DEAP draws from the global generators: seed them, and restore their states afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _evaluated(X: FloatArray, F: FloatArray, G: FloatArray) -> list[Individual]:
    """Rows as individuals of DEAP with their fitness."""
    out = []
    for x, values, violation in zip(X, F, np.maximum(G, 0.0).sum(axis=1), strict=True):
        individual = Individual.of(x, F.shape[1])
        individual.fitness.values = Values.of(values, float(violation))
        out.append(individual)
    return out


@final
@register_algorithm("deap_nsga2", takes_any=True, asks_ahead=True)
class DeapNSGA2:
    """NSGA-II with DEAP's tournaments and survival, and the operators and first generation of `nsga2`."""

    def __init__(self, context: AlgorithmContext) -> None:
        """The search before its first generation."""
        self._context, self._parents, self._generation = context, list[Individual](), 0

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        context, size, space = self._context, self._context.config.population, self._context.space
        self._generation += 1
        rng = generator(context.config.seed, "deap nsga2", self._generation)
        rows = context.first_generation()
        if self._parents:
            # selTournamentDCD wants a multiple of four
            n = min(len(self._parents), size) // 4 * 4
            with _global_seed(child_seed(context.config.seed, "deap tournaments", self._generation)):
                chosen = tools.selTournamentDCD(self._parents, n) if n else self._parents
            parents = np.array(chosen)[rng.integers(len(chosen), size=(2, size))]
            rows = mutated(space, np.vstack(list(recombined(space, parents, rng))), rng)
        new = {space.key(x): x for x in space.snap(rows)}
        kept = [x for key, x in new.items() if key not in context.evaluated][:size]
        missing = context.new_genomes(rng, size - len(kept), besides=new)
        return np.vstack([np.array(kept).reshape(len(kept), space.n_var), missing])

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """See `AskTell.tell`."""
        self._parents = tools.selNSGA2(self._parents + _evaluated(X, F, G), self._context.config.population)


@final
@register_algorithm("mo_cma_es", takes_any=True)
class MOCMAES:
    """MO-CMA-ES on the real genes; the others are mutated like in `nsga2`. Source: Voss, Hansen & Igel 2010.

    Each parent has its own covariance matrix over the real genes, scaled to [0, 1].
    """

    def __init__(self, context: AlgorithmContext) -> None:
        """The search before its first generation.

        Raises:
            ConfigError: the space has no real gene.
        """
        columns = [context.space.slices[gene.name] for gene in context.space.genes if isinstance(gene, Real)]
        if not columns:
            raise ConfigError('search.algorithm = "mo_cma_es" needs real genes, and this space has none; use "nsga2".')
        self._columns = np.concatenate([np.arange(part.start, part.stop) for part in columns])
        self._low, self._range = (
            context.space.low[self._columns],
            (context.space.high - context.space.low)[self._columns],
        )
        self._context, self._generation = context, 0
        self._strategy: cma.StrategyMultiObjective | None = None
        self._offspring: dict[bytes, Individual] = {}

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        context, space, size = self._context, self._context.space, self._context.config.population
        self._generation += 1
        if self._strategy is None:
            rows = space.snap(context.first_generation())
            first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
            return rows[first[:size]]
        with _global_seed(child_seed(context.config.seed, "mo-cma-es steps", self._generation)):
            children = self._strategy.generate(lambda point: Individual.of(point, len(context.objectives)))
        genomes = np.array([self._strategy.parents[child._ps[1]].genome for child in children])
        rows = mutated(space, genomes, generator(context.config.seed, "mo-cma-es", self._generation))
        rows[:, self._columns] = self._low + np.clip(np.array(children), 0.0, 1.0) * self._range
        rows = space.snap(rows)
        self._offspring = {x.tobytes(): child for x, child in zip(rows, children, strict=True)}
        return rows

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """See `AskTell.tell`; rows that it did not propose teach it nothing, because they have no parent.

        The strategy knows no constraints, so a violation is added to the box coordinates of every objective.
        """
        points = box_coordinates(F, self._context.objectives) + np.maximum(G, 0.0).sum(axis=1, keepdims=True)
        children = []
        for x, values in zip(X, points, strict=True):
            child = self._offspring.get(x.tobytes())
            if child is None:
                if self._strategy is not None:
                    continue
                child = Individual.of(np.empty(0), F.shape[1])
            child[:] = ((x[self._columns] - self._low) / self._range).tolist()
            child.fitness.values, child.genome = values.tolist(), x
            children.append(child)
        if self._strategy is not None:
            self._strategy.update(children)
        else:
            size = self._context.config.population
            self._strategy = cma.StrategyMultiObjective(children, FIRST_STEP, mu=len(children), lambda_=size)
