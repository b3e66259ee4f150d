"""Ranking metrics against torchmetrics, a slow loop, and fractions worked by hand."""

from math import log2

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torchmetrics.functional import retrieval

from evorec.errors import DataError
from evorec.metrics.lists import NO_ITEM, ListData, RecommendedLists, hits, n_relevant
from evorec.metrics.ranking import hit_rate_at_k, mrr_at_k, ndcg_at_k, precision_at_k, recall_at_k
from evorec.metrics.top_items import top_k

ROUNDING = 1e-12  # float64 sums of at most K terms
FLOAT32 = 1e-6  # torchmetrics computes in float32


def sets(rows, n_items):
    dense = np.zeros((len(rows), n_items))
    for user, row in enumerate(rows):
        dense[user, row] = 1
    return csr_array(dense)


def slow_top_k(scores, k):
    lists = []
    for row in scores:
        best = sorted((item for item in range(len(row)) if row[item] > -np.inf), key=lambda i: (-row[i], i))[:k]
        lists.append(best + [NO_ITEM] * (k - len(best)))
    return np.array(lists)


def test_metrics_of_a_list_worked_by_hand():
    hit = hits(np.array([[5, 2, 9, 0]]), sets([[0, 2, 7]], 10), n_items=10)
    assert hit.tolist() == [[False, True, False, True]]  # items 2 and 0, at ranks 2 and 4
    three = np.array([3])
    assert recall_at_k(hit, three) == pytest.approx([2 / 3], abs=ROUNDING)
    assert precision_at_k(hit) == pytest.approx([2 / 4], abs=ROUNDING)
    assert hit_rate_at_k(hit).tolist() == [1.0]
    assert mrr_at_k(hit).tolist() == [1 / 2]
    ideal = 1 / log2(2) + 1 / log2(3) + 1 / log2(4)
    assert ndcg_at_k(hit, three) == pytest.approx([(1 / log2(3) + 1 / log2(5)) / ideal], abs=ROUNDING)


def test_recall_denominator_is_not_cut_at_k_but_the_ideal_of_ndcg_is():
    hit = np.array([[True, True]])
    five = np.array([5])
    assert recall_at_k(hit, five).tolist() == [2 / 5]
    assert ndcg_at_k(hit, five).tolist() == [1.0]


def test_lists_without_hits_score_zero():
    hit = np.zeros((1, 3), dtype=bool)
    one = np.array([1])
    scores = [recall_at_k(hit, one), ndcg_at_k(hit, one), precision_at_k(hit), hit_rate_at_k(hit), mrr_at_k(hit)]
    assert [score.tolist() for score in scores] == [[0.0]] * 5


def test_empty_places_are_never_hits():
    hit = hits(np.array([[1, -1, -1], [-1, -1, -1]]), sets([[1], [3]], 4), n_items=4)
    assert hit.tolist() == [[True, False, False], [False, False, False]]
    assert precision_at_k(hit) == pytest.approx([1 / 3, 0], abs=ROUNDING)


def test_hits_agree_with_membership_row_by_row():
    rng = np.random.default_rng(1)
    rows = [rng.choice(30, size=rng.integers(0, 9), replace=False) for _ in range(200)]
    lists = np.array([rng.choice(30, size=7, replace=False) for _ in rows])
    lists[::5, 4:] = NO_ITEM
    expected = [[item in row for item in found] for found, row in zip(lists.tolist(), map(set, rows), strict=True)]
    assert hits(lists, sets(rows, 30), 30).tolist() == expected


def test_hits_of_users_without_any_relevant_item_are_all_false():
    assert not hits(np.array([[0, 1], [1, 2]]), sets([[], []], 3), 3).any()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 5, 12, 40])
