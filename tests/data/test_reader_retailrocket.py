from __future__ import annotations

from pathlib import Path

import pytest

from evorec.data.readers import retailrocket
from evorec.data.tables import Columns
from evorec.errors import DataError

HEAD = "timestamp,visitorid,event,itemid,transactionid\n"
MINUTE = 60_000
WEEK = 7 * 24 * 60 * MINUTE
START = 1433221332117
"""5:02:12 on the 2nd of June 2015 in UTC."""
PROPERTIES = (
    f"timestamp,itemid,property,value\n{START},355908,categoryid,1338\n{START},355908,888,1116713 960601 n277.200\n"
)
TREE = "categoryid,parentid\n1338,213\n213,9\n9,\n"


def event(minute: float, visitor: int, kind: str, item: int) -> str:
    return f"{START + round(minute * MINUTE)},{visitor},{kind},{item},{'4000' if kind == 'transaction' else ''}\n"


def write(folder: Path, events: str, properties: str = PROPERTIES, tree: str = TREE) -> Path:
    (folder / "events.csv").write_text(HEAD + events)
    (folder / "item_properties_part1.csv").write_text(properties)
    (folder / "category_tree.csv").write_text(tree)
    return folder


def test_events_of_one_session_are_one_row(tmp_path: Path) -> None:
    events = (
        event(20, 257597, "transaction", 355908)  # the file is not in order of time
        + event(0, 257597, "view", 355908)
        + event(5, 257597, "addtocart", 355908)
        + event(6, 257597, "view", 248676)
        + event(7, 992329, "view", 355908)
    )
    tables = retailrocket.read(write(tmp_path, events))
    assert tables.tasks == ("interacted", "view", "addtocart", "transaction")
    names = (Columns.USER, Columns.ITEM, Columns.TIME, "hour", *tables.tasks)
    assert tables.interactions.select(names).rows() == [
        (257597, 355908, 1433221332, 5, 1, 1, 1, 1),
        (257597, 248676, 1433221692, 5, 1, 1, 0, 0),
        (992329, 355908, 1433221752, 5, 1, 1, 0, 0),
    ]


def test_a_pause_of_more_than_half_an_hour_begins_a_session(tmp_path: Path) -> None:
    events = (
        event(0, 1, "view", 5)
        + event(29, 1, "view", 6)  # another item keeps the session going
        + event(59, 1, "addtocart", 5)  # exactly 30 minutes later: still the same
        + event(89.001, 1, "transaction", 5)
        + event(90, 2, "view", 5)
    )
    tables = retailrocket.read(write(tmp_path, events))
    rows = tables.interactions.select(Columns.USER, Columns.ITEM, "view", "addtocart", "transaction").rows()
    assert rows == [(1, 5, 1, 1, 0), (1, 6, 1, 0, 0), (1, 5, 0, 0, 1), (2, 5, 1, 0, 0)]


def properties(*rows: tuple[int, int, str, object]) -> str:
    return "timestamp,itemid,property,value\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def test_an_item_has_its_first_category_with_all_ancestors(tmp_path: Path) -> None:
    known = properties(
        (START + 2 * WEEK, 1, "categoryid", 9), (START + WEEK, 1, "categoryid", 1338), (START, 2, "available", 1)
    )
    tables = retailrocket.read(write(tmp_path, event(0, 7, "view", 1), known))
    assert tables.items is not None
    columns = (Columns.ITEM, "category", "categories", "department")
    assert tables.items.select(columns).rows() == [(1, "1338", ["1338", "213", "9"], "9"), (2, None, [], None)]


def test_a_category_that_came_up_after_the_week_of_the_first_event_is_unknown(tmp_path: Path) -> None:
    late = properties(
        (START + WEEK, 1, "categoryid", 1338),
        (START + WEEK + 1, 2, "categoryid", 1338),
        (START + 9 * WEEK, 3, "categoryid", 77),
    )
    tables = retailrocket.read(write(tmp_path, event(0, 7, "view", 1) + event(0, 7, "view", 2), late))
    assert tables.items is not None
    # item 3 has no event that its category could be too late for; the tree does not know 77, which is its own root
    assert tables.items["category"].to_list() == ["1338", None, "77"]
    assert tables.items["categories"].to_list() == [["1338", "213", "9"], [], ["77"]]
    assert tables.items["department"].to_list() == ["9", None, "77"]


def test_all_parts_of_the_properties_are_read(tmp_path: Path) -> None:
    write(tmp_path, event(0, 7, "view", 1))
    (tmp_path / "item_properties_part2.csv").write_text(properties((START, 1, "categoryid", 9)))
    tables = retailrocket.read(tmp_path)
    assert tables.items is not None
    assert tables.items["category"].to_list() == ["9", "1338"]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            event(0, 1, "view", 5) + event(0, 1, "buy", 5),
            r"events.csv, line 3, column event must be one of \['view",
        ),
        (
            event(0, 1, "view", 5).replace(",5,", ",shoe,"),
            "line 2, column itemid must be Int64, got 'shoe'",
        ),
        (event(0, 1, "view", 5).replace(",1,", ",,"), "events.csv, line 2, column visitorid must not be empty"),
        ("", "events.csv has no rows"),
    ],
)
def test_a_broken_log_is_refused_with_line_and_column(tmp_path: Path, events: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        retailrocket.read(write(tmp_path, events))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            "categoryid,parentid\n1,2\n2,1\n",
            r"category_tree.csv: column parentid must lead to a root, .* \[1, 2, 1\]",
        ),
        ("categoryid,parentid\n1,2\n1,3\n", "category_tree.csv, line 3, column categoryid must be there once, got 1"),
        ("categoryid,parentid\nx,2\n", "category_tree.csv, line 2, column categoryid must be Int64, got 'x'"),
        ("category,parentid\n1,2\n", r"category_tree.csv, line 1 must name the columns \['categoryid'\]"),
    ],
)
def test_a_broken_tree_is_refused(tmp_path: Path, tree: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        retailrocket.read(write(tmp_path, event(0, 1, "view", 5), tree=tree))


def test_broken_properties_are_refused_with_line_and_column(tmp_path: Path) -> None:
    broken = PROPERTIES.replace(f"{START},355908,888", "Sunday,355908,888")
    with pytest.raises(DataError, match=r"item_properties_part1\.csv, line 3, column timestamp must be Int64"):
        retailrocket.read(write(tmp_path, event(0, 1, "view", 5), broken))


@pytest.mark.parametrize("name", ["events.csv", "category_tree.csv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path, event(0, 1, "view", 5)) / name).unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read: No such file"):
        retailrocket.read(tmp_path)
