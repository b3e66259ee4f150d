"""Accuracy metrics against scikit-learn, slow loops over pairs, and fractions worked by hand."""

from itertools import combinations
from math import log

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from evorec.errors import DataError
from evorec.metrics.accuracy import auc, concordance, gauc, logloss, ordering
from evorec.metrics.metric import measure, metrics_of
from evorec.metrics.task_rows import TaskPredictions, TaskRows

LOST_DIGITS = 1e-10  # 1 - p of a logit of 13 has 2e-16 / exp(-13) of relative error; from the logit it has none
ROUNDING = 1e-12  # both sides sum at most some thousand float64 terms below 1


def slow_concordance(scores, targets):
    right = pairs = 0.0
    for i, j in combinations(range(len(scores)), 2):
        if targets[i] != targets[j]:
            pairs += 1
            right += 0.5 + 0.5 * np.sign(scores[i] - scores[j]) * np.sign(targets[i] - targets[j])
    return right / pairs


@pytest.mark.parametrize("levels", [2, 5, 50, None], ids=["2 levels", "5 levels", "50 levels", "no ties"])
def test_auc_agrees_with_scikit_learn_with_and_without_ties(levels):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=3000) if levels is None else rng.integers(levels, size=3000) / 7
    labels = rng.random(3000) < 0.03
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=ROUNDING)


def test_auc_of_constant_scores_is_exactly_one_half():
    assert auc(np.full(7, 0.3), [1, 0, 0, 1, 0, 0, 0]) == 0.5


def test_auc_counts_a_tie_as_half():
    # positives .8 .5, negatives .5 .2: pairs 1, 1, 1/2, 1
    assert auc([0.8, 0.5, 0.5, 0.2], [1, 0, 1, 0]) == 3.5 / 4


def test_auc_depends_neither_on_the_order_of_rows_nor_on_a_monotone_change_of_scores():
    rng = np.random.default_rng(2)
    scores, labels = rng.integers(9, size=500) - 4.0, rng.random(500) < 0.4
    order = rng.permutation(500)
    assert auc(scores, labels) == auc(scores[order], labels[order]) == auc(np.exp(scores), labels)


def test_auc_of_reversed_scores_is_one_minus_auc():
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(9, size=500), rng.random(500) < 0.4
    assert auc(-scores, labels) == pytest.approx(1 - auc(scores, labels), abs=ROUNDING)


def test_auc_accepts_infinite_scores():
    assert auc([np.inf, -np.inf, 0.0], [1, 0, 0]) == 1.0


def test_gauc_weighs_users_by_rows_and_leaves_out_those_with_one_class():
    scores = [0.9, 0.1, 0.5, 0.4, 0.3, 0.9, 0.9]
    labels = [1, 0, 0, 1, 1, 1, 0]
    users = [4, 4, 2, 2, 2, 9, 5]
    # user 4: AUC 1 on 2 rows; user 2: AUC 0 on 3 rows; users 9 and 5 have one class
    assert gauc(scores, labels, users) == 2 / 5


def test_gauc_agrees_with_scikit_learn_per_user():
    rng = np.random.default_rng(4)
    users, scores, labels = rng.integers(80, size=1500), rng.integers(6, size=1500), rng.random(1500) < 0.1
    values, weights = [], []
    for user in np.unique(users):
        own = users == user
        if 0 < labels[own].sum() < own.sum():
            values.append(roc_auc_score(labels[own], scores[own]))
            weights.append(own.sum())
    assert gauc(scores, labels, users) == pytest.approx(np.average(values, weights=weights), abs=ROUNDING)


def test_gauc_of_one_user_is_auc():
    rng = np.random.default_rng(5)
    scores, labels = rng.integers(20, size=300), rng.random(300) < 0.4
    assert gauc(scores, labels, np.full(300, 12)) == auc(scores, labels)


@pytest.mark.parametrize("only", [None, 0, 1], ids=["both classes", "negatives", "positives"])
def test_logloss_agrees_with_scikit_learn(only):
    rng = np.random.default_rng(6)
    logits = np.concatenate([rng.normal(size=500), [-1e6, 1e6, -30.0, 50.0]])
    labels = np.concatenate([rng.random(500) < 0.3, [0, 1, 1, 0]]).astype(int)
    if only is not None:
        labels[:] = only
    probabilities = np.where(logits > -700, 1 / (1 + np.exp(-np.clip(logits, -700, None))), 0.0)
    expected = log_loss(labels, probabilities, labels=[0, 1])
    assert logloss(logits, labels) == pytest.approx(expected, rel=LOST_DIGITS)


