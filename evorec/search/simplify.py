"""The simplest genome within the noise of a member: genes set back to their defaults while no objective gets worse.

Greedy backward elimination. All single resets of the current genome are trained with one seed and ranked by the loss of
the objective that suffers most. Then prefixes of this ranking (all of it, its half, its quarter and so on) and the next
single resets are trained with all seeds, and the longest within the noise is kept. This repeats until none is. Losses
are measured against the member itself, so they cannot add up. The result is measured again with other seeds, because
resets were kept that chance favoured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from evorec.errors import TrainingError
from evorec.objectives import FloatArray, Metrics, to_matrices
from evorec.problem import Problem, Spec
from evorec.search.evaluator import evaluate
from evorec.search.executors import Executor, SerialExecutor
from evorec.seeds import child_seed

SINGLES: Final = 3
"""First resets of the ranking that are also tried by themselves, in case the best of them looked good by luck."""
ROUNDING: Final = 1e-12
"""Relative difference of two means that is no loss; matters where an objective has no noise, as a counted cost."""


@final
@dataclass(frozen=True)
class Reset:
    """A gene that differs between a member and the simplest genome; None = it has no effect there."""

    gene: str
    was: Any
    now: Any


@final
@dataclass(frozen=True)
class Comparison:
    """An objective of the member and of the simplest genome, with fresh seeds that chose neither.

    Attributes:
        objective: its name.
        noise: standard deviation of the member over the seeds of the search.
        before, after: mean and standard deviation of the member and of the simplest genome.
        within: whether the mean is worse by at most the noise.
    """

    objective: str
    noise: float
    before: tuple[float, float]
    after: tuple[float, float]
    within: bool


@final
@dataclass(frozen=True)
class SimplerGenome:
    """The result of `simplify`.

    Attributes:
        spec: the simplest genome that was found.
        resets: its differences from the member.
        left: genes that still differ from their defaults.
        comparisons: of each objective.
        n_trainings: how many trainings it took.
    """

    spec: Spec
    resets: tuple[Reset, ...]
    left: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    n_trainings: int


def simplify(
    problem: Problem,
    spec: Spec,
    *,
    n_seeds: int = 5,
    executor: Executor | None = None,
    chunk: int = 8,
    progress: Callable[[str], None] = lambda _: None,
) -> SimplerGenome:
    """Set genes of a member back to their defaults while no objective falls beyond its seed noise.

    Args:
        problem: it is evaluated with seeds of its own, `Problem.with_seed`.
        spec: decoded genome of the member.
        n_seeds: seeds for the noise and the choice, and as many others for the comparison; at least 2.
        executor: evaluates the stacks; serial by default.
        chunk: most genomes in a stack.
        progress: called with a line of text per round.
    Returns:
        A genome whose means over the seeds of the search are in no objective worse than the member's by more than one
        standard deviation of the member over these seeds, and which keeps every constraint that the member keeps.
    Raises:
        TrainingError: the member itself fails with a seed.
    Source: backward elimination; trying halves of the remaining resets at once: delta debugging, Zeller & Hildebrandt
        2002; a candidate pruned towards a target configuration: BONSAI in BoTorch. Cost: about (genes + 8 n_seeds)
        trainings per round, usually 2 to 5 rounds.
    """
    space = problem.space
    default, row = space.default(), space.encode(spec)
    spec = space.decode(row)
    trainer = _Trainer(problem, executor or SerialExecutor(), chunk)
    chosen_by = [child_seed(problem.seed, "simplify", number) for number in range(n_seeds)]
    own = [trainer.measured([spec], seed)[0] for seed in chosen_by]
    for number, metrics in enumerate(own):
        if metrics is None:
            raise TrainingError(f"the member fails with seed {number + 1} of {n_seeds}; choose another member.")
    F, G = _means(problem, own)
    noise = np.std([to_matrices([metrics], problem.objectives, ())[0][0] for metrics in own], axis=0, ddof=1)
    kept = G <= 0

    def loss(rows: Sequence[Metrics | None], F: FloatArray) -> float:
        """Loss of the objective that suffers most, in units of its noise; infinite if a training or a limit fails."""
        if any(metrics is None for metrics in rows):
            return np.inf
        its, violations = _means(problem, rows)
        if (violations[kept] > 0).any():
            return np.inf
        worse = np.where(its - F > ROUNDING * np.abs(F), its - F, np.minimum(its - F, 0.0))
        return float(np.divide(worse, noise, out=np.where(worse > 0, np.inf, 0.0), where=noise > 0).max())

    while True:
        genes = [name for name, part in space.slices.items() if (row[part] != default[part]).any()]
        if not genes:
            break

        def without(names: Sequence[str], row: FloatArray = row) -> FloatArray:
            changed = row.copy()[None, :]
            for name in names:
                changed[:, space.slices[name]] = default[space.slices[name]]
            snapped: FloatArray = space.snap(changed)[0]
            return snapped

        progress(f"{len(genes)} genes differ from their defaults; training each reset")
        singles = trainer.measured([space.decode(without([name])) for name in genes], chosen_by[0])
        losses = [loss([metrics], _means(problem, own[:1])[0]) for metrics in singles]
        ranked = [genes[index] for index in np.argsort(losses, kind="stable") if np.isfinite(losses[index])]
        sizes = sorted({len(ranked) >> power for power in range(len(ranked).bit_length())}, reverse=True)
        trials = [ranked[:size] for size in sizes] + [[name] for name in ranked[1:SINGLES]]
        if not trials:
            break
        progress(f"training {', '.join(map(str, sizes))} resets at once, with {n_seeds} seeds")
        specs = [space.decode(without(names)) for names in trials]
        by_seed = [trainer.measured(specs, seed) for seed in chosen_by]
        found = [loss([rows[index] for rows in by_seed], F) for index in range(len(trials))]
        within = [index for index, value in enumerate(found) if value <= 1]
        if not within:
            break
        row = without(trials[within[0]])
    simplest = space.decode(row)
    fresh = [child_seed(problem.seed, "simplify-compare", number) for number in range(n_seeds)]
    progress(f"training both with {n_seeds} other seeds")
    pairs = [trainer.measured([spec, simplest], seed) for seed in fresh]
    names = dict.fromkeys((*spec, *simplest))
    return SimplerGenome(
        spec=simplest,
        resets=tuple(
            Reset(name, spec.get(name), simplest.get(name)) for name in names if spec.get(name) != simplest.get(name)
        ),
        left=tuple(name for name, part in space.slices.items() if (row[part] != default[part]).any()),
        comparisons=tuple(_comparisons(problem, pairs, noise)),
        n_trainings=trainer.n,
    )


@final
@dataclass
class _Trainer:
    """Trains and counts."""

    problem: Problem
    executor: Executor
    chunk: int
    n: int = 0

    def measured(self, specs: Sequence[Spec], seed: int) -> list[Metrics | None]:
        """Metrics of each spec, which may be repeated; None = it failed."""
        problem = self.problem.with_seed(seed)
        keys = [json.dumps(spec, sort_keys=True) for spec in specs]
        distinct = dict(zip(keys, specs, strict=True))
        found: dict[str, Metrics | None] = {}
        stacks = evaluate(problem, list(distinct.values()), seed=seed, executor=self.executor, chunk=self.chunk)
        for stack in stacks:
            found |= {list(distinct)[index]: outcome.metrics for index, outcome in stack}
        self.n += len(distinct)
        return [found[key] for key in keys]


def _means(problem: Problem, rows: Sequence[Metrics | None]) -> tuple[FloatArray, FloatArray]:
    """Mean F ``(M,)`` of measured rows, and G ``(C,)`` of their mean metrics."""
    F, _ = to_matrices(rows, problem.objectives, ())
    metrics = {c.metric: float(np.mean([row[c.metric] for row in rows if row])) for c in problem.constraints}
    G = np.array([float(c.violation(metrics[c.metric])) for c in problem.constraints])
    return F.mean(axis=0), G


def _comparisons(problem: Problem, pairs: Sequence[Sequence[Metrics | None]], noise: FloatArray) -> list[Comparison]:
    out = []
    for axis, sd in zip(problem.objectives, noise.tolist(), strict=True):
        values = np.array([[np.nan if m is None else m[axis.metric] for m in pair] for pair in pairs])
        means, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
        worse = float(np.diff(axis.minimised(means))[0])
        within = worse <= max(sd, ROUNDING * abs(float(means[0])))
        before, after = ((float(mean), float(one)) for mean, one in zip(means, spread, strict=True))
        out.append(Comparison(axis.name, sd, before, after, bool(within)))
    return out
