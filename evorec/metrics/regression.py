"""How far predicted numbers are from held-out labels that are numbers; how well they order them is `concordance`.

Missing labels are dropped by the caller of the functions; `NumberRows` leaves them out by itself.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError
from evorec.metrics.accuracy import concordance

Floats = npt.NDArray[np.float64]


@final
class NumberRows:
    """The known labels of one task, numbers, for many models on the same rows.

    Args:
        labels: any finite numbers, standardised or not, NaN = not known, ``(N,)``.
        unit: what a label 1 larger is in the task's own unit; errors are in that one.
    Raises:
        DataError: no label is known.
    Example:
        >>> rows = NumberRows(np.array([0.0, np.nan, 1.0]), unit=60.0)
        >>> rows.mae(np.array([0.5, 9.0, 1.0])), rows.concordance(np.array([0.5, 9.0, 1.0]))
        (15.0, 1.0)
    """

    def __init__(self, labels: npt.NDArray[np.floating[Any]], *, unit: float = 1.0) -> None:
        self._rows = np.flatnonzero(~np.isnan(labels))
        self._labels = labels[self._rows].astype(np.float64)
        self._unit = unit
        if len(self._labels) == 0:
            raise DataError(f"expected a label per row, got none known of {len(labels)}.")

    def concordance(self, predictions: npt.NDArray[np.floating[Any]]) -> float:
        """See `evorec.metrics.accuracy.concordance`; `predictions` are of all N rows, on the scale of the labels."""
        return concordance(predictions[self._rows], self._labels)

    def mae(self, predictions: npt.NDArray[np.floating[Any]]) -> float:
        """See `mae`."""
        return self._unit * mae(predictions[self._rows], self._labels)

    def rmse(self, predictions: npt.NDArray[np.floating[Any]]) -> float:
        """See `rmse`."""
        return self._unit * rmse(predictions[self._rows], self._labels)

    def pinball(self, predictions: npt.NDArray[np.floating[Any]], quantile: float) -> float:
        """See `pinball`."""
        return self._unit * pinball(predictions[self._rows], self._labels, quantile)


def mae(predictions: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean absolute error: ``mean(|label - prediction|)``.

    Args:
        predictions: ``(N,)``.
        labels: any numbers ``(N,)``.
    Returns:
        At least 0, in the unit of the labels; lower is better. The best constant is the median.
    Raises:
        DataError: shapes differ, or a number is not finite.
    Source: Willmott & Matsuura 2005. Cost: O(N).
    Example:
        >>> mae([1.0, 2.0], [4.0, 2.0])  # (3 + 0) / 2
        1.5
    """
    return float(np.abs(_errors(predictions, labels)).mean())


def rmse(predictions: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Root of the mean squared error: ``sqrt(mean((label - prediction) ** 2))``.

    Args:
        predictions: ``(N,)``.
        labels: any numbers ``(N,)``.
    Returns:
        At least 0, in the unit of the labels; lower is better. The best constant is the mean.
    Raises:
        DataError: shapes differ, or a number is not finite.
    Source: Gauss 1809 (least squares). Cost: O(N).
    Example:
        >>> rmse([1.0, 2.0], [4.0, 6.0])  # sqrt((9 + 16) / 2)
        3.5355339059327378
    """
    return float(np.sqrt(np.square(_errors(predictions, labels)).mean()))


def pinball(predictions: npt.ArrayLike, labels: npt.ArrayLike, quantile: float) -> float:
    """Mean pinball loss: ``mean(max(q e, (q - 1) e))`` with ``e = label - prediction``.

    Args:
        predictions: ``(N,)``.
        labels: any numbers ``(N,)``.
        quantile: q, between 0 and 1, both excluded.
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
    return float(np.maximum(quantile * errors, (quantile - 1) * errors).mean())


def _errors(predictions: npt.ArrayLike, labels: npt.ArrayLike) -> Floats:
    """``label - prediction``, ``(N,)``."""
    p, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or len(p) == 0:
        raise DataError(f"expected a prediction and a label per row, got shapes {p.shape} and {y.shape}.")
    for name, values in (("predictions", p), ("labels", y)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"{name} must be finite, got {values[bad[0]]} in row {bad[0]}; drop missing labels first.")
    return np.asarray(y - p)
