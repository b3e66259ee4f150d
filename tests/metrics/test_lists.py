"""The bundle of list metrics names and averages what the single metrics return."""

import numpy as np
import pytest
from measured_lists import list_metrics
from scipy.sparse import csr_array

from evorec.errors import DataError

LISTS = np.array([[0, 1], [2, -1]])
RELEVANT = csr_array([[0, 1, 0], [1, 0, 1]])  # hits: user 0 at rank 2, user 1 at rank 1
COUNTS = np.array([1, 0, 0])  # smoothed shares 2/4, 1/4, 1/4


def test_all_metrics_are_named_with_k_and_averaged_over_users():
    found = list_metrics(LISTS, RELEVANT, item_counts=COUNTS, item_content=np.eye(3, dtype=np.float32))
    ndcg = (1 / np.log2(3) + 1 / (1 + 1 / np.log2(3))) / 2
    assert found.values == pytest.approx(
        {
            "recall@2": (1 + 1 / 2) / 2,
            "ndcg@2": ndcg,
            "precision@2": 1 / 2,
            "hit_rate@2": 1.0,
            "mrr@2": (1 / 2 + 1) / 2,
            "novelty@2": ((1 + 2) / 2 + 2) / 2,
            "intra_list_distance@2": (1 + 0) / 2,
            "catalogue_coverage@2": 1.0,
            "gini_diversity@2": 1.0,
            "cold_start_recall@2": (1 + 1) / 2,  # items 1 and 2 have no training row; both are found
        }
    )
    assert found.per_user["recall@2"].tolist() == [1.0, 0.5]
    averaged_by_other_means = {"catalogue_coverage@2", "gini_diversity@2", "cold_start_recall@2"}
    assert set(found.values) - set(found.per_user) == averaged_by_other_means


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([0, 0, 0], (1 / 1 + 1 / 2) / 2),  # every item is cold: user 1 finds one of two
        ([0, 1, 1], 0.0),  # of item 0 alone, which user 1 wants and does not find
        ([1, 0, 1], 1.0),  # of item 1 alone, which user 0 finds; user 1 does not count
        ([5, 2, 1], None),
    ],
)
def test_the_recall_of_cold_items_is_of_the_users_who_want_one(counts, expected):
    found = list_metrics(LISTS, RELEVANT, item_counts=np.array(counts), item_content=np.eye(3)).values
    assert found.get("cold_start_recall@2") == expected


def test_a_content_row_for_the_unknown_item_is_allowed():
    content = np.eye(4, 3, dtype=np.float32)
    content[3] = 1 / np.sqrt(3)
    assert (
        list_metrics(LISTS, RELEVANT, item_counts=COUNTS, item_content=content).values["intra_list_distance@2"] == 0.5
    )


def test_without_content_there_is_no_distance_and_the_rest_stays():
    found = list_metrics(LISTS, RELEVANT, item_counts=COUNTS, item_content=np.zeros((4, 0), dtype=np.float32))
    assert "intra_list_distance@2" not in found.values
    assert found.values["recall@2"] == 0.75


def test_users_without_relevant_items_are_refused():
    with pytest.raises(DataError, match="no relevant item"):
        list_metrics(LISTS, csr_array([[0, 1, 0], [0, 0, 0]]), item_counts=COUNTS, item_content=np.eye(3))
