from __future__ import annotations

import gzip
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from data.logs import EVENT_TASKS, EVENTS, HEAD, counted, parquet, rows, table, zipped

from evorec.data.tables import Columns
from evorec.errors import ConfigError, DataError

# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "log"),
    [
        ("log.csv", HEAD + "1,a,10,1\n2,b,11,0\n", {}),
        ("log.csv", HEAD + "1,a,10,1\n2,b,11,0", {}),
        ("log.csv", "\ufeff" + (HEAD + "1,a,10,1\n\n2,b,11,0\n\n\n").replace("\n", "\r\n"), {}),
        ("log.csv", (HEAD + "1,a,10,1\n2,b,11,0\n").replace("\n", "\r"), {}),
        ("log.csv", '"u", i,t ,c\n"1",a,"10",1\n2,"b",11,"0"\n'.replace(", i", ",i"), {}),
        ("log.csv", HEAD + " 1,a , 10, true \n2,b,11,FALSE\n", {}),
        ("log.csv", "x,c,t,i,u\n9,1,10,a,1\n9,0,11,b,2\n", {}),
        ("log.csv", "1;a;10;1\n2;b;11;0\n", {"separator": ";", "columns": ["u", "i", "t", "c"]}),
        ("log.dat", "1::a::10::1\n2::b::11::0\n", {"separator": "::", "columns": ["u", "i", "t", "c"]}),
        ("log.tsv", "u\ti\tt\tc\n1\ta\t10\t1\n2\tb\t11\t0\n", {}),
        ("log.txt", "u\ti\tt\tc\n1\ta\t10\t1\n2\tb\t11\t0\n", {"format": "tsv"}),
        ("log.csv", (HEAD + "1,a,10,1\n2,b,11,0\n").encode("utf-16"), {"encoding": "utf-16"}),
        ("log.csv.gz", gzip.compress((HEAD + "1,a,10,1\n2,b,11,0\n").encode(), mtime=0), {}),
        ("log.zip", zipped(only=HEAD + "1,a,10,1\n2,b,11,0\n"), {}),
        ("log.jsonl", '{"u":1,"i":"a","t":10,"c":true}\n\n{"c":0,"i":"b","t":"11","u":"2","z":{}}\n', {}),
        (
            "log.json.gz",
            gzip.compress(b'{"u":1,"i":"a","t":10.9,"c":1}\r\n{"c":0.0,"i":"b","t":11,"u":2}', mtime=0),
            {},
        ),
        ("log.parquet", parquet(u=[1, 2], i=["a", "b"], t=[10, 11], c=[True, False]), {}),
        ("log.pq", parquet(u=[1.0, 2.0], i=["a", "b"], t=["10", "11"], c=[1.0, 0.0]), {}),
        (
            "log.parquet",
            parquet(
                u=pl.Series([1, 2], dtype=pl.UInt8), i=pl.Series(["a", "b"], dtype=pl.Categorical), t=[10, 11], c=[1, 0]
            ),
            {},
        ),
    ],
)
def test_every_format_gives_the_same_table(tmp_path: Path, name: str, content: Any, log: dict[str, Any]) -> None:
    tables = table(tmp_path, {name: content}, {"files": [name], **log})
    assert rows(tables) == [(1, "a", 10, 1.0), (2, "b", 11, 0.0)]
    assert tables.interactions.dtypes == [pl.Int64, pl.String, pl.Int64, pl.Float32]
    assert tables.name == tmp_path.name


def test_files_and_globs_are_read_one_after_the_other_each_once(tmp_path: Path) -> None:
    files = {f"e-{name}.csv": HEAD + f"{name},a,{name},1\n" for name in "312"}
    files["b.tsv"] = "c\tt\ti\tu\n0\t7\ta\t4\n"
    tables, origin = counted(tmp_path, files, {"files": ["b.tsv", "e-3.csv", "e-*.csv"]})
    assert tables.interactions[Columns.USER].to_list() == [4, 3, 1, 2]
    assert [name for name, _ in origin.files] == ["b.tsv", "e-3.csv", "e-1.csv", "e-2.csv"]


