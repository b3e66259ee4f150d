"""Weights of a user's latest positives in the history vector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def history_weights(rows: npt.NDArray[np.int64], recency: float = 0.0) -> npt.NDArray[np.float64]:
    """Weights of history bags: ``w_j / sqrt(sum of w + 1)`` with ``w_j = (1 + j) ** -recency``, 0 for padding (row 0).

    Between a sum, which gives long histories too much weight, and a mean, which ignores their length.

    Args:
        rows: int64 ``(m, H)``, latest first.
        recency: 0 = equal weights.
    Example:
        >>> history_weights(np.array([[5, 0, 6, 7]]))
        array([[0.5, 0. , 0.5, 0.5]])
    """
    real = (rows > 0) * np.arange(1.0, rows.shape[1] + 1) ** -recency
    return np.asarray(real / np.sqrt(real.sum(1, keepdims=True) + 1))
