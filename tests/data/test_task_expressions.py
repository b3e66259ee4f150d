from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from evorec.config.expressions import Clause, parse_derived, parse_label
from evorec.data.tabular.columns import Column, label
from evorec.data.tabular.dialect import Dialect
from evorec.data.tabular.sheet import Sheet
from evorec.data.tabular.sources import Source

VALUES = {
    "rating": ["5", "3", None, "4"],
    "play time": ["1500", None, "0", "-250"],
    "flag": ["1", "false", None, "True"],
    "event": ["view", "cart", None, "transaction"],
    "a/b": ["1", "01", "2", None],
}


def labels(text: str) -> list[float | None]:
    sheet = Sheet(Source(Path("log.csv")), Dialect("parquet"), pl.DataFrame(VALUES))
    found = label(parse_label(text), lambda name: Column.read(sheet, name, (), None))
    assert found.dtype == pl.Float32
    return found.to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flag", [1, 0, None, 1]),
        (" flag ", [1, 0, None, 1]),
        ("rating >= 4", [1, 0, None, 1]),
        ("rating>4", [1, 0, None, 0]),
        ("rating <= 3.0", [0, 1, None, 0]),
        ("rating < 4e0", [0, 1, None, 0]),
        ("rating == 3", [0, 1, None, 0]),
        ("rating != 3", [1, 0, None, 1]),
        ('rating == "3"', [0, 1, None, 0]),
        ("event == cart", [0, 1, None, 0]),
        ("event != 'cart'", [1, 0, None, 1]),
        ("`a/b` == '1'", [1, 0, 0, None]),
        ("play time / 1000", [1.5, None, 0, -0.25]),
        ("play time * 2", [3000, None, 0, -500]),
        ("play time // 1000", [1, None, 0, -1]),
    ],
)
def test_an_expression_gives_its_labels_and_missing_stays_missing(text: str, expected: list[float | None]) -> None:
    assert labels(text) == expected


def test_or_is_true_where_one_is_and_missing_where_that_cannot_be_told() -> None:
    # rows: (true, true), (false, false), (missing, missing), (true, false)
    assert labels("rating >= 4 or event == view") == [1, 0, None, 1]
    assert labels("event == cart or event == transaction") == [0, 1, None, 1]
    # rows: true or true, false or missing, missing or false, true or false
    assert labels("flag or play time > 0") == [1, None, None, 1]


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("event == add to cart", Clause("event", "==", "add to cart")),
        ('event == "to be or not"', Clause("event", "==", "to be or not")),
        ("event == 1e3x", Clause("event", "==", "1e3x")),
        ("event == nan", Clause("event", "==", "nan")),
        ("x>=-1.5e2", Clause("x", ">=", -150.0)),
        ("`is it or not?`", Clause("is it or not?")),
        ("user-id", Clause("user-id")),
    ],
)
def test_names_and_texts_are_taken_as_they_stand(text: str, clause: Clause) -> None:
    assert parse_label(text) == (clause,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be COLUMN"),
        ("rating = 4", "must be COLUMN"),
        ("rating >=", "must be COLUMN"),
        (">= 4", "must be COLUMN"),
        ("rating >= good", "must have a number after >="),
        ("rating / 0", "must not divide by zero"),
        ("rating // 0.0", "must not divide by zero"),
        ("rating / x", "must have a number after /"),
        ("a * 2 or b", "or joins comparisons"),
        ("title ~ (x)", "a label cannot be a pattern"),
    ],
)
def test_a_text_that_is_not_an_expression_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_label(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title", "must be COLUMN ~ PATTERN"),
        ("title >= 3", "must be COLUMN ~ PATTERN"),
        ("title ~ x", "must have a group"),
        ("title ~ (x", "must be a regular expression"),
    ],
)
def test_a_derived_column_is_a_pattern_or_a_product(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_derived(text)
    assert parse_derived("hourmin // 100") == Clause("hourmin", "//", 100.0)
    assert not math.isnan(float(parse_derived("x * .5").operand or 0))