def test_members_of_an_archive_are_read(tmp_path: Path) -> None:
    archive = zipped(logs__e1=HEAD + "1,a,1,1\n", logs__e2=HEAD + "2,a,2,1\n", other="x\n")
    tables = table(tmp_path, {"all.zip": archive}, {"files": ["all.zip/logs/e*.csv"]})
    assert tables.interactions[Columns.USER].to_list() == [1, 2]
    assert table(tmp_path, {}, {"files": ["all.zip/logs/e2.csv"]}).interactions[Columns.USER].to_list() == [2]


def test_a_name_with_brackets_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    assert table(tmp_path, {"log[1].csv": HEAD + "1,a,1,1\n"}, {"files": ["log[1].csv"]}).n_rows == 1


def test_a_quoted_value_may_hold_separators_lines_and_quotes(tmp_path: Path) -> None:
    tables = table(tmp_path, HEAD + '"a,""b""\n c",i,1,1\nz,"",2,0\n'.replace(',"",', ",j,"))
    assert tables.interactions[Columns.USER].to_list() == ['a,"b"\n c', "z"]


def test_a_file_without_quoting_keeps_its_quotes(tmp_path: Path) -> None:
    tables = table(tmp_path, HEAD + '5" disk,"i,1,1\n', {"quote": ""})
    assert rows(tables) == [('5" disk', '"i', 1, 1.0)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1", "-2", "9223372036854775807"], [1, -2, 9223372036854775807]),
        (["1", "007", "2"], ["1", "007", "2"]),
        (["1", "+7", "2"], ["1", "+7", "2"]),
        (["1", "-0", "0"], ["1", "-0", "0"]),
        (["1", "x", "2"], ["1", "x", "2"]),
        (["1", "1.0", "2"], ["1", "1.0", "2"]),
        (["1", "9223372036854775808", "2"], ["1", "9223372036854775808", "2"]),
        ([" 1", "2 ", "\u00a03"], [1, 2, 3]),
    ],
)
def test_ids_are_numbers_only_if_each_is_written_as_one(tmp_path: Path, ids: list[str], expected: list[Any]) -> None:
    text = HEAD + "".join(f"{user},a,1,1\n" for user in ids)
    assert table(tmp_path, text).interactions[Columns.USER].to_list() == expected


def test_ids_have_one_type_in_all_files_and_tables(tmp_path: Path) -> None:
    files = {"1.csv": HEAD + "1,5,1,1\n", "2.csv": HEAD + "x,6,2,1\n", "users.csv": "id\n1\n"}
    tables = table(tmp_path, files, {"files": ["1.csv", "2.csv"]}, users={"files": ["users.csv"], "key": "id"})
    assert tables.users is not None
    assert tables.interactions[Columns.USER].to_list() == ["1", "x"]
    assert tables.users[Columns.USER].to_list() == ["1"]
    assert tables.interactions[Columns.ITEM].to_list() == [5, 6]
    files = {"1.csv": HEAD + "1,5,1,1\n", "users.csv": "id\n1\n01\n"}
    tables = table(tmp_path, files, {"files": ["1.csv"]}, users={"files": ["users.csv"], "key": "id"})
    assert tables.interactions[Columns.USER].to_list() == ["1"]


@pytest.mark.parametrize("text", ["", "NA", "NaN", "null", "None", "\\N", " ", '""'])
def test_a_missing_label_is_no_zero(tmp_path: Path, text: str) -> None:
    assert rows(table(tmp_path, HEAD + f"1,2,3,{text}\n1,2,4,0\n"))[0] == (1, 2, 3, None)


def test_what_counts_as_missing_is_a_setting(tmp_path: Path) -> None:
    context = {"context": {"c": "categorical"}, "missing": ["?"], "tasks": {"click": "t"}}
    tables = table(tmp_path, HEAD + "1,2,3,\n1,2,4,?\n1,2,5,NA\n", context)
    assert tables.interactions["c"].to_list() == ["", None, "NA"]


def test_context_is_numbers_where_all_are_whole(tmp_path: Path) -> None:
    text = "u,i,t,c,tab,place,price,tags\n1,2,3,1,10,a,1.5,x|y| \n1,2,4,0,,b,,\n"
    kinds = {"tab": "categorical", "place": "categorical", "price": "numeric", "tags": "multi_hot"}
    tables = table(tmp_path, text, {"context": kinds, "separators": {"tags": "|"}})
    assert tables.interactions.select(*kinds).rows() == [(10, "a", 1.5, ["x", "y"]), (None, "b", None, None)]
    assert [(feature.name, feature.kind) for feature in tables.context] == list(kinds.items())


