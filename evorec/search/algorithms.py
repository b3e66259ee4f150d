"""Algorithms from pymoo behind ask and tell on plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
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
from evorec.objectives import FloatArray, Objective
from evorec.search.survival import RankAndHypervolume
from evorec.seeds import child_seed, generator
from evorec.space.operators import TypedCrossover, TypedMutation
from evorec.space.space import SearchSpace

DRAWS_PER_GENOME = 50
"""How often random genomes are drawn again for those that are known before a generation stays short."""


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


def new_genomes(space: SearchSpace, rng: np.random.Generator, n: int, is_known: Callable[[str], bool]) -> FloatArray:
    """Random genomes, snapped, that are not known and differ, ``(n, V)``; fewer when they are hardly found any more.

    Args:
        space: what a genome encodes.
        rng: decides.
        n: how many.
        is_known: of the key of a genome.
    """
    found: dict[str, FloatArray] = {}
    for _ in range(DRAWS_PER_GENOME):
        for x in space.snap(space.sample(rng, n)):
            key = space.key(x)
            if len(found) < n and not is_known(key):
                found.setdefault(key, x)
        if len(found) == n:
            break
    return np.array(list(found.values())).reshape(len(found), space.n_var)


def crowding_name(n_objectives: int) -> str:
    """pymoo's name of the crowding distance: to the M nearest neighbours from 3 objectives on, else the classic one.

    Source: Kukkonen & Deb 2006; in three dimensions the classic distance says little about density.
    """
    return "mnn" if n_objectives > 2 else "cd"


def nsga2(space: SearchSpace, config: SearchConfig, objectives: Sequence[Objective], *, told: Container[str]) -> NSGA2:
    """NSGA-II with typed operators that never proposes a genome twice.

    The first genome is the default one, the others of the first generation are sampled. A front is divided by what its
    members add to the hypervolume in the box, or by crowding (``search.selection``).

    Args:
        space: what a genome encodes.
        config: population size, selection and seed.
        objectives: M of them.
        told: keys of the genomes evaluated so far (`SearchSpace.key`), those dropped at a rung included; the caller
            keeps it up to date.
    Returns:
        A pymoo algorithm that is not set up yet; its operators return snapped genomes.
    """
    crowding = crowding_name(len(objectives))
    by_hypervolume = config.selection == "hypervolume"
    return NSGA2(
        pop_size=config.population,
        sampling=first_generation(space, config),
        selection=TournamentSelection(func_comp=binary_tournament),
        crossover=TypedCrossover(space),
        mutation=TypedMutation(space),
        survival=RankAndHypervolume(objectives, crowding=crowding)
        if by_hypervolume
        else RankAndCrowding(crowding_func=crowding),
        eliminate_duplicates=NeverTwice(space, told),
        output=None,
        seed=child_seed(config.seed, "nsga2"),
    )


@final
class AskTell:
    """A pymoo algorithm as two methods on arrays; the search keeps count, evaluates and decides when to stop."""

    def __init__(
        self,
        algorithm: Any,
        space: SearchSpace,
        *,
        n_objectives: int,
        n_constraints: int,
        told: Container[str],
    ) -> None:
        """Set `algorithm` up for M objectives and C constraints.

        Args:
            algorithm: from pymoo, not set up, with its seed.
            space: what a genome encodes.
            n_objectives: M, columns of ``F``.
            n_constraints: C, columns of ``G``.
            told: keys of the genomes evaluated so far; those drawn to fill a generation are none of them.
        """
        self._space, self._told = space, told
        self._rng = generator(algorithm.seed or 0, "genomes beside the offspring")
        self._size = algorithm.pop_size
        self._problem = PymooProblem(
            n_var=space.n_var, n_obj=n_objectives, n_ieq_constr=n_constraints, xl=space.low, xu=space.high
        )
        algorithm.setup(self._problem, termination=NoTermination())
        self._algorithm = algorithm
        self._asked: Any = None

    def ask(self) -> FloatArray:
        """The next generation, snapped ``(P, V)``; fewer rows, or none, when new genomes are hardly found any more.

        Where parents are too much alike for enough new offspring, random genomes fill the generation.
        """
        asked = self._algorithm.ask()
        self._asked = Population.new() if asked is None else asked[: self._size]
        X = np.empty((0, self._space.n_var))
        if len(self._asked):
            X = self._space.snap(self._asked.get("X").astype(np.float64))
            self._asked.set("X", X)
        if len(X) < self._size:
            own = {self._space.key(x) for x in X}
            more = new_genomes(self._space, self._rng, self._size - len(X), lambda key: key in self._told or key in own)
            self._asked = Population.merge(self._asked, Population.new("X", more))
            X = np.vstack([X, more])
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
