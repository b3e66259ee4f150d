"""Baselines against textbook formulas on dense matrices, and against published figures on the real data."""

from dataclasses import replace
from datetime import date

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
from evorec.models.baselines import all_baseline_lists, baseline_lists, baselines, ease, item_knn, popularity
from problems.feed import FeedConfig

FLOAT32 = 1e-5  # scores are sums of some ten float32 numbers of size 1
PUBLISHED = 5e-5  # the reference figures are rounded to four digits


def random_history(n_users, n_items, seed=0):
    """Sets with empty users and untouched items; the last user is the unknown one, without items."""
    rng = np.random.default_rng(seed)
    dense = rng.random((n_users + 1, n_items)) < 0.2
    dense[-1] = dense[0] = False
    dense[:, 3] = False
    users, items = np.nonzero(dense)
    return Csr.from_pairs(users, items, n_rows=n_users + 1), dense.astype(float)


def dense_ease(x, l2):
    p = np.linalg.inv(x.T @ x + l2 * np.eye(x.shape[1]))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    return x @ b


def dense_item_knn(x, neighbours, shrinkage):
    together, counts = x.T @ x, x.sum(axis=0)
    n_items = x.shape[1]
    weights = np.zeros((n_items, n_items))
    for target in range(n_items):
        similar = {
            other: together[other, target] / (np.sqrt(counts[other] * counts[target]) + shrinkage)
            for other in range(n_items)
            if other != target and together[other, target] > 0
        }
        for other in sorted(similar, key=lambda item: (-similar[item], item))[:neighbours]:
            weights[other, target] = similar[other]
    return x @ weights


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


@pytest.mark.parametrize(("n_users", "n_items"), [(60, 12), (8, 30)], ids=["more users", "more items"])
@pytest.mark.parametrize("l2", [0.5, 30.0])
def test_ease_agrees_with_the_formula_on_the_whole_dense_matrix(n_users, n_items, l2):
    history, x = random_history(n_users, n_items)
    scores = ease(history, n_items, l2=l2)(np.arange(n_users + 1))
    assert scores == pytest.approx(dense_ease(x, l2), abs=FLOAT32)


def test_ease_gives_the_item_itself_no_weight():
    # one user, two items: X^T X + 1 = (2, 1; 1, 2), P = (2, -1; -1, 2) / 3, B = (0, 1/2; 1/2, 0)
    history = Csr.from_pairs(np.array([0, 0]), np.array([0, 2]), n_rows=2)
    found = ease(history, n_items=3, l2=1.0)(np.array([0, 1]))
    assert found == pytest.approx(np.array([[0.5, 0, 0.5], [0, 0, 0]]), abs=FLOAT32)


@pytest.mark.parametrize("neighbours", [1, 4, 100])
@pytest.mark.parametrize("shrinkage", [0.0, 10.0])
@pytest.mark.parametrize("at_once", [50, 10**6], ids=["in chunks", "at once"])
def test_item_knn_agrees_with_a_loop_over_items(neighbours, shrinkage, at_once, monkeypatch):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    history, x = random_history(40, 15)
    scores = item_knn(history, 15, neighbours=neighbours, shrinkage=shrinkage)(np.arange(41))
    assert scores == pytest.approx(dense_item_knn(x, neighbours, shrinkage), abs=FLOAT32)


@pytest.mark.parametrize("fit", [popularity, item_knn, ease])
def test_scores_are_float32_in_the_order_of_the_users_and_may_be_written_to(fit):
    history, _ = random_history(30, 15)
    scorer = fit(history, 15)
    some = scorer(np.array([4, 30, 2]))
    expected = scorer(np.array([2, 30, 4]))[::-1].copy()
    assert some.dtype == np.float32
    some[:] = -np.inf
    assert np.array_equal(scorer(np.array([4, 30, 2])), expected)


def test_lists_leave_out_masked_items_break_ties_by_id_and_end_in_empty_places():
    history = Csr.from_pairs(np.array([0, 1, 1]), np.array([2, 2, 0]), n_rows=3)  # counts 1 0 2 0
    lists = baseline_lists(popularity(history, 4), np.array([1, 0, 2]), 3, masked=history, n_items=4)
    assert lists.tolist() == [[1, 3, -1], [0, 1, 3], [2, 0, 1]]


def test_lists_do_not_depend_on_how_many_users_are_scored_at_once(monkeypatch):
    history, _ = random_history(30, 15)
    scorer, everyone = ease(history, 15), np.arange(31)
    whole = baseline_lists(scorer, everyone, 5, masked=history, n_items=15)
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 40)
    assert baseline_lists(scorer, everyone, 5, masked=history, n_items=15).tolist() == whole.tolist()


