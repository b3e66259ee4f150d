"""Formulas evolved by NSGA-II: typed genetic programming with DEAP, on cached head outputs, without training anything.

What is taken from DEAP: typed primitive sets, trees, the limit on their size and NSGA-II's selection. What is not, and
why: ``gp.compile`` runs text; ``cxOnePoint`` walks a set of types, whose order differs between processes; ephemeral
constants are classes in a global cache that draw from the global stream. Trees vary from a stream of their own, and
the global one, which DEAP's tournament reads, is put back as it was.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar, final

import numpy as np
from deap import gp, tools

from evorec.archive.pareto import non_dominated
from evorec.deploy.fusion.choice import SIZE, best_of_front
from evorec.deploy.fusion.formula import RETRIEVAL, Formula, Node, identifier, number, variable
from evorec.deploy.fusion.formula_scores import FormulaScorer
from evorec.deploy.fusion.languages import Language, rounded, simplified
from evorec.objectives import FloatArray, Objective
from evorec.search.deap_toolbox import GenomeFitness, fitness_kind
from evorec.seeds import child_seed

G = TypeVar("G")
MMR_RANGE: Final = (0.02, 0.9)
MATE_SHARE: Final = 0.6
"""Share of the pairs that mate; children of the others are mutated."""
GROWN_DEPTH: Final = 3
TUNED_AT_ONCE: Final = 24
DEAP_GROUP: Final = 4
"""DEAP's tournament takes parents in groups of four."""


@final
@dataclass(eq=False)
class Candidate(Generic[G]):
    """A formula with its weight of re-ranking, measured on the fitting half.

    Attributes:
        genome: of its language.
        mmr: weight of `evorec.serving.mmr.mmr`; 0 = none.
        formula: what the genome means.
        metrics: measured ones, and its size.
        lists: hash of its lists.
        fitness: of DEAP, to be minimised.
    """

    genome: G
    mmr: float
    formula: Formula
    metrics: dict[str, float]
    lists: bytes
    fitness: GenomeFitness

    @property
    def effort(self) -> tuple[float, int, str]:
        """Of formulas that give equal lists the one with the least of it stays."""
        return (self.formula.size + (self.mmr > 0), len(self.formula.text), self.formula.text)


@final
@dataclass(frozen=True)
class Evolved(Generic[G]):
    """The front of everything that was evaluated, by ascending size, and how many evaluations there were."""

    front: tuple[Candidate[G], ...]
    n_evaluated: int


def evolve(
    language: Language[G],
    scorer: FormulaScorer,
    objectives: Sequence[Objective],
    *,
    population: int,
    budget: int,
    tuning: int,
    mmr: bool,
    seed: int,
) -> Evolved[G]:
    """The front of a language.

    Args:
        language: what is varied.
        scorer: of the fitting half.
        objectives: M objectives.
        population: formulas per generation, rounded up to a multiple of 4.
        budget: evaluations in all; one that is asked for again counts again.
        tuning: those of them that move the constants of the front at the end.
        mmr: whether formulas may come with a weight of re-ranking.
        seed: of everything drawn.
    """
    rng = random.Random(child_seed(seed, "formulas"))
    evolution = _Evolution(language, scorer, tuple(objectives), rng=rng, mmr=mmr)
    with _global_stream(child_seed(seed, "tournament")):
        evolution.run(DEAP_GROUP * math.ceil(population / DEAP_GROUP), budget - tuning)
    evolution.tune(budget)
    return Evolved(evolution.front(), evolution.n_evaluated)


