"""How well scores order, or logits match, held-out labels.

Missing labels are dropped by `evorec.metrics.task_rows.TaskRows`; the labels here are complete. Ordering metrics are
computed from integer counts of pairs, so they are exact and do not depend on the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from evorec.config import TaskKind
from evorec.errors import DataError
from evorec.metrics.metric import ORDER, MeasuredValues, metric
from evorec.metrics.task_rows import LabelPairs, Reals, TaskPredictions, TaskRows, check_binary

MAX_LOGIT = float(np.log1p(-np.finfo(np.float64).eps) - np.log(np.finfo(np.float64).eps))
"""Logits are cut here in `logloss`: the probabilities stay as far from 0 and 1 as in scikit-learn for float64."""


NO_TASK: Final = (
    "needs a ranked task, and tasks.ranked is empty: leave it out, or rank a label that is 0 in some rows. In a log of "
    "positives, tasks.sampled_negatives = 4 draws such rows for the target."
)
"""Why `accuracy` and the metrics of tasks are not measured where only retrieval is trained."""
MEAN = "mean over the ranked tasks of AUC, or of concordance where labels are numbers"
BINARY: Final[dict[str, Any]] = {"of": TaskPredictions, "kinds": ("binary",)}


@metric("accuracy", of=MeasuredValues, text=MEAN, **ORDER)
def accuracy(values: Mapping[str, float]) -> float:
    """Mean over the tasks of the metric that says how well their rows are ordered.

    Args:
        values: metrics by key, those of `ordering_key` among them.
    Returns:
        A share in [0, 1], no unit, higher is better; 0.5 is chance.
    Example:
        >>> accuracy({"auc/click": 0.8, "gauc/click": 0.1, "concordance/watch": 0.6})
        0.7
    """
    return float(np.mean([value for key, value in values.items() if key.startswith(("auc/", "concordance/"))]))


def ordering_key(task: str, kind: TaskKind) -> str:
    """The key of the metric that counts in the accuracy.

    Example:
        >>> ordering_key("click", "binary"), ordering_key("watch", "regression")
        ('auc/click', 'concordance/watch')
    """
    return f"{'auc' if kind == 'binary' else 'concordance'}/{task}"


def ordering(kind: TaskKind, labels: Reals, scores: Reals) -> float | None:
    """How well scores order the known labels of a task: `auc`, or of numbers `concordance`.

    Args:
        kind: of the labels.
        labels: ``(N,)``, NaN = unknown.
        scores: ``(N,)``.
    Returns:
        A share, higher is better; ``None`` where fewer than two different labels are known.
    Example:
        >>> ordering("binary", np.array([1.0, 0.0, np.nan]), np.array([0.9, 0.1, 0.5]))
        1.0
    """
    known = ~np.isnan(labels)
    if len(np.unique(labels[known])) < 2:
        return None
    return (auc if kind == "binary" else concordance)(scores[known], labels[known])


@metric("auc/<task>", text="AUC of a task on held-out impressions", **BINARY, **ORDER)
def auc(scores: npt.ArrayLike, labels: npt.ArrayLike, *, pairs: LabelPairs | None = None) -> float:
    """Probability that a positive row scores above a negative row; ties count half.

    Args:
        scores: any real numbers ``(N,)``; only their order matters.
        labels: 0 or 1, ``(N,)``.
        pairs: `LabelPairs` of the labels, made once for many models.
    Returns:
        A share in [0, 1], no unit, higher is better; 0.5 is chance, exactly 0.5 when all scores are equal.
    Raises:
        DataError: shapes differ, a score is NaN, a label is not 0 or 1, or all labels are of the same class.
    Source: Mann & Whitney 1947; Hanley & McNeil 1982. Cost: O(N log N).
    Example:
        >>> auc([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0])  # pairs: 1, 1, 1/2, 1
        0.875
    """
    s, y = _vector(scores, "scores"), _same_shape(labels, scores)
    pairs = pairs or LabelPairs.of(check_binary(y), np.zeros(len(s)))
    if len(pairs.size) == 0:
        n_positive = int((y == 1).sum())
        raise DataError(
            f"auc needs rows of both classes, got {n_positive} positive and {len(y) - n_positive} negative; choose a "
            "longer held-out part or leave the task out."
        )
    return float(pairs.auc(s)[0])


def _has_one_class_per_user(rows: TaskRows) -> str | None:
    if len(rows.pairs_of_users.size):
        return None
    return f"needs a user with both classes in the held-out rows; choose auc/{rows.task}."


GAUC = "AUC inside each user, averaged by impressions"


@metric("gauc/<task>", text=GAUC, unavailable=_has_one_class_per_user, **BINARY, **ORDER)
def gauc(
    scores: npt.ArrayLike, labels: npt.ArrayLike, users: npt.ArrayLike, *, pairs_of_users: LabelPairs | None = None
) -> float:
    """AUC within each user, averaged over users by their number of rows.

    ``sum_u n_u AUC_u / sum_u n_u`` over the users who have both classes; the others are left out.

    Args:
        scores: any real numbers ``(N,)``.
        labels: 0 or 1, ``(N,)``.
        users: integer user ids ``(N,)``.
        pairs_of_users: `LabelPairs` of the labels by user, made once for many models.
    Returns:
        A share in [0, 1], no unit, higher is better, 0.5 is chance.
    Raises:
        DataError: shapes differ, a score is NaN, a label is not 0 or 1, or no user has both classes.
    Source: Zhu et al. 2017 (optimized cost per click, KDD), weights = impressions. Cost: O(N log N).
    Example:
        >>> gauc([0.9, 0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0, 0], [7, 7, 8, 8, 8])  # (2 * 1 + 3 * 0) / 5
        0.4
    """
    s, y, u = _vector(scores, "scores"), _same_shape(labels, scores), np.asarray(users)
    if u.shape != s.shape:
        raise DataError(f"users must have the shape of scores, {s.shape}, got {u.shape}.")
    pairs = pairs_of_users or LabelPairs.of(check_binary(y), u)
    if len(pairs.size) == 0:
        raise DataError(
            "gauc needs a user with rows of both classes, and there is none; use auc or a longer held-out part."
        )
    return float(np.average(pairs.auc(s), weights=pairs.size))


LOGLOSS: Final[dict[str, Any]] = {"direction": "min", "ideal": 0.0, "worst": math.log(2), "unit": "nat"}


@metric("logloss/<task>", text="mean negative log-likelihood", **BINARY, **LOGLOSS)
def logloss(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean negative log likelihood of binary labels, ``mean(log(1 + exp(-x)))`` with x = logit, or -logit of a 0.

    Args:
        scores: logits ``(N,)``; cut at `MAX_LOGIT`.
        labels: 0 or 1, ``(N,)``; a single class is enough.
    Returns:
        Nats per row in [0, 36.05], lower is better; ``log(2) = 0.693`` for constant 0.
    Raises:
        DataError: shapes differ, a logit is NaN or a label is not 0 or 1.
    Source: Good 1952 (logarithmic score). Cost: O(N).
    Example:
        >>> round(logloss([0.0, -np.log(3)], [1, 0]), 4)  # probabilities 1/2 and 1/4: (log 2 + log 4/3) / 2
        0.4904
    """
    s, y = _vector(scores, "scores"), _same_shape(labels, scores)
    loss = s * np.where(check_binary(y), -1.0, 1.0)
    np.clip(loss, -MAX_LOGIT, MAX_LOGIT, out=loss)  # no overflow in exp, and no log of 0
    np.log(np.add(np.exp(loss, out=loss), 1.0, out=loss), out=loss)
    return float(loss.mean())


