"""A genetic algorithm on a weighted sum of the objectives, a baseline for multi-objective search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from pymoo.algorithms.soo.nonconvex.ga import GA

from evorec.objectives import FloatArray, Objective, check_weights
from evorec.search.algorithm import AlgorithmContext, PymooAlgorithm, register_algorithm
from evorec.search.survival import box_coordinates
from evorec.seeds import child_seed


def weighted_sum(
    F: FloatArray, G: FloatArray, objectives: Sequence[Objective], weights: Sequence[float], penalty: float
) -> FloatArray:
    """``sum_k w_k f_k + penalty * g``, where f are coordinates in the hypervolume box and g is the total violation.

    Args:
        F: objectives to minimise ``(N, M)``.
        G: constraints ``(N, C)``, at most 0 is feasible.
        objectives: M objectives with their boxes.
        weights: M of them, at least 0, scaled here to sum 1.
        penalty: λ.
    Returns:
        float64 ``(N,)``, lower is better; 0 = ideal or better in every objective, 1 = worst in every objective.
    Example:
        >>> axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
        >>> weighted_sum(np.array([[-1.0, -0.5]]), np.array([[0.5]]), axes, (1, 1), 0.1).round(9)  # 0/2 + .5/2 + .05
        array([0.3])
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    total: FloatArray = box_coordinates(F, objectives) @ shares + penalty * np.maximum(G, 0.0).sum(axis=1)
    return total


@final
@register_algorithm("weighted_sum", takes_any=True, asks_ahead=True)
class WeightedSumSearch:
    """A genetic algorithm on the sum, with the operators, first generation and duplicate check of NSGA-II.

    Weights and penalty are ``search.weights`` and ``search.penalty``.
    """

    def __init__(self, context: AlgorithmContext) -> None:
        """Set it up.

        Raises:
            ConfigError: the number of weights is not that of the objectives.
        """
        config = context.config
        check_weights(config.weights, [objective.name for objective in context.objectives])
        self._objectives, self._penalty = context.objectives, config.penalty
        self._weights = config.weights or (1.0,) * len(context.objectives)
        algorithm = GA(
            pop_size=config.population, output=None, seed=child_seed(config.seed, "weighted sum"), **context.operators()
        )
        self._inner = PymooAlgorithm(algorithm, context, n_objectives=1, fills=True)

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        return self._inner.ask()

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """See `AskTell.tell`; the penalty replaces the constraints."""
        total = weighted_sum(F, G, self._objectives, self._weights, self._penalty)
        self._inner.tell(X, total[:, None], np.zeros_like(G))
