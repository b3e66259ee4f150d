"""The held-out rows as choices of a member: what its better half of each user's rows brings, harms and costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Dataset
from evorec.errors import DataError
from evorec.metrics.choice import Floats, LoggedRows, cost_per_positive, mean_of_chosen

GAIN, HARM, COST_PER = "gain", "harm", "cost_per"
CHOICE_METRICS = (GAIN, HARM, COST_PER)


@final
class ChoiceRows:
    """Metrics of what a member would choose, and the corners of their axes; the same rows for all members.

    A member chooses by ``sum_t ±w_t logit_t``, as in its lists (`InputShape.score_weights`). See
    `evorec.metrics.choice` for what a replay on logged rows can say.

    Args:
        dataset: its held-out rows are the choices.
        spend: a task whose label is what a row costs; empty = nothing is.

    Attributes:
        n_users: users with two or more held-out rows.
        n_left_out: known users with one.
        corners: (ideal, worst) by metric, from these labels alone: what choosing by the label itself brings, the best
            half and the worst half. `COST_PER`: ideal = the positives, then the cheapest rows; worst = the costliest
            half, per positive in it, or if that is no worse, per positive of the choice that has fewest. A metric
            whose corners are the same, because no choice matters, is left out.
    """

    def __init__(self, dataset: Dataset, *, spend: str = "") -> None:
        part = dataset.held_out
        self._name, self._rows = dataset.name, LoggedRows(part.users, n_users=dataset.n_users)
        self.n_users, self.n_left_out = self._rows.n_users, self._rows.n_left_out
        scale, shift = dataset.label_scale[:, None], dataset.label_shift[:, None]
        labels = shift + scale * part.labels.T.astype(np.float64)
        signs = dataset.signs or (1,) * dataset.n_tasks
        self._labels = {
            f"{GAIN if sign > 0 else HARM}/{task}": (sign, own)
            for task, sign, own in zip(dataset.tasks, signs, labels, strict=True)
        }
        self._spend = np.nan_to_num(labels[dataset.tasks.index(spend)]) if spend else None
        self._bought = {
            f"{COST_PER}/{task}": own
            for task, kind, sign, own in zip(dataset.tasks, dataset.kinds, signs, labels, strict=True)
            if kind == "binary" and sign > 0 and spend
        }
        self.corners: dict[str, tuple[float, float]] = {}
        if self.n_users:
            found = {name: self._corners(sign, own) for name, (sign, own) in self._labels.items()}
            found |= {name: self._corners_of_cost(own) for name, own in self._bought.items()}
            self.corners = {name: both for name, both in found.items() if both is not None and both[0] != both[1]}

    def check(self, wanted: Collection[str]) -> None:
        """Refuses metrics that these rows cannot give to any model.

        Args:
            wanted: metric keys of objectives and constraints.
        Raises:
            DataError: there is no choice, or none that matters.
        """
        for metric in sorted(wanted):
            if metric.partition("/")[0] in CHOICE_METRICS and metric not in self.corners:
                raise DataError(
                    f"{metric} needs users with two or more held-out rows whose labels differ; of {self._name} "
                    f"{self.n_users} users have two or more held-out rows, {self.n_left_out} have one; hold out a "
                    "longer part, or leave the metric out."
                )

    def metrics(self, logits: npt.NDArray[np.floating], weights: Sequence[float]) -> dict[str, float]:
        """Every metric of one member that has corners.

        Args:
            logits: ``(T, N)``, finite.
            weights: of the tasks' logits in the member's score, ``(T,)``.
        Returns:
            By key; a member none of whose chosen rows has the label gets the worst corner.
        """
        if not self.corners:
            return {}
        scores = np.zeros(logits.shape[1])
        for weight, own in zip(weights, logits, strict=True):
            scores += weight * own.astype(np.float64)
        chosen = self._rows.better_half(scores)
        out = {}
        for name, (_, worst) in self.corners.items():
            if name in self._labels:
                mean = mean_of_chosen(self._labels[name][1], chosen)
                out[name] = worst if mean is None else mean
            elif self._spend is not None:
                out[name] = cost_per_positive(self._spend, self._bought[name], chosen)
        return out

    def _corners(self, sign: int, labels: Floats) -> tuple[float, float] | None:
        known, key = ~np.isnan(labels), sign * np.nan_to_num(labels)
        halves = (np.where(known, key, -np.inf), np.where(known, -key, -np.inf))  # rows without a label come last
        best, worst = (mean_of_chosen(labels, self._rows.better_half(half)) for half in halves)
        return None if best is None or worst is None else (best, worst)

    def _corners_of_cost(self, labels: Floats) -> tuple[float, float] | None:
        assert self._spend is not None
        spend, positive = self._spend, (labels > 0).astype(np.float64)
        ideal = cost_per_positive(spend, labels, self._rows.better_half(positive, -spend))
        costliest = self._rows.better_half(spend, -positive)
        worst = cost_per_positive(spend, labels, costliest)
        if worst <= ideal:
            fewest = positive[self._rows.better_half(-positive)].sum()
            worst = float(spend[costliest].sum() / max(fewest, 1.0))
        return (ideal, worst) if ideal < worst else None
