"""Gradient boosting as a baseline."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from tiny import dataset, number_dataset, tables

from evorec.config import QuantileKind, SplitConfig
from evorec.data.encode import encode
from evorec.data.splits import split
from evorec.metrics.accuracy import ordering
from evorec.models import boosting as module
from evorec.models.boosting import BoostingGrid, boosting, features

ROUNDING = 1e-12
GRID = BoostingGrid(leaves=(4, 8), rates=(0.1,), trees=(5, 20))
ONE = BoostingGrid(leaves=(8,), rates=(0.1,), trees=(10,))


@pytest.fixture(scope="module")
def final() -> Any:
    data = tables()
    statistics = ("user", "item", "category")
    return encode(
        data,
        split(data, SplitConfig()),
        tasks=data.tasks,
        target="click",
        fit="train+validation",
        statistics=statistics,
    )


def test_features_are_statistics_context_and_fields_of_few_values() -> None:
    own = dataset()
    found = features(own, own.held_out)
    part = own.held_out
    fields = [own.user_rows[:, f.first_column][part.users] for f in own.user_fields]
    fields += [own.item_rows[:, f.first_column][part.items] for f in own.item_fields]
    np.testing.assert_array_equal(found, np.column_stack([part.statistics, part.context, *fields]).astype(np.float32))


def test_a_field_of_many_values_enters_through_its_statistics_only(monkeypatch: pytest.MonkeyPatch) -> None:
    own = dataset()
    n_all = features(own, own.held_out).shape[1]
    counts = [len(np.unique(own.user_rows[:, f.first_column])) for f in own.user_fields]
    counts += [len(np.unique(own.item_rows[:, f.first_column])) for f in own.item_fields]
    monkeypatch.setattr(module, "MAX_CODES", 20)
    n_large = sum(count > 20 for count in counts)
    assert n_large > 0
    assert features(own, own.held_out).shape[1] == n_all - n_large


def fitted_by_hand(x: Any, y: Any, leaves: int, trees: int) -> Any:
    options: dict[str, Any] = {"max_leaf_nodes": leaves, "max_iter": trees, "learning_rate": 0.1, "random_state": 3}
    return HistGradientBoostingClassifier(**options, l2_regularization=1.0, early_stopping=False).fit(x, y)


def test_the_setting_that_is_best_on_validation_is_fitted_again_and_tested(final: Any) -> None:
    search = dataset()
    found = boosting(search, final, seed=3, grid=GRID)
    x, held = features(search, search.train), features(search, search.held_out)
    for place, task in enumerate(final.tasks):
        y, y_held = search.train.labels[:, place], search.held_out.labels[:, place]
        tried = {
            (leaves, trees): roc_auc_score(y_held, fitted_by_hand(x, y, leaves, trees).predict_proba(held)[:, 1])
            for leaves in GRID.leaves
            for trees in GRID.trees
        }
        leaves, trees = max(tried, key=lambda setting: tried[setting])
        chosen = found.settings[task]
        assert (chosen["max_leaf_nodes"], chosen["trees"]) == (leaves, trees)
        assert chosen["validation"] == pytest.approx(tried[leaves, trees], abs=ROUNDING)
        again = fitted_by_hand(features(final, final.train), final.train.labels[:, place], leaves, trees)
        scores = again.predict_proba(features(final, final.held_out))[:, 1]
        expected = roc_auc_score(final.held_out.labels[:, place], scores)
        assert found.values[f"auc/{task}"] == pytest.approx(expected, abs=ROUNDING)
        assert chosen["rows"] == chosen["of_rows"] == final.train.n_rows
    aucs = [found.values[f"auc/{task}"] for task in final.tasks]
    assert found.values["accuracy"] == pytest.approx(np.mean(aucs), abs=ROUNDING)
    assert found.skipped == {}


def test_without_a_final_fit_the_values_are_those_of_validation(final: Any) -> None:
    search = dataset()
    whole, found = boosting(search, final, seed=3, grid=GRID), boosting(search, None, seed=3, grid=GRID)
    aucs = {f"auc/{task}": own["validation"] for task, own in whole.settings.items()}
    assert found.values == {**aucs, "accuracy": pytest.approx(np.mean(list(aucs.values())), abs=ROUNDING)}
    assert found.scores == {}
    assert found.settings["click"] == {**whole.settings["click"], "rows": search.train.n_rows,
                                       "of_rows": search.train.n_rows}  # fmt: skip


def test_numbers_are_ordered_by_what_is_predicted_for_them() -> None:
    own = number_dataset(("click", "watch", "late"))
    assert own.kinds[1] == "regression"
    assert isinstance(own.kinds[2], QuantileKind)
    found = boosting(own, own, seed=3, grid=ONE)
    x, held = features(own, own.train), features(own, own.held_out)
    options: dict[str, Any] = {"max_leaf_nodes": 8, "max_iter": 10, "learning_rate": 0.1, "random_state": 3}
    options |= {"l2_regularization": 1.0, "early_stopping": False}
    for place, loss in ((1, {"loss": "squared_error"}), (2, {"loss": "quantile", "quantile": own.kinds[2].quantile})):
        y, y_held = own.train.labels[:, place], own.held_out.labels[:, place]
        known, known_held = ~np.isnan(y), ~np.isnan(y_held)
        scores = HistGradientBoostingRegressor(**options, **loss).fit(x[known], y[known]).predict(held[known_held])
        larger = np.subtract.outer(y_held[known_held], y_held[known_held]) > 0
        right = np.sign(np.subtract.outer(scores, scores))[larger]  # 1 right, 0 tied, -1 wrong
        expected = ((right + 1) / 2).mean()
        assert found.values[f"concordance/{own.tasks[place]}"] == pytest.approx(expected, abs=ROUNDING)


def with_labels(own: Any, part: str, place: int, value: float) -> Any:
    labels = getattr(own, part).labels.copy()
    labels[:, place] = value
    return replace(own, **{part: replace(getattr(own, part), labels=labels)})


@pytest.mark.parametrize(
    ("part", "of_final", "why"),
    [
        ("train", False, "the training rows have fewer than two different labels"),
        ("held_out", False, "the validation rows have fewer than two different labels"),
        ("held_out", True, "the held-out rows have fewer than two different labels"),
    ],
)
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_task_with_one_class_is_skipped_with_the_reason(
    final: Any, part: str, of_final: bool, why: str, value: float
) -> None:
    search = dataset()
    poor = with_labels(final if of_final else search, part, 1, value)
    found = boosting(search if of_final else poor, poor if of_final else final, seed=3, grid=ONE)
    assert found.skipped == {final.tasks[1]: why}
    assert found.values.keys() == {f"auc/{final.tasks[0]}", f"auc/{final.tasks[2]}"}, "and no mean of two of three"


def test_of_too_many_rows_some_are_drawn_and_counted(final: Any) -> None:
    one, two = (boosting(dataset(), final, seed=3, grid=ONE, most_rows=700) for _ in range(2))
    assert one.values == two.values
    assert {(own["rows"], own["of_rows"]) for own in one.settings.values()} == {(700, final.train.n_rows)}


def test_without_anything_to_learn_from_it_is_skipped(final: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "features", lambda _, part: np.empty((part.n_rows, 0), dtype=np.float32))
    found = boosting(dataset(), final, seed=3, grid=ONE)
    assert found.values == {}
    assert set(found.skipped.values()) == {"the data have neither statistics nor a field of at most 200 values"}


def test_ordering_needs_two_different_labels() -> None:
    assert ordering("binary", np.array([1.0, 1.0, np.nan]), np.array([0.1, 0.2, 0.3])) is None
    assert ordering("regression", np.array([2.0, np.nan]), np.array([0.1, 0.2])) is None
    # 1 < 3 right, 1 < 2 right, 3 > 2 where 2 < 3 wrong
    assert ordering("regression", np.array([1.0, 2.0, 3.0, np.nan]), np.array([0.1, 0.3, 0.2, 9.0])) == 2 / 3