def test_logloss_of_even_odds_is_log_two_and_a_sure_error_costs_finitely_much():
    assert logloss([0.0, 0.0, 0.0], [1, 0, 0]) == pytest.approx(log(2), rel=ROUNDING)
    # wrong for sure: -log of the smallest allowed probability, 2**-52
    assert logloss(np.array([1e9], dtype=np.float32), [0]) == pytest.approx(52 * log(2), rel=ROUNDING)


@pytest.mark.parametrize("n", [2, 3, 17, 64, 65, 150])
@pytest.mark.parametrize("levels", [2, 6, 10_000])
def test_concordance_agrees_with_a_loop_over_pairs(n, levels):
    rng = np.random.default_rng([n, levels])
    scores, targets = rng.integers(levels, size=n) - 3, rng.integers(levels, size=n) / 4
    targets[:2] = [0, 1]
    assert concordance(scores, targets) == pytest.approx(slow_concordance(scores, targets), abs=ROUNDING)


def test_concordance_of_two_classes_is_auc():
    rng = np.random.default_rng(7)
    scores, labels = rng.integers(30, size=2000), rng.random(2000) < 0.2
    assert concordance(scores, labels) == auc(scores, labels)


def test_concordance_of_a_right_and_of_a_reversed_order():
    targets = np.arange(1000) ** 1.5
    assert concordance(targets, targets) == 1.0
    assert concordance(-targets, targets) == 0.0


@pytest.mark.parametrize("metric", [auc, concordance])
def test_one_class_is_refused(metric):
    with pytest.raises(DataError, match=r"needs (rows of both classes, got 2 positive and 0|two different labels)"):
        metric([0.1, 0.2], [1, 1])


def test_gauc_without_a_user_with_both_classes_is_refused():
    with pytest.raises(DataError, match="needs a user with rows of both classes"):
        gauc([0.1, 0.2], [1, 0], [1, 2])


@pytest.mark.parametrize("metric", [auc, logloss, concordance])
def test_nan_scores_are_refused_with_their_row(metric):
    with pytest.raises(DataError, match="NaN, got 1 of 3, first in row 1"):
        metric([0.1, np.nan, 0.2], [1, 0, 1])


@pytest.mark.parametrize("metric", [auc, logloss, concordance])
def test_shapes_that_differ_are_refused(metric):
    with pytest.raises(DataError, match=r"shape of scores, \(3,\), got \(2,\)"):
        metric([0.1, 0.3, 0.2], [1, 0])


@pytest.mark.parametrize("metric", [auc, logloss, concordance])
def test_no_rows_are_refused(metric):
    with pytest.raises(DataError, match="a row or more"):
        metric([], [])


@pytest.mark.parametrize("label", [np.nan, 2.0, -1.0])
@pytest.mark.parametrize("metric", [auc, logloss])
def test_labels_other_than_zero_and_one_are_refused(metric, label):
    with pytest.raises(DataError, match=r"must be 0 or 1, got .* in row 2"):
        metric([0.1, 0.3, 0.2], [1, 0, label])


def test_users_of_another_shape_are_refused():
    with pytest.raises(DataError, match="users must have the shape"):
        gauc([0.1, 0.3], [1, 0], [1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [1, 3, 40, None])
def test_metrics_of_a_task_are_those_of_its_known_rows(dtype, levels):
    rng = np.random.default_rng(8)
    users, labels = rng.integers(60, size=2000), (rng.random(2000) < 0.2).astype(np.float32)
    labels[rng.random(2000) < 0.3] = np.nan
    rows, known = TaskRows.of(labels, users, task="click"), ~np.isnan(labels)
    metrics = metrics_of(TaskPredictions, data=rows, kind=rows.kind, task="click")
    for _ in range(3):  # what does not depend on the scores is made once for all models
        scores = rng.normal(size=2000) if levels is None else (rng.integers(levels, size=2000) - 1) / 3
        scores = scores.astype(dtype)
        found, truth = scores[known], labels[known]
        values = measure(TaskPredictions(scores[rows.rows], rows), metrics).values
        assert values.keys() == {"auc/click", "gauc/click", "logloss/click"}
        assert values["auc/click"] == auc(found, truth) == ordering("binary", labels, scores)
        assert values["auc/click"] == pytest.approx(roc_auc_score(truth, found), abs=ROUNDING)
        assert values["gauc/click"] == gauc(found, truth, users[known])
        assert values["logloss/click"] == logloss(found, truth)


def test_zero_and_minus_zero_are_a_tie():
    assert auc(np.array([0.0, -0.0], dtype=np.float32), [1, 0]) == 0.5
    assert auc(np.array([-0.0, 0.0], dtype=np.float32), [1, 0]) == 0.5


def test_rows_without_any_known_label_are_refused():
    with pytest.raises(DataError, match="a label and a user per row"):
        TaskRows.of(np.full(3, np.nan), np.zeros(3))
