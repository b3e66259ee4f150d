"""Quick sorting against numpy's own."""

from __future__ import annotations

import numpy as np
import pytest

from evorec.data.sorting import begins, distinct, stable_order

LARGEST = np.iinfo(np.int64).max
LISTS = {
    "nothing": [],
    "one": [5],
    "ascending": [1, 1, 2, 9],
    "descending": [9, 2, 1, 1],
    "negative": [-3, 4, -3, 0, 4],
    "the whole range": [LARGEST, -LARGEST, 0, LARGEST, -LARGEST],
    "many": np.random.default_rng(0).integers(0, 50, 10_000).tolist(),
}


@pytest.mark.parametrize("name", LISTS)
def test_the_order_is_the_one_of_a_stable_sort(name: str) -> None:
    values = np.array(LISTS[name], dtype=np.int64)
    order = stable_order(values)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, np.argsort(values, kind="stable"))


@pytest.mark.parametrize("name", LISTS)
def test_distinct_values_are_those_of_a_set(name: str) -> None:
    assert distinct(np.array(LISTS[name], dtype=np.int64)).tolist() == sorted(set(LISTS[name]))


def test_a_value_begins_once() -> None:
    assert begins(np.array([1, 1, 2, 5, 5, 5])).tolist() == [True, False, True, True, False, False]
