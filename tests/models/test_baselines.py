"""Baselines against textbook formulas on dense matrices, and against published figures on the real data."""

from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from measured_lists import list_metrics

from evorec.config import DataConfig, EvaluationConfig, SplitConfig
from evorec.data.dataset import Csr
from evorec.data.encode import encode
from evorec.data.held_out import HeldOut, RankingUsers
from evorec.data.paths import resolve_path
from evorec.data.readers import read
from evorec.data.simulator import simulate
from evorec.data.splits import split
from evorec.errors import DataError
from evorec.models import baselines as module
from evorec.models import tuning
from evorec.models.baselines import NAMES, Baselines, baseline_lists, item_item, popularity, recent_popularity
from evorec.models.tuning import EASE, FADING_KNN, KNN, SPANS
from problems.feed import FeedConfig

FLOAT32 = 1e-5  # scores are sums of some ten float32 numbers of size 1
PUBLISHED = 5e-5  # the reference figures are rounded to four digits


@pytest.fixture(scope="module")
def dataset():
    tables = simulate(FeedConfig(n_users=80, n_items=60, n_interactions=4000, seed=1))
    return encode(tables, split(tables, SplitConfig()), tasks=tables.tasks[:1], target=tables.tasks[0], fit="train")


@pytest.fixture(scope="module")
def users(dataset):
    return np.flatnonzero(dataset.relevant.counts() > 0)


def test_popularity_counts_users_and_is_the_same_for_everybody():
    history = Csr.from_pairs(np.array([0, 0, 1, 1, 2]), np.array([1, 1, 1, 3, 1]), n_rows=4)
    assert popularity(history, n_items=5)(np.array([2, 3])).tolist() == [[0, 3, 0, 1, 0]] * 2


def past_in_order(dataset, user):
    """Items of a user's positives, latest first, each once, at its last time."""
    part = dataset.train
    rows = [row for row in range(part.n_rows) if part.users[row] == user and part.target[row] > 0]
    rows.sort(key=lambda row: (part.time[row], row), reverse=True)
    return list(dict.fromkeys(int(part.items[row]) for row in rows))


def dense_history(dataset):
    x = np.zeros((dataset.n_users + 1, dataset.n_items))
    for user in range(dataset.n_users):
        x[user, past_in_order(dataset, user)] = 1
    return x


def dense_similarity(x, *, shrinkage, user_norm):
    counts, weights = x.sum(axis=0), np.maximum(x.sum(axis=1), 1) ** -user_norm
    scale = np.sqrt(counts[:, None] * counts) + shrinkage
    out = np.divide((x.T * weights) @ x, scale, out=np.zeros(scale.shape), where=scale > 0)
    np.fill_diagonal(out, 0)
    return out


@pytest.mark.parametrize("settings", [
    {"shrinkage": 10.0, "user_norm": 0.0, "neighbours": 4}, {"shrinkage": 1.0, "user_norm": 0.5, "neighbours": 0},
])  # fmt: skip
def test_item_knn_sums_the_similarities_to_the_nearest_items_of_a_listed_item(dataset, settings):
    x = dense_history(dataset)
    similar = dense_similarity(x, shrinkage=settings["shrinkage"], user_norm=settings["user_norm"])
    if n := settings["neighbours"]:
        for target in range(dataset.n_items):
            nearest = sorted(range(dataset.n_items), key=lambda item: (-np.float32(similar[item, target]), item))[:n]
            similar[np.setdiff1d(np.arange(dataset.n_items), nearest), target] = 0
    found = item_item("item_knn", dataset, settings)(np.arange(dataset.n_users + 1))
    assert found == pytest.approx(x @ similar, abs=FLOAT32)


@pytest.mark.parametrize("l2", [0.5, 30.0])
def test_ease_agrees_with_the_formula_on_the_whole_dense_matrix(dataset, l2):
    x = dense_history(dataset)
    p = np.linalg.inv(x.T @ x + l2 * np.eye(x.shape[1]))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    found = item_item("ease", dataset, {"item_item_l2": l2})(np.arange(dataset.n_users + 1))
    assert found == pytest.approx(x @ b, abs=FLOAT32)