def test_derived_columns_are_used_like_any_other(tmp_path: Path) -> None:
    log = {
        "derive": {"hour": "c // 100", "who": r"u ~ ^user-(\d+)$", "double": "c * 2"},
        "user": "who",
        "context": {"hour": "categorical", "double": "numeric"},
        "tasks": {"late": "hour >= 12"},
    }
    tables = table(tmp_path, HEAD + "user-7,2,3,1159\nuser-8,2,4,1200\n", log)
    assert rows(tables) == [(7, 2, 3, 0.0, 11, 2318.0), (8, 2, 4, 1.0, 12, 2400.0)]
    with pytest.raises(DataError, match=r"log\.csv, line 3, column u must not be empty"):
        table(tmp_path, HEAD + "user-7,2,3,1159\n8,2,4,1200\n", log)


def test_several_tasks_come_from_the_same_columns(tmp_path: Path) -> None:
    tasks = {"rated": "c > 0", "liked": "c >= 4", "stars": "c", "half": "c / 2"}
    tables = table(tmp_path, HEAD + "1,2,3,4.5\n1,2,4,3\n1,2,5,\n", {"tasks": tasks})
    assert tables.tasks == tuple(tasks)
    assert tables.interactions.select(*tasks).rows() == [(1, 1, 4.5, 2.25), (1, 0, 3, 1.5), (None, None, None, None)]


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit", "zone", "second"),
    [
        ("1650812741", "auto", "UTC", 1650812741),
        ("1650812741.9", "auto", "UTC", 1650812741),
        ("1650812741436", "auto", "UTC", 1650812741),
        ("1650812741436000", "auto", "UTC", 1650812741),
        ("1650812741436999999", "auto", "UTC", 1650812741),
        ("1650812741436999999", "ns", "Europe/Berlin", 1650812741),
        ("-1", "ms", "UTC", -1),
        ("7", "s", "UTC", 7),
        ("1e3", "s", "UTC", 1000),
        ("1970-01-02", "auto", "UTC", 86_400),
        ("1970-01-01 00:01", "auto", "UTC", 60),
        ("1970-01-01T00:00:01Z", "auto", "Asia/Shanghai", 1),
        ("1970-01-01 00:00:01.999", "auto", "UTC", 1),
        ("1970-01-01T10:00:00+08:00", "auto", "Europe/Berlin", 7200),
        ("1970-01-01T10:00:00+0800", "auto", "UTC", 7200),
        ("1970-01-01T10:00+08", "auto", "UTC", 7200),
        ("1970-01-01 10:00:00", "auto", "Asia/Shanghai", 7200),
        ("2022-10-30 02:30:00", "auto", "Europe/Berlin", 1667089800),  # the first of two; summer time, 00:30 UTC
        ("02.01.1970 01", "%d.%m.%Y %H:%M", "UTC", None),
        ("02.01.1970 01:00", "%d.%m.%Y %H:%M", "UTC", 90_000),
        ("19700102", "%Y%m%d", "UTC", 86_400),
        ("01 2, 1970", "%m %d, %Y", "UTC", 86_400),
    ],
)
def test_times_become_seconds_in_utc(tmp_path: Path, text: str, unit: str, zone: str, second: int | None) -> None:
    log = {"time_unit": unit, "time_zone": zone}
    if second is None:
        with pytest.raises(DataError, match=r"line 2, column t must be a time in the format %d\.%m\.%Y %H:%M, got"):
            table(tmp_path, HEAD + f'1,2,"{text}",1\n', log)
    else:
        assert table(tmp_path, HEAD + f'1,2,"{text}",1\n', log).interactions[Columns.TIME].to_list() == [second]


def test_kinds_of_iso_times_may_be_mixed(tmp_path: Path) -> None:
    times = ("1970-01-01T00:00:05Z", "1970-01-01 00:00:06", "1970-01-02", "1970-01-01 00:00:07.5+00:00")
    text = HEAD + "".join(f"1,2,{time},1\n" for time in times)
    found = table(tmp_path, text, {"time_unit": "auto"}).interactions[Columns.TIME].to_list()
    assert found == [5, 6, 86_400, 7]


