"""The Pareto archive: feasible evaluations that no other evaluation dominates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import moocore
import numpy as np
from numpy.typing import NDArray

from evorec.errors import DataError

FloatArray = NDArray[np.float64]
Status = Literal["member", "dominated", "infeasible", "repeat"]


def non_dominated(F: FloatArray, *, keep_equal: bool = False) -> NDArray[np.bool_]:
    """Which rows no other row dominates; of equal rows only the first.

    Args:
        F: objectives to minimise, float64 ``(N, M)``.
        keep_equal: whether all of equal rows stay.
    Returns:
        bool ``(N,)``.
    Raises:
        DataError: a value is not finite; NaN would pass for a member and hide the real front.
    Example:
        >>> non_dominated(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 2.0], [1.0, 1.0]])).tolist()
        [True, True, False, False]
    """
    points = np.asarray(F, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise DataError(f"F must be finite with shape (N, M), got {_first_bad(points)}.")
    if not len(points):
        return np.zeros(0, dtype=bool)
    mask: NDArray[np.bool_] = np.asarray(moocore.is_nondominated(points, keep_weakly=keep_equal), dtype=bool)
    return mask


def pareto_fronts(F: FloatArray, n_ranked: int) -> list[NDArray[np.intp]]:
    """Row numbers of each front of ``F (N, M)``, best front first, until the fronts hold `n_ranked` rows.

    Equal rows are in the same front. Source: non-dominated sorting of Deb et al. 2002.
    """
    fronts: list[NDArray[np.intp]] = []
    if len(F):
        ranks = moocore.pareto_rank(np.asarray(F, dtype=np.float64))
        while sum(map(len, fronts)) < min(n_ranked, len(F)):
            fronts.append(np.flatnonzero(ranks == len(fronts)))
    return fronts


def bounded(F: FloatArray, most: int) -> tuple[NDArray[np.intp], float]:
    """At most `most` rows that cover a front, the best row of each objective among them.

    A row covers another if it is worse in no objective by more than ε times the range of the objective (additive
    ε-dominance). The best row of each objective is taken first, then repeatedly the row that is covered worst. So a
    smaller set is part of a larger set, and no extreme is lost.

    Args:
        F: objectives to minimise, float64 ``(N, M)``; a logarithmic objective as its logarithm.
        most: largest number of rows, at least M.
    Returns:
        Row numbers, ascending; and the ε with which they cover all rows: 0.0 if they dominate them.
    Raises:
        DataError: `most` is too small, or a value is not finite.
    Source: ε-dominance and archives bounded by it: Laumanns et al. 2002; greedy choice of the farthest row: Gonzalez
        1985. Cost: O(N M most).
    Example:
        >>> rows, epsilon = bounded(np.array([[0.0, 1.0], [0.1, 0.8], [0.5, 0.5], [1.0, 0.0]]), 3)
        >>> rows.tolist(), round(epsilon, 2)
        ([0, 2, 3], 0.2)
    """
    points = np.asarray(F, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise DataError(f"F must be finite with shape (N, M), got {_first_bad(points)}.")
    n, n_objectives = points.shape
    if most < max(n_objectives, 1):
        raise DataError(f"most must be at least {max(n_objectives, 1)}, the best of each objective, got {most}.")
    if not n:
        return np.zeros(0, dtype=np.intp), 0.0
    low = points.min(axis=0)
    span = np.ptp(points, axis=0)
    points = (points - low) / np.where(span > 0, span, 1.0)
    ranked = np.lexsort(points.T[::-1])  # of equally good rows the choice depends on values, not on the order
    total = points.sum(axis=1)
    chosen: list[int] = []
    for column in points.T:
        best = ranked[np.lexsort((total[ranked], column[ranked]))[0]]
        chosen += [] if best in chosen else [int(best)]
    distance = np.min([(points[row] - points).max(axis=1) for row in chosen], axis=0)
    while len(chosen) < most and distance.max() > 0:
        farthest = int(ranked[distance[ranked].argmax()])
        chosen.append(farthest)
        distance = np.minimum(distance, (points[farthest] - points).max(axis=1))
    return np.sort(np.array(chosen, dtype=np.intp)), max(float(distance.max()), 0.0)


@final
class ParetoArchive:
    """The front of all evaluations added so far, independent of the order of adding.

    Example:
        >>> archive = ParetoArchive()
        >>> archive.add(["a", "b", "c"], np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 2.0]]), np.zeros((3, 1)))
        ['member', 'member', 'dominated']
        >>> archive.add(["d"], np.array([[0.0, 1.0]]), np.zeros((1, 1)))
        ['member']
        >>> archive.members
        ('d',)
    """

    def __init__(self) -> None:
        self._F: dict[str, FloatArray] = {}
        self._sequence: dict[str, int] = {}
        self._next = 0

    def __repr__(self) -> str:
        return f"ParetoArchive({len(self)} members)"

    @property
    def members(self) -> tuple[str, ...]:
        """Keys of the members, sorted."""
        return tuple(sorted(self._F))

    @property
    def F(self) -> FloatArray:  # noqa: N802  # pymoo's name for it
        """Objectives of the members, float64 ``(len(members), M)``; ``(0, 0)`` when empty."""
        return np.array([self._F[key] for key in self.members]) if self._F else np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._F)

    def __contains__(self, key: object) -> bool:
        return key in self._F

    def add(
        self, keys: Sequence[str], F: FloatArray, G: FloatArray, *, sequence: Sequence[int] | None = None
    ) -> list[Status]:
        """Add evaluations; members that they dominate are removed.

        Args:
            keys: names of the N genomes.
            F: objectives to minimise, float64 ``(N, M)``.
            G: constraints, float64 ``(N, C)``; feasible when all are at most 0.
            sequence: numbers of the evaluations; of equal rows of F the first stays. Without them rows count in the
                order of adding.
        Returns:
            For each row, after the whole call: ``"member"``, ``"dominated"``, ``"infeasible"``, or
            ``"repeat"`` when an earlier evaluation has the same key or the same F.
        Raises:
            DataError: a shape is wrong, a value is not finite, or a member's key comes with another F.
        """
        F, G = np.asarray(F, dtype=np.float64), np.asarray(G, dtype=np.float64)
        order = list(range(self._next, self._next + len(keys))) if sequence is None else [int(s) for s in sequence]
        self._check(keys, F, G, order)
        feasible: list[bool] = np.all(G <= 0, axis=1).tolist()
        pool = {key: (self._sequence[key], row) for key, row in self._F.items()}
        for key, row, number, ok in zip(keys, F, order, feasible, strict=True):
            if ok and (key not in pool or number < pool[key][0]):
                pool[key] = (number, row)
        ranked = sorted(pool, key=lambda key: (pool[key][0], key))
        keep = non_dominated(np.array([pool[key][1] for key in ranked]).reshape(len(ranked), F.shape[1]))
        kept = [key for key, stays in zip(ranked, keep, strict=True) if stays]
        self._F = {key: pool[key][1].copy() for key in kept}
        self._sequence = {key: pool[key][0] for key in kept}
        self._next = max([self._next, *(number + 1 for number in order)])
        status: list[Status] = []
        for key, row, number, ok in zip(keys, F, order, feasible, strict=True):
            if not ok:
                status.append("infeasible")
            elif key in self._F:
                status.append("member" if self._sequence[key] == number else "repeat")
            else:
                equal = any(np.array_equal(row, other) for other in self._F.values())
                status.append("repeat" if equal else "dominated")
        return status

    def _check(self, keys: Sequence[str], F: FloatArray, G: FloatArray, order: Sequence[int]) -> None:
        n = len(keys)
        if F.ndim != 2 or G.ndim != 2 or not len(F) == len(G) == len(order) == n:
            raise DataError(
                f"{n} keys need F ({n}, M), G ({n}, C) and {n} numbers, got {F.shape}, {G.shape}, {len(order)}."
            )
        if self._F and F.shape[1] != self.F.shape[1]:
            raise DataError(f"F must have {self.F.shape[1]} objectives like the members, got {F.shape[1]}.")
        for name, matrix in (("F", F), ("G", G)):
            if not np.isfinite(matrix).all():
                raise DataError(f"{name} must be finite, got {_first_bad(matrix)}; a failed evaluation is never added.")
        known = dict(self._F)
        for key, row in zip(keys, F, strict=True):
            if not np.array_equal(known.setdefault(key, row), row):
                raise DataError(f"{key} was evaluated twice with different results: {known[key]} and {row}.")


def _first_bad(matrix: FloatArray) -> str:
    bad = np.argwhere(~np.isfinite(matrix))
    return f"{matrix[tuple(bad[0])]} at {tuple(int(i) for i in bad[0])}" if len(bad) else f"shape {matrix.shape}"
