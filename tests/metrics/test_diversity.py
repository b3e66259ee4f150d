"""Diversity metrics against slow loops and fractions worked by hand."""

from itertools import combinations
from math import log2

import numpy as np
import pytest

from evorec.errors import DataError
from evorec.metrics.diversity import catalogue_coverage, gini_diversity, intra_list_distance, novelty
from evorec.metrics.lists import unit_rows

ROUNDING = 1e-12  # float64 sums of at most some hundred terms
FLOAT32 = 1e-6  # vectors are stored in float32, so their lengths are 1 to about 1e-7


def random_unit_rows(rng, n_items, width):
    vectors = rng.normal(size=(n_items, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_distance_is_the_mean_over_pairs_worked_by_hand():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # cosine distances: 0-1 1, 1-2 1, 0-2 2
    assert intra_list_distance(np.array([[0, 1, 2]]), vectors) == pytest.approx([4 / 3], abs=ROUNDING)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_distance_agrees_with_a_loop_over_pairs(k):
    rng = np.random.default_rng(k)
    vectors = random_unit_rows(rng, 40, 6)
    lists = np.array([rng.choice(40, size=k, replace=False) for _ in range(30)])
    lists[::3, 2:] = -1
    expected = [
        np.mean([1 - vectors[i] @ vectors[j] for i, j in combinations([item for item in row if item >= 0], 2)])
        for row in lists
    ]
    assert intra_list_distance(lists, vectors) == pytest.approx(expected, abs=ROUNDING)
    assert intra_list_distance(lists, vectors.astype(np.float32)) == pytest.approx(expected, abs=FLOAT32)


def test_distance_of_equal_items_is_zero_and_of_opposite_items_two():
    vectors = np.array([[0.6, 0.8], [0.6, 0.8], [-0.6, -0.8]])
    assert intra_list_distance(np.array([[0, 1], [0, 2]]), vectors) == pytest.approx([0, 2], abs=ROUNDING)


def test_distance_of_lists_with_fewer_than_two_items_is_zero():
    assert intra_list_distance(np.array([[1, -1], [-1, -1]]), np.eye(2)).tolist() == [0.0, 0.0]


def test_distance_does_not_depend_on_the_order_in_the_list():
    rng = np.random.default_rng(8)
    vectors, row = random_unit_rows(rng, 20, 4), rng.choice(20, size=9, replace=False)
    found = intra_list_distance(np.array([row, row[::-1]]), vectors)
    assert found[0] == pytest.approx(found[1], abs=ROUNDING)


def test_distance_without_content_is_refused():
    with pytest.raises(DataError, match="no item content"):
        unit_rows(np.zeros((3, 0)))


@pytest.mark.parametrize("bad", [0.0, 3.0, np.nan])
def test_vectors_that_are_not_unit_rows_are_refused_with_their_row(bad):
    vectors = np.eye(3)
    vectors[1] *= bad
    with pytest.raises(DataError, match="in row 1"):
        unit_rows(vectors)


def test_coverage_counts_each_item_once_and_no_empty_place():
    assert catalogue_coverage(np.array([[0, 3, -1], [3, -1, -1]]), n_items=8) == 2 / 8


def test_coverage_of_empty_lists_is_zero():
    assert catalogue_coverage(np.array([[-1, -1]]), n_items=3) == 0.0


def test_gini_diversity_worked_by_hand():
    # counts 0 0 1 3 of 4 items: Gini = (-3*0 - 1*0 + 1*1 + 3*3) / (4 * 4) = 10/16
    assert gini_diversity(np.array([[2], [3], [3], [3]]), n_items=4) == 6 / 16


def test_gini_diversity_agrees_with_the_mean_difference_of_all_pairs():
    rng = np.random.default_rng(9)
    shares = 1 / np.arange(1, 16)
    lists = np.array([rng.choice(15, size=4, replace=False, p=shares / shares.sum()) for _ in range(25)])
    lists[::4, 2:] = -1
    counts = np.bincount(lists[lists >= 0], minlength=15)
    gini = np.abs(counts[:, None] - counts).sum() / (2 * 15 * counts.sum())
    assert gini_diversity(lists, 15) == pytest.approx(1 - gini, abs=ROUNDING)


def test_gini_diversity_of_one_item_for_all_is_one_over_the_catalogue():
    assert gini_diversity(np.full((9, 1), 2), n_items=5) == pytest.approx(1 / 5, abs=ROUNDING)


def test_gini_diversity_of_equal_exposure_is_one():
    assert gini_diversity(np.arange(12).reshape(4, 3), n_items=12) == 1.0


def test_gini_diversity_of_empty_lists_is_refused():
    with pytest.raises(DataError, match="all 2 lists are empty"):
        gini_diversity(np.full((2, 3), -1), n_items=5)


def test_novelty_is_the_mean_self_information_worked_by_hand():
    # counts 5 2 0, three items: smoothed shares 6/10, 3/10, 1/10
    found = novelty(np.array([[0, 2], [1, -1], [-1, -1]]), np.array([5, 2, 0]))
    assert found == pytest.approx([(log2(10 / 6) + log2(10 / 1)) / 2, log2(10 / 3), 0.0], abs=ROUNDING)


def test_novelty_of_a_log_without_rows_is_uniform():
    assert novelty(np.array([[0, 3]]), np.zeros(4, dtype=int)) == pytest.approx([2.0], abs=ROUNDING)
