"""Odd values that the reader for any table has to get right: ids, missing ones, lists, times, names in archives."""

from __future__ import annotations

import io
import random
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from data.logs import HEAD, counted, parquet, rows, table, zipped

from evorec.data.tables import Columns
from evorec.errors import ConfigError, DataError

# --- ids -------------------------------------------------------------------------------------------------------------


def test_ids_that_all_end_in_a_zero_fraction_are_the_whole_numbers_they_were(tmp_path: Path) -> None:
    files = {"1.csv": HEAD + "12.0,a,1,1\n-3.0,b,2,1\n", "2.csv": HEAD + "12,a,3,1\n", "u.csv": "id\n12\n"}
    tables = table(tmp_path, files, {"files": ["1.csv", "2.csv"]}, users={"files": ["u.csv"], "key": "id"})
    assert tables.interactions[Columns.USER].to_list() == [12, -3, 12]


@pytest.mark.parametrize("ids", [["12.0", "12"], ["12.0", "007.0"], ["12.0", "-0.0"], ["12.0", "1.5"], ["12.0.0"]])
def test_ids_stay_texts_where_a_whole_number_could_stand_for_two_of_them(tmp_path: Path, ids: list[str]) -> None:
    text = HEAD + "".join(f"{user},a,1,1\n" for user in ids)
    assert table(tmp_path, text).interactions[Columns.USER].to_list() == ids


def test_an_empty_id_is_missing_whatever_counts_as_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"log\.csv, line 3, column u must not be empty"):
        table(tmp_path, HEAD + "x,a,1,1\n,a,2,1\n", {"missing": ["?"]})
    content = parquet(u=["x", ""], i=[1, 1], t=[1, 2], c=[1, 1])
    with pytest.raises(DataError, match=r"l\.pq, row 2, column u must not be empty"):
        table(tmp_path, {"l.pq": content}, {"files": ["l.pq"], "missing": ["?"]})


def test_large_ids_are_divided_exactly(tmp_path: Path) -> None:
    log = {"derive": {"shard": "u // 10"}, "user": "shard"}
    tables = table(tmp_path, HEAD + "9223372036854775807,a,1,1\n-7,a,2,1\n", log)
    assert tables.interactions[Columns.USER].to_list() == [922337203685477580, -1]


def test_one_value_of_json_is_no_list_and_no_object(tmp_path: Path) -> None:
    good = '{"u":1,"i":"[1]","t":1,"c":1}\n\n'
    log = {"files": ["l.jsonl"]}
    assert rows(table(tmp_path, {"l.jsonl": good}, log)) == [(1, "[1]", 1, 1.0)]
    for value, got in (("[1]", r"\[1\]"), ('{"id": 1}', '{"id": 1}')):
        text = good + f'{{"u":{value},"i":"x","t":2,"c":1}}\n'
        with pytest.raises(DataError, match=rf"l\.jsonl, line 3, column u must be one value, got '{got}'"):
            table(tmp_path, {"l.jsonl": text}, log)


# --- missing values --------------------------------------------------------------------------------------------------


def test_ids_that_may_be_the_same_are_noted(tmp_path: Path) -> None:
    _, origin = counted(tmp_path, HEAD + "1,2.0,3,1\n1.0,3.0,4,1\n")
    (note,) = origin.notes
    assert "column u: '1.0' and '1' are different ids; write them alike" in note
    assert counted(tmp_path, HEAD + "1,2.0,3,1\n7.0,2.5,4,1\n")[1].notes == ()


def test_ids_that_a_spreadsheet_has_rounded_are_noted(tmp_path: Path) -> None:
    _, origin = counted(tmp_path, HEAD + "1.23457E+12,a,3,1\n1.23457E+12,b,4,1\n7,1E+05,5,1\n")
    (note,) = origin.notes
    assert "column u: '1.23457E+12' (the first of 2 rows) looks like an id that a spreadsheet has rounded" in note