def test_lists_of_no_users_have_no_rows():
    history, _ = random_history(5, 15)
    lists = baseline_lists(popularity(history, 15), np.array([], dtype=int), 4, masked=history, n_items=15)
    assert lists.shape == (0, 4)


def held_out(dataset, users):
    """Lists of 5 items for some users."""
    return HeldOut(dataset, EvaluationConfig(k=5), RankingUsers(users, dataset.seen, dataset.relevant.select(users)))


def test_every_baseline_is_measured_by_the_metrics_of_lists(dataset, users):
    found = baselines(held_out(dataset, users))
    assert list(found.measured) == ["popularity", "item_knn", "ease"]
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
    found = baselines(held_out(replace(dataset, history=without), users))
    first = {name: metrics.per_user["novelty@5"][0] for name, metrics in found.measured.items()}
    others = {name: metrics.per_user["novelty@5"][1:] for name, metrics in found.measured.items()}
    assert first["item_knn"] == first["ease"] == first["popularity"]
    assert not np.array_equal(others["item_knn"], others["popularity"])


def test_no_seen_item_is_listed(dataset, users):
    scorer = ease(dataset.history, dataset.n_items)
    lists = baseline_lists(scorer, users, 5, masked=dataset.seen, n_items=dataset.n_items)
    assert not dataset.seen.contains(np.repeat(users, 5), lists.ravel()).any()


def test_a_baseline_without_room_in_memory_is_skipped_and_a_budget_changes_no_list(dataset, users):
    whole, none = all_baseline_lists(dataset, users, 5, masked=dataset.seen)
    assert (list(whole), none) == (["popularity", "item_knn", "ease"], {})
    tight, none = all_baseline_lists(dataset, users, 5, masked=dataset.seen, budget_bytes=300_000)
    assert none == {}
    for name, lists in whole.items():
        np.testing.assert_array_equal(tight[name], lists)
    left, skipped = all_baseline_lists(dataset, users, 5, masked=dataset.seen, budget_bytes=30_000)
    assert (list(left), set(skipped)) == (["popularity"], {"item_knn", "ease"})
    words = "its matrix takes 2.7e-05 GiB, and the memory of the run leaves 1.4e-05 GiB; "
    assert skipped["ease"] == words + "raise run.memory_gib to have it"


def test_ease_of_a_large_catalogue_is_skipped_with_the_reason(dataset, users, monkeypatch):
    monkeypatch.setattr(module, "EASE_MAX_ITEMS", 59)
    found = baselines(held_out(dataset, users))
    assert list(found.measured) == ["popularity", "item_knn"]
    assert found.skipped == {"ease": "the catalogue has 60 items, more than 59"}


def test_ease_refuses_what_it_cannot_solve(monkeypatch):
    history, _ = random_history(5, 15)
    nothing = Csr.from_pairs(np.array([], dtype=int), np.array([], dtype=int), n_rows=3)
    with pytest.raises(DataError, match="l2 = 0"):
        ease(history, 15, l2=0.0)
    with pytest.raises(DataError, match="and 0 positives"):
        ease(nothing, 15)
    monkeypatch.setattr(module, "EASE_MAX_ITEMS", 14)
    with pytest.raises(DataError, match="at most 14 items"):
        ease(history, 15)


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
    _, found = measured(dataset, ease(dataset.history, dataset.n_items, l2=100.0), 20)
    assert found == pytest.approx([0.0791, 0.0363, 0.4406, 0.0590], abs=PUBLISHED)


@pytest.mark.data
def test_movielens_baselines_reproduce_the_published_figures():
    tables = real_tables("movielens", "movielens-latest-small")
    parts = split(tables, SplitConfig(kind="leave_last_out"))
    dataset = encode(tables, parts, tasks=("liked",), target="rated", fit="train+validation")
    n_users, found = measured(dataset, popularity(dataset.history, dataset.n_items), 10)
    assert n_users == 610
    assert found[:2] == pytest.approx([0.0426, 0.0194], abs=PUBLISHED)
    _, found = measured(dataset, ease(dataset.history, dataset.n_items, l2=200.0), 10)
    assert found[:2] == pytest.approx([0.0885, 0.0400], abs=PUBLISHED)
    assert dataset.n_items == 9742
    assert round(found[2] * 9742 / 9724, 3) == 0.067  # published as a share of the 9,724 films that were rated
