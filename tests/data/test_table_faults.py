"""All errors of the tables come at once, each with file, line, column, what was found, and the key that repairs it."""

from __future__ import annotations

import gzip
import re
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from data.logs import HEAD, counted, parquet, rows, table, workbook

from evorec.config.faults import Faults, refuse_all
from evorec.data.readers.table import MAX_FAULTS
from evorec.errors import ConfigError, DataError


def refused(folder: Path, files: dict[str, str | bytes] | str, log: Any = None, **sections: Any) -> list[str]:
    """The lines of the error, without the folder."""
    with pytest.raises(DataError) as caught:
        table(folder, files, log, **sections)
    return str(caught.value).replace(f"{folder}/", "").split("\n")


def test_the_faults_of_all_columns_and_tables_come_at_once_with_their_keys(tmp_path: Path) -> None:
    files = {
        "log.csv": HEAD.strip() + ",x,tags\n1,2,soon,yes,a,b\n,3,2,1,1.5,a\n2,3,4,no,b,c\n",
        "u.csv": "id,age\n1,N/A\n,40\n",
        "i.csv": 'id,price,vector\n2,cheap,"[1, 2]"\n3,5,"[1]"\n',
    }
    log = {"context": {"x": "numeric", "tags": "multi_hot"}}
    found = refused(
        tmp_path,
        files,  # type: ignore[arg-type]
        log,
        users={"files": ["u.csv"], "key": "uid", "features": {"age": "numeric"}},
        items={"files": ["i.csv"], "key": "id", "features": {"price": "numeric"}, "content": ["vector"]},
    )
    lists = "a JSON list such as [1, 2], a list as Python or PostgreSQL write it, or a text whose separator is set"
    assert found == [
        'log.csv, line 3, column u must not be empty; set data.log.missing_ids = "drop" to leave out and count rows '
        "without an id.",
        "log.csv, line 2, column t must be a number of s (time_unit), got 'soon'; set data.log.time_unit to the unit "
        "or format of the times, or add the text to data.log.missing if it is no time.",
        "log.csv, line 2, column c must be a number, true or false, got 'yes' (the first of 2 rows); add 'yes' to "
        "data.log.missing if it means no value, or compare the column in data.log.tasks: c == 'yes'.",
        "log.csv, line 2, column x must be a finite number, got 'a' (the first of 2 rows); add 'a' to data.log.missing "
        "if it means no value; a feature of texts is categorical.",
        f"log.csv, line 2, column tags must be {lists} (data.log.separators), got 'b' (the first of 3 rows); set "
        "data.log.separators.tags, or add the text to data.log.missing if it means no value.",
        "u.csv, line 1 must name the columns ['uid']; it has 'id,age'; named by data.users.key.",
        "u.csv, line 2, column age must be a finite number, got 'N/A'; add 'N/A' to data.users.missing if it means no "
        "value; a feature of texts is categorical.",
        "i.csv, line 2, column price must be a finite number, got 'cheap'; add 'cheap' to data.items.missing if it "
        "means no value; a feature of texts is categorical.",
        "i.csv, line 3, column vector must be a list of 2 numbers, as in the first row that has one, got '[1]'; leave "
        "the column out of data.items.content, or add the text to data.items.missing if it means no value.",
    ]