def test_parquet_times_need_no_unit(tmp_path: Path) -> None:
    moments = [datetime(1970, 1, 1, 8, 0, 9), datetime(1970, 1, 1, 8, 1)]
    for unit in ("ms", "us", "ns"):
        content = parquet(u=[1, 1], i=[2, 2], t=pl.Series(moments, dtype=pl.Datetime(unit)), c=[1, 0])
        tables = table(tmp_path, {"l.parquet": content}, {"files": ["l.parquet"], "time_zone": "Asia/Shanghai"})
        assert tables.interactions[Columns.TIME].to_list() == [9, 60]
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    tables = table(tmp_path, {"l.parquet": parquet(u=[1, 1], i=[2, 2], t=aware, c=[1, 0])}, {"files": ["l.parquet"]})
    assert tables.interactions[Columns.TIME].to_list() == [28_809, 28_860]
    tables = table(tmp_path, {"l.pq": parquet(u=[1], i=[2], t=[date(1970, 1, 2)], c=[1])}, {"files": ["l.pq"]})
    assert tables.interactions[Columns.TIME].to_list() == [86_400]


@pytest.mark.parametrize("text", ["20220425", "2022-04-25", "2022-04-25 "])
def test_the_day_of_the_log_is_kept(tmp_path: Path, text: str) -> None:
    tables = table(tmp_path, HEAD + f"1,2,3,{text}\n", {"day": "c", "tasks": {"x": "t"}})
    assert tables.interactions[Columns.DAY].to_list() == [date(2022, 4, 25)]


@pytest.mark.parametrize(
    ("times", "log", "message"),
    [
        (
            ["1650812741999", "1650812741"],
            {"time_unit": "auto"},
            "line 3, column t must be a number whose size tells its",
        ),
        (
            ["20220425", "20220426"],
            {"time_unit": "auto"},
            "line 2, column t must be a number whose size .*, got '20220425' .*data.log.time_unit .* %Y%m%d",
        ),
        (["0", "1"], {"time_unit": "auto"}, "line 2, column t must be a number whose size tells its unit"),
        (["1650812741999"], {}, "line 2, column t must be a time in s .* not after the year 5138, got '1650812741999'"),
        (
            ["1", "noon"],
            {},
            r"line 3, column t must be a number of s \(time_unit\), got 'noon'; set data.log.time",
        ),
        (["1", "inf"], {}, r"line 3, column t must be a number of s \(time_unit\), got 'inf'"),
        (["1", ""], {}, "line 3, column t must not be empty"),
        (
            ["2022-01-01", "25.4.2022"],
            {"time_unit": "auto"},
            r"line 3, column t must be a time as 2024-01-31 23.*'25\.4",
        ),
        (["2022-01-01", "1650812741"], {"time_unit": "auto"}, "line 2, column t must be a number, as other times"),
        (["2022-02-30"], {"time_unit": "auto"}, "line 2, column t must be a time as"),
        (
            ["2022-03-27 02:30:00"],
            {"time_unit": "auto", "time_zone": "Europe/Berlin"},
            "line 2, column t must be a time that the clocks of Europe/Berlin have shown",
        ),
    ],
)
def test_a_time_that_cannot_be_told_is_refused(
    tmp_path: Path, times: list[str], log: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=rf"log\.csv, {message}"):
        table(tmp_path, HEAD + "".join(f"1,2,{time},1\n" for time in times), log)


def test_a_format_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.log\.time_unit: '%H' is not a usable format"):
        table(tmp_path, HEAD + "1,2,10,1\n", {"time_unit": "%H"})


# --- rows that go, and rows that become one --------------------------------------------------------------------------


def test_rows_without_an_id_are_dropped_and_counted(tmp_path: Path) -> None:
    text = HEAD + "1,2,10,1\n,2,11,1\n1,NA,12,1\n,,,\n"
    with pytest.raises(DataError, match=r"log\.csv, line 3, column u must not be empty"):
        table(tmp_path, text)
    tables, origin = counted(tmp_path, text, {"missing_ids": "drop"})
    assert rows(tables) == [(1, 2, 10, 1.0)]
    assert (origin.n_read, origin.n_missing_ids, origin.n_duplicates, origin.n_events) == (4, 3, 0, 1)
    with pytest.raises(DataError, match=r"all 1 rows of .*log\.csv.* lack a user or an item"):
        table(tmp_path, HEAD + ",2,11,1\n", {"missing_ids": "drop"})
    with pytest.raises(DataError, match=r"log\.csv, line 3, column t must not be empty"):
        table(tmp_path, HEAD + ",2,,1\n1,2,,1\n", {"missing_ids": "drop"})