def test_a_number_can_stand_for_a_missing_value(tmp_path: Path) -> None:
    log = {"missing": ["", "-1"], "missing_ids": "drop", "context": {"x": "numeric", "y": "categorical"}}
    text = "u,i,t,c,x,y\n1,2,3,-1,-1,-1\n-1,2,4,1,1,1\n5,6,7, -1 ,-1.5,8\n"
    expected = [(1, 2, 3, None, None, None), (5, 6, 7, None, -1.5, 8)]
    assert rows(table(tmp_path, text, log)) == expected
    content = parquet(u=[1, -1, 5], i=[2, 2, 6], t=[3, 4, 7], c=[-1, 1, -1], x=[-1.0, 1.0, -1.5], y=[-1, 1, 8])
    assert rows(table(tmp_path, {"l.pq": content}, {**log, "files": ["l.pq"]})) == expected
    with pytest.raises(DataError, match=r"log\.csv, line 2, column t must not be empty"):
        table(tmp_path, HEAD + "1,2,-1,1\n", log | {"context": {}})


def test_a_computed_number_is_never_a_mark_for_a_missing_value(tmp_path: Path) -> None:
    context = {"hour": "categorical", "y": "numeric"}
    log = {"missing": ["", "0"], "derive": {"hour": "t // 100", "y": "t * 0"}, "context": context}
    assert rows(table(tmp_path, HEAD + "1,2,30,1\n1,2,1200,0\n", log)) == [
        (1, 2, 30, 1.0, 0, 0.0),
        (1, 2, 1200, None, 12, 0.0),
    ]


def test_a_pattern_that_does_not_match_gives_a_missing_value_not_an_empty_text(tmp_path: Path) -> None:
    log = {"missing": ["?"], "derive": {"d": r"c ~ x(\w+)"}, "context": {"d": "categorical"}, "tasks": {"one": "t"}}
    tables = table(tmp_path, HEAD + "1,2,3,xa\n1,2,4,?\n1,2,5,z\n1,2,6,\n", log)
    assert tables.interactions["d"].to_list() == ["a", None, None, None]


def test_a_missing_text_of_parquet_is_never_an_empty_one(tmp_path: Path) -> None:
    content = parquet(u=[1, 1], i=[2, 2], t=[3, 4], c=[1, 1], g=["", None])
    log = {"files": ["l.pq"], "missing": ["?"], "context": {"g": "categorical"}}
    assert table(tmp_path, {"l.pq": content}, log).interactions["g"].to_list() == ["", None]


def test_an_empty_number_is_missing_however_it_is_written(tmp_path: Path) -> None:
    text = HEAD + '1,2,3,\n1,2,4,""\n1,2,5," "\n'
    assert table(tmp_path, text, {"missing": ["?"]}).interactions["click"].to_list() == [None, None, None]


# --- lists and categories --------------------------------------------------------------------------------------------


def test_a_whole_number_in_a_list_is_one_category_however_its_file_is_read(tmp_path: Path) -> None:
    log = {"files": ["1.csv", "2.csv"], "context": {"g": "multi_hot"}}
    files = {"1.csv": 'u,i,t,c,g\n1,2,3,1,"[1.0, 2, 1.5]"\n', "2.csv": 'u,i,t,c,g\n1,2,4,1,"[1.0, 2, NaN]"\n'}
    # NaN is not JSON, so that the second file is read the slow way
    assert table(tmp_path, files, log).interactions["g"].to_list() == [["1", "2", "1.5"], ["1", "2"]]


def test_a_whole_number_is_one_category_in_files_with_and_without_fractions(tmp_path: Path) -> None:
    columns = {"u": [1, 1], "i": [2, 2], "t": [3, 4], "c": [1, 1]}
    files = {"1.pq": parquet(**columns, g=[1.0, 2.0]), "2.pq": parquet(**columns, g=[1.0, 1.5])}
    log = {"files": ["1.pq", "2.pq"], "context": {"g": "categorical"}}
    assert table(tmp_path, files, log).interactions["g"].to_list() == ["1", "2", "1", "1.5"]


