"""How well scores order, or probabilities match, held-out labels.

Missing labels are dropped by the caller; what arrives here is complete. Ordering metrics are computed from integer
counts of pairs, so they are exact and do not depend on the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_PROBABILITY = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1 in `logloss`, as scikit-learn does for float64."""


@dataclass(frozen=True)
class GroupedAuc:
    """AUC within users; see `gauc`."""

    value: float
    n_users: int
    n_skipped: int


@dataclass(frozen=True)
class _PairCounts:
    """Per group: rows of each class, and twice the number of (positive, negative) pairs in the right order."""

    positives: Ints
    negatives: Ints
    twice_right: Ints


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Probability that a positive row scores above a negative row; ties count half.

    Args:
        scores: any real numbers ``(N,)``; only their order matters.
        labels: 0 or 1, ``(N,)``.
    Returns:
        A share in [0, 1], no unit, higher is better; 0.5 is chance, exactly 0.5 when all scores are equal.
    Raises:
        DataError: shapes differ, a score is NaN, a label is not 0 or 1, or there is only one class.
    Source: Mann & Whitney 1947; Hanley & McNeil 1982. Cost: O(N log N).
    Example:
        >>> auc([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0])  # pairs: 1, 1, 1/2, 1
        0.875
    """
    s, y = _checked(scores, labels)
    counts = _pair_counts(s, y, np.zeros(len(s), dtype=np.int64))
    pairs = int(counts.positives[0]) * int(counts.negatives[0])
    if pairs == 0:
        raise DataError(
            f"auc needs rows of both classes, got {counts.positives[0]} positive and {counts.negatives[0]} negative; "
            "choose a longer held-out part or leave the task out."
        )
    return int(counts.twice_right[0]) / (2 * pairs)


def gauc(scores: npt.ArrayLike, labels: npt.ArrayLike, users: npt.ArrayLike) -> GroupedAuc:
    """AUC within each user, averaged over users by their number of rows.

    ``sum_u n_u AUC_u / sum_u n_u`` over the users who have both classes; the others are left out and counted.

    Args:
        scores: any real numbers ``(N,)``.
        labels: 0 or 1, ``(N,)``.
        users: integer user ids ``(N,)``.
    Returns:
        `GroupedAuc`: the value is a share in [0, 1], no unit, higher is better, 0.5 is chance.
    Raises:
        DataError: shapes differ, a score is NaN, a label is not 0 or 1, or no user has both classes.
    Source: Zhu et al. 2017 (optimized cost per click, KDD), weights = impressions. Cost: O(N log N).
    Example:
        >>> gauc([0.9, 0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0, 0], [7, 7, 8, 8, 8])  # (2 * 1 + 3 * 0) / 5
        GroupedAuc(value=0.4, n_users=2, n_skipped=0)
    """
    s, y = _checked(scores, labels)
    u = np.asarray(users)
    if u.shape != s.shape:
        raise DataError(f"users must have the shape of scores, {s.shape}, got {u.shape}.")
    counts = _pair_counts(s, y, u)
    pairs = counts.positives * counts.negatives
    both = pairs > 0
    if not both.any():
        raise DataError(
            f"gauc needs a user with rows of both classes, none of {len(both)} users has them; "
            "use auc or a longer held-out part."
        )
    rows = (counts.positives + counts.negatives)[both]
    value = float(np.average(counts.twice_right[both] / (2 * pairs[both]), weights=rows))
    return GroupedAuc(value, n_users=int(both.sum()), n_skipped=int((~both).sum()))


def logloss(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean negative log likelihood of binary labels: ``-mean(y log p + (1 - y) log(1 - p))``.

    Args:
        probabilities: of label 1, ``(N,)`` in [0, 1]; exact 0 and 1 are moved inwards by `MIN_PROBABILITY`.
        labels: 0 or 1, ``(N,)``; one class is enough.
    Returns:
        Nats per row in [0, 36.05], lower is better; ``log(2) = 0.693`` for constant 0.5.
    Raises:
        DataError: shapes differ, a label is not 0 or 1, or a probability is NaN or outside [0, 1].
    Source: Good 1952 (logarithmic score). Cost: O(N).
    Example:
        >>> round(logloss([0.5, 0.25], [1, 0]), 4)  # (log 2 + log 4/3) / 2
        0.4904
    """
    p, y = _checked(probabilities, labels)
    if p.min() < 0 or p.max() > 1:
        raise DataError(f"logloss needs probabilities in [0, 1], got {p.min():g}..{p.max():g}; apply a sigmoid first.")
    p = np.clip(p, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return float(-np.mean(np.where(y, np.log(p), np.log1p(-p))))


def concordance(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Share of row pairs with different targets that the scores order rightly; score ties count half.

    Args:
        scores: any real numbers ``(N,)``; only their order matters.
        targets: any real numbers ``(N,)``; only their order matters. With 0 and 1 this is `auc`.
    Returns:
        A share in [0, 1], no unit, higher is better; 0.5 is chance.
    Raises:
        DataError: shapes differ, a number is NaN, or all targets are equal.
    Source: Harrell et al. 1982 (c-index); inversions counted bit by bit. Cost: O(N log N).
    Example:
        >>> concordance([1.0, 3.0, 2.0], [10.0, 20.0, 30.0])  # 1<3 right, 1<2 right, 3<2 wrong
        0.6666666666666666
    """
    s = np.unique(_vector(scores, "scores"), return_inverse=True)[1]
    t = np.unique(_vector(targets, "targets"), return_inverse=True)[1]
    if s.shape != t.shape:
        raise DataError(f"targets must have the shape of scores, {s.shape}, got {t.shape}.")
    tied_cells = np.unique(s * (int(t.max()) + 1) + t, return_counts=True)[1]
    pairs = _n_pairs(np.array([len(s)])) - _n_pairs(np.bincount(t))
    if pairs == 0:
        raise DataError(f"concordance needs two different targets, got {len(t)} equal ones; leave the task out.")
    tied = _n_pairs(np.bincount(s)) - _n_pairs(tied_cells)
    wrong = _inversions(s[np.lexsort((s, t))])  # rows of equal target stand in score order: no inversion among them
    return (2 * (pairs - wrong) - tied) / (2 * pairs)


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    s = _vector(scores, "scores")
    y = np.asarray(labels)
    if y.shape != s.shape:
        raise DataError(f"labels must have the shape of scores, {s.shape}, got {y.shape}.")
    bad = (y != 0) & (y != 1)
    if bad.any():
        raise DataError(
            f"labels must be 0 or 1, got {y[bad][0]} in row {int(np.flatnonzero(bad)[0])}; drop missing labels first."
        )
    return s, y == 1


def _vector(values: npt.ArrayLike, name: str) -> Floats:
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or len(v) == 0:
        raise DataError(f"{name} must be a vector with at least one row, got shape {v.shape}.")
    nan = np.isnan(v)
    if nan.any():
        raise DataError(
            f"{name} must not hold NaN, got {int(nan.sum())} of {len(v)}, first in row {int(nan.argmax())}."
        )
    return v


def _pair_counts(scores: Floats, positive: npt.NDArray[np.bool_], groups: npt.NDArray[Any]) -> _PairCounts:
    """Pair counts per group, groups in ascending order; N below three billion keeps them inside int64."""
    order = np.lexsort((scores, groups))
    s, y, g = scores[order], positive[order].astype(np.int64), groups[order]
    new_group = np.concatenate(([True], g[1:] != g[:-1]))
    new_block = new_group | np.concatenate(([True], s[1:] != s[:-1]))  # a block = rows of equal group and score
    block = np.flatnonzero(new_block)
    first = np.flatnonzero(new_group[block])  # first block of each group
    pos, neg = np.add.reduceat(y, block), np.add.reduceat(1 - y, block)
    neg_below = np.cumsum(neg) - neg
    neg_below -= np.repeat(neg_below[first], np.diff(np.append(first, len(block))))
    return _PairCounts(
        positives=np.add.reduceat(pos, first),
        negatives=np.add.reduceat(neg, first),
        twice_right=np.add.reduceat(pos * (2 * neg_below + neg), first),
    )


def _n_pairs(counts: npt.NDArray[np.integer[Any]]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: npt.NDArray[np.integer[Any]]) -> int:
    """Number of index pairs ``i < j`` with ``ranks[i] > ranks[j]``; ranks are small non-negative integers ``(N,)``.

    From the highest bit down, rows stand grouped by the bits above, each group in its first order: an inversion is
    counted at the highest bit that differs, as a one before a zero. Zeros then move before ones within the group.
    """
    total, position = 0, np.arange(len(ranks))
    for bit in reversed(range(int(ranks.max()).bit_length())):
        prefix = ranks >> (bit + 1)
        start = np.flatnonzero(np.concatenate(([True], prefix[1:] != prefix[:-1])))
        size = np.diff(np.append(start, len(ranks)))
        one = (ranks >> bit) & 1
        ones_before = np.cumsum(one) - one
        ones_before -= np.repeat(ones_before[start], size)
        zero_end = np.repeat(start + size - np.add.reduceat(one, start), size)
        total += int(ones_before[one == 0].sum())
        moved = np.empty_like(ranks)
        moved[np.where(one == 1, zero_end + ones_before, position - ones_before)] = ranks
        ranks = moved
    return total