@pytest.mark.parametrize(("keep", "kept"), [("keep", [1, 2, 3, 4]), ("first", [1, 2, 4]), ("last", [2, 3, 4])])
def test_duplicates_are_rows_with_the_same_user_item_time_and_text(tmp_path: Path, keep: str, kept: list[int]) -> None:
    text = "u,i,t,e,x\n1,a,10,view,1\n1,a,10,cart,2\n1,a,10,view,3\n1,a,11,cart,4\n"
    log = {"tasks": {"view": "e == view"}, "duplicates": keep, "context": {"x": "categorical"}}
    tables, origin = counted(tmp_path, text, log)
    assert tables.interactions["x"].to_list() == kept
    assert origin.n_duplicates == 4 - len(kept)


def test_duplicates_may_be_refused_with_their_line(tmp_path: Path) -> None:
    files = {"1.csv": HEAD + "1,2,10,1\n1,2,11,1\n", "2.csv": HEAD + "7,2,11,1\n,2,11,0\n1,2,10,0\n"}
    log = {"files": ["1.csv", "2.csv"], "duplicates": "refuse", "missing_ids": "drop"}
    again = (
        r"2\.csv, line 4 repeats an earlier row, {'user_id': 1, 'item_id': 2, 'timestamp': 10}; .* keep, first or last"
    )
    with pytest.raises(DataError, match=again):
        table(tmp_path, files, log)


def test_events_become_one_row_per_user_and_item(tmp_path: Path) -> None:
    log = {"tasks": EVENT_TASKS, "pivot": {"by": ["u", "i"]}}
    tables, origin = counted(tmp_path, EVENTS, log)
    # user 1 and item a: view at 10, cart at 20, view at 9000; in the order of the first moments
    assert rows(tables) == [(1, "a", 10, 1, 1, 0), (1, "b", 12, 1, 1, 1), (2, "a", 15, 1, 0, 0)]
    assert (origin.n_read, origin.n_events) == (5, 5)


def test_events_far_apart_are_in_different_sessions(tmp_path: Path) -> None:
    found = rows(table(tmp_path, EVENTS, {"tasks": EVENT_TASKS, "pivot": {"session_gap_s": 1800}}))
    assert found == [(1, "a", 10, 1, 1, 0), (1, "b", 12, 1, 1, 1), (2, "a", 15, 1, 0, 0), (1, "a", 9000, 1, 0, 0)]
    same = rows(table(tmp_path, EVENTS, {"tasks": EVENT_TASKS, "pivot": {"session_gap_s": 8980}}))
    assert len(same) == 3  # the longest pause of user 1, 8980 s from 20 to 9000, is not longer than that


def test_a_group_takes_the_largest_known_label_and_the_first_context(tmp_path: Path) -> None:
    text = "u,i,t,s,stars,page\n1,a,20,x,,late\n1,a,10,x,3,early\n1,a,30,x,5,later\n1,a,40,y,,other\n"
    log = {"tasks": {"stars": "stars"}, "context": {"page": "categorical"}, "pivot": {"by": ["s"]}}
    assert rows(table(tmp_path, text, log)) == [(1, "a", 10, 5.0, "early"), (1, "a", 40, None, "other")]
    with pytest.raises(DataError, match=r"log\.csv, line 3, column s must not be empty"):
        table(tmp_path, text.replace("10,x", "10,"), log)


# --- users and items -------------------------------------------------------------------------------------------------

USERS = {"files": ["u.csv"], "key": "id", "features": {"age": "numeric", "city": "categorical", "likes": "multi_hot"}}
USER_ROWS = "id,age,city,likes\n1,30.5,Rome,x|y|x\n2,NA,01,\n"


