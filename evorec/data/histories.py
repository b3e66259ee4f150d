"""How much each of a user's latest positives counts in the bag that stands for the past."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def history_weights(rows: npt.NDArray[np.int64], recency: float = 0.0) -> npt.NDArray[np.float64]:
    """Weights of history bags: ``w_j / sqrt(sum of w + 1)`` with ``w_j = (1 + j) ** -recency``, 0 for padding (row 0).

    Between a sum, which lets long histories shout, and a mean, which forgets how sure they are.

    Args:
        rows: int64 ``(m, H)``, latest first: column j is j places back.
        recency: 0 = all items weigh alike.
    Example:
        >>> history_weights(np.array([[5, 0, 6, 7]]))
        array([[0.5, 0. , 0.5, 0.5]])
    """
    real = (rows > 0) * np.arange(1.0, rows.shape[1] + 1) ** -recency
    return np.asarray(real / np.sqrt(real.sum(1, keepdims=True) + 1))
