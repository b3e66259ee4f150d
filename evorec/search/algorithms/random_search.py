"""Random search, a baseline for every algorithm that learns."""

from __future__ import annotations

from typing import final

import numpy as np

from evorec.objectives import FloatArray
from evorec.search.algorithm import AlgorithmContext, register_algorithm
from evorec.seeds import generator


@final
@register_algorithm("random", takes_any=True, asks_ahead=True)
class RandomSearch:
    """Genomes drawn like the first generation of NSGA-II, none of them twice; the first genome is the default."""

    def __init__(self, context: AlgorithmContext) -> None:
        """The search before its first generation."""
        self._context, self._is_first = context, True
        self._rng = generator(context.config.seed, "random search")

    def ask(self) -> FloatArray:
        """See `AskTell.ask`."""
        context, space, size = self._context, self._context.space, self._context.config.population
        if not self._is_first:
            return context.new_genomes(self._rng, size)
        self._is_first = False
        rows = space.snap(context.first_generation())
        new = {space.key(x): x for x in rows if space.key(x) not in context.evaluated}
        return np.array(list(new.values())[:size]).reshape(-1, space.n_var)

    def tell(self, X: FloatArray, F: FloatArray, G: FloatArray) -> None:
        """Nothing is learned."""
