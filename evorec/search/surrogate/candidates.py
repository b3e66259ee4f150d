"""Genomes among which the surrogate chooses."""

from __future__ import annotations

import numpy as np

from evorec.space.gene import FloatArray
from evorec.space.genes import OrderedGene
from evorec.space.operators import mutated, recombined
from evorec.space.space import SearchSpace

ONE_GENE, RECOMBINED = 0.35, 0.35
"""Shares of the candidates that are front members with a single gene changed, and recombined and mutated front members;
the others are random."""
DRAWN_ANEW = 0.5
"""Share of the single genes that are drawn anew; the others take a mutation step."""
ON_A_BOUND = 0.2
"""Share of the genes drawn anew that are set to a bound, if they have an order: random reals never lie on a bound."""


def candidates(space: SearchSpace, parents: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Genomes near `parents` and random genomes, snapped, float64 ``(n, V)``; repeats are possible.

    Args:
        space: the search space.
        parents: front members ``(N, V)``; without any, all candidates are random.
        n: number of candidates.
        rng: source of randomness.
    """
    if not len(parents):
        return space.sample(rng, n)
    n_near, n_mixed = int(ONE_GENE * n), int(RECOMBINED * n)
    near = one_gene_changed(space, parents[rng.integers(len(parents), size=n_near)], rng)
    couples = parents[rng.integers(len(parents), size=(2, (n_mixed + 1) // 2))]
    mixed = mutated(space, recombined(space, couples, rng).reshape(-1, space.n_var)[:n_mixed], rng)
    return np.vstack([near, mixed, space.sample(rng, n - len(near) - len(mixed))])


def one_gene_changed(space: SearchSpace, X: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Snapped genomes ``(N, V)`` with a random active gene drawn anew, set to a bound, or mutated."""
    out, active = X.copy(), space.active(X)
    can_change = active & np.array([gene.cardinality > 1 for gene in space.genes], dtype=bool)
    chosen = np.where(can_change, rng.random(active.shape), -1.0).argmax(axis=1)
    draw = rng.random((2, len(X)))
    for index, gene in enumerate(space.genes):
        rows, columns = np.flatnonzero(chosen == index), space.slices[gene.name]
        if not len(rows) or not gene.n_columns:
            continue
        anew = draw[0, rows] < DRAWN_ANEW
        value = np.where(anew[:, None], gene.sample(rng, len(rows)), gene.mutate(out[rows, columns], rng))
        if isinstance(gene, OrderedGene):
            at_bound, side = anew & (draw[1, rows] < ON_A_BOUND), draw[1, rows] < ON_A_BOUND / 2
            value = np.where(at_bound[:, None], np.where(side[:, None], *gene.bounds), value)
        out[rows, columns] = value
    fresh = space.active(space.snap(out)) & ~active  # genes that the change activated are drawn at random
    for index, gene in enumerate(space.genes):
        rows = np.flatnonzero(fresh[:, index])
        out[rows, space.slices[gene.name]] = gene.sample(rng, len(rows))
    return space.snap(out)
