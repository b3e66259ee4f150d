"""Search runs compared: the hypervolume over trainings, the distance to their common front, and tests over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, final

import numpy as np

from evorec.archive.indicators import epsilon, hypervolume_share, igd_plus, normalised
from evorec.archive.pareto import pareto_fronts
from evorec.errors import DataError
from evorec.objectives import FloatArray, Metrics, Objective

SHARES: Final = (0.25, 0.5, 0.75, 1.0)
"""Of the trainings that all runs have: where the hypervolume is compared."""
QUARTILES: Final = (25, 50, 75)
"""Shares of the runs, in percent, whose surfaces are drawn."""


@final
@dataclass(frozen=True)
class Trajectory:
    """The feasible rows of a run in the order of evaluation.

    Attributes:
        name: of the run.
        method: runs of the same method differ in their seed only.
        rows: metrics of the feasible evaluations.
        trainings: for each row, its number among all evaluations, from 1.
        flops: for each row, FLOPs of all trainings until then.
        n: evaluations of the run.
    """

    name: str
    method: str
    rows: Sequence[Metrics]
    trainings: Sequence[int]
    flops: Sequence[float]
    n: int

    def until(self, n: int) -> list[Metrics]:
        """The rows of the first n evaluations."""
        return [row for row, number in zip(self.rows, self.trainings, strict=True) if number <= n]


@final
@dataclass(frozen=True)
class Standing:
    """Figures of a run.

    Attributes:
        hypervolume: share of the box after `SHARES` of the trainings that all runs have.
        trainings, flops: until the lowest final hypervolume of all runs is reached; ``None`` = never.
        igd_plus, epsilon: distances to the common front of all runs; ``None`` without a feasible row.
    """

    name: str
    method: str
    hypervolume: tuple[float, ...]
    trainings: int | None
    flops: float | None
    igd_plus: float | None
    epsilon: float | None


@final
@dataclass(frozen=True)
class Difference:
    """Two methods over their runs.

    Attributes:
        a12: probability that a run of the first has the larger final hypervolume; ties count half (Vargha & Delaney).
        p: of a two-sided Mann-Whitney test, after Holm's correction for all pairs.
    """

    first: str
    second: str
    a12: float
    p: float


def standings(runs: Sequence[Trajectory], objectives: Sequence[Objective]) -> list[Standing]:
    """Figures of all runs in the same box.

    Raises:
        DataError: no run is given, or a metric is missing.
    """
    if not runs:
        raise DataError("give at least one run to compare")
    common = min(run.n for run in runs)
    volumes = {run.name: [hypervolume_share(run.until(round(s * common)), objectives) for s in SHARES] for run in runs}
    lowest = min(values[-1] for values in volumes.values())
    rows = [row for run in runs for row in run.until(common)]
    front = [rows[i] for i in pareto_fronts(normalised(rows, objectives), 1)[0]] if rows else []
    found = []
    for run in runs:
        at, own = _reached(run, lowest, objectives), run.until(common)
        found.append(
            Standing(
                run.name,
                run.method,
                tuple(volumes[run.name]),
                None if at is None else run.trainings[at],
                None if at is None else run.flops[at],
                igd_plus(own, front, objectives) if own else None,
                epsilon(own, front, objectives) if own else None,
            )
        )
    return found


def _reached(run: Trajectory, target: float, objectives: Sequence[Objective]) -> int | None:
    """Index of the row with which a run reaches a hypervolume, by bisection; None if it never does."""
    low, high = 0, len(run.rows)
    if not high or hypervolume_share(run.rows, objectives) < target:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if hypervolume_share(run.rows[:middle], objectives) >= target else (middle, high)
    return high - 1


def differences(found: Sequence[Standing]) -> list[Difference]:
    """All pairs of methods with at least two runs each, by their final hypervolume."""
    from scipy.stats import mannwhitneyu  # a second to import

    groups: dict[str, list[float]] = {}
    for standing in found:
        groups.setdefault(standing.method, []).append(standing.hypervolume[-1])
    pairs = [pair for pair in combinations(groups, 2) if min(len(groups[name]) for name in pair) > 1]
    tested = [(a, b, mannwhitneyu(groups[a], groups[b], alternative="two-sided")) for a, b in pairs]
    order = np.argsort([test.pvalue for _, _, test in tested], kind="stable")
    corrected, largest = np.empty(len(tested)), 0.0
    for rank, index in enumerate(order):  # Holm 1979
        largest = max(largest, min(1.0, float(tested[index][2].pvalue) * (len(tested) - rank)))
        corrected[index] = largest
    return [
        Difference(a, b, float(test.statistic) / (len(groups[a]) * len(groups[b])), float(p))
        for (a, b, test), p in zip(tested, corrected, strict=True)
    ]


def attainment(
    runs: Sequence[Trajectory], objectives: Sequence[Objective], percents: Sequence[int] = QUARTILES
) -> dict[str, dict[int, FloatArray]]:
    """Per method the surfaces that a share of its runs reach, after as many trainings as all runs have.

    Args:
        runs: of one or several methods.
        objectives: M = 2 or 3; of a run with more, a part of them.
        percents: shares of the runs, e.g. 50 for the surface that half of them reach.
    Returns:
        Method -> percent -> box coordinates ``(N, M)`` of the corners of the surface, sorted by the first objective;
        0 = ideal, 1 = worst. All runs reach the worst corner.
    Raises:
        DataError: the number of objectives is not 2 or 3, or a metric is missing.
    Source: Fonseca et al. 2001, computed by moocore.
    """
    import moocore

    m = len(objectives)
    if m not in (2, 3):
        raise DataError(f"surfaces exist for 2 or 3 objectives, got {m}")
    common, surfaces = min(run.n for run in runs), {}
    for method in dict.fromkeys(run.method for run in runs):
        sets = []
        for run in runs:
            if run.method == method:
                points = normalised(run.until(common), objectives)
                # with the worst corner, a run that has no point inside the box counts as a run, too
                sets.append(np.vstack([points[(points < 1.0).all(axis=1)], np.ones((1, m))]))
        numbers = np.repeat(np.arange(1, len(sets) + 1), [len(points) for points in sets])
        found = np.asarray(moocore.eaf(np.vstack(sets), sets=numbers, percentiles=list(percents)), dtype=np.float64)
        found = found[np.lexsort(found[:, ::-1].T)]
        surfaces[method] = {percent: found[found[:, m] == percent, :m] for percent in percents}
    return surfaces
