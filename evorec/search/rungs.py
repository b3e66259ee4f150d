"""Who goes on training after a rung: successive halving by rank and crowding instead of one scalar."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from evorec.errors import ConfigError
from evorec.objectives import FloatArray
from evorec.search.algorithms import crowding_name

ROUNDING = 1e-9
"""``keep * P`` may exceed the integer that is meant by a few float64 roundings, as in 0.55 * 20."""


def survivors(F: FloatArray, G: FloatArray, keep: float) -> NDArray[np.bool_]:
    """Which members of a generation go on, all of them measured at the same rung.

    Feasible ones come before infeasible ones, these by their total violation; feasible ones by non-dominated rank,
    inside the front that is divided by crowding, ties by position. The best of every objective in the first front
    stays, even where that makes more than the share; so at least half stay, whatever the share.

    Args:
        F: objectives to minimise, float64 ``(P, M)``, finite.
        G: constraints, float64 ``(P, C)``; feasible when all are at most 0. A failed one has the largest violation.
        keep: share that stays, in [0.5, 1]; rounded up to whole members.
    Returns:
        bool ``(P,)``.
    Raises:
        ConfigError: `keep` is out of range.
    Source: rules of Deb et al. 2002 for constraints, rank and crowding; halving of Jamieson & Talwalkar 2016.
    Example:
        >>> F = np.array([[0.0, 3.0], [1.0, 1.0], [2.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
        >>> survivors(F, np.array([[0.0], [0.0], [0.0], [0.0], [0.5]]), 0.5).tolist()
        [True, True, False, True, False]
    """
    if not 0.5 <= keep <= 1.0:
        raise ConfigError(f"the share kept at a rung must be in 0.5..1, got {keep:g}.")
    n_keep = math.ceil(keep * len(F) - ROUNDING)
    violation = np.maximum(G, 0.0).sum(axis=1)
    feasible, infeasible = np.flatnonzero(violation == 0.0), np.flatnonzero(violation > 0.0)
    kept = np.zeros(len(F), dtype=bool)
    for rank, front in enumerate(NonDominatedSorting().do(F[feasible], n_stop_if_ranked=n_keep)):
        place = feasible[front]
        room = n_keep - int(kept.sum())
        kept[place if len(place) <= room else place[_sparsest(F[place], room, extremes=rank == 0)]] = True
    nearest = infeasible[np.argsort(violation[infeasible], kind="stable")]
    kept[nearest[: max(n_keep - int(kept.sum()), 0)]] = True
    return kept


def _sparsest(F: FloatArray, room: int, *, extremes: bool) -> NDArray[np.intp]:
    """Positions in a front ``F (N, M)`` of the `room` least crowded members; `extremes` makes room for all of these."""
    best = np.unique(F.argmin(axis=0))
    varying = F[:, np.ptp(F, axis=0) > 0]  # a constant objective says nothing of crowding, and its range divides
    crowding = np.zeros(len(F))
    if varying.shape[1]:
        crowding = get_crowding_function(crowding_name(varying.shape[1])).do(varying, n_remove=len(F) - room)
    order = np.argsort(-crowding, kind="stable")
    first = np.concatenate([best, order[~np.isin(order, best)]])
    return first[: max(room, len(best)) if extremes else room]