def test_an_object_is_no_text_to_be_split(tmp_path: Path) -> None:
    files = {"log.csv": HEAD + "1,2,3,1\n", "i.jsonl": '{"id":2,"g":{"a":1,"b":2}}\n'}
    items = {"files": ["i.jsonl"], "key": "id", "features": {"g": "multi_hot"}, "separators": {"g": ","}}
    with pytest.raises(DataError, match=r"i\.jsonl, line 1, column g must be one value, got '{"):
        table(tmp_path, files, items=items)


# --- times -----------------------------------------------------------------------------------------------------------


def test_the_name_of_utc_may_stand_behind_a_time(tmp_path: Path) -> None:
    log = {"time_unit": "auto", "time_zone": "Asia/Shanghai"}
    text = HEAD + "1,2,1970-01-01 00:00:05 UTC,1\n1,2,1970-01-01T00:01 GMT,1\n"
    assert table(tmp_path, text, log).interactions[Columns.TIME].to_list() == [5, 60]


def test_a_format_with_the_name_of_a_zone_is_refused_because_it_would_be_ignored(tmp_path: Path) -> None:
    text = HEAD + "1,2,1970-01-01 00:00 EST,1\n"
    with pytest.raises(ConfigError, match=r"data\.log\.time_unit: '%Y-%m-%d %H:%M %Z' must not have %Z"):
        table(tmp_path, text, {"time_unit": "%Y-%m-%d %H:%M %Z"})
    log = {"time_unit": "%Y-%m-%d %H:%M EST", "time_zone": "America/New_York"}
    assert table(tmp_path, text, log).interactions[Columns.TIME].to_list() == [5 * 3600]


def test_a_fraction_of_a_second_may_be_written_as_in_python(tmp_path: Path) -> None:
    log = {"time_unit": "%Y-%m-%d %H:%M:%S.%f"}  # polars would warn
    assert rows(table(tmp_path, HEAD + "1,2,1970-01-01 00:00:07.999,1\n", log))[0][2] == 7


def test_a_day_whose_midnight_the_clocks_skip_begins_at_its_first_moment(tmp_path: Path) -> None:
    log = {"time_unit": "auto", "time_zone": "America/Sao_Paulo"}
    # summer time began at 00:00 of 4 November 2018, which was 01:00 at once: 03:00 UTC
    assert rows(table(tmp_path, HEAD + "1,2,2018-11-04,1\n", log))[0][2] == 1_541_300_400
    with pytest.raises(DataError, match=r"line 2, column t must be a time that the clocks of America/Sao_Paulo"):
        table(tmp_path, HEAD + "1,2,2018-11-04 00:30,1\n", log)


def test_an_hour_needs_no_minutes_and_a_number_no_leading_zero(tmp_path: Path) -> None:
    def first_second(text: str, form: str) -> Any:
        return rows(table(tmp_path, HEAD + f"1,2,{text},1\n", {"time_unit": form}))[0][2]

    at_15 = 1_413_903_600  # 2014-10-21 15:00 UTC
    for text, form in (
        ("14102115", "%y%m%d%H"),
        ("2014102115", "%Y%m%d%H"),
        ("21.10.2014 15", "%d.%m.%Y %H"),
        ("10/21/2014 3 pm", "%m/%d/%Y %I %p"),
        ("2014-10-21T15Z", "%Y-%m-%dT%H%z"),
        ("2014-10-21T16+01:00", "%Y-%m-%dT%H%z"),
    ):
        assert first_second(text, form) == at_15, text
    assert first_second("9010203", "%y%m%d%H") == first_second("09010203", "%y%m%d%H") == 1_230_865_200
    for text in ("1410211", "141021155", "14102125"):
        with pytest.raises(DataError, match=rf"line 2, column t must be a time in the format %y%m%d%H, got '{text}'"):
            first_second(text, "%y%m%d%H")
    with pytest.raises(ConfigError, match=r"time_unit: '%H:%M' is not a usable format of a time: it has no year"):
        first_second("10:15", "%H:%M")


