"""Formulas evolved by NSGA-II on cached head outputs; no model is trained or run.

Selection is DEAP's. Formulas vary from a random stream of their own; the global stream, from which DEAP's tournament
draws, is restored afterwards.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Generic, TypeVar, final

import numpy as np
from deap import tools

from evorec.archive.indicators import hypervolume_share, normalised
from evorec.archive.pareto import non_dominated
from evorec.deploy.fusion.formula import SIZE, Formula
from evorec.deploy.fusion.languages import Language, rounded
from evorec.deploy.fusion.scorer import FormulaScorer
from evorec.objectives import Metrics, Objective
from evorec.search.deap_toolbox import GenomeFitness, fitness_kind
from evorec.seeds import child_seed

G = TypeVar("G")
MMR_RANGE: Final = (0.02, 0.9)
MATE_SHARE: Final = 0.6
"""Share of the pairs that mate; children of the others are mutated."""
TUNED_TOGETHER: Final = 24
TOURNAMENT_GROUP: Final = 4
"""DEAP's tournament selects parents in groups of four."""


@final
@dataclass(eq=False)
class Candidate(Generic[G]):
    """A formula with its weight of re-ranking, measured on the fitting half.

    Attributes:
        genome: of its language.
        mmr: weight of `evorec.serving.mmr.mmr`; 0 = no re-ranking.
        formula: of the genome.
        metrics: of its lists, and its size.
        lists: hash of its lists.
        fitness: DEAP's, minimised.
    """

    genome: G
    mmr: float
    formula: Formula
    metrics: dict[str, float]
    lists: bytes
    fitness: GenomeFitness

    @property
    def effort(self) -> tuple[float, int, str]:
        """Of formulas with equal lists only the smallest by this order is kept."""
        return (self.formula.size + (self.mmr > 0), len(self.formula.text), self.formula.text)


def best_of_front(rows: Sequence[Metrics], objectives: Sequence[Objective], keep: int) -> list[int]:
    """Indices of at most `keep` non-dominated rows, chosen greedily by their gain of hypervolume.

    Args:
        rows: N measured metric dictionaries.
        objectives: M objectives.
        keep: rows to choose; a smaller front is returned whole, in order.
    Example:
        >>> axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
        >>> best_of_front([{"a": a, "b": b} for a, b in ((0.1, 0.9), (0.5, 0.5), (0.5, 0.4), (0.9, 0.2))], axes, 2)
        [1, 3]
    """
    left = np.flatnonzero(non_dominated(normalised(rows, objectives))).tolist()
    if len(left) <= keep:
        return left
    chosen: list[int] = []
    gains = {i: hypervolume_share([rows[i]], objectives) for i in left}  # upper bounds: a gain only shrinks
    total = 0.0
    while len(chosen) < keep:
        fresh: set[int] = set()
        while (best := max(gains, key=lambda i: (gains[i], -i))) not in fresh:
            gains[best] = hypervolume_share([rows[i] for i in (*chosen, best)], objectives) - total
            fresh.add(best)
        chosen.append(best)
        total += gains.pop(best)
    return chosen


@final
class Evolution(Generic[G]):
    """NSGA-II over a language, with an archive of a candidate for each different set of lists.

    Args:
        language: that is varied.
        scorer: of the fitting half.
        objectives: M objectives.
        mmr: whether formulas may have a weight of re-ranking.
        seed: of all draws.
    """

    def __init__(
        self, language: Language[G], scorer: FormulaScorer, objectives: Sequence[Objective], *, mmr: bool, seed: int
    ) -> None:
        self._language, self._scorer, self._objectives = language, scorer, tuple(objectives)
        self._seed, self._rng, self._mmr = seed, random.Random(child_seed(seed, "formulas")), mmr and scorer.has_content
        self._known: dict[tuple[Formula, float], tuple[dict[str, float], bytes]] = {}
        self._archive: dict[bytes, Candidate[G]] = {}
        self.n_evaluated = 0

    def run(self, population: int, budget: int, *, tuning: int) -> tuple[Candidate[G], ...]:
        """Evolve, then tune constants.

        Args:
            population: formulas per generation, rounded up to a multiple of 4.
            budget: evaluations in total; a repeated evaluation counts again.
            tuning: those of them that change constants of the front at the end.
        Returns:
            The front of everything that was evaluated, by ascending effort.
        """
        with _global_stream(child_seed(self._seed, "tournament")):
            self._evolve(TOURNAMENT_GROUP * math.ceil(population / TOURNAMENT_GROUP), budget - tuning)
        axes = [axis for axis in self._objectives if axis.metric != SIZE] or self._objectives
        while self.n_evaluated < budget:
            front = self._front()
            best = best_of_front([candidate.metrics for candidate in front], axes, TUNED_TOGETHER)
            for i in best[: budget - self.n_evaluated]:
                genome = self._language.tune(front[i].genome, self._rng)
                self._evaluated(genome, self._moved(front[i].mmr, toggle=0.0))
        return self._front()

    def _evolve(self, size: int, budget: int) -> None:
        """Generations of `size` formulas until the next generation would exceed `budget`."""
        weights = (0.0, 0.3) if self._mmr else (0.0,)
        seeds = [self._evaluated(genome, mmr) for genome in self._language.seeds() for mmr in weights]
        newcomers = [self._newcomer() for _ in range(max(size - len(seeds), size // 2))]
        current = self._survivors([*seeds, *newcomers], size)
        while self.n_evaluated + size <= budget:
            children: list[Candidate[G]] = []
            n_parents = len(current) // TOURNAMENT_GROUP * TOURNAMENT_GROUP
            parents = tools.selTournamentDCD(current, n_parents) if n_parents else current
            for first, second in zip(parents[::2], parents[1::2], strict=False):
                children += self._children(first, second)
            children += [self._newcomer() for _ in range(size - len(children))]
            current = self._survivors([*current, *children], size)

    def _front(self) -> tuple[Candidate[G], ...]:
        candidates = sorted(self._archive.values(), key=lambda candidate: (candidate.effort, candidate.mmr))
        mask = non_dominated(np.array([candidate.fitness.values for candidate in candidates]))
        return tuple(candidate for candidate, keep in zip(candidates, mask, strict=True) if keep)

    def _survivors(self, candidates: Sequence[Candidate[G]], size: int) -> list[Candidate[G]]:
        """NSGA-II's choice among candidates with different lists."""
        different: dict[bytes, Candidate[G]] = {}
        for candidate in candidates:
            _keep_simplest(different, candidate)
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
        """A nearby weight of re-ranking; with probability `toggle` it is switched off, or on with a new weight."""
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
        fitness.values = tuple(float(axis.minimised([metrics[axis.metric]])[0]) for axis in self._objectives)
        candidate = Candidate(genome, weight, formula, metrics, lists, fitness)
        _keep_simplest(self._archive, candidate)
        return candidate


def _keep_simplest(by_lists: dict[bytes, Candidate[G]], candidate: Candidate[G]) -> None:
    same = by_lists.get(candidate.lists)
    if same is None or candidate.effort < same.effort:
        by_lists[candidate.lists] = candidate


@contextmanager
def _global_stream(seed: int) -> Iterator[None]:
    """Seed Python's global random stream, and restore its state afterwards."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
