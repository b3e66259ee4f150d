"""How files are written is found in their first lines, or refused as unclear."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from data.logs import HEAD, counted, parquet, rows, table, zipped

from evorec.data.tabular import Dialect, detect
from evorec.errors import DataError

NAMES = ("user", "größe", "time", "price")
ROWS = [("u1", "a;b, c", "2024-01-31 10:00", "1,5"), ("u2", "Äpfel|\tx", "2024-01-31 11:00", "2,5")] * 3
ENCODINGS = {  # name of the codec -> the bytes that it begins with, and the encoding that is found
    "utf-8": (b"", "utf-8"),
    "utf-8-sig": (b"", "utf-8"),
    "utf-16-le": (codecs.BOM_UTF16_LE, "utf-16"),
    "utf-16-be": (codecs.BOM_UTF16_BE, "utf-16"),
    "cp1252": (b"", "cp1252"),
}


def written(separator: str, encoding: str, *, header: bool = True, end: str = "\n") -> bytes:
    records = [*([NAMES] if header else []), *ROWS]
    if len(separator) > 1:
        return ENCODINGS[encoding][0] + end.join([separator.join(record) for record in records]).encode(encoding)
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(records)
    return ENCODINGS[encoding][0] + text.getvalue().encode(encoding)


def test_every_separator_and_encoding_is_found(tmp_path: Path) -> None:
    for separator in (",", ";", "\t", "|", "::", " "):
        for encoding in ENCODINGS:
            for end in ("\n", "\r\n"):
                path = tmp_path / "log.csv"
                path.write_bytes(written(separator, encoding, end=end))
                found = detect(path)
                assert (found.format, found.separator, found.columns) == ("csv", separator, NAMES), (
                    separator,
                    encoding,
                )
                assert found.encoding == ENCODINGS[encoding][1]
                assert bool(found.notes) == (encoding == "cp1252")
                assert found.has_header


def test_a_file_without_a_header_has_numbered_columns(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\n")
    assert detect(tmp_path / "ratings.dat") == Dialect(
        "csv", "::", quote="", columns=("column_1", "column_2", "column_3", "column_4"), has_header=False
    )
    with pytest.raises(
        DataError, match=r"log\.csv, line 1 must name the columns .*; set data\.log\.columns to the names"
    ):
        table(tmp_path, "1,2,10,1\n3,4,11,0\n")


def test_packed_files_and_other_formats_are_recognised(tmp_path: Path) -> None:
    text = written(";", "utf-8")
    files: dict[str, tuple[bytes, str, str]] = {
        "a.csv.gz": (gzip.compress(text), "csv", ";"),
        "b.zip": (zipped(only=text.decode()), "csv", ";"),
        "c.jsonl": (b'\n{"u": 1, "i": "x"}\n', "jsonl", ""),
        "d.parquet": (parquet(u=[1], i=["x"]), "parquet", ""),
    }
    for name, (content, form, separator) in files.items():
        (tmp_path / name).write_bytes(content)
        found = detect(tmp_path / name)
        assert (found.format, found.separator) == (form, separator)
        assert found.columns == (NAMES if form == "csv" else ("u", "i"))


def test_a_file_of_a_single_column_needs_no_separator(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user\nu1\nu2\n")
    assert detect(tmp_path / "users.csv").columns == ("user",)


def test_an_unclear_separator_is_refused_unless_the_names_of_columns_decide(tmp_path: Path) -> None:
    text = "u;i,t;c\n1;2,3;1\n4;5,6;0\n"
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(
        DataError,
        match=r"log\.csv: the separator is not clear, it may be commas or semicolons; set data\.log\.separator",
    ):
        detect(tmp_path / "log.csv")
    assert rows(table(tmp_path, "u;i;t;c;x,y\n1;2;3;1;a,b\n4;5;6;0;c,d\n")) == [(1, 2, 3, 1.0), (4, 5, 6, 0.0)]


def test_letters_of_an_unknown_encoding_are_never_guessed(tmp_path: Path) -> None:
    damaged: dict[str, Any] = {
        "Cyrillic": "привет".encode("cp1251"),
        "damaged UTF-8": "café".encode() + b"\xe9x",
        "a single byte": b"\xff",
        "Chinese": "推荐".encode("gb18030"),
    }
    for kind, value in damaged.items():
        with pytest.raises(
            DataError, match=r"log\.csv, line 2 must be UTF-8 text, got the byte 0x..; .* set data\.log\.encoding"
        ):
            table(tmp_path, {"log.csv": HEAD.encode() + value + b",2,10,1\n"})
        assert kind


def test_files_of_a_log_may_be_written_differently(tmp_path: Path) -> None:
    files = {
        "1.csv": HEAD + "1,a,10,1\n",
        "2.csv": ("\ufeff" + HEAD + "1,é,11,1\n").replace(",", ";"),
        "3.csv": (HEAD + "2,café,12,0\n").encode("cp1252"),
        "4.txt": (HEAD + "2,d,13,0\n").replace(",", "\t").encode("utf-16"),
    }
    tables, origin = counted(tmp_path, files, {"files": ["*.csv", "*.txt"]})
    assert rows(tables) == [(1, "a", 10, 1.0), (1, "é", 11, 1.0), (2, "café", 12, 0.0), (2, "d", 13, 0.0)]
    assert [str(dialect) for dialect in origin.dialects] == [
        "csv, separated by commas, UTF-8",
        "csv, separated by semicolons, UTF-8",
        "csv, separated by commas, cp1252",
        "csv, separated by tabs, UTF-16",
    ]


def test_escaped_quotes_are_read_where_a_file_needs_them_or_says_so(tmp_path: Path) -> None:
    head = "u;i;t;c;title\n"
    text = head + '"1";"10";"16";"1";"The \\"Big\\" Sale; again"\n"2";"C:\\dir";"17";"0";"a ""b"" \\\\"\n'
    log: dict[str, Any] = {"context": {"title": "categorical"}}
    expected = [(1, "10", 16, 1.0, 'The "Big" Sale; again'), (2, "C:\\dir", 17, 0.0, 'a "b" \\')]
    for settings in ({}, {"separator": ";"}, {"escape": "\\"}):
        assert rows(table(tmp_path, text, {**log, **settings})) == expected
    assert rows(table(tmp_path, text.replace("\\", "^"), {**log, "escape": "^"}))[0] == expected[0]
    late = head + "1;10;16;1;x\n" * 300 + '2;11;17;0;"a \\"b\\";"\n'
    tables, origin = counted(tmp_path, {"log.csv": late}, log)
    assert tables.interactions["title"][300] == 'a "b";'
    assert "escaped by \\" in origin.dialects[0]
    mysql = "1\ta\\\tb\t16\t1\n2\tc\\\nd\t17\t\\N\nx\ty\tz\t1\n"
    unquoted = {"separator": "\t", "quote": "", "escape": "\\", "columns": ["u", "i", "t", "c"]}
    assert rows(table(tmp_path, mysql.replace("z", "18"), unquoted))[:2] == [
        ("1", "a\tb", 16, 1.0),
        ("2", "c\nd", 17, None),
    ]
    with pytest.raises(DataError, match=r"log\.csv, line 4, column t must be a number of s .*, got 'z'"):
        table(tmp_path, mysql, unquoted)
    plain = HEAD + '1,"C:\\",10,1\n'  # well formed without escapes, so that the backslash is a letter
    assert rows(table(tmp_path, plain)) == [(1, "C:\\", 10, 1.0)]
    with pytest.raises(
        DataError,
        match=r'line 2: a quote must enclose .*; set data.log.quote = "" .*, or set data.log.escape = "\\\\" if',
    ):
        table(tmp_path, HEAD + '1,"a \\"b\\"",10,1\n1,"x"y,11,1\n')


def test_separators_at_the_end_of_lines_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    for text in (
        HEAD + "1,a,10,1,\n2,b,11,0,\n",
        HEAD + "1,a,10,1,\r\n\r\n2,b,11,0\r\n",
        "u,i,t,c,\n1,a,10,1\n2,b,11,0,\n",
        "\n \n" + HEAD + "1,a,10,1\n\n2,b,11,0\n",
    ):
        assert rows(table(tmp_path, text)) == [(1, "a", 10, 1.0), (2, "b", 11, 0.0)], text
        assert rows(table(tmp_path, text.replace(",", ";")))[0] == (1, "a", 10, 1.0), text
    for row in ("1,a,10,1,,", "1,a,10,1,x", "1,a,10"):
        with pytest.raises(DataError, match=r"log\.csv, line 3 must have 4 columns, got"):
            table(tmp_path, HEAD + "1,a,10,1\n" + row + "\n")