def test_fading_knn_weighs_the_past_by_its_order_and_counts_which_item_comes_next(dataset):
    x = dense_history(dataset)
    faded, following = np.zeros_like(x), np.zeros((dataset.n_items, dataset.n_items))
    for user in range(dataset.n_users):
        past = past_in_order(dataset, user)
        for step, item in enumerate(past):
            faded[user, item] = 0.6**step
        for later, earlier in pairwise(past):
            following[earlier, later] += 1
    counts = x.sum(axis=0)
    scale = np.sqrt(counts[:, None] * counts) + 5
    expected = faded @ (dense_similarity(x, shrinkage=5.0, user_norm=0.0) + 2 * following / scale)
    settings = {"past_decay": 0.6, "next_item": 2.0, "shrinkage": 5.0, "user_norm": 0.0}
    found = item_item("fading_knn", dataset, settings)(np.arange(dataset.n_users + 1))
    assert found == pytest.approx(expected, abs=FLOAT32)


def test_recent_popularity_halves_with_the_age_of_a_users_last_positive(dataset):
    part, last = dataset.train, {}
    for user, item, target, time in zip(part.users, part.items, part.target, part.time, strict=True):
        if target > 0:
            last[user, item] = max(time, last.get((user, item), 0))
    expected = np.zeros(dataset.n_items)
    for (_, item), time in last.items():
        expected[item] += 0.5 ** ((part.time.max() - time) / 86_400 / 3)
    found = recent_popularity(dataset, half_life_days=3.0)(np.array([0, 5]))
    assert found == pytest.approx(np.tile(expected, (2, 1)), abs=FLOAT32 * 100)


def test_lists_leave_out_masked_items_break_ties_by_id_and_end_in_empty_places():
    history = Csr.from_pairs(np.array([0, 1, 1]), np.array([2, 2, 0]), n_rows=3)  # counts 1 0 2 0
    lists = baseline_lists(popularity(history, 4), np.array([1, 0, 2]), 3, masked=history, n_items=4)
    assert lists.tolist() == [[1, 3, -1], [0, 1, 3], [2, 0, 1]]


def test_lists_do_not_depend_on_how_many_users_are_scored_at_once(dataset):
    scorer, everyone = item_item("ease", dataset, {}), np.arange(dataset.n_users)
    whole, parts = (
        baseline_lists(scorer, everyone, 5, masked=dataset.seen, n_items=60, at_once=n) for n in (10**6, 120)
    )
    assert parts.tolist() == whole.tolist()
    assert not dataset.seen.contains(np.repeat(everyone, 5), whole.ravel()).any()
    assert baseline_lists(scorer, np.array([], dtype=int), 4, masked=dataset.seen, n_items=60).shape == (0, 4)


def held_out(dataset, users):
    """Lists of 5 items for some users."""
    return HeldOut(dataset, EvaluationConfig(k=5), RankingUsers(users, dataset.seen.select(users),
                                                                dataset.relevant.select(users)))  # fmt: skip


def test_every_baseline_is_measured_by_the_metrics_of_lists(dataset, users):
    found = Baselines(held_out(dataset, users), settings={})
    assert tuple(found.measured) == found.names == NAMES
    assert not found.skipped
    for metrics in found.measured.values():
        assert metrics.per_user["recall@5"].shape == users.shape
        assert metrics.values["recall@5"] == pytest.approx(metrics.per_user["recall@5"].mean())
    lists = baseline_lists(
        popularity(dataset.history, dataset.n_items), users, 5, masked=dataset.seen, n_items=dataset.n_items
    )
    expected = list_metrics(
        lists, dataset.relevant.select(users), item_counts=dataset.item_counts, item_content=dataset.item_content
    )
    assert found.measured["popularity"].values == expected.values


