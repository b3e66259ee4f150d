"""Successive halving with several objectives: members of a generation are compared at a rung by rank and crowding."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from evorec.archive.pareto import pareto_fronts
from evorec.errors import ConfigError
from evorec.objectives import FloatArray
from evorec.search.survival import crowding_name

ROUNDING = 1e-9
"""``keep * P`` may exceed the intended integer by a few float64 roundings, as in 0.55 * 20."""


def n_kept(n: int, keep: float) -> int:
    """How many of n members continue.

    Raises:
        ConfigError: `keep` is out of range.
    """
    if not 0.5 <= keep <= 1.0:
        raise ConfigError(f"the share kept at a rung must be in 0.5..1, got {keep:g}.")
    return math.ceil(keep * n - ROUNDING)


def survivors(F: FloatArray, G: FloatArray, keep: float) -> NDArray[np.bool_]:
    """Which members of a generation continue training after a rung.

    Feasible members come first, ordered by non-dominated rank and, inside the front that is divided, by crowding, ties
    by row number; infeasible members follow, ordered by total violation. The best member of every objective in the
    first front always stays, even if this exceeds the share.

    Args:
        F: objectives to minimise, float64 ``(P, M)``, finite.
        G: constraints, float64 ``(P, C)``; feasible when all are at most 0. A failed member has the largest violation.
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
    n_keep = n_kept(len(F), keep)
    violation = np.maximum(G, 0.0).sum(axis=1)
    feasible, infeasible = np.flatnonzero(violation == 0.0), np.flatnonzero(violation > 0.0)
    kept = np.zeros(len(F), dtype=bool)
    for rank, front in enumerate(pareto_fronts(F[feasible], n_keep)):
        members = feasible[front]
        n_left = n_keep - int(kept.sum())
        kept[members if len(members) <= n_left else members[_sparsest(F[members], n_left, extremes=rank == 0)]] = True
    nearest = infeasible[np.argsort(violation[infeasible], kind="stable")]
    kept[nearest[: max(n_keep - int(kept.sum()), 0)]] = True
    return kept


def _sparsest(F: FloatArray, n_keep: int, *, extremes: bool) -> NDArray[np.intp]:
    """Row numbers of the least crowded members of a front ``F (N, M)``; `extremes` keeps the best of each objective."""
    best = np.unique(F.argmin(axis=0))
    varying = F[:, np.ptp(F, axis=0) > 0]  # a constant objective says nothing about crowding, and its range divides
    crowding = np.zeros(len(F))
    if varying.shape[1]:
        distance = RankAndCrowding(crowding_func=crowding_name(varying.shape[1])).crowding_func
        crowding = distance.do(varying, n_remove=len(F) - n_keep)
    order = np.argsort(-crowding, kind="stable")
    first = np.concatenate([best, order[~np.isin(order, best)]])
    return first[: max(n_keep, len(best)) if extremes else n_keep]
