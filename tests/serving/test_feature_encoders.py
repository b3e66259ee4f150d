"""Values of features as rows of the embedding table, content and statistics, beside what training made of them."""

import math
from decimal import Decimal
from typing import Any

import exported
import numpy as np
import pytest
from exported import TITLES, Made

from evorec.deploy.bundle.encoders import encoders
from evorec.errors import DataError
from evorec.serving.encoders import ContentParts, Feature, Fields, SideStatistics
from evorec.serving.queries import Ids

ROUNDING = 1e-6  # float32
NUMBERS = Feature("age", "numeric", [], [1.0, 2.5, 4.0])
BIG = 2**53 + 1
"""The next whole number is the same float."""


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return exported.numbers(tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("value", "code"),
    [(0.5, 1), (1.0, 2), (1, 2), ("1", 2), ("1.0", 2), (2.4999, 2), (2.5, 3), (4.0, 4), (1e300, 4), (-1e300, 1),
     (True, 2), (np.float32(2.5), 3)],
)  # fmt: skip
def test_a_number_is_in_the_bin_whose_lower_edge_it_reaches(value: Any, code: int) -> None:
    assert NUMBERS.codes(value) == [code]


@pytest.mark.parametrize("value", [None, float("nan"), "nan"])
def test_no_number_is_unknown(value: Any) -> None:
    assert NUMBERS.codes(value) == []


@pytest.mark.parametrize("value", ["much", [1], {"a": 1}, float("inf"), "-inf", 10**400])
def test_invalid_numbers_are_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"feature age must be (a number|finite), got"):
        NUMBERS.codes(value)


@pytest.mark.parametrize(
    ("values", "value", "codes"),
    [
        (["a", "b"], "b", [2]), (["a", "b"], "c", []), (["a", "b"], None, []), (["3", "4"], 4, [2]),
        ([3, 4], "4", [2]), ([3, 4], 4.0, [2]), ([3, 4], "x", []), ([3, 4], float("nan"), []),
        ([0.5, 1.5], "1.5", [2]), ([BIG - 1, BIG], str(BIG), [2]), ([BIG - 1], str(BIG), []),
        ([3, 7], "007", []), ([3, 7], "7.0", []), ([3, 7], " 7", []), ([3, 7], "+7", []), ([7.0, 1.5], "7", [1]),
        (["7.0"], 7.0, [1]), ([3, 7], np.int64(7), [2]), (["7"], np.int64(7), [1]), (["a"], np.array(["a"]), [1]),
        (["2024-01-02"], __import__("datetime").date(2024, 1, 2), [1]), (["a"], ["a"], [1]), ([], "a", []),
    ],
)  # fmt: skip
def test_a_value_has_the_code_of_the_vocabulary(values: list[Any], value: Any, codes: list[int]) -> None:
    assert Feature("x", "categorical", values).codes(value) == codes


@pytest.mark.parametrize("value", [{"a": 1}, [["a"]], ["a", "b"], {1, 2}])
def test_a_value_of_another_kind_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"feature x (takes a single value|must be a text or a number), got"):
        Feature("x", "categorical", [1, 2]).codes(value)


def test_repeated_values_count_once_and_unknown_values_are_ignored() -> None:
    codes = Feature("tags", "multi_hot", ["a", "b", "c"]).codes
    assert codes(["c", "nothing", "a", "c", None]) == [3, 1]
    assert codes("b") == [2]
    assert codes([]) == []


def test_values_replace_those_of_the_bag() -> None:
    tags = Feature("tags", "multi_hot", ["a", "b", "c"], first_column=1, n_columns=2, first_row=10)
    age = Feature("age", "numeric", edges=[1.0], first_column=3, first_row=20)
    fields = Fields("user", [tags, age])
    rows, weights = np.array([5, 10, 0, 20]), np.array([1, 1, 0, 1], dtype=np.float32)
    found = fields.replaced(rows, weights, {"tags": ["a", "c"], "age": 7})
    assert found[0].tolist() == [5, 11, 13, 22]
    assert found[1].tolist() == [1, 0.5, 0.5, 1]
    found = fields.replaced(rows, weights, {"tags": ["b", "a", "c"]})  # more than any item of training had
    assert found[0].tolist() == [5, 12, 11, 20, 13]
    assert found[1] == pytest.approx([1, 1 / 3, 1 / 3, 1, 1 / 3])
    found = fields.replaced(rows, weights, {"tags": ["nothing"], "age": None})  # unknown
    assert (found[0].tolist(), found[1].tolist()) == ([5, 10, 0, 20], [1, 1, 0, 1])
    assert rows.tolist() == [5, 10, 0, 20]
    with pytest.raises(DataError, match=r"the model has no user feature 'size'; it has: tags, age\."):
        fields.replaced(rows, weights, {"size": 1})


def test_every_user_and_item_is_encoded_as_in_training(numbers: Made) -> None:
    dataset, tables = numbers.dataset, numbers.problem.tables
    stored, _ = encoders(dataset)
    for side, frame, ids in (("user", tables.users, dataset.user_ids), ("item", tables.items, dataset.item_ids)):
        assert frame is not None
        fields = Fields(side, [Feature(**field) for field in stored[side]])
        rows, weights = getattr(dataset, f"{side}_rows"), getattr(dataset, f"{side}_weights")
        seen = {line[f"{side}_id"]: line for line in frame.iter_rows(named=True)}
        for place, one in enumerate(ids.tolist()):
            told = {name: seen[one][name] for name in fields.names}
            found = fields.replaced(rows[-1], weights[-1].astype(np.float32), told)
            np.testing.assert_array_equal(found[0][1:], rows[place][1:])  # all but the id
            np.testing.assert_array_equal(found[1][1:], weights[place][1:].astype(np.float32))
        nothing = fields.replaced(rows[0], weights[0].astype(np.float32), dict.fromkeys(fields.names))
        np.testing.assert_array_equal(nothing[0][1:], rows[-1][1:])


