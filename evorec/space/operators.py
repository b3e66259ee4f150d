"""Sampling, crossover and mutation for pymoo, gene by gene.

pymoo's own operators round reals to integers, which freezes short ranges, and choose rates per type, so a gene's rate
depends on how many others share its type. Here each kind of gene has its own step, a rate is a share of all genes that
are active in the row, and a mutated gene really changes. Every result is snapped, and everything random comes from the
``random_state`` that pymoo passes on, so a seed decides a run.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.sampling import Sampling

from evorec.space.gene import FloatArray, Gene
from evorec.space.genes import Boolean, Categorical, Integer, Real, Simplex
from evorec.space.space import SearchSpace

SBX_ETA = 15.0
"""Distribution index of simulated binary crossover; larger keeps children closer to their parents."""
SMALLEST_GAP = 1e-9
"""Equal parents count as this far apart, as a share of the range: far below a grid step, and nothing overflows."""
POLYNOMIAL_ETA = 20.0
"""Distribution index of polynomial mutation; larger means smaller steps."""
GENES_CHANGED = 1.0
"""Genes that a mutation draws on average, with a rate of 1/n for n active genes; one is changed where it draws none."""
MAX_RATE = 0.5
"""Highest default rate per gene, so a genome with few genes does not always change all of them."""
INTEGER_STEP = 0.2
"""A mean integer step is longer than 1 by this share of the range."""
SIMPLEX_SPREAD = 0.5
"""Standard deviation of the logarithm of each weight's factor."""
SIMPLEX_FLOOR = 1 / 32
"""Added to each weight before it is multiplied, so that a weight of 0 can come back."""
SIMPLEX_RESET = 0.1
"""Probability of new uniform weights, and again of all weight on one part."""
ATTEMPTS = 100
"""Draws until a mutated gene differs; one draw falls back on the old grid point in about 1 % of cases."""


@final
class TypedSampling(Sampling):  # type: ignore[misc]  # pymoo has no types
    """Random genomes, different as long as the space has enough of them (`SearchSpace.sample`)."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space

    def _do(
        self, problem: Any, n_samples: int, *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> FloatArray:
        return self.space.sample(random_state, n_samples)


@final
class TypedCrossover(Crossover):  # type: ignore[misc]  # pymoo has no types
    """Two children from two parents: SBX on reals, blending of task weights, exchange of all other genes.

    Each gene is recombined with probability one half. A gene that is active in one parent only is taken from it, so a
    child that inherits the branch inherits the values that belong to it.

    Args:
        space: the search space.
        prob: probability that a pair is recombined at all.
    """

    def __init__(self, space: SearchSpace, prob: float = 0.9) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=prob)
        self.space = space

    def _do(
        self, problem: Any, X: FloatArray, *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> FloatArray:
        return recombined(self.space, X, random_state)


@final
class TypedMutation(Mutation):  # type: ignore[misc]  # pymoo has no types
    """Changes some active genes of every row, at least one.

    Polynomial steps on reals, reflected geometric steps on integers, another option, the other truth value, a
    logistic-normal step or a reset of task weights. Genes that a change activates are drawn at random.

    Args:
        space: the search space.
        prob_var: rate per active gene; None means 1/n for a row with n active genes, at most one half.
    """

    def __init__(self, space: SearchSpace, prob_var: float | None = None) -> None:
        super().__init__(prob=1.0, prob_var=prob_var)
        self.space = space
        self.rate = prob_var

    def _do(
        self, problem: Any, X: FloatArray, *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> FloatArray:
        return mutated(self.space, X, random_state, rate=self.rate)


def recombined(space: SearchSpace, X: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Two children of each pair of parents, snapped; see `TypedCrossover`.

    Args:
        space: the search space.
        X: parents ``(2, N, V)``.
        rng: decides.
    Returns:
        Children ``(2, N, V)``.
    """
    a, b = X[0].astype(np.float64), X[1].astype(np.float64)
    active_a, active_b = space.active(a), space.active(b)
    only_a, only_b = active_a & ~active_b, active_b & ~active_a
    for index, name in enumerate(space.names):
        columns = space.slices[name]
        a[only_b[:, index], columns] = b[only_b[:, index], columns]
        b[only_a[:, index], columns] = a[only_a[:, index], columns]
        rows = np.flatnonzero(rng.random(len(a)) < 0.5)
        a[rows, columns], b[rows, columns] = _recombine(space.gene(name), a[rows, columns], b[rows, columns], rng)
    return np.stack([space.snap(a), space.snap(b)])


def mutated(space: SearchSpace, X: FloatArray, rng: np.random.Generator, *, rate: float | None = None) -> FloatArray:
    """Genomes ``(N, V)`` with some active genes changed, at least one of each, snapped; see `TypedMutation`.

    Args:
        space: the search space.
        X: genomes ``(N, V)``.
        rng: decides.
        rate: per active gene; ``None`` = 1/n.
    """
    out = space.snap(X)
    before = space.active(out)
    chosen = _choose(space, before, rng, rate)
    for index, name in enumerate(space.names):
        rows, columns = np.flatnonzero(chosen[:, index]), space.slices[name]
        if len(rows):
            out[rows, columns] = _changed(space.gene(name), out[rows, columns], rng)
    known = before
    while (fresh := space.active(out) & ~known).any():  # again, because a fresh gene may activate others
        for index, name in enumerate(space.names):
            rows = np.flatnonzero(fresh[:, index])
            out[rows, space.slices[name]] = space.gene(name).sample(rng, len(rows))
        known = known | fresh
    return space.snap(out)


