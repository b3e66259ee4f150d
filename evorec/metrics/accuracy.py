"""How well scores order, or probabilities match, held-out labels.

Missing labels are dropped by the caller; what arrives here is complete. Ordering metrics are computed from integer
counts of pairs, so they are exact and do not depend on the order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.errors import DataError
from evorec.metrics.ranking import ordered_bits

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float32] | npt.NDArray[np.float64]

MIN_PROBABILITY = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1 in `logloss`, as scikit-learn does for float64."""
MAX_LOGIT = float(np.log1p(-MIN_PROBABILITY) - np.log(MIN_PROBABILITY))
"""The logit of ``1 - MIN_PROBABILITY``."""


@dataclass(frozen=True)
class GroupedAuc:
    """AUC within users; see `gauc`."""

    value: float
    n_users: int
    n_skipped: int


@final
class LabelledRows:
    """The known labels of one task, with all that does not depend on scores: for many models on the same rows.

    `auc` and `gauc` of this module are its methods on one model's scores; `logloss` takes logits here.

    Args:
        labels: 0, 1 or NaN = not known, ``(N,)``.
        users: integer user ids ``(N,)``.
    Raises:
        DataError: shapes differ, a known label is not 0 or 1, or no label is known.
    Example:
        >>> rows = LabelledRows(np.array([1.0, 1.0, np.nan, 0.0, 0.0]), np.array([7, 8, 8, 7, 8]))
        >>> scores = np.array([[0.9, 0.4, 0.5, 0.4, 0.1], [0.1, 0.4, 0.5, 0.4, 0.9]])
        >>> [rows.auc(one) for one in scores]
        [0.875, 0.125]
    """

    def __init__(self, labels: npt.NDArray[np.floating[Any]], users: npt.NDArray[Any]) -> None:
        known = np.flatnonzero(labels == labels)  # NaN differs from itself
        if labels.shape != users.shape or len(known) == 0:
            raise DataError(
                f"expected a label and a user per row, got {labels.shape}, {users.shape}, {len(known)} known."
            )
        self._rows: Ints | slice = slice(None) if len(known) == len(labels) else known
        self._positive = _known(labels[known], known) == 1
        self._sign = np.where(self._positive, -1.0, 1.0)
        self._all = _Groups.of(self._positive, np.zeros(len(known), dtype=np.int64))
        self._users = _Groups.of(self._positive, users[known])

    @property
    def has_gauc(self) -> bool:
        """Whether any user has rows of both classes."""
        return len(self._users.size) > 0

    def auc(self, scores: Reals) -> float:
        """See `auc`; `scores` are of all N rows, here and below."""
        if self._all.n_skipped:
            n_positive = int(self._positive.sum())
            raise DataError(
                f"auc needs rows of both classes, got {n_positive} positive and {len(self._positive) - n_positive} "
                "negative; choose a longer held-out part or leave the task out."
            )
        return float(self._all.auc(_numbers(scores[self._rows]))[0])

    def gauc(self, scores: Reals) -> GroupedAuc:
        """See `gauc`."""
        groups = self._users
        if not self.has_gauc:
            raise DataError(
                f"gauc needs a user with rows of both classes, none of {groups.n_skipped} users has them; "
                "use auc or a longer held-out part."
            )
        value = float(np.average(groups.auc(_numbers(scores[self._rows])), weights=groups.size))
        return GroupedAuc(value, n_users=len(groups.size), n_skipped=groups.n_skipped)

    def logloss(self, logits: Reals) -> float:
        """See `logloss`, of ``1 / (1 + exp(-logit))``."""
        loss = _numbers(logits[self._rows]) * self._sign
        np.clip(loss, -MAX_LOGIT, MAX_LOGIT, out=loss)
        np.log(np.add(np.exp(loss, out=loss), 1.0, out=loss), out=loss)
        return float(loss.mean())


