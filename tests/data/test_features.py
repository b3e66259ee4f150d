from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.data.dataset import Codebook, Field
from evorec.data.features import MAX_BINS, PADDING, UNKNOWN, Block, content_vectors, fit_block, id_block
from evorec.data.tables import Columns, Feature, FeatureKind, Tables

ROUNDING = 1e-6  # float32 unit vectors


def fit(kind: FeatureKind, values: list[Any], fitted: list[bool], min_count: int = 1) -> Block:
    return fit_block(Feature("f", kind), pl.Series(values), np.array(fitted), min_count=min_count)


def test_a_value_that_only_other_entities_have_is_unknown() -> None:
    block = fit("categorical", ["b", "a", "c", None], [True, True, False, True])
    assert block.codes[:, 0].tolist() == [2, 1, UNKNOWN, UNKNOWN]
    assert block.size == 3


def test_a_value_below_the_minimum_count_is_unknown() -> None:
    block = fit("categorical", [7, 7, 8, 7], [True, True, True, False], min_count=2)
    assert block.codes[:, 0].tolist() == [1, 1, UNKNOWN, 1]


def test_numeric_bins_are_quantiles_of_the_fitted_values() -> None:
    values = [float(value) for value in range(1600)] + [1e9, -1e9, None, float("nan")]
    block = fit("numeric", values, [True] * 1600 + [False] * 4)
    counts = np.bincount(block.codes[:1600, 0], minlength=block.size)
    assert block.size == 1 + MAX_BINS
    assert counts[1:].tolist() == [100] * MAX_BINS
    assert block.codes[1600:, 0].tolist() == [MAX_BINS, 1, UNKNOWN, UNKNOWN]


def test_numeric_ties_make_fewer_bins() -> None:
    # 1 is the only edge: below it, and from it on
    block = fit("numeric", [0, 1, 1, 1, 1, 1], [False, True, True, True, True, True])
    assert block.codes[:, 0].tolist() == [1, 2, 2, 2, 2, 2]
    assert block.size == 3


def test_multi_hot_shares_the_weight_among_known_values() -> None:
    block = fit("multi_hot", [["x", "y", "x"], ["y"], [], None, ["z"]], [True, True, True, True, False])
    assert block.codes.tolist() == [[1, 2], [2, PADDING], [0, PADDING], [0, PADDING], [0, PADDING]]
    assert block.weights.tolist() == [[0.5, 0.5], [1, 0], [1, 0], [1, 0], [1, 0]]


def test_the_unknown_entity_has_one_unknown_code() -> None:
    block = fit("multi_hot", [["x", "y"]], [True]).with_unknown_entity()
    assert block.codes[-1].tolist() == [UNKNOWN, PADDING]
    assert block.weights[-1].tolist() == [1, 0]


def test_ids_of_entities_that_are_not_fitted_share_the_unknown_code() -> None:
    assert id_block("id", np.array([True, False, True, False])).codes[:, 0].tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("kind", ["categorical", "numeric", "multi_hot"])
def test_codes_of_fitted_entities_do_not_depend_on_the_others(kind: FeatureKind) -> None:
    def values(last: int) -> list[Any]:
        plain = [3, 5, 3, last]
        return [[value] for value in plain] if kind == "multi_hot" else plain

    fitted = [True, True, True, False]
    blocks = [fit(kind, values(last), fitted) for last in (3, 99)]
    assert blocks[0].codes[:3].tolist() == blocks[1].codes[:3].tolist()
    assert blocks[0].size == blocks[1].size


def with_content(frame: dict[str, Any], content: tuple[str, ...], features: tuple[Feature, ...] = ()) -> Tables:
    log = pl.DataFrame({Columns.USER: [1], Columns.ITEM: [1], Columns.TIME: [0], "click": [1]})
    return Tables("t", log, ("click",), items=pl.DataFrame(frame), item_features=features, content=content)


def test_multi_hot_content_becomes_unit_rows_and_the_mean_fills_gaps() -> None:
    tables = with_content({"item_id": [1, 2, 3], "g": [["a"], ["b"], []]}, ("g",), (Feature("g", "multi_hot"),))
    half = np.sqrt(0.5)  # the mean of (1, 0) and (0, 1), made a unit vector
    expected = [[half, half], [0, 1], [1, 0], [half, half], [half, half]]
    vectors, parts = content_vectors(tables, np.array([9, 2, 1, 3]))
    np.testing.assert_allclose(vectors, expected, atol=ROUNDING)
    assert parts == (Field("g", 0, 2, codebook=Codebook("multi_hot", ("a", "b"))),)


def test_content_parts_weigh_the_same() -> None:
    frame = {"item_id": [1, 2], "v": [[3.0, 4.0], [0.0, 2.0]], "kind": ["a", "b"]}
    tables = with_content(frame, ("v", "kind"), (Feature("kind", "categorical"),))
    expected = np.array([[0.6, 0.8, 1, 0], [0, 1, 0, 1]]) / np.sqrt(2)
    vectors, parts = content_vectors(tables, np.array([1, 2]))
    np.testing.assert_allclose(vectors[:2], expected, atol=ROUNDING)
    vector, kind = Codebook("vector"), Codebook("categorical", ("a", "b"))
    assert parts == (Field("v", 0, 2, codebook=vector), Field("kind", 2, 2, codebook=kind))


def test_content_that_cancels_out_still_gives_a_unit_mean() -> None:
    tables = with_content({"item_id": [1, 2], "v": [[1.0, 0.0], [-1.0, 0.0]]}, ("v",))
    vectors, _ = content_vectors(tables, np.array([1, 2, 3]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=ROUNDING)


def test_integer_lists_are_values_not_vectors() -> None:
    tables = with_content({"item_id": [1, 2], "tag": [[39], [20, 43]]}, ("tag",), (Feature("tag", "multi_hot"),))
    vectors, _ = content_vectors(tables, np.array([1, 2]))
    assert vectors.shape == (3, 3)
    assert vectors[0] @ vectors[1] == 0


def test_without_content_the_vectors_have_no_columns(small: Tables) -> None:
    vectors, parts = content_vectors(replace(small, content=()), np.array([11, 12]))
    assert (vectors.shape, parts) == ((3, 0), ())
