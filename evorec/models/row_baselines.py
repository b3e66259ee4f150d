"""The baselines of a table of rows: the best constant and logistic regression; gradient boosting has its own module.

They predict the held-out rows of each task and are measured by the code that measures a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Dataset, Part
from evorec.data.held_out import HeldOut
from evorec.data.labels import best_constants
from evorec.metrics.metric import Measurements
from evorec.models.baselines import Baselines
from evorec.models.boosting import GRADIENT_BOOSTING

CONSTANT: Final = "constant"
LOGISTIC: Final = "logistic_regression"
ROW_BASELINES: Final = (CONSTANT, LOGISTIC, GRADIENT_BOOSTING)
"""Names that a constraint or a pick of a search on rows may contain."""
INVERSE_PENALTY: Final = 1.0
"""C of scikit-learn: a penalty of 1/2 |w|^2 against the summed loss of all rows."""
MOST_ITERATIONS: Final = 1000


@final
class RowBaselines(Baselines):
    """The constant that costs least in training, and a linear model of the same inputs, for each task.

    Args:
        held_out: of a data set without items.
    """

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out
        self._measured: dict[str, Measurements] = {}
        self.skipped = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the baselines; gradient boosting is computed apart."""
        return CONSTANT, LOGISTIC

    def settings_of(self, name: str) -> Mapping[str, float]:
        """None: nothing is tuned."""
        return {}

    def measure(self, name: str) -> Measurements:
        """Metrics of the predictions of a baseline."""
        if name not in self._measured:
            dataset = self._held_out.dataset
            if name == CONSTANT:
                scores = np.repeat(np.array(best_constants(dataset))[:, None], dataset.held_out.n_rows, axis=1)
            else:
                scores = linear_scores(dataset)
            values = self._held_out.measure_tasks(scores)
            self._measured[name] = Measurements(values | self._held_out.derived(values), {})
        return self._measured[name]


def linear_scores(dataset: Dataset) -> npt.NDArray[np.float64]:
    """Log-odds of a logistic regression on the one-hot inputs, of numbers a ridge regression; ``(T, N)`` held-out rows.

    Numbers enter as in a model, between two knots, so the fit is a sum of piecewise linear functions of them.

    Args:
        dataset: without items.
    Source: scikit-learn's LogisticRegression and Ridge. Cost: O(iterations rows features) per task.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    train, held_out = (_one_hot(dataset, part) for part in (dataset.train, dataset.held_out))
    out = []
    for kind, labels in zip(dataset.kinds, dataset.train.labels.T, strict=True):
        known = np.flatnonzero(~np.isnan(labels))
        if kind == "binary":
            model: Any = LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_ITERATIONS)
            out.append(model.fit(train[known], labels[known]).decision_function(held_out))
        else:
            out.append(Ridge(alpha=1 / INVERSE_PENALTY).fit(train[known], labels[known]).predict(held_out))
    return np.stack(out)


def _one_hot(dataset: Dataset, part: Part) -> Any:
    """The weights of the rows of the embedding table for each row of a part, as a sparse matrix ``(N, R - 1)``."""
    from scipy.sparse import csr_array

    assert part.context_weights is not None  # rows without items have them
    n, width = part.context.shape
    matrix = csr_array(
        (part.context_weights.reshape(-1), part.context.reshape(-1), np.arange(0, n * width + 1, width)),
        shape=(n, dataset.n_rows),
    )
    return matrix[:, 1:]  # row 0 is padding
