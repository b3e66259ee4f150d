from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from evorec.config import SplitConfig
from evorec.data.encode import encode
from evorec.data.readers import aliexpress
from evorec.data.splits import split
from evorec.data.tables import SECONDS_PER_DAY, Columns
from evorec.errors import DataError

HEAD = ",".join(
    [
        "search_id",
        *(f"categorical_{n}" for n in range(1, 17)),
        *(f"numerical_{n}" for n in range(1, 64)),
        "click",
        "conversion",
    ]
)
PUBLISHED_DAYS = SplitConfig(validation_from=date(1970, 1, 10), test_from=date(1970, 1, 11))


def line(search: int, kind: int, label: int, match: float = 0.5) -> str:
    """One impression; the search's own features are its number, `label` is 0 = none, 1 = click, 2 = conversion."""
    features = [
        search,
        *[search] * 9,
        kind,
        *[0] * 6,
        *[search / 10] * 23,
        *[match] * 40,
        int(label > 0),
        int(label > 1),
    ]
    return ",".join(map(str, features)) + "\n"


def write(folder: Path, train: str, test: str) -> Path:
    for name, text in (("train", train), ("test", test)):
        (folder / f"{name}.csv").write_text(HEAD + "\n" + text)
    return folder


TRAIN = "".join(line(search, kind, (search + kind) % 3) for search in range(20) for kind in range(3))
TEST = "".join(line(search, kind, kind) for search in (3, 5) for kind in range(3))


def test_a_search_is_a_user_and_a_kind_of_item_an_item(tmp_path: Path) -> None:
    tables = aliexpress.read(write(tmp_path, line(3, 8, 1, match=0.25), line(3, 9, 2)))
    first, second = tables.interactions.rows(named=True)
    assert (first[Columns.USER], first[Columns.ITEM], first["click"], first["conversion"]) == (3, "8-0-0-0-0-0-0", 1, 0)
    # the numbers of searches start again in the test, so that search 3 is another one there
    assert (second[Columns.USER], second[Columns.ITEM], second["click"], second["conversion"]) == (
        -4,
        "9-0-0-0-0-0-0",
        1,
        1,
    )
    assert first["numerical_24"] == 0.25
    assert tables.users is not None
    assert tables.users.height == 2
    assert tables.users.select("categorical_9", "numerical_23").row(0) == (3, pytest.approx(0.3))
    assert tables.items is not None
    assert tables.items["categorical_10"].to_list() == [8, 9]


def test_the_parts_are_those_of_the_files(tmp_path: Path) -> None:
    tables = aliexpress.read(write(tmp_path, TRAIN, TEST))
    parts = split(tables, PUBLISHED_DAYS)
    # 20 searches of 3 rows over ten days: the last day has two of them
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [54, 6, 6]
    assert tables.interactions[Columns.USER][parts.validation].unique().sort().to_list() == [18, 19]
    assert tables.interactions[Columns.USER][parts.test].unique().sort().to_list() == [-6, -4]
    days = tables.interactions[Columns.TIME] // SECONDS_PER_DAY
    assert days.unique().sort().to_list() == list(range(11))


def test_a_search_stays_on_one_day_wherever_its_rows_are(tmp_path: Path) -> None:
    tables = aliexpress.read(write(tmp_path, line(1, 0, 0) + line(2, 0, 1) + line(1, 1, 1), TEST))
    assert tables.interactions[Columns.TIME].to_list()[:3] == [0, 5 * SECONDS_PER_DAY, 0]


def test_the_tables_can_be_encoded(tmp_path: Path) -> None:
    tables = aliexpress.read(write(tmp_path, TRAIN, TEST))
    parts = split(tables, PUBLISHED_DAYS)
    tasks = ("click", "conversion")
    data = encode(tables, parts, tasks=tasks, target="click", fit="train", funnel=tasks)
    assert data.n_items == 3
    assert data.held_out.n_rows == 6
    assert data.notes["n_cold_users"] == 2


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            line(1, 0, 1) + line(1, 0, 0).replace("0,0\n", "2,0\n"),
            "line 3, column click must be 0 or 1, got 2",
        ),
        (line(1, 0, 1) + line(2, 0, 0).replace("0.2", "x", 1), "line 3, column numerical_1 must be Float64, got 'x'"),
        (line(1, 0, 1).replace("0.1", "", 1), "line 2, column numerical_1 must not be empty"),
        (line(1, 0, 1).replace("0.1", "inf", 1), "line 2, column numerical_1 must be finite, got inf"),
        (
            line(1, 0, 1) + line(1, 0, 0).replace("1,1,", "1,7,", 1),
            "line 3, column categorical_1 must be the same",
        ),
        (line(-1, 0, 1), "line 2, column search_id must be a number from 0 on, got -1"),
        ("", "train.csv has no rows"),
    ],
)
def test_a_broken_table_is_refused_with_line_and_column(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        aliexpress.read(write(tmp_path, train, TEST))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, TRAIN, TEST)
    (tmp_path / "test.csv").write_text(HEAD.replace("conversion", "buy") + "\n" + TEST)
    with pytest.raises(DataError, match=r"test.csv, line 1 must name the columns \['conversion'\]"):
        aliexpress.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path, TRAIN, TEST) / "test.csv").unlink()
    with pytest.raises(DataError, match=r"test\.csv cannot be read: No such file"):
        aliexpress.read(tmp_path)


def test_the_columns_are_those_that_the_preparation_writes() -> None:
    assert set(aliexpress.FIELDS) == set(HEAD.split(","))
    assert all(field.dtype in (pl.Int64, pl.Float64) for field in aliexpress.FIELDS.values())