def test_tables_of_users_and_items_are_joined_by_their_key(tmp_path: Path) -> None:
    items = '{"id":2,"tags":["a",7,null],"v":[0.5,1],"name":"A"}\n{"id":3,"tags":[],"v":[1,2]}\n{"id":4}\n'
    tables = table(
        tmp_path,
        {"log.csv": HEAD + "1,2,10,1\n", "u.csv": USER_ROWS, "i.jsonl": items},
        users={**USERS, "separators": {"likes": "|"}},
        items={
            "files": ["i.jsonl"],
            "key": "id",
            "features": {"tags": "multi_hot"},
            "content": ["tags", "v"],
            "texts": ["name"],
        },
    )
    assert tables.users is not None
    assert tables.items is not None
    assert tables.users.rows() == [(1, 30.5, "Rome", ["x", "y", "x"]), (2, None, "01", None)]
    assert tables.items.rows() == [(2, ["a", "7"], "A", [0.5, 1.0]), (3, [], None, [1.0, 2.0]), (4, None, None, None)]
    assert tables.content == ("tags", "v")
    assert [feature.name for feature in tables.item_features] == ["tags"]


def test_parquet_lists_are_values_and_vectors(tmp_path: Path) -> None:
    content = parquet(
        id=[2, 3],
        tags=[["a", "b"], None],
        numbers=[[1, 2], [3]],
        v=pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2)),
    )
    features = {"tags": "multi_hot", "numbers": "multi_hot"}
    tables = table(
        tmp_path,
        {"log.csv": HEAD + "1,2,10,1\n", "i.parquet": content},
        items={"files": ["i.parquet"], "key": "id", "features": features, "content": ["v"]},
    )
    assert tables.items is not None
    assert tables.items.rows() == [(2, ["a", "b"], ["1", "2"], [1.0, 2.0]), (3, None, ["3"], [3.0, 4.0])]


@pytest.mark.parametrize(("keep", "age"), [("first", 30.5), ("last", 7.0)])
def test_a_repeated_id_is_refused_or_one_of_them_kept(tmp_path: Path, keep: str, age: float) -> None:
    files = {"log.csv": HEAD + "1,2,10,1\n", "u.csv": "id,age\n1,30.5\n2,4\n\n1,7\n"}
    users = {"files": ["u.csv"], "key": "id", "features": {"age": "numeric"}}
    with pytest.raises(
        DataError, match=r"u\.csv, line 5 repeats an earlier row, {'user_id': 1}; .*data\.users\.duplicates"
    ):
        table(tmp_path, files, users=users)
    tables = table(tmp_path, files, users={**users, "duplicates": keep})
    assert tables.users is not None
    assert dict(tables.users.rows())[1] == age


@pytest.mark.parametrize(
    ("text", "users", "message"),
    [
        ("id,age,city,likes\n1,old,x,\n", {}, r"u\.csv, line 2, column age must be a finite number, got 'old'"),
        ("id,age,city,likes\n,1,x,\n", {}, r"u\.csv, line 2, column id must not be empty"),
        ("id,age,city\n1,1,x\n", {}, r"u\.csv, line 1 must name the columns \['likes'\]; it has 'id,age,city'"),
        (
            "id,age,city,likes\n1,1,x,a|b\n",
            {"separators": {}},
            r"u\.csv, line 2, column likes must be a JSON list such as",
        ),
        (
            "id,age,city,likes\n7,1,x,\n",
            {},
            r"data\.users: none of the 1 users of the log is in the table: .* \[1\], .* \[7\]",
        ),
        ("id,age,city,likes\n", {}, r"u\.csv has no rows"),
    ],
)
def test_a_broken_table_of_users_is_refused(tmp_path: Path, text: str, users: dict[str, Any], message: str) -> None:
    files = {"log.csv": HEAD + "1,2,10,1\n", "u.csv": text}
    with pytest.raises(DataError, match=message):
        table(tmp_path, files, users={**USERS, "separators": {"likes": "|"}, **users})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"id":5,"v":[1]}',
            r"i\.jsonl, line 2, column v must be a list of 2 numbers, as in the first row .*, got '\[1\]'",
        ),
        ('{"id":5,"v":["x",2]}', r"i\.jsonl, line 2, column v must be a list of finite numbers"),
        ('{"id":5,"v":3}', r"i\.jsonl, line 2, column v must be a JSON list"),
        ('{"id":5,"v":[[1],2]}', r"i\.jsonl, line 2, column v must be a JSON list"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path: Path, line: str, message: str) -> None:
    files = {"log.csv": HEAD + "1,2,10,1\n", "i.jsonl": '{"id":2,"v":[1,2]}\n' + line + "\n"}
    with pytest.raises(DataError, match=message):
        table(tmp_path, files, items={"files": ["i.jsonl"], "key": "id", "content": ["v"]})
