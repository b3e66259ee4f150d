"""Typed trees as a language of formulas: genetic programming on DEAP's primitive sets and trees.

From DEAP come typed primitive sets, trees and the limit on their size. Not used, and why: ``gp.compile`` executes text;
``cxOnePoint`` iterates over a set of types, whose order differs between processes; ephemeral constants are classes in a
global cache that draw from the global random stream.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, final

from deap import gp

from evorec.deploy.fusion.formula import RETRIEVAL, Formula, Node, identifier, negative, number, variable
from evorec.deploy.fusion.languages import Language, rounded

GROWN_DEPTH: Final = 3


class Score:
    """Type of a part: any number that ranks."""


class Probability(Score):
    """Type of a part: a probability, or a product or power of probabilities."""


class Weight:
    """Type of a constant that multiplies."""


class Exponent:
    """Type of a constant that a probability is raised to."""


@final
class Tree(gp.PrimitiveTree):  # type: ignore[misc]  # deap is untyped
    """A typed tree, depth first."""


_SYMBOLS: Final = {"add": "+", "sub": "-", "mul": "*", "div": "/", "scale": "*", "times": "*", "power": "**"}
"""Primitives that are written between their operands; the others are functions of that name."""


@final
class TreeLanguage(Language[Tree]):
    """Typed trees over the retrieval score, probabilities and raw head outputs.

    Args:
        tasks: names of the ranked tasks, ``(T,)``.
        is_binary: for each task whether it has a probability.
        max_size: largest number of nodes of a tree that variation makes.
        seeds: formulas to start with, of any size.
        starters: other languages whose random formulas make up half of the new genomes.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        is_binary: Sequence[bool],
        *,
        max_size: int,
        seeds: Sequence[Formula],
        starters: Sequence[Language[Any]] = (),
    ) -> None:
        self._types: dict[str, type] = {RETRIEVAL: Score}
        for task, binary in zip(tasks, is_binary, strict=True):
            self._types |= {f"p_{identifier(task)}": Probability} if binary else {}
            self._types[f"z_{identifier(task)}"] = Score
        self._set = _primitives(self._types)
        self._seeds, self._starters, self._max_size = seeds, starters, max_size

    def seeds(self) -> list[Tree]:
        """The given formulas."""
        return [self.tree(formula) for formula in self._seeds]

    def sample(self, rng: random.Random) -> Tree:
        """A grown tree, or a formula of a starter."""
        if self._starters and rng.random() < 1 / 2:
            starter = rng.choice(list(self._starters))
            return self.tree(starter.formula(starter.sample(rng)))
        return Tree(self._grown(Score, GROWN_DEPTH, rng))

    def mate(self, first: Tree, second: Tree, rng: random.Random) -> tuple[Tree, Tree]:
        """The parents with two subtrees of equal type exchanged."""

        def exchange(one: Tree, two: Tree) -> tuple[Tree, Tree]:
            common = sorted({node.ret.__name__ for node in one} & {node.ret.__name__ for node in two})
            kind = rng.choice(common)
            here, there = (
                tree.searchSubtree(rng.choice([i for i, node in enumerate(tree) if node.ret.__name__ == kind]))
                for tree in (one, two)
            )
            one[here], two[there] = two[there], one[here]
            return one, two

        if not {node.ret for node in first} & {node.ret for node in second}:
            return Tree(first), Tree(second)
        one, two = gp.staticLimit(len, self._max_size)(exchange)(Tree(first), Tree(second))
        return one, two

    def mutate(self, genome: Tree, rng: random.Random) -> Tree:
        """A new subtree, another node of the same type, a subtree moved up to its parent, or tuned constants."""

        def change(tree: Tree) -> tuple[Tree]:
            kind = rng.choice(("subtree", "node", "shrink", "constants"))
            if kind == "constants":
                return (self.tune(tree, rng),)
            i = rng.randrange(len(tree))
            own = tree.searchSubtree(i)
            if kind == "subtree":
                tree[own] = self._grown(tree[i].ret, rng.randint(0, 2), rng)
            elif kind == "node":
                tree[i] = self._replacement(tree[i], rng)
            elif inner := [j for j in range(i + 1, own.stop) if issubclass(tree[j].ret, tree[i].ret)]:
                tree[own] = tree[tree.searchSubtree(rng.choice(inner))]
            return (tree,)

        changed: Tree = gp.staticLimit(len, self._max_size)(change)(Tree(genome))[0]
        return changed

    def tune(self, genome: Tree, rng: random.Random) -> Tree:
        """Every constant by a small factor; a weight rarely changes its sign."""
        out = Tree(genome)
        for i, node in enumerate(out):
            if node.ret in (Weight, Exponent):
                sign = -1 if node.ret is Weight and rng.random() < 0.05 else 1
                out[i] = _constant(rounded(sign * node.value * math.exp(rng.gauss(0, 0.25))), node.ret)
        return out

    def formula(self, genome: Tree) -> Formula:
        """The tree as a simplified formula."""
        remaining = iter(genome)

        def node() -> Node:
            own = next(remaining)
            if own.arity == 0:
                return variable(own.value) if issubclass(own.ret, Score) else number(own.value)
            return Node(_SYMBOLS.get(own.name, own.name), tuple(node() for _ in range(own.arity)))

        return Formula(simplified(node()))

    def tree(self, formula: Formula) -> Tree:
        """A tree for a formula of the forms that a member and weighted sums and products have.

        Example:
            >>> language = TreeLanguage(["click"], [True], max_size=9, seeds=())
            >>> formula = Formula.parse("retrieval + 0.5*z_click", ["click"])
            >>> language.formula(language.tree(formula)) == formula
            True
        """
        return Tree(self._nodes(formula.root))

    def _nodes(self, node: Node) -> list[Any]:
        if node.op == "name":
            return [gp.Terminal(node.name, True, self._types[node.name])]
        first = node.parts[0]
        if node.op == "*" and first.op == "number":
            return [self._set.mapping["scale"], _constant(first.value, Weight), *self._nodes(node.parts[1])]
        if node.op == "**":
            return [self._set.mapping["power"], *self._nodes(first), _constant(node.parts[1].value, Exponent)]
        parts = [self._nodes(part) for part in node.parts]
        both = all(issubclass(part[0].ret, Probability) for part in parts)
        names = {"+": "add", "-": "sub", "*": "times" if both else "mul", "/": "div"}
        return [self._set.mapping[names.get(node.op, node.op)], *(child for part in parts for child in part)]

    def _grown(self, kind: type, depth: int, rng: random.Random) -> list[Any]:
        if kind is Weight:
            return [_constant(rounded(rng.choice((1, 1, 1, -1)) * 10 ** rng.uniform(-1.5, 0.5)), Weight)]
        if kind is Exponent:
            return [_constant(rounded(10 ** rng.uniform(-1, 0.6)), Exponent)]
        terminals, primitives = self._set.terminals[kind], self._set.primitives[kind]
        if terminals and (depth <= 0 or rng.random() < 1 / 4):
            return [rng.choice(terminals)]
        primitive = rng.choice(primitives)
        return [primitive, *(node for part in primitive.args for node in self._grown(part, depth - 1, rng))]

    def _replacement(self, node: Any, rng: random.Random) -> Any:
        if node.ret in (Weight, Exponent):
            return self._grown(node.ret, 0, rng)[0]
        if node.arity == 0:
            return rng.choice(self._set.terminals[node.ret])
        return rng.choice([other for other in self._set.primitives[node.ret] if other.args == node.args])


