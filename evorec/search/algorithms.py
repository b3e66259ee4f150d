"""Algorithms from pymoo behind ask and tell on plain arrays."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.problems.static import StaticProblem

from evorec.config import SearchConfig
from evorec.objectives import FloatArray
from evorec.seeds import child_seed, generator
from evorec.space.operators import TypedCrossover, TypedMutation
from evorec.space.space import SearchSpace


class Proposer(Protocol):
    """What the search asks for genomes and tells their values."""

    def ask(self) -> FloatArray:
        """The next generation, snapped ``(P, V)``; fewer rows, or none, when there are no new genomes left."""
        ...

    def tell(self, F: FloatArray, G: FloatArray, *, told: NDArray[np.bool_] | None = None) -> None:
        """Values of the generation asked for last; see `AskTell.tell`."""
        ...


def first_generation(space: SearchSpace, config: SearchConfig) -> FloatArray:
    """The default genome and P random ones, ``(P + 1, V)``: the first P different ones are the first generation."""
    sampled = space.sample(generator(config.seed, "first generation"), config.population)
    return np.vstack([space.default(), sampled])


def crowding_name(n_objectives: int) -> str:
    """pymoo's name of the crowding distance: to the M nearest neighbours from 3 objectives on, else the classic one.

    Source: Kukkonen & Deb 2006; in three dimensions the classic distance says little about density.
    """
    return "mnn" if n_objectives > 2 else "cd"


def nsga2(space: SearchSpace, config: SearchConfig, *, n_objectives: int, told: Container[str]) -> NSGA2:
    """NSGA-II with typed operators that never proposes a genome twice.

    The first genome is the default one, the others of the first generation are sampled.

    Args:
        space: what a genome encodes.
        config: population size and seed.
        n_objectives: M.
        told: keys of the genomes evaluated so far (`SearchSpace.key`), those dropped at a rung included; the caller
            keeps it up to date.
    Returns:
        A pymoo algorithm that is not set up yet; its operators return snapped genomes.
    """
    return NSGA2(
        pop_size=config.population,
        sampling=first_generation(space, config),
        selection=TournamentSelection(func_comp=binary_tournament),
        crossover=TypedCrossover(space),
        mutation=TypedMutation(space),
        survival=RankAndCrowding(crowding_func=crowding_name(n_objectives)),
        eliminate_duplicates=NeverTwice(space, told),
        output=None,
        seed=child_seed(config.seed, "nsga2"),
    )


@final
class AskTell:
    """A pymoo algorithm as two methods on arrays; the search keeps count, evaluates and decides when to stop."""

    def __init__(self, algorithm: Any, space: SearchSpace, *, n_objectives: int, n_constraints: int) -> None:
        """Set `algorithm` up for M objectives and C constraints.

        Args:
            algorithm: from pymoo, not set up, with its seed.
            space: what a genome encodes.
            n_objectives: M, columns of ``F``.
            n_constraints: C, columns of ``G``.
        """
        self._space = space
        self._size = algorithm.pop_size
        self._problem = PymooProblem(
            n_var=space.n_var, n_obj=n_objectives, n_ieq_constr=n_constraints, xl=space.low, xu=space.high
        )
        algorithm.setup(self._problem, termination=NoTermination())
        self._algorithm = algorithm
        self._asked: Any = None

    def ask(self) -> FloatArray:
        """The next generation, snapped ``(P, V)``; fewer rows, or none, when there are no new genomes left."""
        asked = self._algorithm.ask()
        self._asked = Population.new() if asked is None else asked[: self._size]
        if len(self._asked) == 0:
            return np.empty((0, self._space.n_var))
        X = self._space.snap(self._asked.get("X").astype(np.float64))
        self._asked.set("X", X)
        return X

    def tell(self, F: FloatArray, G: FloatArray, *, told: NDArray[np.bool_] | None = None) -> None:
        """Values of the generation asked for last, of the N genomes that the algorithm shall know.

        Args:
            F: objectives to minimise, float64 ``(N, M)``, finite.
            G: constraints, float64 ``(N, C)``, finite.
            told: which genomes of ``X`` these are, bool ``(P,)`` with N of them, at least one; None = all. The
                population is then made of its parents and these.
        """
        infills = self._asked if told is None else self._asked[told]
        Evaluator().eval(StaticProblem(self._problem, F=F, G=G), infills)
        self._algorithm.tell(infills=infills)


@final
class NeverTwice(DuplicateElimination):  # type: ignore[misc]  # pymoo is untyped
    """Drops genomes that were told before; pymoo's own looks at the current population only."""

    def __init__(self, space: SearchSpace, told: Container[str]) -> None:
        super().__init__()
        self._space, self._told = space, told

    def _do(self, pop: Any, other: Any, is_duplicate: Any) -> Any:
        """Mark the repeats in `pop`, of itself when `other` is None, else of `other`."""
        seen = set() if other is None else {self._space.key(individual.X) for individual in other}
        for i, individual in enumerate(pop):
            key = self._space.key(individual.X)
            is_duplicate[i] = key in seen or key in self._told
            if other is None:
                seen.add(key)
        return is_duplicate
