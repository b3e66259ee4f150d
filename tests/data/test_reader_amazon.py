from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from evorec.data.readers import amazon
from evorec.data.tables import Columns
from evorec.errors import DataError

REVIEW_2018 = {
    "image": ["https://images-na.ssl-images-amazon.com/images/I/71eG75FTJJL._SY88.jpg"],
    "overall": 5.0,
    "vote": "2",
    "verified": True,
    "reviewTime": "01 1, 2018",
    "reviewerID": "AUI6WTTT0QZYS",
    "asin": "5120053084",
    "style": {"Size:": "Large", "Color:": "Charcoal"},
    "reviewerName": "Abbey",
    "reviewText": "I now have 4 of the 5 available colors of this shirt...",
    "summary": "Comfy, flattering, discreet--highly recommended!",
    "unixReviewTime": 1514764800,
}
"""The sample of the page of 2018."""
ITEM_2018 = {
    "category": ["Office Products", "Office & School Supplies", "Calendars"],
    "tech1": "",
    "description": ["Paulo Coelho", ""],
    "title": "Moments 2012 Day Planner",
    "also_buy": ["0525435077"],
    "brand": "",
    "rank": "3,872,855 in Office Products (",
    "main_cat": "Office Products",
    "price": "$1,018.99",
    "asin": "5120053084",
}
REVIEW_2023 = {
    "rating": 4.0,
    "title": "Such a lovely scent but not overpowering.",
    "text": "This spray is really nice.",
    "images": [],
    "asin": "B00YQ6X8EO",
    "parent_asin": "B00YQ6X8EA",
    "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
    "timestamp": 1588687728923,
    "helpful_vote": 0,
    "verified_purchase": False,
}
ITEM_2023 = {
    "main_category": "All Beauty",
    "title": "Herbivore - Sea Mist",
    "average_rating": 4.3,
    "rating_number": 384,
    "features": [],
    "price": 18.5,
    "images": [],
    "store": "Herbivore Botanicals",
    "categories": [],
    "details": {"Scent": "Coconut"},
    "parent_asin": "B00YQ6X8EA",
    "bought_together": None,
}
NAMES = (Columns.USER, Columns.ITEM, Columns.TIME, "reviewed", "liked", "loved", "verified")


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(folder: Path, **files: str) -> Path:
    """Files by name, two underscores for a dot; packed where the name ends in gz."""
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return folder


def test_the_format_of_2018_is_read(tmp_path: Path) -> None:
    other = {**REVIEW_2018, "reviewerID": "A2", "overall": 3.0, "verified": False, "unixReviewTime": 1514678400}
    write(
        tmp_path, Office_Products_5__json__gz=lines(REVIEW_2018, other), meta_Office_Products__json__gz=lines(ITEM_2018)
    )
    tables = amazon.read(tmp_path)
    assert tables.name == "amazon-2018"
    assert tables.interactions.select(NAMES).rows() == [
        ("AUI6WTTT0QZYS", "5120053084", 1514764800, 1, 1, 1, 1),
        ("A2", "5120053084", 1514678400, 1, 0, 0, 0),
    ]
    assert tables.items is not None
    names = (Columns.ITEM, "brand", "main_category", "departments", "price")
    departments = ["Office Products", "Office & School Supplies"]
    assert tables.items.select(names).rows() == [("5120053084", None, "Office Products", departments, 1018.99)]


def test_the_format_of_2023_is_read(tmp_path: Path) -> None:
    tables = amazon.read(write(tmp_path, All_Beauty__jsonl=lines(REVIEW_2023), meta_All_Beauty__jsonl=lines(ITEM_2023)))
    assert tables.name == "amazon-2023"
    user, item = "AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B00YQ6X8EA"
    assert tables.interactions.select(NAMES).rows() == [(user, item, 1588687728, 1, 1, 0, 0)]
    assert tables.items is not None
    names = (Columns.ITEM, "brand", "main_category", "categories", "price")
    assert tables.items.select(names).rows() == [(item, "Herbivore Botanicals", "All Beauty", [], 18.5)]


def test_several_categories_are_read_without_descriptions_too(tmp_path: Path) -> None:
    other = {**REVIEW_2023, "parent_asin": "B1"}
    tables = amazon.read(write(tmp_path, Books__jsonl__gz=lines(other), All_Beauty__jsonl=lines(REVIEW_2023)))
    assert tables.interactions[Columns.ITEM].to_list() == ["B00YQ6X8EA", "B1"]
    assert tables.items is None
    assert tables.content == ()