def test_users_without_a_training_positive_get_the_popular_items_from_every_baseline(dataset, users):
    owners = np.repeat(np.arange(dataset.n_users + 1), dataset.history.counts())
    kept = owners != users[0]
    without = Csr.from_pairs(owners[kept], dataset.history.indices[kept], n_rows=dataset.n_users + 1)
    target = np.where(dataset.train.users == users[0], 0, dataset.train.target)
    poorer = replace(dataset, history=without, train=replace(dataset.train, target=target))
    found = Baselines(held_out(poorer, users), settings={}).measured
    first = {name: metrics.per_user["novelty@5"][0] for name, metrics in found.items()}
    assert first["item_knn"] == first["ease"] == first["fading_knn"] == first["popularity"]
    others = {name: metrics.per_user["novelty@5"][1:] for name, metrics in found.items()}
    assert not np.array_equal(others["item_knn"], others["popularity"])


def test_items_that_resemble_none_of_a_user_come_last_by_popularity():
    tables = simulate(FeedConfig(n_users=80, n_items=60, n_interactions=300, seed=1))
    sparse = encode(tables, split(tables, SplitConfig()), tasks=tables.tasks[:1], target=tables.tasks[0], fit="train")
    known = np.flatnonzero(sparse.history.counts() == 1)[:20]
    found = Baselines(held_out(sparse, known), settings={}).lists_on(sparse, "item_knn", known, masked=sparse.seen)
    x, counts = dense_history(sparse), dense_history(sparse).sum(axis=0)
    for user, items in zip(known, found, strict=True):
        similar = (x.T @ x)[past_in_order(sparse, user)].sum(axis=0) > 0
        tail = [counts[item] for item in items if not similar[item]]
        assert list(similar[items]) == sorted(similar[items], reverse=True)
        assert tail == sorted(tail, reverse=True)