@contextmanager
def _global_stream(seed: int) -> Iterator[None]:
    """Python's global random numbers from `seed`, and afterwards as if nobody had drawn any."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@final
class _Evolution(Generic[G]):
    """NSGA-II over one language, and the archive of what it met: one candidate for each different set of lists."""

    def __init__(
        self,
        language: Language[G],
        scorer: FormulaScorer,
        objectives: tuple[Objective, ...],
        *,
        rng: random.Random,
        mmr: bool,
    ) -> None:
        self._language, self._scorer, self._objectives = language, scorer, objectives
        self._rng, self._mmr = rng, mmr and scorer.has_content
        self._known: dict[tuple[Formula, float], tuple[dict[str, float], bytes]] = {}
        self._archive: dict[bytes, Candidate[G]] = {}
        self.n_evaluated = 0

    def run(self, size: int, budget: int) -> None:
        """Generations of `size` formulas until the next one would pass `budget`."""
        seeds = [self._evaluated(genome, mmr) for genome in self._language.seeds() for mmr in self._seed_weights()]
        newcomers = [self._newcomer() for _ in range(max(size - len(seeds), size // 2))]
        current = self._survivors([*seeds, *newcomers], size)
        while self.n_evaluated + size <= budget:
            children: list[Candidate[G]] = []
            chosen = len(current) // DEAP_GROUP * DEAP_GROUP
            parents = tools.selTournamentDCD(current, chosen) if chosen else current
            for first, second in zip(parents[::2], parents[1::2], strict=False):
                children += self._children(first, second)
            children += [self._newcomer() for _ in range(size - len(children))]
            current = self._survivors([*current, *children], size)

    def tune(self, budget: int) -> None:
        """Moves the constants of the formulas that make the front's hypervolume, in turn, until `budget` is spent."""
        axes = [one for one in self._objectives if one.metric != SIZE] or self._objectives
        while self.n_evaluated < budget:
            front = self.front()
            best = best_of_front([one.metrics for one in front], axes, TUNED_AT_ONCE)
            for at in best[: budget - self.n_evaluated]:
                self._evaluated(
                    self._language.tune(front[at].genome, self._rng), self._moved(front[at].mmr, toggle=0.0)
                )

    def front(self) -> tuple[Candidate[G], ...]:
        """What nothing dominates, by ascending effort."""
        everyone = sorted(self._archive.values(), key=lambda one: (one.effort, one.mmr))
        mask = non_dominated(self._matrix([one.metrics for one in everyone]))
        return tuple(one for one, keep in zip(everyone, mask, strict=True) if keep)

    def _seed_weights(self) -> tuple[float, ...]:
        return (0.0, 0.3) if self._mmr else (0.0,)

    def _survivors(self, candidates: Sequence[Candidate[G]], size: int) -> list[Candidate[G]]:
        """NSGA-II's choice among different lists."""
        different: dict[bytes, Candidate[G]] = {}
        for one in candidates:
            same = different.get(one.lists)
            if same is None or one.effort < same.effort:
                different[one.lists] = one
        return list(tools.selNSGA2(list(different.values()), min(size, len(different))))

    def _children(self, first: Candidate[G], second: Candidate[G]) -> list[Candidate[G]]:
        rng, weights = self._rng, [first.mmr, second.mmr]
        genomes = [first.genome, second.genome]
        if rng.random() < MATE_SHARE:
            genomes = list(self._language.mate(first.genome, second.genome, rng))
            if rng.random() < 1 / 2:
                weights.reverse()
        else:
            genomes = [self._language.mutate(genome, rng) for genome in genomes]
        return [
            self._evaluated(genome, self._moved(weight, toggle=0.1))
            for genome, weight in zip(genomes, weights, strict=True)
        ]

    def _newcomer(self) -> Candidate[G]:
        weight = rounded(self._rng.uniform(*MMR_RANGE)) if self._rng.random() < 1 / 2 else 0.0
        return self._evaluated(self._language.sample(self._rng), weight)

    def _moved(self, weight: float, *, toggle: float) -> float:
        """A weight of re-ranking in its neighbourhood; or, with a chance of `toggle`, none or a new one."""
        if self._rng.random() < toggle:
            return 0.0 if weight else self._rng.uniform(*MMR_RANGE)
        if not weight or self._rng.random() < 1 / 2:
            return weight
        return min(max(weight * math.exp(self._rng.gauss(0, 0.3)), MMR_RANGE[0]), MMR_RANGE[1])

    def _evaluated(self, genome: G, mmr: float) -> Candidate[G]:
        self.n_evaluated += 1
        formula, weight = self._language.formula(genome), rounded(mmr) if self._mmr else 0.0
        if (formula, weight) not in self._known:
            positions = self._scorer.positions(formula, weight)
            metrics = self._scorer.metrics(positions) | {SIZE: float(formula.size)}
            self._known[formula, weight] = metrics, blake2b(positions.tobytes(), digest_size=16).digest()
        metrics, lists = self._known[formula, weight]
        fitness = fitness_kind(len(self._objectives))()
        fitness.values = tuple(self._matrix([metrics])[0].tolist())
        found = Candidate(genome, weight, formula, metrics, lists, fitness)
        same = self._archive.get(lists)
        if same is None or found.effort < same.effort:
            self._archive[lists] = found
        return found

    def _matrix(self, rows: Sequence[dict[str, float]]) -> FloatArray:
        columns = [one.minimised([row[one.metric] for row in rows]) for one in self._objectives]
        return np.stack(columns, axis=1)


class Score:
    """Type of a part: any number that ranks."""