def test_ranking_metrics_agree_with_torchmetrics(ties, k):
    """Ties are broken by item id before torchmetrics sees the ranking, which leaves their order open."""
    rng = np.random.default_rng([k, ties])
    n_users, n_items = 60, 25
    scores = rng.integers(4, size=(n_users, n_items)) / 3 if ties else rng.normal(size=(n_users, n_items))
    truth = rng.random((n_users, n_items)) < 0.15
    truth[np.arange(n_users), rng.integers(n_items, size=n_users)] = True
    relevant = csr_array(truth)
    hit, counts = hits(top_k(scores, k), relevant, n_items), n_relevant(relevant)
    found = [recall_at_k(hit, counts), ndcg_at_k(hit, counts), precision_at_k(hit), hit_rate_at_k(hit), mrr_at_k(hit)]
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    metrics = [
        retrieval.retrieval_recall,
        retrieval.retrieval_normalized_dcg,
        retrieval.retrieval_precision,
        retrieval.retrieval_hit_rate,
        retrieval.retrieval_reciprocal_rank,
    ]
    for values, metric in zip(found, metrics, strict=True):
        expected = [
            float(metric(torch.tensor(1.0 / (1 + rank[user])), torch.tensor(truth[user]), top_k=k))
            for user in range(n_users)
        ]
        assert values == pytest.approx(expected, abs=FLOAT32), metric.__name__


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 3, 8, 11])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_top_k_agrees_with_a_sort_by_score_then_id(dtype, k, levels):
    rng = np.random.default_rng([k, levels])
    scores = rng.integers(levels, size=(50, 8)).astype(dtype)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    scores[0] = -np.inf
    assert top_k(scores, k).tolist() == slow_top_k(scores, k).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [2, 60, 10**6])
def test_top_k_of_many_items_agrees_with_a_sort(dtype, levels):
    rng = np.random.default_rng(levels)
    scores = (rng.integers(levels, size=(70, 1201)) - levels // 2).astype(dtype)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    scores[7, 5:] = -np.inf
    scores[8] = -0.0
    scores[8, ::3] = 0.0
    assert top_k(scores, 20).tolist() == slow_top_k(scores, 20).tolist()


def test_hits_in_a_catalogue_larger_than_the_table_of_marks():
    lists = np.array([[2_999_999, 0, -1], [5, 2_999_999, -1], [-1, -1, -1]])
    relevant = csr_array((np.ones(4), [0, 2_999_999, 5, 7], [0, 2, 3, 4]), shape=(3, 3_000_000))
    assert hits(lists, relevant, 3_000_000).tolist() == [[True, True, False], [True, False, False], [False] * 3]


def test_top_k_breaks_ties_by_item_id_and_never_puts_positives_first():
    assert top_k(np.zeros((1, 6)), 4).tolist() == [[0, 1, 2, 3]]


def test_top_k_ranks_infinite_scores_first():
    assert top_k(np.array([[0.0, np.inf, 1.0]]), 2).tolist() == [[1, 2]]


def test_top_k_of_no_users_has_no_rows():
    assert top_k(np.empty((0, 4)), 2).shape == (0, 2)


def test_top_k_does_not_change_its_argument():
    scores = np.array([[3.0, 1.0, 2.0]])
    scores.setflags(write=False)
    assert top_k(scores, 2).tolist() == [[0, 2]]


def test_top_k_refuses_nan():
    with pytest.raises(DataError, match="1 NaN scores"):
        top_k(np.array([[0.0, np.nan]]), 1)


@pytest.mark.parametrize(("shape", "k"), [((3,), 1), ((1, 3), 0)])
def test_top_k_refuses_a_vector_and_an_empty_list(shape, k):
    with pytest.raises(DataError, match="top_k needs"):
        top_k(np.zeros(shape), k)


def recommended(lists, relevant):
    return RecommendedLists(lists, ListData(relevant, np.ones(3, dtype=int), np.eye(3)))


@pytest.mark.parametrize("item", [-2, 3])
def test_an_item_outside_the_catalogue_is_refused(item):
    with pytest.raises(DataError, match=r"ids in \[-1, 3\)"):
        recommended(np.array([[0, item]]), sets([[0]], 3))


def test_a_list_that_repeats_an_item_is_refused():
    with pytest.raises(DataError, match=r"\[2, 0, 2\] in row 1"):
        recommended(np.array([[0, 1, 2], [2, 0, 2]]), sets([[0], [0]], 3))


def test_lists_of_floats_are_refused():
    with pytest.raises(DataError, match="float64"):
        recommended(np.array([[0.0, 1.0]]), sets([[0]], 3))


def test_lists_of_other_users_are_refused():
    with pytest.raises(DataError, match="got 1 and 2 rows"):
        recommended(np.array([[0, 1]]), sets([[0], [1]], 3))


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k])
def test_users_without_relevant_items_are_refused_not_counted_as_zero(metric):
    with pytest.raises(DataError, match="1 of 2 users have no relevant item"):
        metric(np.array([[True], [False]]), np.array([1, 0]))


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k])
def test_counts_of_other_users_are_refused(metric):
    with pytest.raises(DataError, match="a number per user, 2"):
        metric(np.array([[True], [False]]), np.array([1]))


def test_lists_without_slots_are_refused():
    with pytest.raises(DataError, match="K >= 1"):
        recommended(np.zeros((1, 0), dtype=int), sets([[0]], 3))
