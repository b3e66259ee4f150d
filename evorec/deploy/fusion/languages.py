"""What an evolution of formulas varies: the interface, and the baselines of trees, weighted sums and products."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Generic, Literal, TypeVar, final

from evorec.deploy.fusion.formula import RETRIEVAL, Formula, Node, identifier, negative, number, variable

G = TypeVar("G")
DIGITS = 3
"""Significant digits of an evolved constant: a person reads it."""
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
        """Two children; the parents stay as they are."""

    @abstractmethod
    def mutate(self, genome: G, rng: Random) -> G:
        """A changed copy."""

    @abstractmethod
    def tune(self, genome: G, rng: Random) -> G:
        """A copy whose constants alone have moved a bit."""

    @abstractmethod
    def formula(self, genome: G) -> Formula:
        """What a genome means."""


def rounded(value: float) -> float:
    """To `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


Weights = tuple[float, ...]


@final
class WeightedLanguage(Language[Weights]):
    """``w_0 retrieval + sum_t ±w_t z_t``, or ``exp(w_0 retrieval) * prod_t p_t ** ±w_t``; weights >= 0 sum to 1.

    Args:
        kind: ``sum`` of the heads' outputs, or ``product`` of the probabilities; a task of numbers, which has none,
            enters by ``exp(±w_t z_t)``.
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
        """First stage alone, each task alone, all alike."""
        n = 1 + len(self._names)
        return [tuple(float(at == one) for at in range(n)) for one in range(n)] + [_normal([1.0] * n)]

    def sample(self, rng: Random) -> Weights:
        """Weights over two decades."""
        return _normal([self._one(rng) for _ in range(1 + len(self._names))])

    def _one(self, rng: Random) -> float:
        return 0.0 if rng.random() < ZERO_SHARE else 10 ** rng.uniform(-2, 0)

    def mate(self, first: Weights, second: Weights, rng: Random) -> tuple[Weights, Weights]:
        """Between the parents, gene by gene."""
        shares = [rng.random() for _ in first]
        one = [a * share + b * (1 - share) for a, b, share in zip(first, second, shares, strict=True)]
        two = [b * share + a * (1 - share) for a, b, share in zip(first, second, shares, strict=True)]
        return _normal(one), _normal(two)

    def mutate(self, genome: Weights, rng: Random) -> Weights:
        """About two genes anew: moved by a factor, or to and from 0."""
        chance = 2 / len(genome)
        values = list(genome)
        for at, value in enumerate(values):
            if rng.random() < chance:
                values[at] = value * math.exp(rng.gauss(0, 0.7)) if value and rng.random() > 0.2 else self._one(rng)
        return _normal(values)

    def tune(self, genome: Weights, rng: Random) -> Weights:
        """Every weight by a small factor."""
        return _normal([value * math.exp(rng.gauss(0, 0.2)) for value in genome])

    def formula(self, genome: Weights) -> Formula:
        """Without the terms whose weight is 0."""
        terms = [] if genome[0] == 0 else [self._term(genome[0], variable(RETRIEVAL), None)]
        for name, weight, sign, binary in zip(self._names, genome[1:], self._signs, self._is_binary, strict=True):
            if weight:
                terms.append(
                    self._term(weight * sign, variable(f"z_{name}"), variable(f"p_{name}") if binary else None)
                )
        total = terms[0]
        for term in terms[1:]:
            total = Node("+" if self._kind == "sum" else "*", (total, term))
        return Formula(total)

    def _term(self, weight: float, output: Node, probability: Node | None) -> Node:
        value = rounded(weight)
        if self._kind == "sum":
            return _times(value, output)
        if probability is None:
            return Node("exp", (_times(value, output),))
        return probability if value == 1 else Node("**", (probability, number(value)))


def _times(value: float, own: Node) -> Node:
    return own if value == 1 else Node("*", (number(value), own))


def _normal(values: Sequence[float]) -> Weights:
    """With a sum of 1; the first stage alone when all are 0."""
    total = sum(values)
    return tuple(value / total for value in values) if total > 0 else (1.0, *[0.0] * (len(values) - 1))


def simplified(node: Node) -> Node:
    """The same ranking with fewer parts: constants that meet become one, rounded as all evolved ones are.

    Example:
        >>> formula = Formula.parse("log((p_like**2)**0.5) + -1*(3*z_like)", ["like"])
        >>> Formula(simplified(formula.root)).text
        'log(p_like) - 3.0*z_like'
    """
    node = replace(node, parts=tuple(simplified(part) for part in node.parts))
    if node.op == "*" and node.parts[0].op == "number":
        return _scaled(node.parts[0].value, node.parts[1])
    if node.op == "**" and node.parts[1].op == "number":
        base, power = node.parts[0], node.parts[1].value
        if base.op == "**" and base.parts[1].op == "number":
            base, power = base.parts[0], rounded(base.parts[1].value * power)
        return base if power == 1 else Node("**", (base, number(power)))
    if node.op == "log" and node.parts[0].op == "**" and node.parts[0].parts[1].op == "number":
        base, exponent = node.parts[0].parts
        return _scaled(exponent.value, Node("log", (base,)))
    if node.op in ("+", "-"):
        left, right = node.parts
        if right.op == "*" and right.parts[0].op == "number" and right.parts[0].value < 0:
            return Node("-" if node.op == "+" else "+", (left, _scaled(-1.0, right)))
        if right.op == "neg":
            return Node("-" if node.op == "+" else "+", (left, right.parts[0]))
    return node


def _scaled(value: float, part: Node) -> Node:
    """A constant times a part, whose own constant it takes in."""
    if part.op == "neg":
        return _scaled(-value, part.parts[0])
    if part.op == "*" and part.parts[0].op == "number":
        return _scaled(rounded(value * part.parts[0].value), part.parts[1])
    if value == -1:
        return negative(part)
    return part if value == 1 else Node("*", (number(value), part))
