"""What a search would find and cost, before its first training.

The predicted front comes from the memory of earlier searches. The time comes from a calibration run of seconds: a
stack of the genomes that the search would begin with is trained for a few steps, twice, which separates the time of a
step from that of measuring.
"""

from __future__ import annotations

import copy
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from evorec.archive.indicators import share_of_box
from evorec.archive.pareto import pareto_fronts
from evorec.config import SearchConfig
from evorec.energy import WATTS_PER_CORE
from evorec.objectives import FloatArray
from evorec.problem import Problem, Spec
from evorec.search.algorithm import AlgorithmContext, check_algorithm, create_algorithm, has_surrogate
from evorec.search.memory.prior import MemoryPrior, chosen_rows, prior_of
from evorec.search.memory.table import Memory
from evorec.search.surrogate.candidates import candidates
from evorec.search.surrogate.model import SurrogateModel
from evorec.search.surrogate.search import SurrogateSearch
from evorec.seeds import generator

DRAWS: Final = 200
CANDIDATES: Final = 2000
QUANTILES: Final = (0.1, 0.5, 0.9)
CALIBRATED: Final = 4
"""Genomes of the calibration run."""
FEW_STEPS, MORE_STEPS = 2, 20


@final
@dataclass(frozen=True)
class PredictedMember:
    """A genome of the predicted front.

    Attributes:
        spec: the decoded genome.
        values: for each objective by name: the 10th, 50th and 90th percentile in its own unit.
    """

    spec: Spec
    values: dict[str, tuple[float, float, float]]


@final
@dataclass(frozen=True)
class Forecast:
    """What a search would find and cost.

    Attributes:
        n_rows: rows of the memory that are used.
        worlds: their worlds.
        members: the predicted front, best first objective first; empty without a memory.
        first_generation: 10th, 50th and 90th percentile of the share of the box after the first generation; ``None``
            without a memory.
        n_evaluations: planned evaluations.
        flops: of all trainings; 0.0 where costs are not counted.
        seconds: of all evaluations with the planned workers.
        memory_bytes: peak of this process after the calibration run, times the workers.
        watt_hours: at `WATTS_PER_CORE` for every busy core.
    """

    n_rows: int
    worlds: tuple[str, ...]
    members: tuple[PredictedMember, ...]
    first_generation: tuple[float, float, float] | None
    n_evaluations: int
    flops: float
    seconds: float
    memory_bytes: int
    watt_hours: float


def forecast(
    problem: Problem, config: SearchConfig, memory: Memory, *, workers: int = 1, n_members: int = 8
) -> Forecast:
    """What a search would find and cost; takes seconds, and trains nothing to its end.

    Args:
        problem: of the search.
        config: of the search.
        memory: rows of earlier searches.
        workers: processes that will evaluate.
        n_members: most members of the predicted front.
    """
    config = config.sized(problem.device_type)
    options = check_algorithm(config.algorithm, config.options)
    context = AlgorithmContext(
        problem.space, tuple(problem.objectives), tuple(problem.constraints), config, options, set[str](),
        problem.known_metrics,
    )  # fmt: skip
    search = create_algorithm(config.algorithm, context)
    rows, prior = Memory.empty(), None
    if has_surrogate(config.algorithm, config):
        rows = chosen_rows(memory, problem.space, context.objectives, problem.facts)
        prior = prior_of(rows, context)
        search = SurrogateSearch(search, context, prior)
    first = problem.space.snap(search.ask())
    expected = search.notes.get("hypervolume") if isinstance(search, SurrogateSearch) else None
    n = config.most_evaluations
    specs = [problem.space.decode(x) for x in first]
    costs = [problem.known_metrics(spec).get("training_flops", 0.0) for spec in specs]
    seconds = n * seconds_per_evaluation(problem, specs, seed=config.seed) / workers
    return Forecast(
        n_rows=len(rows),
        worlds=prior.worlds if prior else (),
        members=tuple(predicted_front(prior, context, n_members)) if prior else (),
        first_generation=(expected[0], expected[1], expected[2]) if expected else None,
        n_evaluations=n,
        flops=float(np.mean(costs)) * n,
        seconds=seconds,
        memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * workers,
        watt_hours=seconds / 3600 * workers * WATTS_PER_CORE,
    )


def predicted_front(prior: MemoryPrior, context: AlgorithmContext, n: int) -> list[PredictedMember]:
    """Genomes that the memory expects to be the front, feasible in most draws and spread over it."""
    space, rng = context.space, generator(context.config.seed, "predicted front")
    model = SurrogateModel(space, context.objectives, context.constraints, context.known_points, prior)
    X = np.vstack([prior.X, candidates(space, prior.X[_front(model.means(prior.X))], CANDIDATES, rng)])
    X = np.unique(space.snap(X), axis=0)
    drawn, feasible = model.draws(X, rng, DRAWS)
    likely = np.flatnonzero(feasible.mean(axis=0) > 0.5)
    if not len(likely):
        return []
    X, drawn = X[likely], drawn[:, likely]
    front = _front(np.median(drawn, axis=0))
    X, drawn = X[front], drawn[:, front]
    points = np.median(drawn, axis=0)
    kept: list[int] = []
    while len(kept) < min(n, len(X)):  # greedily by the share of the box
        gains = [-1.0 if i in kept else share_of_box(points[[*kept, i]]) for i in range(len(X))]
        kept.append(int(np.argmax(gains)))
    members = []
    for i in kept:
        values = {}
        for column, objective in enumerate(context.objectives):
            low, middle, high = (float(v) for v in objective.natural(np.quantile(drawn[:, i, column], QUANTILES)))
            values[objective.name] = (min(low, high), middle, max(low, high))
        members.append(PredictedMember(space.decode(X[i]), values))
    first = context.objectives[0]
    return sorted(members, key=lambda m: m.values[first.name][1], reverse=first.direction == "max")


def seconds_per_evaluation(problem: Problem, specs: Sequence[Spec], *, seed: int) -> float:
    """Seconds of an evaluation, from short trainings of a few genomes; where nothing is trained, from evaluations."""
    some = [specs[i] for i in np.linspace(0, len(specs) - 1, min(CALIBRATED, len(specs))).round().astype(int)]
    steps = int(getattr(getattr(getattr(problem, "config", None), "training", None), "steps", 0))
    if steps <= MORE_STEPS:
        return _seconds(problem, some, seed, None)
    # the first training also makes the batches and warms up the libraries
    _, few, more = (_seconds(problem, some, seed, count) for count in (MORE_STEPS, FEW_STEPS, MORE_STEPS))
    step = max(more - few, 0.0) / (MORE_STEPS - FEW_STEPS)
    return few + step * (steps - FEW_STEPS)


def _seconds(problem: Problem, specs: Sequence[Spec], seed: int, steps: int | None) -> float:
    """Seconds per spec of an evaluation that is measured after some steps; ``None`` = at the end."""
    short = copy.copy(problem)
    start = time.perf_counter()
    if steps is None:
        short.evaluate(specs, seed=seed)
    else:
        short.rungs = (steps,)
        short.evaluate(specs, seed=seed, rung=0)
    return (time.perf_counter() - start) / len(specs)


def _front(points: FloatArray) -> np.ndarray:
    return pareto_fronts(points, 1)[0]