def test_digits_of_a_calendar_are_not_read_as_seconds(tmp_path: Path) -> None:
    moments = [datetime(2014, 10, 21, 15, 30, 12), datetime(2015, 2, 1, 0, 5, 1), datetime(2015, 12, 31, 23, 59, 59)]
    log: dict[str, Any] = {"time_unit": "auto"}
    for form in ("%y%m%d%H", "%Y%m%d", "%Y%m%d%H", "%y%m%d%H%M", "%Y%m%d%H%M", "%y%m%d%H%M%S", "%Y%m%d%H%M%S"):
        numbers = [int(moment.strftime(form)) for moment in moments]
        files = {
            "l.csv": HEAD + "".join(f"1,2,{number},1\n" for number in numbers),
            "l.pq": parquet(u=[1] * 3, i=[2] * 3, t=numbers, c=[1] * 3),
            "f.pq": parquet(u=[1] * 3, i=[2] * 3, t=[float(number) for number in numbers], c=[1] * 3),
            "f.csv": HEAD + "".join(f"1,2,{number}.0,1\n" for number in numbers),
        }
        expected = [int(datetime.strptime(str(n), form).replace(tzinfo=UTC).timestamp()) for n in numbers]
        for name in files:
            message = rf"column t must be a number whose size tells its unit, and it looks like .*, got .*{form}"
            with pytest.raises(DataError, match=message):
                table(tmp_path, files, {**log, "files": [name]})
            found = rows(table(tmp_path, files, {"files": [name], "time_unit": form}))
            assert [row[2] for row in found] == expected
    text = HEAD + "1,2,1410211530,1\n1,2,1410219999,1\n"  # the second row is not a time of a calendar
    assert [row[2] for row in rows(table(tmp_path, text, log))] == [1_410_211_530, 1_410_219_999]


def test_notations_with_the_year_first_are_read_without_a_format(tmp_path: Path) -> None:
    at_15 = 1_413_903_600  # 2014-10-21 15:00 UTC
    for text in (
        *("2014-10-21 15:00:00", "2014/10/21 15:00", "2014.10.21 15", "2014-10-21 15:00:00,5", "20141021T150000Z"),
        *("2014-10-21 3:00 PM", "2014-10-21 03:00:00 pm", "2014-10-21T16:00+0100", "2014-10-21T12:30-02:30"),
        *("2014-10-21T17:00:00 +02", "2014-10-21T17:00+02:00[Europe/Berlin]", "2014-10-21 15:00 UTC"),
    ):
        found = table(tmp_path, HEAD + f'1,2,"{text}",1\n1,2,1970-1-2,1\n', {"time_unit": "auto"})
        assert found.interactions[Columns.TIME].to_list() == [at_15, 86_400], text
    for text, forms in (
        ("10/21/2014 3:00 PM", "%m/%d/%Y %I:%M %p"),
        ("03/04/2014", "%d/%m/%Y or %m/%d/%Y"),
        ("Tue Oct 21 15:00:00 +0000 2014", "%a %b %d %H:%M:%S %z %Y"),
    ):
        with pytest.raises(
            DataError, match=rf"column t must be a time as .* got .*; set data\.log\.time_unit to its format, {forms}"
        ):
            table(tmp_path, HEAD + f"1,2,{text},1\n", {"time_unit": "auto"})
        assert table(tmp_path, HEAD + f"1,2,{text},1\n", {"time_unit": forms.split(" or ")[0]}).n_rows == 1


# --- events ----------------------------------------------------------------------------------------------------------

Event = tuple[int, str, int, float | None, str]