def _primitives(types: dict[str, type]) -> gp.PrimitiveSetTyped:
    """Variables and operations by type; those of probabilities only where a task has a probability."""
    out = gp.PrimitiveSetTyped("formula", [], Score)
    for name, kind in types.items():
        out.addTerminal(name, kind)
    operations: dict[str, tuple[list[type], type]] = {
        name: ([Score, Score], Score) for name in ("add", "sub", "mul", "div", "min", "max")
    }
    operations |= {"scale": ([Weight, Score], Score), "exp": ([Score], Score)}
    if Probability in types.values():
        operations |= {"times": ([Probability, Probability], Probability), "log": ([Probability], Score)}
        operations |= {"power": ([Probability, Exponent], Probability), "sigmoid": ([Score], Probability)}
    else:
        operations["sigmoid"] = ([Score], Score)
    for name, (parts, result) in operations.items():
        out.addPrimitive(None, parts, result, name=name)
    return out


def _constant(value: float, kind: type) -> gp.Terminal:
    return gp.Terminal(value, False, kind)


def simplified(node: Node) -> Node:
    """The same ranking with fewer parts: adjacent constants become a single constant, rounded like evolved constants.

    Example:
        >>> formula = Formula.parse("log((p_like**2)**0.5) + -1*(3*z_like)", ["like"])
        >>> Formula(simplified(formula.root)).text
        'log(p_like) - 3.0*z_like'
    """
    node = replace(node, parts=tuple(simplified(part) for part in node.parts))
    match node.op, node.parts:
        case "*", [Node(op="number", value=value), part]:
            return _scaled(value, part)
        case "**", [base, Node(op="number", value=power)]:
            if base.op == "**" and base.parts[1].op == "number":
                base, power = base.parts[0], rounded(base.parts[1].value * power)
            return base if power == 1 else Node("**", (base, number(power)))
        case "log", [Node(op="**", parts=(base, Node(op="number", value=power)))]:
            return _scaled(power, Node("log", (base,)))
        case (("+" | "-"), [left, Node(op="*", parts=(Node(op="number", value=value), _)) as right]) if value < 0:
            return Node("-" if node.op == "+" else "+", (left, _scaled(-1.0, right)))
        case (("+" | "-"), [left, Node(op="neg", parts=(part,))]):
            return Node("-" if node.op == "+" else "+", (left, part))
    return node


def _scaled(value: float, part: Node) -> Node:
    """A constant times a part; a constant factor of the part is merged into it."""
    match part:
        case Node(op="neg", parts=(inner,)):
            return _scaled(-value, inner)
        case Node(op="*", parts=(Node(op="number", value=own), inner)):
            return _scaled(rounded(value * own), inner)
    if value == -1:
        return negative(part)
    return part if value == 1 else Node("*", (number(value), part))