@final
@dataclass(frozen=True)
class _Groups:
    """Rows of the groups that have both classes, G of them, ascending by group.

    Attributes:
        rows: rows that count, in any order.
        key: ``2 * group + label`` of each of them, groups numbered 0..G-1.
        size, positives: rows and positive rows of each group, ``(G,)``.
        n_skipped: groups with one class.
    """

    rows: Ints
    key: npt.NDArray[np.uint64]
    size: Ints
    positives: Ints
    n_skipped: int

    @classmethod
    def of(cls, positive: Bools, groups: npt.NDArray[Any]) -> _Groups:
        names, group = np.unique(groups, return_inverse=True)
        size = np.bincount(group, minlength=len(names))
        positives = np.bincount(group[positive], minlength=len(names))
        both = (positives > 0) & (positives < size)
        rows = np.flatnonzero(both[group])
        number = np.cumsum(both) - 1
        key = (2 * number[group[rows]] + positive[rows]).astype(np.uint64)
        return cls(rows, key, size[both], positives[both], int((~both).sum()))

    def auc(self, scores: Reals) -> Floats:
        """Share of the (positive, negative) pairs of each group in the right order, ties half, ``(G,)``.

        With rows sorted by group, score and label, a positive's place less the positives before it is the number
        of negatives that it beats or ties; half of the tied pairs is taken off.
        """
        keys = self._sorted_keys(scores[self.rows])
        place = np.flatnonzero(keys & np.uint64(1))
        end = np.cumsum(self.positives)
        start = np.cumsum(self.size) - self.size
        below = np.add.reduceat(place, end - self.positives) - self.positives * start
        twice_right = 2 * below - self.positives * (self.positives - 1) - self._tied_pairs(keys, start)
        return np.asarray(twice_right / (2 * self.positives * (self.size - self.positives)))

    def _sorted_keys(self, scores: Reals) -> npt.NDArray[np.uint64]:
        """Integers in the order of group, score and label; the label is the lowest bit."""
        group, label = self.key >> np.uint64(1), self.key & np.uint64(1)
        if scores.dtype == np.float32 and len(self.size) < 1 << 31:
            level = ordered_bits(scores.astype(np.float32, copy=False))
        else:
            level = np.unique(scores, return_inverse=True)[1].astype(np.uint32)
        keys: npt.NDArray[np.uint64] = (group << np.uint64(33)) | (level.astype(np.uint64) << np.uint64(1)) | label
        keys.sort()
        return keys

    def _tied_pairs(self, keys: npt.NDArray[np.uint64], start: Ints) -> Ints:
        """(Positive, negative) pairs of equal score in each group, ``(G,)``."""
        out = np.zeros(len(start), dtype=np.int64)
        turn = np.flatnonzero(((keys[1:] ^ keys[:-1]) == 1) & (keys[1:] > keys[:-1])) + 1
        if len(turn):  # the first positive of a run of equal scores that begins with negatives
            level = keys >> np.uint64(1)
            first, last = (np.searchsorted(level, level[turn], side) for side in ("left", "right"))
            np.add.at(out, np.searchsorted(start, turn, "right") - 1, (turn - first) * (last - turn))
        return out


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
    s = _vector(scores, "scores")
    return LabelledRows(_known(labels, s), np.zeros(len(s))).auc(s)


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
    s = _vector(scores, "scores")
    y, u = _known(labels, s), np.asarray(users)
    if u.shape != s.shape:
        raise DataError(f"users must have the shape of scores, {s.shape}, got {u.shape}.")
    return LabelledRows(y, u).gauc(s)


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


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    s = _vector(scores, "scores")
    return s, _known(labels, s) == 1


def _known(labels: npt.ArrayLike, scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels of complete rows, one per score."""
    y = np.asarray(labels)
    if y.shape != scores.shape:
        raise DataError(f"labels must have the shape of scores, {scores.shape}, got {y.shape}.")
    bad = (y != 0) & (y != 1)
    if bad.any():
        raise DataError(
            f"labels must be 0 or 1, got {y[bad][0]} in row {int(np.flatnonzero(bad)[0])}; drop missing labels first."
        )
    return y


def _numbers(scores: npt.NDArray[Any]) -> Reals:
    """Float32 as it is: half the bits to sort."""
    return scores if scores.dtype == np.float32 and not np.isnan(scores).any() else _vector(scores, "scores")


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
