"""Indicators of a front: numbers for its quality inside the box of the objectives' ideal and worst corners.

All indicators work on normalised objectives (`Objective.normalised`), so figures of different runs of a problem stay
comparable. moocore computes them exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from evorec.errors import DataError
from evorec.objectives import FloatArray, Metrics, Objective


def normalised(rows: Sequence[Metrics], objectives: Sequence[Objective]) -> FloatArray:
    """Coordinates in the box, float64 ``(N, M)``: 0 = ideal, 1 = worst.

    Args:
        rows: N measured metric dictionaries.
        objectives: M objectives.
    Raises:
        DataError: a metric is missing or not finite.
    """
    columns = [objective.normalised([row.get(objective.metric, np.nan) for row in rows]) for objective in objectives]
    points: FloatArray = np.array(columns, dtype=np.float64).reshape(len(objectives), len(rows)).T
    if not np.isfinite(points).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(points))[0])
        raise DataError(f"{objectives[column].metric} of row {row} must be a finite number, got {points[row, column]}.")
    return points


def hypervolume_share(rows: Sequence[Metrics], objectives: Sequence[Objective]) -> float:
    """Share of the box that a set of evaluations dominates.

    Args:
        rows: N measured metric dictionaries, dominated rows allowed.
        objectives: M objectives.
    Returns:
        A number in [0, 1]; higher is better; 0.0 for no rows. A value beyond the ideal counts as ideal, a row at or
        beyond any worst corner adds nothing.
    Raises:
        DataError: a metric is missing or not finite.
    Source: Zitzler & Thiele 1998; dimension sweep and HV4D+ by moocore. Cost: milliseconds up to 5 objectives.
    Example:
        >>> axes = [Objective(name, name, "max", "", 1.0, 0.0) for name in ("a", "b")]
        >>> hypervolume_share([{"a": 0.5, "b": 0.5}, {"a": 0.25, "b": 1.0}], axes)
        0.375
    """
    return share_of_box(normalised(rows, objectives))


def share_of_box(points: FloatArray) -> float:
    """`hypervolume_share` of box coordinates ``(N, M)``; 0 = ideal, 1 = worst."""
    points = np.clip(points, 0.0, None)
    inside = points[(points < 1.0).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=np.ones(points.shape[1]))) if len(inside) else 0.0


def igd_plus(rows: Sequence[Metrics], reference: Sequence[Metrics], objectives: Sequence[Objective]) -> float:
    """Mean distance from the reference front to the region that a set dominates; 0 is best.

    Args:
        rows: N > 0 measured metric dictionaries.
        reference: the front to reach, not empty.
        objectives: M objectives.
    Raises:
        DataError: a set is empty, or a metric is missing or not finite.
    Source: Ishibuchi et al. 2015.
    """
    return float(moocore.igd_plus(*_two_sets(rows, reference, objectives)))


def epsilon(rows: Sequence[Metrics], reference: Sequence[Metrics], objectives: Sequence[Objective]) -> float:
    """Smallest shift of every objective, as a share of the box, after which a set covers the reference front.

    Args:
        rows: N > 0 measured metric dictionaries.
        reference: the front to cover, not empty.
        objectives: M objectives.
    Returns:
        At most 0 when the set covers the reference already.
    Raises:
        DataError: a set is empty, or a metric is missing or not finite.
    Source: Zitzler et al. 2003, additive epsilon.
    """
    return float(moocore.epsilon_additive(*_two_sets(rows, reference, objectives)))


def _two_sets(
    rows: Sequence[Metrics], reference: Sequence[Metrics], objectives: Sequence[Objective]
) -> tuple[FloatArray, FloatArray]:
    if not rows or not reference:
        raise DataError(f"both sets must have members, got {len(rows)} rows and {len(reference)} reference rows.")
    return normalised(rows, objectives), normalised(reference, objectives)