def test_statistics_follow_the_features(numbers: Made) -> None:
    dataset = numbers.dataset
    stored, arrays = encoders(dataset)
    n_user = dataset.user_statistics.shape[1]
    assert dataset.no_statistics is not None
    for side, names, known, rows, own in (
        ("user", dataset.statistics[:n_user], dataset.user_statistics, dataset.user_rows, "user:"),
        ("item", dataset.statistics[n_user:], dataset.item_statistics, dataset.item_rows, "item:"),
    ):
        nothing = dataset.no_statistics[:n_user] if side == "user" else dataset.no_statistics[n_user:]
        found = SideStatistics(stored[f"{side}_statistics"], nothing, arrays)
        of_id = np.array([name.startswith(own) for name in names])
        assert 0 < of_id.sum() < len(of_id)
        for line, bag in zip(known, rows, strict=True):
            np.testing.assert_array_equal(found.updated(found.nothing, bag), np.where(of_id, nothing, line))
            np.testing.assert_array_equal(found.updated(line, bag), line)


def test_the_content_of_every_item_equals_that_of_training(numbers: Made) -> None:
    dataset, items = numbers.dataset, numbers.problem.tables.items
    assert items is not None
    parts = ContentParts([Feature(**part) for part in encoders(dataset)[0]["content"]], dataset.item_content[-1])
    assert parts.names == {"content", "category", "tags", "title"}
    seen = {line["item_id"]: line for line in items.iter_rows(named=True)}
    for place, one in enumerate(dataset.item_ids.tolist()):
        features = {name: seen[one][name] for name in ("category", "tags")}
        content = {"content": seen[one]["content"]} | ({"title": TITLES[one]} if one in TITLES else {})
        np.testing.assert_allclose(parts.vector(features, content), dataset.item_content[place], atol=ROUNDING)


def test_content_equals_hand_computed_vectors() -> None:
    """Two declared parts and one from elsewhere: each of length 1, the declared ones together 2 / 3 of the square."""
    declared = [Feature("kind", "categorical", ["a", "b"], n_columns=2), Feature("look", "vector", n_columns=2)]
    mean = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=np.float32)
    parts = ContentParts([*declared, Feature("title", "", first_column=4, n_columns=2)], mean)
    half = (2 / 3 / 2) ** 0.5
    found = parts.vector({"kind": "b"}, {"look": [3.0, 4.0], "title": [0.0, 2.0]})
    assert found == pytest.approx([0, half, 0.6 * half, 0.8 * half, 0, (1 / 3) ** 0.5])
    assert parts.vector({"kind": "b"}, {}) == pytest.approx([0, (2 / 3) ** 0.5, 0, 0, 0.5, 0.6])
    assert parts.vector({}, {"title": [1.0, 0.0]}) == pytest.approx([0.1, 0.2, 0.3, 0.4, (1 / 3) ** 0.5, 0])
    assert parts.vector({"kind": "nothing"}, {"look": [0.0, 0.0]}) == pytest.approx(mean)
    known = parts.vector({"kind": "b"}, {"look": [3.0, 4.0]}, found)
    assert known == pytest.approx(found, abs=ROUNDING), "what is told again, and what is kept"
    changed = parts.vector({"kind": "a"}, {}, found)
    assert changed == pytest.approx([half, 0, 0.6 * half, 0.8 * half, 0, (1 / 3) ** 0.5], abs=ROUNDING)
    assert parts.vector({"colour": 1}, {}, found) == pytest.approx(found)
    for wrong in ([1.0], [1.0, float("nan")], "ab", [[1.0, 2.0]], ["a", "b"], 3, [10**400, 1]):
        with pytest.raises(DataError, match=r"content title must be 2 (finite )?numbers, got"):
            parts.vector({}, {"title": wrong})  # type: ignore[dict-item]


def test_ids_are_found_by_number_and_by_text_in_their_exact_spelling() -> None:
    numbers, texts = Ids([3, 7, -2, 0, BIG]), Ids(["3", "x", "01", "7.0"])
    seven = [7, "7", 7.0, Decimal("7.00"), np.int64(7), np.uint8(7), np.float32(7), np.str_("7")]
    assert list(map(numbers.index, [*seven, "-2", "0", -0.0])) == [*[1] * len(seven), 2, 3, 3]
    assert numbers.index(BIG) == numbers.index(str(BIG)) == 4
    others = (
        "x",
        "",
        "9" * 30,
        8,
        BIG - 1,
        None,
        math.nan,
        "³",
        "--1",
        "007",
        "07",
        "-0",
        "00",
        "+7",
        "7.0",
        " 7",
        "7 ",
    )
    others += ("7\n", "\u0667", "1e0", "0x7", "7_0", 2**64)
    assert {id_: numbers.index(id_) for id_ in others} == dict.fromkeys(others)
    found = [texts.index(id_) for id_ in (3, "3", "01", 1, 7, 7.0, "7.0", "7", "x ")]
    assert found == [0, 0, 2, None, None, None, 3, None, None]


def test_truth_may_be_written_as_text() -> None:
    codes = Feature("is_new", "categorical", (False, True)).codes
    assert [codes(value) for value in (True, "True", "true", "1", False, "false", "0", "yes")] == [
        *([2], [2], [2], [2]),
        *([1], [1], [1], []),
    ]
    texts = Feature("word", "categorical", ("false", "true")).codes
    assert list(map(texts, ("true", "false", "True"))) == [[2], [1], []]