NUMBERS: Final[dict[str, Any]] = {"of": TaskPredictions, "kinds": ("regression", "quantile")}


@metric("concordance/<task>", text="pairs of held-out numbers in the right order", **NUMBERS, **ORDER)
def concordance(predictions: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of row pairs with different labels that the predictions order rightly; ties of predictions count half.

    Args:
        predictions: any real numbers ``(N,)``; only their order matters.
        labels: any real numbers ``(N,)``; only their order matters. With 0 and 1 this is `auc`.
    Returns:
        A share in [0, 1], no unit, higher is better; 0.5 is chance.
    Raises:
        DataError: shapes differ, a number is NaN, or all labels are equal.
    Source: Harrell et al. 1982 (c-index); inversions counted bit by bit. Cost: O(N log N).
    Example:
        >>> concordance([1.0, 3.0, 2.0], [10.0, 20.0, 30.0])  # 1<3 right, 1<2 right, 3<2 wrong
        0.6666666666666666
    """
    s = np.unique(_vector(predictions, "predictions"), return_inverse=True)[1]
    t = np.unique(_vector(_same_shape(labels, predictions), "labels"), return_inverse=True)[1]
    # Ties of predictions between rows of equal label: those are no pairs and are subtracted below.
    tied_cells = np.unique(s * (int(t.max()) + 1) + t, return_counts=True)[1]
    pairs = _n_pairs(np.array([len(s)])) - _n_pairs(np.bincount(t))
    if pairs == 0:
        raise DataError(f"concordance needs two different labels, all {len(t)} are equal; leave the task out.")
    tied = _n_pairs(np.bincount(s)) - _n_pairs(tied_cells)
    wrong = _inversions(s[np.lexsort((s, t))])  # rows of equal label are in the order of predictions: no inversion
    # Python integers: exact for any number of rows.
    return (2 * (pairs - wrong) - tied) / (2 * pairs)


def _same_shape(labels: npt.ArrayLike, scores: npt.ArrayLike) -> npt.NDArray[Any]:
    y, shape = np.asarray(labels), np.shape(scores)
    if y.shape != shape:
        raise DataError(f"labels must have the shape of scores, {shape}, got {y.shape}.")
    return y


def _vector(values: npt.ArrayLike, name: str) -> Reals:
    """The values without NaN; float32 as it is, because half the bits are sorted faster."""
    given = np.asarray(values)
    v = given if given.dtype == np.float32 else given.astype(np.float64)
    if v.ndim != 1 or len(v) == 0:
        raise DataError(f"{name} must be a vector with a row or more, got shape {v.shape}.")
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

    A radix sort from the highest bit down. Before each bit, rows are grouped by the bits above, each group in its
    first order: a pair is an inversion at the highest bit that differs, if a 1 comes before a 0. Then the rows with a 0
    move to the front of their group.
    """
    total, position = 0, np.arange(len(ranks))
    for bit in reversed(range(int(ranks.max()).bit_length())):
        prefix = ranks >> (bit + 1)
        start = np.flatnonzero(np.concatenate(([True], prefix[1:] != prefix[:-1])))
        size = np.diff(np.append(start, len(ranks)))
        is_one = (ranks >> bit) & 1
        ones_before = np.cumsum(is_one) - is_one
        ones_before -= np.repeat(ones_before[start], size)
        zero_end = np.repeat(start + size - np.add.reduceat(is_one, start), size)
        total += int(ones_before[is_one == 0].sum())
        moved = np.empty_like(ranks)
        moved[np.where(is_one == 1, zero_end + ones_before, position - ones_before)] = ranks
        ranks = moved
    return total
