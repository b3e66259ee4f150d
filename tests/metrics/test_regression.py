"""Errors of predicted numbers against scikit-learn, slow loops and fractions worked by hand."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, root_mean_squared_error

from evorec.config import QuantileKind
from evorec.errors import DataError
from evorec.metrics.accuracy import auc, concordance
from evorec.metrics.metric import measure, metrics_of
from evorec.metrics.regression import mae, pinball, rmse
from evorec.metrics.task_rows import TaskPredictions, TaskRows

ROUNDING = 1e-12  # sums of some thousand float64 terms of size 1


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(3)
    labels = rng.lognormal(size=2000).round(1)  # with ties
    return (labels + rng.normal(size=2000)).round(1), labels


def test_errors_are_those_of_scikit_learn(numbers):
    predictions, labels = numbers
    assert mae(predictions, labels) == pytest.approx(mean_absolute_error(labels, predictions), rel=ROUNDING)
    assert rmse(predictions, labels) == pytest.approx(root_mean_squared_error(labels, predictions), rel=ROUNDING)
    for q in (0.01, 0.5, 0.9):
        expected = mean_pinball_loss(labels, predictions, alpha=q)
        assert pinball(predictions, labels, q) == pytest.approx(expected, rel=ROUNDING)


def test_errors_worked_by_hand():
    predictions, labels = [1.0, 5.0, 2.0], [4.0, 1.0, 2.0]  # errors 3, -4, 0
    assert mae(predictions, labels) == pytest.approx(7 / 3, rel=ROUNDING)
    assert rmse(predictions, labels) == pytest.approx((25 / 3) ** 0.5, rel=ROUNDING)
    assert pinball(predictions, labels, 0.9) == pytest.approx((0.9 * 3 + 0.1 * 4) / 3, rel=ROUNDING)


def test_pinball_at_one_half_is_half_the_absolute_error(numbers):
    assert pinball(*numbers, 0.5) == pytest.approx(mae(*numbers) / 2, rel=ROUNDING)


def test_no_other_constant_beats_mean_median_and_quantile(numbers):
    _, labels = numbers

    def best(metric):
        return min(sorted(set(labels)), key=lambda value: metric(np.full(len(labels), value)))

    assert best(lambda p: mae(p, labels)) == np.median(labels)
    assert best(lambda p: pinball(p, labels, 0.9)) == np.quantile(labels, 0.9, method="inverted_cdf")
    nearest = min(set(labels), key=lambda value: abs(value - labels.mean()))
    assert best(lambda p: rmse(p, labels)) == nearest


def test_rows_without_a_label_do_not_count_and_errors_are_in_the_labels_own_unit(numbers):
    predictions, labels = numbers
    missing = np.random.default_rng(4).random(len(labels)) < 0.3
    mean, spread = 7.0, 60.0
    scaled = (predictions - mean) / spread
    scaled[missing] = 1e6
    known = predictions[~missing], labels[~missing]
    for kind in ("regression", QuantileKind(quantile=0.2)):
        standardised = np.where(missing, np.nan, (labels - mean) / spread)
        rows = TaskRows.of(standardised, np.zeros(len(labels)), task="watch", kind=kind, unit=spread)
        metrics = metrics_of(TaskPredictions, kind=kind, task="watch")
        found = measure(TaskPredictions(scaled[rows.rows], rows), metrics).values
        assert found.pop("concordance/watch") == pytest.approx(concordance(*known), rel=ROUNDING)
        expected = {"mae/watch": mae(*known), "rmse/watch": rmse(*known)}
        if kind != "regression":
            expected = {"pinball/watch": pinball(*known, 0.2)}
        assert found == pytest.approx(expected, rel=ROUNDING)
    scores, truth = scaled[~missing][:300], labels[~missing][:300]
    pairs = [(i, j) for i, j in combinations(range(300), 2) if truth[i] != truth[j]]
    right = sum(0.5 + 0.5 * np.sign((scores[i] - scores[j]) * (truth[i] - truth[j])) for i, j in pairs)
    assert concordance(scores, truth) == pytest.approx(right / len(pairs), rel=ROUNDING)


def test_concordance_of_zeros_and_ones_is_auc():
    rng = np.random.default_rng(5)
    scores, labels = rng.integers(9, size=400) / 7, (rng.random(400) < 0.2).astype(float)
    assert concordance(scores, labels) == auc(scores, labels)


@pytest.mark.parametrize("metric", [mae, rmse, lambda p, y: pinball(p, y, 0.5)], ids=["mae", "rmse", "pinball"])
@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([1.0], [1.0, 2.0], r"a prediction and a label per row, got shapes \(1,\) and \(2,\)"),
        ([], [], r"a prediction and a label per row, got shapes \(0,\)"),
        ([np.inf, 1.0], [1.0, 2.0], "predictions must be finite, got inf in row 0"),
        ([1.0, 1.0], [1.0, np.nan], "labels must be finite, got nan in row 1; drop missing labels first"),
    ],
)
def test_what_is_no_number_is_refused(metric, predictions, labels, message):
    with pytest.raises(DataError, match=message):
        metric(predictions, labels)


def test_a_quantile_outside_of_zero_and_one_is_refused():
    for q in (0.0, 1.0, 90.0):
        with pytest.raises(DataError, match=f"a quantile between 0 and 1, both excluded, got {q:g}"):
            pinball([1.0], [1.0], q)