def test_the_earliest_of_several_reviews_of_an_item_counts(tmp_path: Path) -> None:
    later = {**REVIEW_2023, "timestamp": REVIEW_2023["timestamp"] + 5000, "rating": 1.0}  # type: ignore[operator]
    other = {**REVIEW_2023, "user_id": "B"}
    tables = amazon.read(write(tmp_path, Books__jsonl=lines(later, other, REVIEW_2023)))
    assert tables.interactions[Columns.USER].to_list() == ["B", "AGKHLEW2SOWHNMFQIJGBECAF7INQ"]
    assert tables.interactions["liked"].to_list() == [1, 1]


def test_the_first_of_several_descriptions_of_an_item_counts(tmp_path: Path) -> None:
    again = {**ITEM_2023, "store": "Other"}
    write(tmp_path, Books__jsonl=lines(REVIEW_2023), meta_Books__jsonl=lines(ITEM_2023, again))
    items = amazon.read(tmp_path).items
    assert items is not None
    assert items["brand"].to_list() == ["Herbivore Botanicals"]


@pytest.mark.parametrize(
    "price", ["from 5.99", "$5.00 - $9.99", ".a-box-inner{background-color:#fff}", "None", "", None]
)
def test_what_is_not_one_price_is_unknown(tmp_path: Path, price: object) -> None:
    write(tmp_path, Books__jsonl=lines(REVIEW_2023), meta_Books__jsonl=lines({**ITEM_2023, "price": price}))
    items = amazon.read(tmp_path).items
    assert items is not None
    assert items["price"].to_list() == [None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": None}, "column user_id must be there and hold one value, got None"),
        ({"user_id": ["A", "B"]}, "column user_id must be there and hold one value, got '\\["),
        ({"parent_asin": " "}, "column parent_asin must be there and hold one value, got ' '"),
        ({"rating": "five"}, "column rating must be Float64, got 'five'"),
        ({"rating": 7.0}, r"column rating must be in 1.0 .. 5.0, got 7.0"),
        ({"timestamp": "yesterday"}, "column timestamp must be Int64, got 'yesterday'"),
        ({"timestamp": 2**70}, "column timestamp must be Int64, got 11805916"),
        ({"timestamp": -1}, "column timestamp must be in milliseconds since 1970, got -1"),
        ({"verified_purchase": "yes"}, "column verified_purchase must be Boolean, got 'yes'"),
    ],
)
def test_a_broken_review_is_refused_with_line_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    broken = lines(REVIEW_2023) + "\n" + lines({**REVIEW_2023, **change})  # the empty line counts
    with pytest.raises(DataError, match=rf"Books\.jsonl, line 3, {message}"):
        amazon.read(write(tmp_path, Books__jsonl=broken))


def test_a_broken_description_is_refused_with_line_and_field(tmp_path: Path) -> None:
    broken = lines(ITEM_2023, {**ITEM_2023, "categories": "Books"})
    with pytest.raises(
        DataError, match=r"meta_Books\.jsonl, line 2, column categories must be List\(String\), got 'Bo"
    ):
        amazon.read(write(tmp_path, Books__jsonl=lines(REVIEW_2023), meta_Books__jsonl=broken))


def test_descriptions_of_2014_which_are_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"meta_Books\.json, line 1 must be one JSON object: .* got \"{'asin'"):
        amazon.read(write(tmp_path, Books__json=lines(REVIEW_2018), meta_Books__json="{'asin': '0001048791'}\n"))


def test_a_file_of_neither_version_is_refused_with_its_fields(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"must have the fields reviewerID and asin \(2018\) or .* it has \['item', 'us"
    ):
        amazon.read(write(tmp_path, Books__jsonl=lines({"user": 1, "item": 2})))


def test_two_versions_in_one_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mixes the versions \[2018, 2023\] in \['Books.jsonl', 'Games.json'\]"):
        amazon.read(write(tmp_path, Games__json=lines(REVIEW_2018), Books__jsonl=lines(REVIEW_2023)))


def test_ratings_only_are_left_to_the_generic_reader(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no file of reviews, .* ratings only, \*\.csv, are for reader = \"table\""
    ):
        amazon.read(write(tmp_path, Books__csv="user_id,parent_asin,rating,timestamp\n"))
