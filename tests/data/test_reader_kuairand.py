from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from evorec.config import SplitConfig
from evorec.data.encode import encode
from evorec.data.readers import kuairand
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.errors import DataError

LOG_HEAD = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
LINE_1 = "712,5,20220425,0,1650812741436,1,0,0,0,0,0,1,61802,49866,0,0,0,0,1\n"
LINE_2 = "13,6,20220425,2300,1650812934945,0,1,0,0,0,0,0,1184,11933,0,0,1,0,4\n"
USERS = (
    ",".join(["user_id", *kuairand.USER_CATEGORIES, *kuairand.USER_NUMBERS, "fans_user_num_range"])
    + "\n712,full_active"
    + ",0" * 21
    + ',5,6,7,800,"[1,10)"\n'
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,video_duration,music_id,music_type,tag\n"
    '5,77,NORMAL,2022-04-10,Web,87433.0,1,9.0,"20,43"\n'
    "6,78,AD,2022-04-10,,,2,,\n"
)


def write(folder: Path, log: str = LOG_HEAD + LINE_1 + LINE_2, **more: str) -> Path:
    (folder / "log_standard_b.csv").write_text(log)
    (folder / "user_features_x.csv").write_text(USERS)
    (folder / "video_features_basic_x.csv").write_text(VIDEOS)
    for name, text in more.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_the_published_files_are_read(tmp_path: Path) -> None:
    tables = kuairand.read(write(tmp_path))
    first, second = tables.interactions.rows(named=True)
    assert first[Columns.TIME] == 1_650_812_741
    assert first[Columns.DAY] == date(2022, 4, 25)
    assert (first["click"], first["long_view"], first["like"], first["tab"], first["hour"]) == (1, 1, 0, 1, 0)
    assert (second["click"], second["like"], second["profile_enter"], second["tab"], second["hour"]) == (0, 1, 1, 4, 23)
    assert tables.items is not None
    assert tables.items["tag"].to_list() == [["20", "43"], None]
    assert tables.users is not None
    assert tables.users["register_days"].to_list() == [800]


def test_logs_are_joined_in_order_of_their_names(tmp_path: Path) -> None:
    tables = kuairand.read(write(tmp_path, log=LOG_HEAD + LINE_2, log_standard_a=LOG_HEAD + LINE_1))
    assert tables.interactions[Columns.USER].to_list() == [712, 13]


def test_the_parts_of_27k_in_the_unpacked_archive_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for period in ("4_08_to_4_21", "4_22_to_5_08"):
        for part in (1, 2):
            name = f"log_standard_{period}_27k_part{part}.csv"
            (tmp_path / "data" / name).write_text(LOG_HEAD + LINE_1.replace("712,5,", f"712,{period[2:4]}{part},"))
    (tmp_path / "data" / "log_random_4_22_to_5_08_27k.csv").write_text(LOG_HEAD + LINE_2)
    (tmp_path / "data" / "user_features_27k.csv").write_text(USERS)
    (tmp_path / "data" / "video_features_basic_27k.csv").write_text(VIDEOS)
    (tmp_path / "data" / "video_features_statistic_27k_part1.csv").write_text("not,read\n")
    tables = kuairand.read(tmp_path)
    assert tables.interactions[Columns.ITEM].to_list() == [6, 81, 82, 221, 222]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (LOG_HEAD + LINE_1.replace("712", "me"), "log_standard_b.csv, line 2, column user_id must be Int64, got 'me'"),
        (
            LOG_HEAD + LINE_1 + LINE_2.replace("20220425", "20221345"),
            "line 3, column date must be YYYYMMDD, got 202213",
        ),
        (LOG_HEAD + LINE_1.replace("712", ""), "line 2, column user_id must not be empty"),
        (LOG_HEAD + LINE_1.replace("436,1,", "436,2,"), "line 2, column is_click must be 0 or 1, got 2"),
        (LOG_HEAD + "\n" + LINE_2.replace(",2300,", ",2400,"), "line 3, column hourmin must be HHMM, got 2400"),
        (LOG_HEAD.replace("is_click", "clicked") + LINE_1, r"line 1 must name the columns \['is_click'\]"),
    ],
)
def test_a_broken_log_is_refused_with_line_and_column(tmp_path: Path, log: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kuairand.read(write(tmp_path, log=log))


def test_two_user_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must have one user_features\*.csv, got \['user_features_x.csv', 'user_feat"):
        kuairand.read(write(tmp_path, user_features_y=USERS))


@pytest.mark.data
def test_kuairand_splits_into_the_published_days(real_data: Callable[[str], Path]) -> None:
    tables = kuairand.read(real_data("kuairand-pure-late"))
    config = SplitConfig(validation_from=date(2022, 5, 4), test_from=date(2022, 5, 6), utc_offset_h=8)
    parts = split(tables, config)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [154_071, 30_990, 43_268]
    rates = {
        task: round(float(tables.interactions[task].to_numpy().mean()), 3) for task in ("click", "long_view", "like")
    }
    assert rates == {"click": 0.442, "long_view": 0.311, "like": 0.017}

    data = encode(tables, parts, tasks=("click", "long_view", "like"), target="click", fit="train")
    assert data.n_items == 7583
    assert data.item_content.shape == (7584, 46)
    cold_share = data.notes["n_cold_item_rows"] / data.held_out.n_rows
    assert cold_share < 0.011  # 214 rows
    assert data.notes["n_seen_positives"] > 0
