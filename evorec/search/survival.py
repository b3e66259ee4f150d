"""Survival of NSGA-II: non-dominated rank, then the contribution to the hypervolume inside the front that is divided.

With three or more objectives nearly all genomes are non-dominated, so the criterion inside a front decides nearly
everything. Crowding spends the population on the ends of the front, most of which no user would choose; the search is
measured by the hypervolume in the box of the objectives (`experiments/README.md` compares both).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import moocore
import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.survival import Survival
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from evorec.archive.pareto import pareto_fronts
from evorec.objectives import FloatArray, Objective

MOST_STEPS: Final = 32
"""A surplus is removed in about this many steps at most; a smaller surplus genome by genome."""
MOST_POINTS: Final[Mapping[int, int]] = {2: 100_000, 3: 5_000, 4: 400, 5: 100}
"""Objectives -> size of a front whose contributions take well under a second a generation; larger fronts, and fronts of
more objectives, are divided by crowding."""


def crowding_name(n_objectives: int) -> str:
    """pymoo's name of the crowding distance: to the M nearest neighbours from 3 objectives on, else the classic.

    Source: Kukkonen & Deb 2006; in three dimensions the classic distance says little about density.
    """
    return "mnn" if n_objectives > 2 else "cd"


def box_coordinates(F: FloatArray, objectives: Sequence[Objective]) -> FloatArray:
    """Coordinates ``(N, M)`` in the box of values to be minimised: 0 = ideal or better, 1 = worst."""
    columns = [axis.normalised(axis.minimised(values)) for axis, values in zip(objectives, F.T, strict=True)]
    clipped: FloatArray = np.maximum(np.array(columns).T, 0.0)
    return clipped


def contributions(points: FloatArray) -> FloatArray:
    """Share of the box that only this point dominates; outside the box, minus its distance from the box.

    Args:
        points: box coordinates of a front, float64 ``(N, M)``, at least 0; 1 = worst.
    Returns:
        float64 ``(N,)``; higher is better; 0 for a point that occurs twice.
    Source: Emmerich, Beume & Naujoks 2005 (SMS-EMOA), with the box's worst corner as the reference point.
    Example:
        >>> contributions(np.array([[0.0, 0.5], [0.5, 0.0], [0.5, 1.25]]))  # .5 x .5 each alone; .25 out
        array([ 0.25,  0.25, -0.25])
    """
    out: FloatArray = -np.maximum(points - 1.0, 0.0).sum(axis=1)
    inside = (points < 1.0).all(axis=1)
    if inside.any():
        out[inside] = moocore.hv_contributions(points[inside], ref=np.ones(points.shape[1]))
    return out


def reduced_front(points: FloatArray, n_keep: int) -> tuple[NDArray[np.intp], FloatArray]:
    """Remove the points with the smallest contributions from a front, step by step.

    Args:
        points: box coordinates ``(N, M)``.
        n_keep: number of points to keep.
    Returns:
        Row numbers of the kept points, ascending, and their contributions at the end, both ``(min(n_keep, N),)``. Of
        equal points the later is kept.
    """
    kept = np.arange(len(points))
    step = max(1, (len(points) - n_keep) // MOST_STEPS)
    group = np.unique(points, axis=0, return_inverse=True)[1]
    gain = contributions(points)
    while (surplus := len(kept) - n_keep) > 0:
        order = np.argsort(gain, kind="stable")
        # Equal points contribute nothing, so all of them would go in the same step: only the first of each group may.
        first = np.unique(group[kept[order]], return_index=True)[1]
        kept = np.delete(kept, order[np.sort(first)[: min(step, surplus)]])
        gain = contributions(points[kept])
    return kept, gain


@final
class RankAndHypervolume(Survival):  # type: ignore[misc]  # pymoo is untyped
    """Feasible before infeasible, then non-dominated rank, then contribution to the share of the box.

    Tournaments compare rank and contribution, which is stored as pymoo's ``crowding``. A front that is too large for
    exact contributions (`MOST_POINTS`) is divided by crowding.

    Args:
        objectives: M objectives with their boxes.
        crowding: pymoo's name of the crowding distance for large fronts.
    """

    def __init__(self, objectives: Sequence[Objective], *, crowding: str) -> None:
        super().__init__(filter_infeasible=True)
        self._objectives = tuple(objectives)
        self._crowding = RankAndCrowding(crowding_func=crowding)
        self._most = MOST_POINTS.get(len(objectives), 0)

    def _do(self, problem: Any, pop: Any, *args: Any, n_survive: int, **kwargs: Any) -> Any:
        F = pop.get("F").astype(np.float64)
        fronts = pareto_fronts(F, n_survive)
        if max(len(front) for front in fronts) > self._most:
            return self._crowding.do(problem, pop, *args, n_survive=n_survive, **kwargs)
        points = box_coordinates(F, self._objectives)
        survivors = Population.new()
        for rank, front in enumerate(fronts):
            kept, gain = reduced_front(points[front], n_survive - len(survivors))
            members = pop[front[kept]]
            members.set("rank", np.full(len(members), rank), "crowding", gain)
            survivors = Population.merge(survivors, members)
        return survivors