class Probability(Score):
    """Type of a part: a probability, or a product or power of some."""


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
    """Typed trees over the first-stage score, probabilities and raw head outputs.

    Args:
        tasks: names of the ranked tasks, ``(T,)``.
        is_binary: for each task whether it has a probability.
        max_size: most nodes of a tree that varying makes.
        seeds: formulas to start with, of any size.
        starters: other languages whose random formulas make up half of the newcomers.
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
        """Subtrees of one type change places."""

        def exchange(one: Tree, two: Tree) -> tuple[Tree, Tree]:
            common = sorted({node.ret.__name__ for node in one} & {node.ret.__name__ for node in two})
            kind = rng.choice(common)
            places = [
                rng.choice([at for at, node in enumerate(tree) if node.ret.__name__ == kind]) for tree in (one, two)
            ]
            here, there = one.searchSubtree(places[0]), two.searchSubtree(places[1])
            one[here], two[there] = two[there], one[here]
            return one, two

        shares = {node.ret for node in first} & {node.ret for node in second}
        if not shares:
            return Tree(first), Tree(second)
        limited = gp.staticLimit(len, self._max_size)(exchange)
        one, two = limited(Tree(first), Tree(second))
        return one, two

    def mutate(self, genome: Tree, rng: random.Random) -> Tree:
        """A new subtree, another node of the same kind, a subtree in its parent's place, or moved constants."""

        def change(tree: Tree) -> tuple[Tree]:
            kind = rng.choice(("subtree", "node", "shrink", "constants"))
            if kind == "constants":
                return (self.tune(tree, rng),)
            at = rng.randrange(len(tree))
            own = tree.searchSubtree(at)
            if kind == "subtree":
                tree[own] = self._grown(tree[at].ret, rng.randint(0, 2), rng)
            elif kind == "node":
                tree[at] = self._replaced(tree[at], rng)
            else:
                inner = [n for n in range(at + 1, own.stop) if issubclass(tree[n].ret, tree[at].ret)]
                if inner:
                    tree[own] = tree[tree.searchSubtree(rng.choice(inner))]
            return (tree,)

        changed: Tree = gp.staticLimit(len, self._max_size)(change)(Tree(genome))[0]
        return changed

    def tune(self, genome: Tree, rng: random.Random) -> Tree:
        """Every constant by a small factor, a weight rarely to the other side of 0."""
        out = Tree(genome)
        for at, node in enumerate(out):
            if node.ret in (Weight, Exponent):
                sign = -1 if node.ret is Weight and rng.random() < 0.05 else 1
                out[at] = _constant(rounded(sign * node.value * math.exp(rng.gauss(0, 0.25))), node.ret)
        return out

    def formula(self, genome: Tree) -> Formula:
        """The tree as a formula, simplified; nothing is evaluated as text."""
        return Formula(simplified(_node_at(genome, 0)[0]))

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
        return [self._set.mapping[names.get(node.op, node.op)], *(one for part in parts for one in part)]

    def _grown(self, kind: type, depth: int, rng: random.Random) -> list[Any]:
        if kind is Weight:
            return [_constant(rounded(rng.choice((1, 1, 1, -1)) * 10 ** rng.uniform(-1.5, 0.5)), Weight)]
        if kind is Exponent:
            return [_constant(rounded(10 ** rng.uniform(-1, 0.6)), Exponent)]
        terminals, primitives = self._set.terminals[kind], self._set.primitives[kind]
        if terminals and (depth <= 0 or rng.random() < 1 / 4):
            return [rng.choice(terminals)]
        primitive = rng.choice(primitives)
        return [primitive, *(one for part in primitive.args for one in self._grown(part, depth - 1, rng))]

    def _replaced(self, node: Any, rng: random.Random) -> Any:
        if node.ret in (Weight, Exponent):
            return self._grown(node.ret, 0, rng)[0]
        if node.arity == 0:
            return rng.choice(self._set.terminals[node.ret])
        return rng.choice([other for other in self._set.primitives[node.ret] if other.args == node.args])


def _primitives(types: dict[str, type]) -> gp.PrimitiveSetTyped:
    """Variables and operations by type; those of probabilities only where there is one."""
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


def _node_at(tree: Tree, at: int) -> tuple[Node, int]:
    """The part of a formula that begins at a place of a tree, and where the next one begins."""
    own = tree[at]
    if own.arity == 0:
        return (variable(own.value) if issubclass(own.ret, Score) else number(own.value)), at + 1
    parts, following = [], at + 1
    for _ in range(own.arity):
        part, following = _node_at(tree, following)
        parts.append(part)
    return Node(_SYMBOLS.get(own.name, own.name), tuple(parts)), following
