"""What a multi-objective search must beat at equal training: random genomes, and one weighted sum of the objectives."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.ga import GA, FitnessSurvival, comp_by_cv_and_fitness
from pymoo.operators.selection.tournament import TournamentSelection

from evorec.config import SearchConfig
from evorec.objectives import FloatArray, Objective, check_weights
from evorec.search.algorithms import AskTell, NeverTwice, first_generation, new_genomes
from evorec.search.survival import places_in_box
from evorec.seeds import child_seed, generator
from evorec.space.operators import TypedCrossover, TypedMutation
from evorec.space.space import SearchSpace


def weighted_sum(
    F: FloatArray, G: FloatArray, objectives: Sequence[Objective], weights: Sequence[float], penalty: float
) -> FloatArray:
    """``sum_k w_k f_k + penalty * g``: f are places in the hypervolume box, g is how far constraints are violated.

    Args:
        F: objectives to minimise ``(N, M)``.
        G: constraints ``(N, C)``, at most 0 is feasible.
        objectives: M objectives with their boxes.
        weights: M of them, at least 0, scaled here to sum 1.
        penalty: λ.
    Returns:
        float64 ``(N,)``, lower is better; 0 = ideal or better in every objective, 1 = worst in every one.
    Example:
        >>> axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
        >>> weighted_sum(np.array([[-1.0, -0.5]]), np.array([[0.5]]), axes, (1, 1), 0.1).round(9)  # 0/2 + .5/2 + .05
        array([0.3])
    """
    places = places_in_box(F, objectives)
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    total: FloatArray = places @ shares + penalty * np.maximum(G, 0.0).sum(axis=1)
    return total


@final
class WeightedSumSearch:
    """A genetic algorithm on one weighted sum, with the operators, the start and the duplicate check of NSGA-II."""

    def __init__(
        self, space: SearchSpace, config: SearchConfig, objectives: Sequence[Objective], *, told: Container[str]
    ) -> None:
        """Args as of `evorec.search.choice.algorithm_for`.

        Raises:
            ConfigError: not one weight per objective.
        """
        check_weights(config.weights, [objective.name for objective in objectives])
        weights = config.weights or (1.0,) * len(objectives)
        self._objectives, self._weights, self._penalty = tuple(objectives), weights, config.penalty
        algorithm = GA(
            pop_size=config.population,
            sampling=first_generation(space, config),
            selection=TournamentSelection(func_comp=comp_by_cv_and_fitness),
            crossover=TypedCrossover(space),
            mutation=TypedMutation(space),
            survival=FitnessSurvival(),
            eliminate_duplicates=NeverTwice(space, told),
            output=None,
            seed=child_seed(config.seed, "weighted sum"),
        )
        self._inner = AskTell(algorithm, space, n_objectives=1, n_constraints=1, told=told)

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        return self._inner.ask()

    def tell(self, F: FloatArray, G: FloatArray, *, told: NDArray[np.bool_] | None = None) -> None:
        """See `AskTell.tell`."""
        total = weighted_sum(F, G, self._objectives, self._weights, self._penalty)
        self._inner.tell(total[:, None], np.zeros((len(F), 1)), told=told)


@final
class RandomSearch:
    """Genomes drawn as those of the first generation of NSGA-II are, none of them twice; the first is the default."""

    def __init__(self, space: SearchSpace, config: SearchConfig, *, told: Container[str]) -> None:
        """Args as of `evorec.search.choice.algorithm_for`."""
        self._space, self._size, self._told = space, config.population, told
        self._rng = generator(config.seed, "random search")
        self._start: FloatArray | None = first_generation(space, config)

    def ask(self) -> FloatArray:
        """The next generation, snapped ``(P, V)``; fewer rows when new genomes are hardly found any more."""
        if self._start is None:
            return new_genomes(self._space, self._rng, self._size, lambda key: key in self._told)
        first, self._start = self._space.snap(self._start), None
        different = {self._space.key(x): x for x in first if self._space.key(x) not in self._told}
        return np.array(list(different.values())[: self._size]).reshape(-1, self._space.n_var)

    def tell(self, F: FloatArray, G: FloatArray, *, told: NDArray[np.bool_] | None = None) -> None:
        """Nothing is learned."""
