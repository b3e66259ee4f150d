"""What the reader for any table refuses, and with which words."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from data.logs import EVENTS, HEAD, parquet, table, zipped

from evorec.config import parse_config
from evorec.errors import ConfigError, DataError

GOOD = HEAD + "1,2,10,1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"log\.csv is empty; expected the columns \['u', 'i', 't', 'c'\]"),
        (HEAD, r"log\.csv has no rows; expected the columns"),
        ("u,i,t,d\n1,2,3,4\n", r"log\.csv, line 1 must name the columns \['c'\]; it has 'u,i,t,d'"),
        ("u,i,t,c,u\n1,2,3,4,5\n", r"log\.csv, line 1 must name each column once, got 'u' again"),
        (GOOD + "1,2,11,1,9\n", r"log\.csv, line 3 must have 4 columns, got 5"),
        (GOOD + "1,2,11\n", r"log\.csv, line 3 must have 4 columns, got 3"),
        (GOOD + "\n\n1,2,11\n", r"log\.csv, line 5 must have 4 columns, got 3"),
        (GOOD + "1,2,11,maybe\n", r"log\.csv, line 3, column c must be a number, true or false, got 'maybe'"),
        (GOOD + "1,2,11,inf\n", r"log\.csv, line 3, column c must be a number, true or false, got 'inf'"),
        (GOOD + "1,2,11,1e39\n", r"log\.csv, line 3, column c must be small enough for a label of task click"),
        (GOOD + "1,,11,1\n", r"log\.csv, line 3, column i must not be empty"),
        (GOOD + '"x\ny",3,11,1\n1,2,12,?\n', r"log\.csv, line 5, column c must be a number"),
        (
            GOOD + '5" disk,2,11,1\n',
            r"log\.csv, line 3: a quote must enclose a whole value .*, got '5\" disk,2,11,1'",
        ),
        (GOOD + '"x,2,11,1\n', r"log\.csv, line 3: a quote must enclose a whole value"),
        (GOOD + '"x"y,2,11,1\n', r"log\.csv, line 3: a quote must enclose a whole value"),
        (GOOD + "1\0,2,11,1\n", r"log\.csv, line 3 must be text, got a NUL byte"),
    ],
)
def test_a_broken_log_is_refused_with_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("files", "log", "message"),
    [
        ({"a.csv": GOOD}, {}, r"data\.log\.files: 'log\.csv' matches no file in .*; it has \['a\.csv'\]"),
        ({"log.csv": GOOD.encode() + b"\xff,2,11,1\n"}, {}, r"line 3 must be UTF-8 text, got the byte 0xff"),
        ({"log.csv": GOOD.encode() + b"\xc3"}, {}, r"line 3 must be UTF-8 text, got the byte 0xc3"),
        (
            {"log.csv": GOOD.encode() + b"\x81"},
            {"encoding": "cp1252"},
            r"line 3 must be cp1252 text, got the byte 0x81",
        ),
        (
            {"log.bin": GOOD},
            {"files": ["log.bin"]},
            r"log\.bin: the format of the ending '\.bin' is unknown; set data\.log\.format",
        ),
        ({"log.csv": parquet(u=[1])}, {}, r"log\.csv is a Parquet file; set data\.log\.format"),
        ({"l.gz": gzip.compress(b"x" * 999)[:-9]}, {"files": ["l.gz"], "format": "csv"}, r"l\.gz cannot be unpacked"),
        ({"l.zip": b"PK"}, {"files": ["l.zip"]}, r"l\.zip cannot be opened as a zip file"),
        (
            {"l.zip": zipped(a=GOOD, b=GOOD)},
            {"files": ["l.zip"]},
            r"l\.zip has 2 files, \['a\.csv', 'b\.csv'\]; name one",
        ),
        ({"l.zip": zipped(a=GOOD)}, {"files": ["l.zip/b.csv"]}, r"'l\.zip/b\.csv' matches no file"),
        (
            {"l.jsonl": '{"u":1}\n{"u":\n'},
            {"files": ["l.jsonl"]},
            r"l\.jsonl, line 2 must be one JSON object: .* got '\{",
        ),
        ({"l.jsonl": "\n[1]\n"}, {"files": ["l.jsonl"]}, r"l\.jsonl, line 2 must be one JSON object, got '\[1\]'"),
        (
            {"l.jsonl": '{"u":NaN}\n'},
            {"files": ["l.jsonl"]},
            r"l\.jsonl, line 1 must be one JSON object: NaN is not JSON",
        ),
        (
            {"l.jsonl": '{"u":1}\n'},
            {"files": ["l.jsonl"]},
            r"l\.jsonl: no line has the keys 'i', 't', 'c'; .*; named by data\.log\.item, data\.log\.time, "
            r"data\.log\.tasks",
        ),
        ({"l.jsonl": "\n"}, {"files": ["l.jsonl"]}, r"l\.jsonl has no rows"),
        (
            {"l.jsonl": '{"u":1,"i":1,"t":1,"c":1}\n\n{"u":1,"i":null,"t":1,"c":1}\n'},
            {"files": ["l.jsonl"]},
            r"l\.jsonl, line 3, column i must not be empty",
        ),
        (
            {"l.pq": parquet(u=[1], i=[1], t=[1])},
            {"files": ["l.pq"]},
            r"l\.pq lacks the columns \['c'\]; it has \['u', 'i",
        ),
        (
            {"l.pq": parquet(u=[1.0, 2.5], i=[1, 1], t=[1, 1], c=[1, 1])},
            {"files": ["l.pq"]},
            r"l\.pq, row 2, column u must be a whole number or a text, got 2\.5",
        ),
        (
            {"l.pq": parquet(u=[[1]], i=[1], t=[1], c=[1])},
            {"files": ["l.pq"]},
            r"l\.pq, row 1, column u must be one value, and the column holds List\(Int64\), got \[1\]",
        ),
        (
            {"l.pq": parquet(u=[1], i=[1], t=[1], c=[float("inf")])},
            {"files": ["l.pq"]},
            r"l\.pq, row 1, column c must be a finite number, got inf",
        ),
        ({"l.pq": parquet(u=[1], i=[1], t=[1], c=[1])[:-5]}, {"files": ["l.pq"]}, r"l\.pq cannot be read as Parquet"),
        (
            {"log.csv": EVENTS},
            {"tasks": {"buy": "e == transactoin"}},
            r"data\.log\.tasks\.buy: no row has e == 'transactoin'; the most frequent values are \['view', 'cart', 'tr",
        ),
        (
            {"l.dat": "1::2::3::1\n4::5::6\n"},
            {"files": ["l.dat"], "separator": "::", "columns": ["u", "i", "t", "c"]},
            r"l\.dat, line 2 must have 4 columns separated by '::', got 3",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, files: dict[str, Any], log: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        table(tmp_path, files, log)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"reader": "table"},
            r'data \(my\.toml\): reader = "table" needs log\.files, log\.user, log\.item; without items',
        ),
        ({"log": {"user": "u"}}, r'data \(my\.toml\): only reader = "table" reads log, got reader = "simulator"'),
        ({"log": {"tasks": {"a": "b = 3"}}}, r"data\.log\.tasks\.a \(my\.toml\): must be COLUMN, .*, got 'b = 3'"),
        ({"log": {"derive": {"a": "b"}}}, r"data\.log\.derive\.a \(my\.toml\): must be COLUMN ~ PATTERN"),
        (
            {"log": {"context": {"a": "text"}}},
            r"data\.log\.context\.a \(my\.toml\): .*'categorical', 'numeric' or 'multi_hot'",
        ),
        ({"log": {"context": {"a": "numeric"}, "tasks": {"a": "a"}}}, r"context must not be a task: .*\['a'\]"),
        ({"log": {"tasks": {"day": "a"}}}, r"output columns must not be named .*, got \['day'\]"),
        ({"log": {"time_zone": "Mars"}}, r"time_zone must be an IANA name .*, got 'Mars'"),
        ({"log": {"time_unit": "h"}}, r"time_unit must be one of .*, got 'h'"),
        ({"log": {"separators": {"a": "|"}}}, r"separators are for multi_hot columns, got \['a'\]"),
        ({"log": {"separator": '"'}}, r"separator and quote must differ"),
        ({"log": {"files": ["a", "a"]}}, r"files must be different texts"),
        (
            {"log": {"columns": ["a"], "derive": {"a": "b * 2"}}},
            r"derive must give columns that the file does not have",
        ),
        ({"users": {"files": ["a"]}}, r"data\.users \(my\.toml\): key is missing"),
        ({"users": {"key": "a"}}, r"data\.users \(my\.toml\): files is missing"),
        ({"items": {"content": ["a"]}}, r"data\.items \(my\.toml\): files is missing"),
        (
            {"items": {"files": ["a"], "key": "b", "features": {"item_id": "numeric"}}},
            r"output columns must not be named",
        ),
        (
            {"items": {"files": ["a"], "key": "b", "features": {"c": "numeric"}, "content": ["c"]}},
            r"content must be categorical or multi_hot features",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"data": data}, source="my.toml")