def test_faults_of_several_files_and_sources_name_their_own_keys(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a.csv": "u,i,when\n1,2,31.01.2024 10:00\n",
        "b.csv": "u;i;t\n1;2;3;4\n1;2;3\n",
        "c.csv": b"u,i,t\n\xff,2,3\n",
        "d.csv": 'u,i,t\n1,"a"b,3\n',
    }
    sources: list[dict[str, Any]] = [
        {"files": [f"{name}.csv"], "event": name, "time_unit": "auto", "encoding": "utf-8"} for name in "abcd"
    ]
    sources[0]["time"] = "when"
    sources[1] |= {"separator": ";", "time_unit": "s"}
    found = refused(tmp_path, files, {"files": [], "tasks": {}, "sources": [*sources, {"files": ["e.csv"]}]})
    expected = [
        r"a\.csv, line 2, column when .*; set data\.log\.sources\[0\]\.time_unit to its format, %d\.%m\.%Y %H:%M\.",
        r"b\.csv, line 2 must have 3 columns separated by ';', got 4; set data\.log\.sources\[1\]\.ragged = .drop. or "
        r".pad. to read the other lines, or data\.log\.sources\[1\]\.separator if it is another\.",
        r"c\.csv, line 2 must be UTF-8 text, got the byte 0xff; .*, or set data\.log\.sources\[2\]\.encoding, .*",
        r"d\.csv, line 2: a quote must enclose .*; set data\.log\.sources\[3\]\.quote = .*",
        r"data\.log\.sources\[4\]\.files: 'e\.csv' matches no file in .*",
    ]
    assert len(found) == len(expected)
    for line, pattern in zip(found, expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_files_of_a_log_with_other_columns_are_led_to_sources(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.csv": HEAD + "1,2,3,1\n", "b.csv": "u,i,price,t\n1,2,9,3\n"}
    found = refused(tmp_path, files, {"files": ["a.csv", "b.csv"]})
    assert found[0].endswith(
        "named by data.log.tasks; files with columns of their own are entries of [[data.log.sources]]."
    )
    files["b.csv"] = "1,2,9,3,5\n"
    found = refused(
        tmp_path, {**files, "a.csv": "1,2,3,1\n"}, {"files": ["a.csv", "b.csv"], "columns": ["u", "i", "t", "c"]}
    )
    assert found[0].endswith("; files with columns of their own are entries of [[data.log.sources]].")


def test_of_many_faults_the_first_of_each_table_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    names = [f"f{n}" for n in range(30)]
    head, line = ",".join(names), ",".join(["?"] * 30)
    files: dict[str, str | bytes] = {"log.csv": f"u,i,t,c,{head}\n1,2,3,1,{line}\n", "i.csv": f"id,{head}\n2,{line}\n"}
    features = dict.fromkeys(names, "numeric")
    found = refused(
        tmp_path, files, {"context": features}, items={"files": ["i.csv"], "key": "id", "features": features}
    )
    assert len(found) == MAX_FAULTS + 1
    assert sum(text.startswith("log.csv") for text in found) == sum(text.startswith("i.csv") for text in found) == 5
    assert found[-1] == "50 more errors of the tables are not shown."


def test_errors_of_settings_make_the_whole_an_error_of_the_configuration() -> None:
    data, both = Faults(), Faults()
    data.add(DataError("a"))
    both.add(ConfigError("b"))
    both.add(DataError("a"))
    with pytest.raises(ConfigError, match=r"^a\nb\na$"):
        refuse_all([data, both], at_most=5)
    with pytest.raises(DataError, match=r"^a$"):
        refuse_all([data, Faults()], at_most=5)
    refuse_all([Faults()], at_most=5)


@pytest.mark.parametrize("side", ["users", "items"])
def test_rows_of_users_and_items_without_an_id_are_refused_or_dropped_and_counted(tmp_path: Path, side: str) -> None:
    files: dict[str, str | bytes] = {"log.csv": HEAD + "1,1,10,1\n", "e.csv": "id,x\n,5\n1,6\nNA,7\n"}
    section: dict[str, Any] = {"files": ["e.csv"], "key": "id", "features": {"x": "numeric"}}
    assert refused(tmp_path, files, **{side: section}) == [
        f'e.csv, line 2, column id must not be empty (the first of 2 rows); set data.{side}.missing_ids = "drop" to '
        "leave out and count rows without an id."
    ]
    tables, origin = counted(tmp_path, files, **{side: {**section, "missing_ids": "drop"}})
    assert getattr(tables, side).rows() == [(1, 6.0)]
    assert origin.n_missing_ids == 0
    assert origin.notes == (f"{tmp_path}/e.csv: rows without an id, dropped (data.{side}.missing_ids): 2.",)
    nothing: dict[str, str | bytes] = {**files, "e.csv": "id,x\n,5\n"}
    found = refused(tmp_path, nothing, **{side: {**section, "missing_ids": "drop"}})
    assert found == [f"data.{side}: all 1 rows of ['{tmp_path}/e.csv'] lack an id.".replace(f"{tmp_path}/", "")]


def test_lines_with_too_many_or_too_few_values_are_refused_dropped_or_padded(tmp_path: Path) -> None:
    text = 'u,i,t,c\n1,2,10,1,9,9\n\n2,3,11\n3,4,12,0\n"4\n",5,13\n5,6,14,1\n'
    assert refused(tmp_path, text) == [
        'log.csv, line 2 must have 4 columns, got 6 (the first of 3 lines); set data.log.ragged = "drop" or "pad" to '
        "read the other lines, or data.log.separator if it is another."
    ]
    wrong = refused(tmp_path, text.replace("6,14", "6,x"))
    assert [line.partition(" must")[0] for line in wrong] == ["log.csv, line 2", "log.csv, line 8, column t"]
    tables, origin = counted(tmp_path, text, {"ragged": "drop"})
    assert rows(tables) == [(3, 4, 12, 0.0), (5, 6, 14, 1.0)]
    done = f"{tmp_path}/log.csv: lines with another number of values than columns,"
    assert origin.notes == (f"{done} dropped (data.log.ragged): 3.",)
    tables, origin = counted(tmp_path, text, {"ragged": "pad"})
    assert rows(tables) == [(1, 2, 10, 1.0), (2, 3, 11, None), (3, 4, 12, 0.0), (4, 5, 13, None), (5, 6, 14, 1.0)]
    assert origin.notes == (f"{done} padded or cut (data.log.ragged): 3.",)
    # errors name the line of the file, whatever was dropped before it
    for ragged in ("drop", "pad"):
        found = refused(tmp_path, text.replace("6,14", "6,x"), {"ragged": ragged})
        assert found[0].startswith("log.csv, line 8, column t must be a number of s (time_unit), got 'x'"), found
    escaped = 'u;i;t;c\n1;"a \\"b\\";";10;1\n2;3;11\n3;4;12;0\n'
    assert rows(table(tmp_path, escaped, {"ragged": "drop"})) == [(1, 'a "b";', 10, 1.0), (3, "4", 12, 0.0)]


@pytest.mark.parametrize(
    ("unit", "good", "bad"),
    [
        ("auto", ["2024-01-31 23:59:59", "2024-01-31T00:00Z"], ["N/A", "0000-00-00", "2024-13-01"]),
        ("auto", ["1650812741", "1650812741.5"], ["N/A", "0", "-1", "1650812741000", "inf"]),
        ("s", ["0", "10"], ["N/A", "soon", "nan?", "99999999999999"]),
        ("auto", ["1650812741000"], ["0", "1650812741"]),
        ("%d.%m.%Y", ["31.01.2024"], ["31.13.2024", "N/A"]),
        ("auto", ["2024-03-31 01:59"], ["2024-03-31 02:30", "null time"]),  # the clocks of Berlin do not show 02:30
    ],
)
def test_rows_without_a_time_are_refused_or_dropped_and_counted(
    tmp_path: Path, unit: str, good: list[str], bad: list[str]
) -> None:
    times = [*good * 12, *bad, ""]
    text = HEAD + "".join(f"{n},2,{time},1\n" for n, time in enumerate(times)) + ",2,,1\n"
    log = {"time_unit": unit, "time_zone": "Europe/Berlin", "missing_ids": "drop"}
    n, key = len(times), "data.log.missing_times"
    found = refused(tmp_path, text, log)
    assert found[0].startswith(f"log.csv, line {n - len(bad) + 1}, column t must be a "), found
    assert found[0].endswith(f'or set {key} = "drop" to leave out and count such rows.'), found
    blank = HEAD + f"1,2,{good[0]},1\n1,2,,1\n"
    assert refused(tmp_path, blank, log) == [
        f'log.csv, line 3, column t must not be empty; set {key} = "drop" to leave out and count rows without a time.'
    ]
    tables, origin = counted(tmp_path, text, {**log, "missing_times": "drop"})
    assert tables.interactions["user_id"].to_list() == list(range(12 * len(good)))
    assert (origin.n_read, origin.n_missing_ids, origin.n_missing_times) == (n + 1, 1, len(bad) + 1)
    assert origin.n_duplicates == 0
    (note,) = origin.notes
    shown = f"{bad[0]!r} (the first of {len(bad)} rows)"
    assert note == f"{tmp_path}/log.csv: column t: not a time, dropped ({key}): {shown}."
    found = refused(tmp_path, HEAD + "1,2,,1\n", {**log, "missing_times": "drop"})
    assert found == ["data.log: all 1 rows of ['log.csv'] lack a user, an item or a time."]


def test_times_in_two_notations_are_refused_although_rows_without_a_time_are_dropped(tmp_path: Path) -> None:
    days = ["13.01.2024", "01.02.2024", "02.03.2024"]  # a third is no day of the calendar if the month comes first
    text = HEAD + "".join(f"1,2,{day},1\n" for day in days)
    (found,) = refused(tmp_path, text, {"time_unit": "%m.%d.%Y", "missing_times": "drop"})
    assert found.startswith("log.csv, line 2, column t must be a time in the format %m.%d.%Y, got '13.01.2024'; set")
    assert "missing_times" not in found


def test_a_few_broken_rows_do_not_turn_digits_of_a_calendar_into_seconds(tmp_path: Path) -> None:
    text = HEAD + "".join(f"1,2,{hour},1\n" for hour in ["2014102115"] * 9 + ["2014102199"])
    for missing_times in ("refuse", "drop"):
        (found,) = refused(tmp_path, text, {"time_unit": "auto", "missing_times": missing_times})
        assert "it looks like YYYYMMDDHH" in found


def test_rows_without_a_day_of_the_log_are_dropped(tmp_path: Path) -> None:
    text = "u,i,t,d,c\n" + "1,2,10,20240131,1\n" * 9 + "1,2,10,,1\n1,2,10,x,1\n"
    log = {"day": "d", "duplicates": "keep"}
    (found,) = refused(tmp_path, text, log)
    assert found.endswith('or set data.log.missing_times = "drop" to leave out and count such rows.')
    tables, origin = counted(tmp_path, text, {**log, "missing_times": "drop"})
    assert (len(tables.interactions), origin.n_missing_times) == (9, 2)


def test_broken_lines_of_json_are_refused_or_dropped_and_counted(tmp_path: Path) -> None:
    lines = ['{"u":1,"i":2,"t":10,"c":1}', '{"u":1,"i":3,"t":1', '{"u":2,"i":2,"t":11,"c":"x"}', '["cut"']
    files: dict[str, str | bytes] = {"l.jsonl": "\n".join(lines)}
    found = refused(tmp_path, files, {"files": ["l.jsonl"]})
    assert found[0].startswith("l.jsonl, line 2 must be one JSON object: Expecting ',' delimiter at character 19")
    assert found[0].endswith('; set data.log.broken = "drop" to leave out and count such lines.')
    assert [line.partition(" must")[0] for line in found[1:]] == ["l.jsonl, line 3, column c"]
    tables, origin = counted(tmp_path, files, {"files": ["l.jsonl"], "broken": "drop", "missing": ["x"]})
    assert rows(tables) == [(1, 2, 10, 1.0), (2, 2, 11, None)]
    assert origin.notes == (f"{tmp_path}/l.jsonl: lines that are not a JSON object, dropped (data.log.broken): 2.",)


@pytest.mark.parametrize(
    ("content", "log", "message"),
    [
        ("", {}, r"log\.csv is empty; expected the columns \['u', 'i', 't', 'c'\] and at least one row"),
        ("\n \n", {}, r"log\.csv is empty"),
        (
            "# made by a tool\n\n" + HEAD + "1,2,3,1\n",
            {},
            "line 1 must .*; line 3 names the columns; remove the lines above it",
        ),
        ("sep=;\nu;i;t;c\n1;2;3;1\n", {}, "line 1 must .*; line 2 names the columns; remove the lines above it"),
        ("u,i,t,c,u\n1,2,3,1,1\n", {}, "got 'u' again; rename one of them"),
        (
            gzip.compress(gzip.compress(HEAD.encode(), mtime=0), mtime=0),
            {},
            "compressed twice, inside by gzip, .*; unpack it",
        ),
        ("u;i;t;c\n1;2;3;0,5\n", {}, "got '0,5'; write numbers with a decimal point"),
        (
            HEAD + '1,2,"1,650,812,741",1\n',
            {"time_unit": "auto"},
            "got '1,650,812,741'; write numbers with a decimal point",
        ),
        (HEAD + "1,2,1-Jan-2024,1\n", {"time_unit": "auto"}, "set data.log.time_unit to its format, %d-%b-%Y"),
        (HEAD + "1,2,2024-001,1\n", {"time_unit": "auto"}, "set data.log.time_unit to its format, %Y-%j"),
    ],
)
def test_an_error_of_a_table_says_what_to_do(
    tmp_path: Path, content: str | bytes, log: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, {"log.csv": content}, log)


def test_an_interrupted_log_ends_in_nul_bytes(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"l.jsonl": b'{"u":1,"i":2,"t":10,"c":1}\n' + bytes(1000)}
    (found,) = refused(tmp_path, files, {"files": ["l.jsonl"]})
    assert found.startswith("l.jsonl, line 2 must be one JSON object, got a NUL byte; set data.log.broken")
    assert rows(table(tmp_path, files, {"files": ["l.jsonl"], "broken": "drop"})) == [(1, 2, 10, 1.0)]


def test_times_that_32_bit_floats_round_are_noted(tmp_path: Path) -> None:
    content = parquet(u=[1], i=[2], t=pl.Series([1650812741.0], dtype=pl.Float32), c=[1])
    tables, origin = counted(tmp_path, {"l.pq": content}, {"files": ["l.pq"]})
    assert tables.interactions["timestamp"].to_list() == [1650812800]
    assert "column t: 32-bit floats round times since 1970 to minutes" in origin.notes[0]


def test_a_time_of_another_type_is_refused_with_its_column(tmp_path: Path) -> None:
    for values in ([True], [timedelta(seconds=1)], [time(10, 30)]):
        content = parquet(u=[1], i=[2], t=values, c=[1])
        with pytest.raises(DataError, match=r"row 1, column t must be a time or a number, got .*; name another column"):
            table(tmp_path, {"l.pq": content}, {"files": ["l.pq"]})


def test_missing_columns_of_typed_files_are_listed_with_the_faults_of_the_others(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    files: dict[str, str | bytes] = {"log.xlsx": workbook(log=[["u", "i", "c"], [1, 2, "maybe"]])}
    found = refused(tmp_path, files, {"files": ["log.xlsx"], "day": "p"})
    assert [line.partition(", got")[0] for line in found] == [
        "log.xlsx lacks the columns ['t', 'p']; it has ['u', 'i', 'c']; named by data.log.time, data.log.day.",
        "log.xlsx, row 2, column c must be a number, true or false",
    ]