def slow_pivot(events: list[Event], gap: float, *, by_page: bool) -> list[tuple[Any, ...]]:
    """One row per user, item, page (if asked for) and session: a plain loop over the events in order of time."""
    last: dict[int, int] = {}
    session: dict[int, int] = {}
    found: dict[tuple[Any, ...], list[Any]] = {}
    for user, item, time, label, page in sorted(events, key=lambda event: event[2]):
        if gap and user in last and time - last[user] > gap:
            session[user] = session.get(user, 0) + 1
        last[user] = time
        key = (user, item, page if by_page else "", session.get(user, 0))
        row = found.setdefault(key, [user, item, time, None, page])
        row[3] = max((value for value in (row[3], label) if value is not None), default=None)
    return [tuple(row) for row in found.values()]


@pytest.mark.parametrize("gap", [0, 5, 1000])
@pytest.mark.parametrize("by", [(), ("u", "i"), ("page",)])
def test_events_become_the_rows_that_a_plain_loop_makes_of_them(
    tmp_path: Path, gap: float, by: tuple[str, ...]
) -> None:
    rng = random.Random(f"{gap}{by}")
    events: list[Event] = [
        (rng.randrange(3), rng.choice("ab"), rng.randrange(60), rng.choice([None, 0, 1, 2.5]), rng.choice("xy"))
        for _ in range(80)
    ]
    log = {"files": ["1.csv", "2.csv"], "context": {"page": "categorical"}, "pivot": {"by": by, "session_gap_s": gap}}
    lines = [",".join("" if value is None else str(value) for value in event) + "\n" for event in events]
    files = {"1.csv": "u,i,t,c,page\n" + "".join(lines[:33]), "2.csv": "u,i,t,c,page\n" + "".join(lines[33:])}
    expected = slow_pivot(events, gap, by_page="page" in by) if by or gap else list(events)
    assert rows(table(tmp_path, files, log)) == expected


# --- names and archives ----------------------------------------------------------------------------------------------


def test_what_macos_adds_to_a_zip_file_is_not_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("logs/e1.csv", HEAD + "1,a,1,1\n")
        packed.writestr("__MACOSX/logs/._e1.csv", b"\0\5\26\7")
        packed.writestr("logs/._e1.csv", b"\0\5\26\7")
    for pattern in ("l.zip", "l.zip/*.csv"):
        assert table(tmp_path, {"l.zip": buffer.getvalue()}, {"files": [pattern]}).n_rows == 1


def test_the_ending_of_a_zip_file_may_be_in_capitals(tmp_path: Path) -> None:
    for pattern in ("L.ZIP", "L.ZIP/a.csv"):
        assert table(tmp_path, {"L.ZIP": zipped(a=HEAD + "1,a,1,1\n")}, {"files": [pattern]}).n_rows == 1


def test_a_member_that_is_not_in_an_archive_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'l\.zip/b\.csv' matches no file in .*/l\.zip; it has \['a\.csv'\]"):
        table(tmp_path, {"l.zip": zipped(a=HEAD)}, {"files": ["l.zip/b.csv"]})


def test_a_damaged_member_of_an_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(a=HEAD + "1,a,1,1\n"))
    content[content.index(b"1,a,1")] = ord("7")
    with pytest.raises(DataError, match=r"l\.zip/a\.csv cannot be unpacked: Bad CRC-32"):
        table(tmp_path, {"l.zip": bytes(content)}, {"files": ["l.zip"]})


def test_an_expression_that_only_python_has_is_refused_with_its_reason(tmp_path: Path) -> None:
    log: dict[str, Any] = {"derive": {"d": "u ~ (?=x)(a)"}, "user": "d"}
    with pytest.raises(
        ConfigError, match=r"derive\.d: '\(\?=x\)\(a\)' is not a usable regular expression: look-around,"
    ):
        table(tmp_path, HEAD + "1,2,3,1\n", log)
