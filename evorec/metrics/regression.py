"""How far predicted numbers are from held-out labels that are numbers; how well they order them is `concordance`.

Missing labels are dropped by `evorec.metrics.task_rows.TaskRows`. The usual worst corner of an error is that of the
best constant prediction, on the training rows.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError
from evorec.metrics.metric import metric
from evorec.metrics.task_rows import Floats, Reals, TaskPredictions, TaskRows

ERROR: Final[dict[str, Any]] = {"of": TaskPredictions, "direction": "min", "ideal": None, "worst": None, "unit": ""}


def lowest_quantile(labels: Reals, quantile: float) -> float:
    """The smallest label that at least a share `quantile` of the labels ``(N,)`` does not exceed."""
    return float(np.quantile(labels, quantile, method="inverted_cdf"))


def _mae_corners(train: TaskRows) -> tuple[float, float]:
    known = train.labels.astype(np.float64)
    return 0.0, train.unit * float(np.abs(known - lowest_quantile(train.labels, 0.5)).mean())


MAE = "mean absolute error, in the unit of the labels"


@metric("mae/<task>", text=MAE, kinds=("regression",), corners=_mae_corners, **ERROR)
def mae(predictions: npt.ArrayLike, labels: npt.ArrayLike, *, unit: float = 1.0) -> float:
    """Mean absolute error: ``mean(|label - prediction|)``.

    Args:
        predictions: ``(N,)``.
        labels: any numbers ``(N,)``.
        unit: factor to the unit of the result.
    Returns:
        At least 0, in the unit of the labels; lower is better. The best constant is the median.
    Raises:
        DataError: shapes differ, or a number is not finite.
    Source: Willmott & Matsuura 2005. Cost: O(N).
    Example:
        >>> mae([1.0, 2.0], [4.0, 2.0])  # (3 + 0) / 2
        1.5
    """
    return unit * float(np.abs(_errors(predictions, labels)).mean())


def _rmse_corners(train: TaskRows) -> tuple[float, float]:
    return 0.0, train.unit * float(train.labels.astype(np.float64).std())


RMSE = "root of the mean squared error, in the unit of the labels"


@metric("rmse/<task>", text=RMSE, kinds=("regression",), corners=_rmse_corners, **ERROR)
def rmse(predictions: npt.ArrayLike, labels: npt.ArrayLike, *, unit: float = 1.0) -> float:
    """Root of the mean squared error: ``sqrt(mean((label - prediction) ** 2))``.

    Args:
        predictions: ``(N,)``.
        labels: any numbers ``(N,)``.
        unit: factor to the unit of the result.
    Returns:
        At least 0, in the unit of the labels; lower is better. The best constant is the mean.
    Raises:
        DataError: shapes differ, or a number is not finite.
    Source: Gauss 1809 (least squares). Cost: O(N).
    Example:
        >>> rmse([1.0, 2.0], [4.0, 6.0])  # sqrt((9 + 16) / 2)
        3.5355339059327378
    """
    return unit * float(np.sqrt(np.square(_errors(predictions, labels)).mean()))


def _pinball_corners(train: TaskRows) -> tuple[float, float]:
    q = train.quantile
    over = train.labels.astype(np.float64) - lowest_quantile(train.labels, q)
    return 0.0, train.unit * float(np.maximum(q * over, (q - 1) * over).mean())


PINBALL = "pinball loss of the task's quantile, in the unit of the labels"


@metric("pinball/<task>", text=PINBALL, kinds=("quantile",), corners=_pinball_corners, **ERROR)
def pinball(predictions: npt.ArrayLike, labels: npt.ArrayLike, quantile: float, *, unit: float = 1.0) -> float:
    """Mean pinball loss: ``mean(max(q e, (q - 1) e))`` with ``e = label - prediction``.

    Args:
        predictions: ``(N,)``.
        labels: any numbers ``(N,)``.
        quantile: q, between 0 and 1, both excluded.
        unit: factor to the unit of the result.
    Returns:
        At least 0, in the unit of the labels; lower is better. The best constant is the labels' q-quantile; at q = 1/2
        the loss is half the mean absolute error.
    Raises:
        DataError: shapes differ, a number is not finite, or q is not between 0 and 1.
    Source: Koenker & Bassett 1978. Cost: O(N).
    Example:
        >>> pinball([0.0, 0.0], [1.0, -1.0], 0.75)  # (0.75 * 1 + 0.25 * 1) / 2
        0.5
    """
    if not 0 < quantile < 1:
        raise DataError(f"pinball needs a quantile between 0 and 1, both excluded, got {quantile:g}.")
    errors = _errors(predictions, labels)
    return unit * float(np.maximum(quantile * errors, (quantile - 1) * errors).mean())


def _errors(predictions: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """``label - prediction``, ``(N,)``."""
    # In float64, because a sum of many float32 errors loses digits.
    p, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or len(p) == 0:
        raise DataError(f"expected a prediction and a label per row, got shapes {p.shape} and {y.shape}.")
    for name, values in (("predictions", p), ("labels", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"{name} must be finite, got {values[bad[0]]} in row {bad[0]}; drop missing labels first.")
    return np.asarray(y - p)
