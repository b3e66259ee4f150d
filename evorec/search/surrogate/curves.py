"""What the objectives at a rung say about the end of the training."""

from __future__ import annotations

from typing import Final, final

import numpy as np

from evorec.objectives import FloatArray

NOISE: Final = 0.03
"""Standard deviation, in box coordinates, of the end around the line before any training has shown it."""
SHIFT, TRUST, SLOPE = 0.1, 0.3, 0.5
"""Standard deviations a priori of the three coefficients of `LearningCurves`, all around 0."""


@final
class LearningCurves:
    """Predicts objectives at the end of a training from those at its rungs and from the surrogate.

    For each objective and rung the end is ``rung + c + b (model - rung) + d (rung - previous rung)``. The coefficients
    come from ridge regression on the trainings that reached their end; before the first, the end is expected where the
    rung is. At the first rung d is 0.
    """

    def __init__(self, n_objectives: int) -> None:
        self._n_objectives = n_objectives
        self._seen: dict[int, list[tuple[FloatArray, FloatArray]]] = {}

    def add(self, rungs: FloatArray, model: FloatArray, end: FloatArray) -> None:
        """Learn from trainings that reached their end.

        Args:
            rungs: box coordinates at the first R rungs ``(N, R, M)``.
            model: predictions before the training ``(N, M)``; NaN where there were none.
            end: box coordinates at the end ``(N, M)``.
        """
        for rung in range(rungs.shape[1]):
            self._seen.setdefault(rung, []).append((_inputs(rungs[:, : rung + 1], model), end - rungs[:, rung]))

    def predict(self, rungs: FloatArray, model: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Box coordinates at the end.

        Args:
            rungs, model: as in `add`; the last rung is that of the comparison.
        Returns:
            Means ``(N, M)`` and standard deviations of the predictions ``(M,)``.
        """
        inputs, last = _inputs(rungs, model), rungs[:, -1]
        means, spreads = np.empty_like(last), np.full(self._n_objectives, NOISE)
        seen = self._seen.get(rungs.shape[1] - 1, [])
        A = np.concatenate([part for part, _ in seen]) if seen else np.empty((0, self._n_objectives, 3))
        y = np.concatenate([part for _, part in seen]) if seen else np.empty((0, self._n_objectives))
        penalty = np.diag([(NOISE / spread) ** 2 for spread in (SHIFT, TRUST, SLOPE)])
        for column in range(self._n_objectives):
            a, b = A[:, column], y[:, column]
            coefficients = np.linalg.solve(a.T @ a + penalty, a.T @ b)
            means[:, column] = last[:, column] + inputs[:, column] @ coefficients
            rest = float(((b - a @ coefficients) ** 2).sum())
            spreads[column] = np.sqrt((NOISE**2 + rest) / (1 + len(b)))
        return means, spreads


def _inputs(rungs: FloatArray, model: FloatArray) -> FloatArray:
    """Columns of the regression ``(N, M, 3)``: 1, model less rung, rung less previous rung."""
    last = rungs[:, -1]
    rise = last - rungs[:, -2] if rungs.shape[1] > 1 else np.zeros_like(last)
    return np.stack([np.ones_like(last), np.where(np.isfinite(model), model - last, 0.0), rise], axis=2)
