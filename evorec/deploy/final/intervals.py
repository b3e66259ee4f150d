"""Confidence intervals of a model's metrics by a bootstrap over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Dataset
from evorec.seeds import generator

Floats = npt.NDArray[np.float64]
DRAWS_PER_CHUNK = 4_000_000
"""Draws in memory at a time, 32 MB."""
MOST_DRAWS = 200_000_000
"""Draws of a bootstrap: with more users there are fewer resamples, but at least `FEWEST_RESAMPLES`."""
FEWEST_RESAMPLES = 200
TAILS = (0.025, 0.975)


@final
@dataclass(frozen=True)
class UserDraws:
    """Users, or other units, drawn with replacement; the same draws at every call.

    Attributes:
        n: units drawn from, and drawn per resample.
        seed: of the draws.
        resamples: requested number; `MOST_DRAWS` limits it.
    """

    n: int
    seed: int
    resamples: int

    @property
    def n_resamples(self) -> int:
        """Number of resamples."""
        return min(self.resamples, max(FEWEST_RESAMPLES, MOST_DRAWS // self.n))

    def sums(self, values: Floats) -> Floats:
        """Sums of `values` ``(n, C)`` over each resample, ``(R, C)``."""
        rng, chunk, out = generator(self.seed, "interval over users"), max(1, DRAWS_PER_CHUNK // self.n), []
        for done in range(0, self.n_resamples, chunk):
            size = min(chunk, self.n_resamples - done)
            drawn = rng.integers(self.n, size=(size, self.n)) + self.n * np.arange(size)[:, None]
            counts = np.bincount(drawn.reshape(-1), minlength=size * self.n).reshape(size, self.n)
            out.append(counts.astype(np.float64) @ values)
        return np.concatenate(out)

    def means(self, per_user: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
        """The 95 % interval of each mean, by metric; `per_user` has ``(n,)`` values."""
        sums = self.sums(np.stack(list(per_user.values()), axis=1))
        return {name: _interval(resampled, self.n) for name, resampled in zip(per_user, (sums / self.n).T, strict=True)}


def _interval(resampled: Floats, n: int) -> dict[str, float]:
    low, high = np.quantile(resampled, TAILS)
    return {"low": float(low), "high": float(high), "n": n, "resamples": len(resampled)}


def row_units(dataset: Dataset) -> npt.NDArray[np.int64]:
    """Bootstrap unit of each held-out row, ``(N,)``: its user; a row of a user without training rows is its own unit.

    Users without training rows are indistinguishable in the encoded data, so their rows are treated as independent,
    and intervals are too narrow where such a user has many rows.
    """
    users = dataset.held_out.users
    strangers = users == dataset.n_users
    own = np.where(strangers, dataset.n_users + np.cumsum(strangers) - 1, users)
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


@final
@dataclass(frozen=True)
class AucPieces:
    """An AUC as sums over units, which can be resampled without sorting again.

    Attributes:
        value: the AUC.
        sums: per unit: placements of its positives, its positives, placements of its negatives, its negatives,
            ``(n, 4)``.
    """

    value: float
    sums: Floats

    @classmethod
    def of(cls, labels: npt.NDArray[Any], scores: npt.NDArray[Any], units: npt.NDArray[np.int64]) -> AucPieces | None:
        """Of rows ``(N,)``; a NaN label is unknown; ``None`` with only a single class.

        A positive's placement is the share of the negatives that score below it, ties half; a negative's, the share
        of the positives that score above it.
        """
        n, known = int(units.max()) + 1, ~np.isnan(labels)
        positive, negative = known & (labels == 1), known & (labels == 0)
        if not (positive.any() and negative.any()):
            return None
        up = _below(scores[positive], scores[negative])
        down = 1 - _below(scores[negative], scores[positive])
        columns = [
            np.bincount(units[rows], weights=weights, minlength=n)
            for rows, placed in ((positive, up), (negative, down))
            for weights in (placed, None)
        ]
        return cls(float(up.mean()), np.stack(columns, axis=1).astype(np.float64))


def _below(scores: npt.NDArray[Any], others: npt.NDArray[Any]) -> Floats:
    """Share of `others` below each score, ties half."""
    ordered = np.sort(others)
    twice = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return np.asarray(twice / (2 * len(ordered)))


def auc_intervals(
    labels: Mapping[str, npt.NDArray[Any]],
    scores: Sequence[npt.NDArray[Any]],
    units: npt.NDArray[np.int64],
    *,
    seed: int,
    resamples: int,
) -> dict[str, dict[str, float]]:
    """The 95 % interval of the AUC of each binary task, by resampling users.

    Placements are computed among all rows and not again in each resample: the bootstrap of the first-order part of
    AUC, whose variance over clusters is that of Obuchowski. The error is of order 1 / users.

    Args:
        labels: by key of the interval, ``(N,)``: 0, 1, or NaN = unknown.
        scores: of the same tasks, ``(N,)`` each.
        units: of each row, from `row_units`.
        seed: of the draws.
        resamples: of the bootstrap; fewer where the number of units would exceed `MOST_DRAWS`.
    Returns:
        ``low``, ``high``, ``n`` units and ``resamples``, of every task with both classes. A resample without
        both classes is left out, and so is a task with only such resamples.
    Source: Obuchowski 1997 (clustered ROC data); DeLong et al. 1988. Cost: O(T N log N + resamples units).
    """
    pieces = {
        name: found
        for (name, own), score in zip(labels.items(), scores, strict=True)
        if (found := AucPieces.of(own, score, units)) is not None
    }
    if not pieces:
        return {}
    n = int(units.max()) + 1
    sums = UserDraws(n, seed, resamples).sums(np.concatenate([piece.sums for piece in pieces.values()], axis=1))
    out = {}
    for i, (name, piece) in enumerate(pieces.items()):
        up, n_up, down, n_down = sums[:, 4 * i : 4 * i + 4].T
        both = (n_up > 0) & (n_down > 0)
        if both.any():
            drawn = up[both] / n_up[both] + down[both] / n_down[both] - piece.value
            out[name] = _interval(np.clip(drawn, 0.0, 1.0), n)
    return out
