from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from evorec.data.readers import kuairand, kuairec
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError

HEAD = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
PUBLISHED = "0,3650,13838,10867,2020-07-05 00:08:23.438,20200705,1593878903.438,1.273397\n"
"""The example of the data set's README: 8 minutes after midnight in Beijing is still the 4th of July in UTC."""
SHORT = "0,7,6900,6000,2020-07-05 13:00:00.5,20200705,1593925200.5,1.15\n"
LONG = "14,7,17999,60000,2020-07-05 13:00:01,20200705.0,1593925201,0.3\n"
LIKED = "14,7,140000,60000,2020-07-05 13:00:02,20200705,1593925202,2.333\n"
TIMELESS = "14,9,1000,60000,,,,0.0167\n"
TAGS = 'video_id,feat\n3650,[8]\n7,"[27, 9]"\n8,[]\n'
USERS = ",".join(["user_id", *kuairand.USER_CATEGORIES, *kuairand.USER_NUMBERS]) + "\n0,full_active" + ",0" * 25 + "\n"


def write(folder: Path, log: str, tags: str = TAGS, name: str = kuairec.BIG) -> Path:
    (folder / name).write_text(HEAD + log)
    (folder / "item_categories.csv").write_text(tags)
    return folder


def column(tables: Tables, name: str) -> list[float]:
    return tables.interactions[name].to_list()


def test_the_published_example_is_read(tmp_path: Path) -> None:
    row = kuairec.read(write(tmp_path, PUBLISHED)).interactions.row(0, named=True)
    assert (row[Columns.USER], row[Columns.ITEM], row[Columns.TIME]) == (0, 3650, 1593878903)
    assert row[Columns.DAY] == date(2020, 7, 5)
    assert row["hour"] == 0
    assert row["watch_ratio"] == pytest.approx(1.273397)
    assert row["play_time_s"] == pytest.approx(13.838)


def test_a_view_is_long_enough_at_a_threshold_or_at_the_end_of_a_shorter_video(tmp_path: Path) -> None:
    tables = kuairec.read(write(tmp_path, PUBLISHED + SHORT + LONG + LIKED))
    # played / lasting, in s: 13.8 / 10.9, 6.9 / 6, 17.999 / 60, 140 / 60
    assert column(tables, "valid_view") == [1, 1, 1, 1]
    assert column(tables, "long_view") == [1, 1, 0, 1]
    assert column(tables, "complete") == [1, 1, 0, 1]
    assert column(tables, "like") == [0, 0, 0, 1]


def test_a_short_view_of_a_longer_video_is_not_valid(tmp_path: Path) -> None:
    tables = kuairec.read(write(tmp_path, "1,7,6999,7001,x,20200705,1593925200,0.9997\n" + PUBLISHED))
    assert column(tables, "valid_view") == [0, 1]


def test_rows_without_a_time_are_left_out(tmp_path: Path) -> None:
    tables = kuairec.read_small(write(tmp_path, SHORT + TIMELESS + LONG, name=kuairec.SMALL))
    assert tables.name == "kuairec-small"
    assert column(tables, Columns.ITEM) == [7, 7]


def test_videos_have_tags_and_the_duration_that_the_log_knows(tmp_path: Path) -> None:
    items = kuairec.read(write(tmp_path, PUBLISHED + SHORT)).items
    assert items is not None
    assert items.rows() == [(3650, ["8"], 10867.0), (7, ["27", "9"], 6000.0), (8, [], None)]


def test_users_are_read_where_the_version_has_them(tmp_path: Path) -> None:
    write(tmp_path, PUBLISHED)
    assert kuairec.read(tmp_path).users is None
    (tmp_path / "user_features.csv").write_text(USERS)
    tables = kuairec.read(tmp_path)
    assert tables.users is not None
    assert tables.users[Columns.USER].to_list() == [0]
    assert tables.user_features == kuairand.USER_FEATURES


def test_the_unpacked_archive_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", PUBLISHED)
    assert kuairec.read(tmp_path).n_rows == 1


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (PUBLISHED.replace("3650", "film"), "big_matrix.csv, line 2, column video_id must be Int64, got 'film'"),
        (
            SHORT + PUBLISHED.replace("13838", "-1"),
            "line 3, column play_duration must be a finite number from",
        ),
        (PUBLISHED.replace("1.273397", "nan"), "line 2, column watch_ratio must be a finite number from 0 on, got nan"),
        (PUBLISHED.replace("1.273397", ""), "line 2, column watch_ratio must not be empty"),
        (PUBLISHED.replace("20200705", "20201305"), "line 2, column date must be YYYYMMDD, got 20201305"),
        (PUBLISHED.replace("20200705", ""), "line 2, column date must be YYYYMMDD, got None"),
        (
            PUBLISHED.replace("1593878903.438", "1593878903438"),
            "line 2, column timestamp must be in seconds, got",
        ),
        ("", "big_matrix.csv has no rows"),
    ],
)
def test_a_broken_log_is_refused_with_line_and_column(tmp_path: Path, log: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kuairec.read(write(tmp_path, log))


def test_tags_that_are_no_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"item_categories.csv, line 3, column feat must be a list such as \[27"):
        kuairec.read(write(tmp_path, PUBLISHED, tags="video_id,feat\n1,[8]\n2,music\n"))


def test_a_log_that_has_no_time_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="table interactions of kuairec is empty"):
        kuairec.read(write(tmp_path, TIMELESS))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path, PUBLISHED)
    (tmp_path / kuairec.BIG).write_text(HEAD.replace("watch_ratio", "ratio") + PUBLISHED)
    with pytest.raises(DataError, match=r"big_matrix.csv, line 1 must name the columns \['watch_ratio'\]"):
        kuairec.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / kuairec.BIG).write_text(HEAD + PUBLISHED)
    with pytest.raises(DataError, match=r"item_categories.csv cannot be read: No such file"):
        kuairec.read(tmp_path)


@pytest.mark.data
def test_the_published_big_matrix_has_the_published_counts(real_data: Callable[[str], Path]) -> None:
    tables = kuairec.read(real_data("kuairec"))
    assert tables.interactions.select(pl.col(Columns.USER).n_unique()).item() == 7176
    assert 12_500_000 < tables.n_rows <= 12_530_806  # the published number; rows without a time are left out
