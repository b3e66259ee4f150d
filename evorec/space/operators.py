"""Sampling, crossover and mutation for pymoo, gene by gene (`Gene.sample`, `Gene.recombine`, `Gene.mutate`).

pymoo's mixed-variable operators choose rates per type, so the rate of a gene depends on how many others share its type.
Here a rate is a share of all genes that are active in the row, and a mutated gene really changes. Every result is
snapped. All randomness comes from the ``random_state`` that pymoo passes on, so the seed of a run determines it.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.sampling import Sampling

from evorec.space.gene import FloatArray
from evorec.space.space import SearchSpace

Rng = np.random.Generator
GENES_CHANGED = 1.0
"""Genes that a mutation draws on average, with a rate of 1/n for n active genes; at least a random gene changes."""
MAX_RATE = 0.5
"""Highest default rate per gene, so a genome with few genes does not always change all of them."""
ATTEMPTS = 100
"""Draws until a mutated gene differs; a draw returns to the old grid point in about 1 % of cases."""


@final
class TypedSampling(Sampling):  # type: ignore[misc]  # pymoo has no types
    """Random genomes, different as long as the space has enough of them (`SearchSpace.sample`)."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Any, n_samples: int, *args: Any, random_state: Rng, **kwargs: Any) -> FloatArray:
        return self.space.sample(random_state, n_samples)


@final
class TypedCrossover(Crossover):  # type: ignore[misc]  # pymoo has no types
    """Two children from two parents: SBX on reals, blending of task weights, exchange of all other genes.

    Each gene is recombined with probability 0.5. A gene that is active in a single parent is copied from it, so a child
    that inherits the branch inherits the values that belong to it.

    Args:
        space: the search space.
        prob: probability that a pair is recombined at all.
    """

    def __init__(self, space: SearchSpace, prob: float = 0.9) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=prob)
        self.space = space

    def _do(self, problem: Any, X: FloatArray, *args: Any, random_state: Rng, **kwargs: Any) -> FloatArray:
        return recombined(self.space, X, random_state)


@final
class TypedMutation(Mutation):  # type: ignore[misc]  # pymoo has no types
    """Changes some active genes of every row, at least one.

    Polynomial steps on reals, reflected geometric steps on integers, another option, the other truth value, a
    logistic-normal step or a reset of task weights. Genes that a change activates are drawn at random.

    Args:
        space: the search space.
        prob_var: rate per active gene; None means 1/n for a row with n active genes, at most 0.5.
    """

    def __init__(self, space: SearchSpace, prob_var: float | None = None) -> None:
        super().__init__(prob=1.0, prob_var=prob_var)
        self.space = space
        self.rate = prob_var

    def _do(self, problem: Any, X: FloatArray, *args: Any, random_state: Rng, **kwargs: Any) -> FloatArray:
        return mutated(self.space, X, random_state, rate=self.rate)


def recombined(space: SearchSpace, X: FloatArray, rng: Rng) -> FloatArray:
    """Two children of each pair of parents, snapped; see `TypedCrossover`.

    Args:
        space: the search space.
        X: parents ``(2, N, V)``.
        rng: source of randomness.
    Returns:
        Children ``(2, N, V)``.
    """
    a, b = X[0].astype(np.float64), X[1].astype(np.float64)
    active_a, active_b = space.active(a), space.active(b)
    only_a, only_b = active_a & ~active_b, active_b & ~active_a
    for index, gene in enumerate(space.genes):
        columns = space.slices[gene.name]
        a[only_b[:, index], columns] = b[only_b[:, index], columns]
        b[only_a[:, index], columns] = a[only_a[:, index], columns]
        rows = np.flatnonzero(rng.random(len(a)) < 0.5)
        a[rows, columns], b[rows, columns] = gene.recombine(a[rows, columns], b[rows, columns], rng)
    return np.stack([space.snap(a), space.snap(b)])


def mutated(space: SearchSpace, X: FloatArray, rng: Rng, *, rate: float | None = None) -> FloatArray:
    """Genomes ``(N, V)`` with some active genes changed, at least one of each, snapped; see `TypedMutation`.

    Args:
        space: the search space.
        X: genomes ``(N, V)``.
        rng: source of randomness.
        rate: per active gene; ``None`` = 1/n.
    """
    out = space.snap(X)
    known = space.active(out)
    can_change = known & np.array([gene.cardinality > 1 for gene in space.genes], dtype=bool)
    if can_change.any():
        n = can_change.sum(axis=1, keepdims=True)
        share = np.minimum(MAX_RATE, GENES_CHANGED / np.maximum(n, 1)) if rate is None else rate
        chosen = can_change & (rng.random(known.shape) < share)
        lottery = np.where(can_change, rng.random(known.shape), -1.0)
        empty = np.flatnonzero(~chosen.any(axis=1) & can_change.any(axis=1))
        chosen[empty, lottery[empty].argmax(axis=1)] = True
        for index, gene in enumerate(space.genes):
            same, columns = np.flatnonzero(chosen[:, index]), space.slices[gene.name]
            before = out[:, columns].copy()
            for _ in range(ATTEMPTS + 1):
                if not len(same):
                    break
                out[same, columns] = gene.snap(gene.mutate(before[same], rng))
                same = same[(out[same, columns] == before[same]).all(axis=1)]
    while (fresh := space.active(out) & ~known).any():  # again, because a fresh gene may activate others
        for index, gene in enumerate(space.genes):
            rows = np.flatnonzero(fresh[:, index])
            out[rows, space.slices[gene.name]] = gene.sample(rng, len(rows))
        known = known | fresh
    return space.snap(out)
