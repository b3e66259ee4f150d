"""Kinds of formulas with genomes that an evolution can vary: the interface, and weighted sums and products.

The sums and products are the baselines that evolved trees are compared with.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from random import Random
from typing import Generic, Literal, TypeVar, final

from evorec.deploy.fusion.formula import RETRIEVAL, Formula, Node, identifier, number, variable

G = TypeVar("G")
DIGITS = 3
"""Significant digits of an evolved constant, so that a formula stays readable."""
ZERO_SHARE = 0.3
"""Share of weights that start at 0."""


class Language(ABC, Generic[G]):
    """A kind of formulas, with genomes that can be varied."""

    @abstractmethod
    def seeds(self) -> list[G]:
        """Genomes that every evolution starts with."""

    @abstractmethod
    def sample(self, rng: Random) -> G:
        """A random genome."""

    @abstractmethod
    def mate(self, first: G, second: G, rng: Random) -> tuple[G, G]:
        """Two children; the parents are not changed."""

    @abstractmethod
    def mutate(self, genome: G, rng: Random) -> G:
        """A changed copy."""

    @abstractmethod
    def tune(self, genome: G, rng: Random) -> G:
        """A copy with small changes of its constants only."""

    @abstractmethod
    def formula(self, genome: G) -> Formula:
        """The formula of a genome."""


def rounded(value: float) -> float:
    """To `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


Weights = tuple[float, ...]


@final
class WeightedLanguage(Language[Weights]):
    """``w_0 retrieval + sum_t ±w_t z_t``, or ``exp(w_0 retrieval) * prod_t p_t ** ±w_t``; weights >= 0 sum to 1.

    Args:
        kind: ``sum`` of the heads' outputs, or ``product`` of the probabilities; a regression task has no probability
            and enters by ``exp(±w_t z_t)``.
        tasks: names of the ranked tasks, ``(T,)``.
        is_binary: for each task whether it has a probability.
        signs: 1, or -1 for a task whose high values are bad; empty = all 1.
    """

    def __init__(
        self, kind: Literal["sum", "product"], tasks: Sequence[str], is_binary: Sequence[bool], signs: Sequence[int]
    ) -> None:
        self._kind, self._is_binary = kind, tuple(is_binary)
        self._names = [identifier(task) for task in tasks]
        self._signs = tuple(signs) or (1,) * len(tasks)

    def seeds(self) -> list[Weights]:
        """Only retrieval, each single task, equal weights."""
        n = 1 + len(self._names)
        return [tuple(float(i == j) for j in range(n)) for i in range(n)] + [_normalised([1.0] * n)]

    def sample(self, rng: Random) -> Weights:
        """Weights over two decades."""
        return _normalised([self._weight(rng) for _ in range(1 + len(self._names))])

    def _weight(self, rng: Random) -> float:
        return 0.0 if rng.random() < ZERO_SHARE else 10 ** rng.uniform(-2, 0)

    def mate(self, first: Weights, second: Weights, rng: Random) -> tuple[Weights, Weights]:
        """Between the parents, gene by gene."""
        shares = [rng.random() for _ in first]
        one = [a * share + b * (1 - share) for a, b, share in zip(first, second, shares, strict=True)]
        two = [b * share + a * (1 - share) for a, b, share in zip(first, second, shares, strict=True)]
        return _normalised(one), _normalised(two)

    def mutate(self, genome: Weights, rng: Random) -> Weights:
        """About two new weights: multiplied by a factor, or changed to and from 0."""
        chance = 2 / len(genome)
        values = list(genome)
        for i, value in enumerate(values):
            if rng.random() < chance:
                values[i] = value * math.exp(rng.gauss(0, 0.7)) if value and rng.random() > 0.2 else self._weight(rng)
        return _normalised(values)

    def tune(self, genome: Weights, rng: Random) -> Weights:
        """Every weight by a small factor."""
        return _normalised([value * math.exp(rng.gauss(0, 0.2)) for value in genome])

    def formula(self, genome: Weights) -> Formula:
        """Without the terms whose weight is 0."""
        terms = [self._term(genome[0], RETRIEVAL, None)] if genome[0] else []
        for name, weight, sign, binary in zip(self._names, genome[1:], self._signs, self._is_binary, strict=True):
            if weight:
                terms.append(self._term(weight * sign, f"z_{name}", f"p_{name}" if binary else None))
        total = terms[0]
        for term in terms[1:]:
            total = Node("+" if self._kind == "sum" else "*", (total, term))
        return Formula(total)

    def _term(self, weight: float, output: str, probability: str | None) -> Node:
        value = rounded(weight)
        if self._kind == "product" and probability is not None:
            return variable(probability) if value == 1 else Node("**", (variable(probability), number(value)))
        scaled = variable(output) if value == 1 else Node("*", (number(value), variable(output)))
        return scaled if self._kind == "sum" else Node("exp", (scaled,))


def _normalised(values: Sequence[float]) -> Weights:
    """With a sum of 1; only retrieval when all are 0."""
    total = sum(values)
    return tuple(value / total for value in values) if total > 0 else (1.0, *[0.0] * (len(values) - 1))
