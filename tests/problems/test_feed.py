from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from evorec.config import SplitConfig
from evorec.data.dataset import Dataset
from evorec.data.encode import encode
from evorec.data.splits import split
from evorec.data.tables import Columns, Tables
from problems.feed import RATES, FeedConfig, simulate

TASKS = tuple(RATES)
SMALL = FeedConfig(n_users=100, n_items=60, n_interactions=3000, n_categories=5)
STANDARD_ERRORS = 4  # of a share over n rows; labels are independent draws, so 4 is passed in all but 1 of 16,000 cases
CLEAR_CORRELATION = 0.3  # of rates over 144 cells, whose own standard error is 1 / sqrt(144) = 0.08

STAYS, MOVED = 0.75, 0.25  # counts of 7500 impressions over 800 items; three other seeds gave >= 0.83 and <= 0.12


@pytest.fixture(scope="module")
def feed() -> Tables:
    return simulate(FeedConfig())


def labels(tables: Tables) -> npt.NDArray[np.float64]:
    return tables.interactions.select(TASKS).to_numpy().astype(np.float64)


@pytest.mark.parametrize("angle", [0.0, 45.0, 180.0])
def test_label_rates_hold_at_every_angle(angle: float) -> None:
    config = FeedConfig(conflict_angle_deg=angle, n_interactions=20_000)
    for task, rate in zip(TASKS, labels(simulate(config)).mean(axis=0), strict=True):
        expected = RATES[task]
        assert abs(rate - expected) < STANDARD_ERRORS * np.sqrt(expected * (1 - expected) / config.n_interactions)


def test_like_and_purchase_need_a_click(feed: Tables) -> None:
    click, like, purchase = labels(feed).T
    assert not (like > click).any()
    assert not (purchase > click).any()
    assert purchase[like > 0].mean() > purchase[(click > 0) & (like == 0)].mean()


def test_the_conflict_angle_turns_likes_against_clicks() -> None:
    assert _agreement(0.0) > CLEAR_CORRELATION
    assert abs(_agreement(90.0)) < CLEAR_CORRELATION
    assert _agreement(180.0) < -CLEAR_CORRELATION


def _agreement(angle: float) -> float:
    """Correlation, over (segment, category) cells, of the click rate and the like rate among clicks."""
    tables = simulate(FeedConfig(conflict_angle_deg=angle))
    assert tables.users is not None
    assert tables.items is not None
    log = tables.interactions.join(tables.users, on=Columns.USER).join(tables.items, on=Columns.ITEM)
    cell = log["segment"].to_numpy() * 12 + log["category"].to_numpy()
    click, like = log["click"].to_numpy(), log["like"].to_numpy()
    shown, clicked, liked = (np.bincount(cell, weights=w, minlength=144) for w in (np.ones(len(cell)), click, like))
    full = clicked > 20
    return float(np.corrcoef(clicked[full] / shown[full], liked[full] / clicked[full])[0, 1])


def test_a_personal_list_beats_popularity(feed: Tables) -> None:
    data = encode(feed, split(feed, SplitConfig()), tasks=TASKS, target="click", fit="train")
    history = data.history.to_scipy(data.n_items).toarray()[:-1].astype(np.float64)
    # EASE (Steck 2019): B = I - P / diag(P), P = (H'H + l2 I)^-1
    inverse = np.linalg.inv(history.T @ history + 300 * np.eye(data.n_items))
    weights = np.eye(data.n_items) - inverse / np.diag(inverse)
    popularity = np.tile(data.target_counts.astype(np.float64), (data.n_users, 1))
    assert _recall_at_20(history @ weights, data) > 1.3 * _recall_at_20(popularity, data)


def _recall_at_20(scores: npt.NDArray[np.float64], data: Dataset) -> float:
    recalls = []
    for user in np.flatnonzero(data.relevant.counts()).tolist():
        scores[user, data.seen.row(user)] = -np.inf
        best = np.argsort(-scores[user], kind="stable")[:20]
        recalls.append(np.isin(data.relevant.row(user), best).mean())
    return float(np.mean(recalls))


def test_drift_changes_which_items_are_popular() -> None:
    def overlap(drift: float) -> float:
        tables = simulate(FeedConfig(drift=drift, zipf_exponent=1.2))
        items = tables.interactions[Columns.ITEM].to_numpy()
        first, last = (np.bincount(part, minlength=800) for part in np.array_split(items, 8)[::7])
        return float(np.corrcoef(first, last)[0, 1])

    assert overlap(0.0) > STAYS
    assert overlap(1.0) < MOVED


def test_new_items_are_never_shown_before_they_arrive() -> None:
    """Without new items the world is the same; with half of them new, many are not shown in the first half."""
    log = simulate(SMALL).interactions
    some = simulate(SMALL.model_copy(update={"new_item_share": 0.5})).interactions
    half = log.height // 2
    early, early_new = (frame[:half][Columns.ITEM].n_unique() for frame in (log, some))
    assert early == SMALL.n_items
    assert SMALL.n_items * 0.5 <= early_new <= SMALL.n_items * 0.9  # half, and half of the rest: 75 %
    first_seen = some.group_by(Columns.ITEM).agg(pl.col(Columns.TIME).min())[Columns.TIME]
    assert (first_seen > some[Columns.TIME][half]).sum() >= SMALL.n_items * 0.1
