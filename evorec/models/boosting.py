"""Gradient boosting of each task: the baseline of tabular data, which a searched ranker should beat.

A boosted model per task reads the statistics of user and item, and every field of few values as a number. It makes no
lists, so only its order of the held-out rows is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, final

import numpy as np
import numpy.typing as npt

from evorec.config import QuantileKind, TaskKind
from evorec.data.dataset import Dataset, Part
from evorec.errors import DataError
from evorec.metrics.accuracy import accuracy, ordering, ordering_key
from evorec.seeds import generator

GRADIENT_BOOSTING = "gradient_boosting"
"""Name of the baseline."""
NO_BOOSTING = "finalize.boosting is false"
"""Why there is none."""
MAX_CODES = 200
"""A field with more values enters through its statistics only."""
MAX_ROWS = 500_000
"""Most rows that a model is fitted on; of more rows, a sample of this size."""
SEARCH_ROWS = 100_000
"""The same at the start of a search: some seconds per task."""
FEW_ROWS = 10_000
"""Below, a small model on a single thread: starting threads and trying large trees costs more than it gives."""

Reals = npt.NDArray[np.floating[Any]]


@final
@dataclass(frozen=True)
class BoostingGrid:
    """The settings that are tried: every pair of ``leaves`` and ``rates``, each at all of ``trees``."""

    leaves: tuple[int, ...] = (15, 31)
    rates: tuple[float, ...] = (0.05, 0.1)
    trees: tuple[int, ...] = (50, 100, 200)


SMALL_GRID = BoostingGrid(leaves=(15,), rates=(0.1,), trees=(25, 50, 100))
SEARCH_GRID = BoostingGrid(leaves=(15,), rates=(0.1,), trees=(50, 100, 200))
"""At the start of a search: on KuaiRand the best of `BoostingGrid` for three of four tasks, at a fifth of its time."""


@final
@dataclass(frozen=True)
class BoostingResult:
    """Gradient boosting on the held-out rows of a fit.

    Attributes:
        values: ``auc/<task>`` or ``concordance/<task>``, and their mean ``accuracy`` where every task has a value.
        scores: of each task that has a model, ``(N,)`` in the order of the held-out rows.
        settings: of each task: the chosen settings, their value on validation, and how many of the rows were fitted.
        skipped: by task, why it has no model or no value.
    """

    values: Mapping[str, float]
    scores: Mapping[str, Reals]
    settings: Mapping[str, Mapping[str, float]]
    skipped: Mapping[str, str]


def features(dataset: Dataset, part: Part) -> npt.NDArray[np.float32]:
    """Statistics and fields of at most `MAX_CODES` values of each row, float32 ``(N, F)``."""
    columns = [part.statistics, context_numbers(dataset, part)]
    for rows, fields, ids in (
        (dataset.user_rows, dataset.user_fields, part.users),
        (dataset.item_rows, dataset.item_fields, part.items),
    ):
        for field in fields:
            codes = rows[:, field.first_column]
            if len(np.unique(codes)) <= MAX_CODES:
                columns.append(codes[ids][:, None].astype(np.float32))
    return np.hstack(columns)


def context_numbers(dataset: Dataset, part: Part) -> npt.NDArray[np.float32]:
    """The context of each row, float32 ``(N, F)``; of a number between two knots, its position among the knots."""
    columns = part.context.astype(np.float32)
    if part.context_weights is None:
        return columns
    kept = np.ones(columns.shape[1], dtype=np.bool_)
    for field in dataset.context_columns:
        if field.codebook is not None and field.codebook.kind == "linear":
            first = field.first_column
            columns[:, first] += part.context_weights[:, first + 1]
            kept[first + 1] = False
    return columns[:, kept]


def boosting(
    search: Dataset,
    final: Dataset | None,
    *,
    seed: int,
    grid: BoostingGrid | None = None,
    most_rows: int = MAX_ROWS,
) -> BoostingResult:
    """Choose leaves, rate and number of trees on validation, fit again on train + validation, and score the test.

    Args:
        search: fitted on train; validation is held out.
        final: the same tasks, fitted on train + validation; test is held out. ``None`` = nothing is fitted again, and
            the values are those of the chosen settings on validation.
        seed: of the rows that are drawn, and of the bins.
        grid: settings to try; by default `BoostingGrid`, or `SMALL_GRID` below `FEW_ROWS` training rows.
        most_rows: of which a model is fitted; of more rows, a sample of this size.
    Source: Ke et al. 2017 (LightGBM), as scikit-learn's HistGradientBoosting. Cost: O(settings trees rows features).
    """
    from threadpoolctl import threadpool_limits

    few = search.train.n_rows < FEW_ROWS
    grid = grid or (SMALL_GRID if few else BoostingGrid())
    x = [features(own, part) for own in (search, final) if own is not None for part in (own.train, own.held_out)]
    scores: dict[str, Reals] = {}
    settings: dict[str, Mapping[str, float]] = {}
    skipped: dict[str, str] = {}
    values: dict[str, float] = {}
    with threadpool_limits(limits=1 if few else None, user_api="openmp"):
        for column, (task, kind) in enumerate(zip(search.tasks, search.kinds, strict=True)):
            y, y_held = search.train.labels[:, column], search.held_out.labels[:, column]
            try:
                chosen = _chosen(kind, x[0], y, x[1], y_held, grid, seed=seed, most_rows=most_rows)
                if final is None:
                    values[ordering_key(task, kind)], settings[task] = chosen["validation"], chosen
                    continue
                y, y_held = final.train.labels[:, column], final.held_out.labels[:, column]
                model, rows = _fitted(kind, x[2], y, chosen, seed=seed, most_rows=most_rows)
            except DataError as error:
                skipped[task] = str(error)
                continue
            score = getattr(model, "decision_function", model.predict)  # log-odds, or the predicted number
            scores[task] = np.asarray(score(x[3]), dtype=np.float64).reshape(-1)
            settings[task] = {**chosen, **rows}
            found = ordering(kind, y_held, scores[task])
            if found is None:
                skipped[task] = "the held-out rows have fewer than two different labels"
            else:
                values[ordering_key(task, kind)] = found
    if len(values) == len(search.tasks):
        values["accuracy"] = accuracy(values)
    return BoostingResult(values, scores, settings, skipped)


def _chosen(
    kind: TaskKind, x: Reals, y: Reals, x_held: Reals, y_held: Reals, grid: BoostingGrid, *, seed: int, most_rows: int
) -> dict[str, float]:
    """The setting that orders the validation rows best; among equals the fewest leaves, lowest rate, fewest trees."""
    tried, rows = [], dict[str, int]()
    for leaves, rate in product(grid.leaves, grid.rates):
        settings = {"max_leaf_nodes": leaves, "learning_rate": rate, "trees": max(grid.trees)}
        model, rows = _fitted(kind, x, y, settings, seed=seed, most_rows=most_rows)
        # A fit with the most trees gives the scores of every smaller number of trees.
        staged = model.staged_decision_function if kind == "binary" else model.staged_predict
        for trees, scores in enumerate(staged(x_held), start=1):
            if trees in grid.trees:
                found = ordering(kind, y_held, np.asarray(scores).reshape(-1))
                if found is None:
                    raise DataError("the validation rows have fewer than two different labels")
                tried.append((-found, leaves, rate, trees))
    worst, leaves, rate, trees = min(tried)
    return {"max_leaf_nodes": leaves, "learning_rate": rate, "trees": trees, "validation": -worst, **rows}


def _fitted(
    kind: TaskKind, x: Reals, y: Reals, settings: Mapping[str, float], *, seed: int, most_rows: int
) -> tuple[Any, dict[str, int]]:
    """A boosted model with fixed settings, and on how many of the rows whose label is known it was fitted."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    rows = np.flatnonzero(~np.isnan(y))
    n_known = len(rows)
    if len(np.unique(y[rows])) < 2:
        raise DataError("the training rows have fewer than two different labels")
    if x.shape[1] == 0:
        raise DataError(f"the data have neither statistics nor a field of at most {MAX_CODES} values")
    # Sorted, so that the rows stay in the order of the log.
    if n_known > most_rows:
        rows = np.sort(generator(seed, "boosting rows").choice(rows, most_rows, replace=False))
    options: dict[str, Any] = {
        "max_leaf_nodes": int(settings["max_leaf_nodes"]),
        "learning_rate": settings["learning_rate"],
        "max_iter": int(settings["trees"]),
        "l2_regularization": 1.0,
        # It would hold out random rows; here the validation part chooses the number of trees.
        "early_stopping": False,
        "random_state": seed % 2**32,
    }
    if kind == "binary":
        model = HistGradientBoostingClassifier(**options)
    elif isinstance(kind, QuantileKind):
        model = HistGradientBoostingRegressor(loss="quantile", quantile=kind.quantile, **options)
    else:
        model = HistGradientBoostingRegressor(loss="squared_error", **options)
    return model.fit(x[rows], y[rows]), {"rows": len(rows), "of_rows": n_known}