def _choose(
    space: SearchSpace, active: NDArray[np.bool_], rng: np.random.Generator, rate: float | None
) -> NDArray[np.bool_]:
    """Genes to change, bool ``(P, n_genes)``: at least one per row that has a gene with a choice."""
    has_choice = np.array([space.gene(name).cardinality > 1 for name in space.names], dtype=bool)
    can_change: NDArray[np.bool_] = active & has_choice
    if not can_change.any():
        return can_change
    n = can_change.sum(axis=1, keepdims=True)
    share = np.minimum(MAX_RATE, GENES_CHANGED / np.maximum(n, 1)) if rate is None else rate
    chosen: NDArray[np.bool_] = can_change & (rng.random(active.shape) < share)
    lottery = np.where(can_change, rng.random(active.shape), -1.0)
    empty = np.flatnonzero(~chosen.any(axis=1) & can_change.any(axis=1))
    chosen[empty, lottery[empty].argmax(axis=1)] = True
    return chosen


def _recombine(gene: Gene, a: FloatArray, b: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Two children per pair of rows ``(N, n_columns)``, not snapped."""
    if isinstance(gene, Real):
        return _sbx(a, b, *gene.bounds, rng)
    if isinstance(gene, Simplex):
        share = rng.uniform(-0.25, 1.25, size=(len(a), 1))  # beyond 0 and 1, else weights only ever draw together
        return np.clip(share * a + (1 - share) * b, 0, None), np.clip(share * b + (1 - share) * a, 0, None)
    return b.copy(), a.copy()


def _sbx(
    a: FloatArray, b: FloatArray, low: FloatArray, high: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Bounded simulated binary crossover. Source: Deb & Agrawal 1995, with the bounds of Deb's NSGA-II code."""
    left, right = np.minimum(a, b), np.maximum(a, b)
    gap = np.maximum(right - left, SMALLEST_GAP * (high - low))
    u = rng.random(a.shape)
    power = 1.0 / (SBX_ETA + 1.0)

    def spread(room: FloatArray) -> FloatArray:
        alpha = 2.0 - (1.0 + 2.0 * room / gap) ** -(SBX_ETA + 1.0)
        inside = (u * alpha) ** power
        outside = (1.0 / np.maximum(2.0 - u * alpha, np.finfo(np.float64).tiny)) ** power
        factor: FloatArray = np.where(u <= 1.0 / alpha, inside, outside)
        return factor

    middle = 0.5 * (left + right)
    near = middle - 0.5 * spread(left - low) * gap
    far = middle + 0.5 * spread(high - right) * gap
    swap = rng.random(a.shape) < 0.5
    return np.where(swap, far, near), np.where(swap, near, far)


def _changed(gene: Gene, x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Snapped rows ``(N, n_columns)`` that all differ from `x`."""
    out = gene.snap(_step(gene, x, rng))
    for _ in range(ATTEMPTS):
        same = np.flatnonzero((out == x).all(axis=1))
        if not len(same):
            break
        out[same] = gene.snap(_step(gene, x[same], rng))
    return out


def _step(gene: Gene, x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """One mutation step of each row ``(N, n_columns)``, not snapped."""
    low, high = gene.bounds
    if isinstance(gene, Real):
        return _polynomial(x, low, high, rng)
    if isinstance(gene, Integer):
        return _reflected_step(x, low, high, rng)
    if isinstance(gene, Categorical | Boolean):
        n_options = int(gene.cardinality)
        return (x + rng.integers(1, n_options, size=x.shape)) % n_options
    return _new_weights(x, rng)


def _polynomial(x: FloatArray, low: FloatArray, high: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Bounded polynomial mutation. Source: Deb & Goyal 1996, with the bounds of Deb's NSGA-II code."""
    u = rng.random(x.shape)
    power = 1.0 / (POLYNOMIAL_ETA + 1.0)
    room_down, room_up = (x - low) / (high - low), (high - x) / (high - low)
    down = (2.0 * u + (1.0 - 2.0 * u) * (1.0 - room_down) ** (POLYNOMIAL_ETA + 1.0)) ** power - 1.0
    up = 1.0 - (2.0 * (1.0 - u) + (2.0 * u - 1.0) * (1.0 - room_up) ** (POLYNOMIAL_ETA + 1.0)) ** power
    moved: FloatArray = x + np.where(u < 0.5, down, up) * (high - low)
    return moved


def _reflected_step(x: FloatArray, low: FloatArray, high: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A geometric step up or down, reflected at the bounds; never back to the same place."""
    span = high - low
    size = rng.geometric(1.0 / (1.0 + INTEGER_STEP * span), size=x.shape)
    place = (x - low + size * rng.choice([-1.0, 1.0], size=x.shape)) % (2.0 * span)
    moved = low + np.minimum(place, 2.0 * span - place)
    neighbour = np.where(x < high, x + 1.0, x - 1.0)
    stepped: FloatArray = np.where(moved == x, neighbour, moved)
    return stepped


def _new_weights(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Task weights ``(N, T)`` after a logistic-normal step, or reset to uniform or to one part."""
    n, n_parts = x.shape
    near = (x + SIMPLEX_FLOOR) * np.exp(SIMPLEX_SPREAD * rng.standard_normal(x.shape))
    uniform = rng.dirichlet(np.ones(n_parts), size=n)
    corner = np.eye(n_parts)[rng.integers(n_parts, size=n)]
    which = rng.random((n, 1))
    weights: FloatArray = np.where(which < SIMPLEX_RESET, uniform, np.where(which < 2 * SIMPLEX_RESET, corner, near))
    return weights
