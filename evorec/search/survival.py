"""Who survives a generation: non-dominated rank, and inside the front that is divided the share of the box.

With three or more objectives nearly everybody is non-dominated, and selection is left to what decides inside a front.
Crowding spends the population on the ends of the front, most of which nobody would ship; the hypervolume that a genome
alone adds inside the box of the objectives is what the search is measured by (`experiments/README.md` has both).
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
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from evorec.objectives import FloatArray, Objective

MOST_PARTS: Final = 32
"""A surplus is removed in at most about so many parts, one genome at a time if it is smaller."""
MOST_POINTS: Final[Mapping[int, int]] = {2: 100_000, 3: 5_000, 4: 400, 5: 100}
"""Objectives -> members of a front whose contributions take well under a second a generation; larger fronts, and more
objectives, are divided by crowding."""


def places_in_box(F: FloatArray, objectives: Sequence[Objective]) -> FloatArray:
    """Places ``(N, M)`` of values to be minimised: 0 = ideal or better, 1 = worst."""
    natural = [objective.minimised(column) for objective, column in zip(objectives, F.T, strict=True)]
    places = np.array([one.normalised(values) for one, values in zip(objectives, natural, strict=True)]).T
    clipped: FloatArray = np.maximum(places, 0.0)
    return clipped


def contributions(places: FloatArray) -> FloatArray:
    """What each point alone adds to the dominated share of the box; outside the box, minus how far it is out.

    Args:
        places: of a front, float64 ``(N, M)``, at least 0; 1 = worst.
    Returns:
        float64 ``(N,)``; higher is better; 0 for a point that another one equals.
    Source: Emmerich, Beume & Naujoks 2005 (SMS-EMOA), with the box's worst corner as the reference point.
    Example:
        >>> contributions(np.array([[0.0, 0.5], [0.5, 0.0], [0.5, 1.25]]))  # .5 x .5 each alone; .25 out
        array([ 0.25,  0.25, -0.25])
    """
    beyond = np.maximum(places - 1.0, 0.0).sum(axis=1)
    inside = (places < 1.0).all(axis=1)
    out: FloatArray = -beyond
    if inside.any():
        out[inside] = moocore.hv_contributions(places[inside], ref=np.ones(places.shape[1]))
    return out


def divided(places: FloatArray, room: int) -> tuple[NDArray[np.intp], FloatArray]:
    """The `room` members of a front that are left when those that add least are removed, and what each then adds.

    Args:
        places: of the front, ``(N, M)``.
        room: how many stay.
    Returns:
        Positions, ascending, and contributions, both ``(min(room, N),)``. Of equals the later one stays.
    """
    stay = np.arange(len(places))
    part = max(1, (len(places) - room) // MOST_PARTS)
    twins = np.unique(places, axis=0, return_inverse=True)[1]
    alone = contributions(places)
    while (surplus := len(stay) - room) > 0:
        order = np.argsort(alone, kind="stable")
        first = np.unique(twins[stay[order]], return_index=True)[1]  # equals add nothing: all would go in one part
        stay = np.delete(stay, order[np.sort(first)[: min(part, surplus)]])
        alone = contributions(places[stay])
    return stay, alone


@final
class RankAndHypervolume(Survival):  # type: ignore[misc]  # pymoo is untyped
    """Feasible before infeasible, then non-dominated rank, then contribution to the share of the box.

    Tournaments compare rank and contribution, which stand where pymoo keeps the crowding. A front that is too large for
    exact contributions (`MOST_POINTS`) is divided by crowding.

    Args:
        objectives: M objectives with their boxes.
        crowding: pymoo's name of the crowding distance for large fronts.
    """

    def __init__(self, objectives: Sequence[Objective], *, crowding: str) -> None:
        super().__init__(filter_infeasible=True)
        self._objectives = tuple(objectives)
        self._spread = RankAndCrowding(crowding_func=crowding)
        self._most = MOST_POINTS.get(len(objectives), 0)

    def _do(self, problem: Any, pop: Any, *args: Any, n_survive: int, **kwargs: Any) -> Any:
        F = pop.get("F").astype(np.float64)
        fronts = NonDominatedSorting().do(F, n_stop_if_ranked=n_survive)
        if max(len(front) for front in fronts) > self._most:
            return self._spread._do(problem, pop, *args, n_survive=n_survive, **kwargs)
        places = places_in_box(F, self._objectives)
        survivors = Population.new()
        for rank, front in enumerate(fronts):
            stay, alone = divided(places[front], n_survive - len(survivors))
            members = pop[np.asarray(front)[stay]]
            members.set("rank", np.full(len(members), rank), "crowding", alone)
            survivors = Population.merge(survivors, members)
        return survivors