def test_a_baseline_without_room_in_memory_keeps_fewer_neighbours_or_is_skipped(dataset, users, monkeypatch):
    part = held_out(dataset, users)
    whole = Baselines(part, settings={})
    some = Baselines(part, settings={}, budget_bytes=3_000_000)
    assert some.skipped == {}
    for name in NAMES:
        np.testing.assert_array_equal(whole.lists(name), some.lists(name))
    none = Baselines(part, settings={}, budget_bytes=30_000)
    assert none.names == ("popularity", "recent_popularity")
    assert none.skipped["ease"].startswith("its matrix takes ")
    assert none.skipped["ease"].endswith(" GiB; raise run.memory_gib to have it")
    room = module.matrix_room(3_000_000)
    cut = {"neighbours": 7}
    monkeypatch.setattr(module, "CUTS", (7,))
    full, less = (module.matrix_bytes("ease", module.Positives.of(dataset), own) for own in ({"neighbours": 0}, cut))
    assert less < full < room
    monkeypatch.setattr(module, "matrix_room", lambda budget: (less + full) // 2)
    found = item_item("ease", dataset, {"item_item_l2": 5.0}, budget_bytes=1)(users)
    np.testing.assert_array_equal(found, item_item("ease", dataset, {"item_item_l2": 5.0, **cut})(users))


@pytest.mark.parametrize(("times", "missing"), [
    ("order", {"recent_popularity": "the log has no times"}),
    ("none", {"recent_popularity": "the log has no times", "fading_knn": "the log has no order"}),
])  # fmt: skip
def test_a_log_without_times_has_fewer_baselines(dataset, users, times, missing):
    assert Baselines(held_out(replace(dataset, times=times), users)).skipped == missing


def test_settings_of_validation_are_the_best_of_the_grid(dataset, users):
    found, part = Baselines(held_out(dataset, users)), held_out(dataset, users)

    def quality(name, settings):
        metrics = Baselines(part, settings={name: settings}).measure(name)
        return metrics.values["recall@5"], metrics.values["ndcg@5"]

    days = (dataset.train.time.max() - dataset.train.time.min()) / 86_400
    grids = {
        "ease": [{"item_item_l2": value} for value in EASE["item_item_l2"]],
        "recent_popularity": [{"half_life_days": round(share * days, 3)} for share in SPANS],
    }
    for name, grid in grids.items():
        assert found.settings_of(name) == max(grid, key=lambda own, name=name: quality(name, own))
    for name, grid in (("item_knn", KNN), ("fading_knn", FADING_KNN)):
        best = found.settings_of(name)
        assert quality(name, best) >= quality(name, module.DEFAULT_SETTINGS[name])
        for setting, values in grid.items():  # no single setting could be better
            assert all(quality(name, best) >= quality(name, {**best, setting: value}) for value in values)


def test_the_settings_of_one_user_and_of_data_without_a_positive_are_those_of_the_start(dataset, users):
    one = Baselines(held_out(dataset, users[:1]))
    assert set(one.settings) == {"recent_popularity", "item_knn", "ease", "fading_knn"}
    assert all(np.isfinite(list(found.values.values())).all() for found in one.measured.values())
    nothing = Csr.from_pairs(np.array([], dtype=int), np.array([], dtype=int), n_rows=dataset.n_users + 1)
    train = replace(dataset.train, target=np.zeros_like(dataset.train.target))
    empty = Baselines(held_out(replace(dataset, history=nothing, train=train), users))
    assert empty.settings_of("ease") == module.DEFAULT_SETTINGS["ease"]
    assert empty.lists("ease").tolist() == empty.lists("popularity").tolist()


def test_the_part_that_settings_are_chosen_on_is_bounded(dataset, users, monkeypatch):
    monkeypatch.setattr(tuning, "MOST_USERS", 10)
    monkeypatch.setattr(tuning, "EASE_ITEMS", 20)
    sample = tuning.Tuning(held_out(dataset, users))._small_sample
    assert len(sample.users) == 10
    assert sample.positives.n_items == 20


def real_tables(reader, folder):
    try:
        path = resolve_path(folder)
    except DataError as error:
        pytest.skip(str(error))
    return read(DataConfig(reader=reader, path=str(path)))


def measured(dataset, scorer, k):
    """The published protocol: users with a training positive, only training positives masked, repeats still count."""
    positive = dataset.held_out.target > 0
    relevant = Csr.from_pairs(
        dataset.held_out.users[positive], dataset.held_out.items[positive], n_rows=dataset.n_users + 1
    )
    users = np.flatnonzero((dataset.history.counts() > 0) & (relevant.counts() > 0))
    lists = baseline_lists(scorer, users, k, masked=dataset.history, n_items=dataset.n_items)
    metrics = list_metrics(
        lists, relevant.select(users), item_counts=dataset.item_counts, item_content=dataset.item_content
    )
    names = ("recall", "ndcg", "catalogue_coverage", "gini_diversity")
    return len(users), [metrics.values[f"{name}@{k}"] for name in names]


@pytest.mark.data
def test_kuairand_baselines_reproduce_the_published_figures():
    tables = real_tables("kuairand", "kuairand-pure-late")
    days = SplitConfig(kind="time", validation_from=date(2022, 5, 4), test_from=date(2022, 5, 6), utc_offset_h=8)
    dataset = encode(tables, split(tables, days), tasks=("click",), target="click", fit="train+validation")
    n_users, found = measured(dataset, popularity(dataset.history, dataset.n_items), 20)
    assert (n_users, dataset.n_items) == (8820, 7583)
    assert found == pytest.approx([0.0799, 0.0363, 0.0036, 0.0027], abs=PUBLISHED)
    _, found = measured(dataset, item_item("ease", dataset, {"item_item_l2": 100.0}), 20)
    assert found == pytest.approx([0.0791, 0.0363, 0.4406, 0.0590], abs=PUBLISHED)


@pytest.mark.data
def test_movielens_baselines_reproduce_the_published_figures():
    tables = real_tables("movielens", "movielens-latest-small")
    parts = split(tables, SplitConfig(kind="leave_last_out"))
    dataset = encode(tables, parts, tasks=("liked",), target="rated", fit="train+validation")
    n_users, found = measured(dataset, popularity(dataset.history, dataset.n_items), 10)
    assert n_users == 610
    assert found[:2] == pytest.approx([0.0426, 0.0194], abs=PUBLISHED)
    _, found = measured(dataset, item_item("ease", dataset, {"item_item_l2": 200.0}), 10)
    assert found[:2] == pytest.approx([0.0885, 0.0400], abs=PUBLISHED)
    assert dataset.n_items == 9742
    assert round(found[2] * 9742 / 9724, 3) == 0.067  # published as a share of the 9,724 films that were rated
