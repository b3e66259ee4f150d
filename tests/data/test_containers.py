"""Compressed files, workbooks, folders of parts, and names that look like globs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from data.logs import HEAD, parquet, rows, table, workbook, zipped

from evorec.data.tabular import packed
from evorec.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROWS = [(1, "a", 10, 1.0), (2, "b", 11, 0.0)]
TEXT = HEAD + "1,a,10,1\n2,b,11,0\n"
COLUMNS: dict[str, Any] = {"u": [1, 2], "i": ["a", "b"], "t": [10, 11], "c": [1, 0]}
PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress}


def arrow(*, stream: bool = False) -> bytes:
    buffer = io.BytesIO()
    frame = pl.DataFrame(COLUMNS)
    (frame.write_ipc_stream if stream else frame.write_ipc)(buffer)
    return buffer.getvalue()


def test_every_compression_of_every_format_is_read(tmp_path: Path) -> None:
    lines = b'{"u": 1, "i": "a", "t": 10, "c": 1}\n{"u": 2, "i": "b", "t": 11, "c": 0}\n'
    formats = {
        "csv": TEXT.encode(),
        "tsv": TEXT.replace(",", "\t").encode(),
        "jsonl": lines,
        "parquet": parquet(**COLUMNS),
        "arrow": arrow(),
        "feather": arrow(),
        "ipc": arrow(stream=True),
        "xlsx": workbook(log=[[*HEAD.strip().split(",")], [1, "a", 10, 1], [2, "b", 11, 0]]),
    }
    for form, content in formats.items():
        files = {f"l.{form}": content} | {f"l.{form}.{ending}": pack(content) for ending, pack in PACKERS.items()}
        for name in files:
            if form != "xlsx" or name.endswith("xlsx"):
                assert rows(table(tmp_path, files, {"files": [name]})) == ROWS, name
    assert rows(table(tmp_path, {"l.dat": arrow()}, {"files": ["l.dat"], "format": "arrow"})) == ROWS
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("l.csv.bz2", bz2.compress(TEXT.encode()))
    assert rows(table(tmp_path, {"a.zip": buffer.getvalue()}, {"files": ["a.zip"]})) == ROWS


def test_damaged_and_huge_compressed_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "ALLOWANCE_BYTES", 1 << 14)
    for ending, pack in PACKERS.items():
        name = f"l.csv.{ending}"
        with pytest.raises(DataError, match=rf"l\.csv\.{ending} cannot be unpacked: .*; fetch it again"):
            table(tmp_path, {name: pack(TEXT.encode() * 99)[:-9]}, {"files": [name]})
        for large in (HEAD.encode() + b"1,a,10,1\n" * (1 << 15), b"x" * (1 << 18)):
            with pytest.raises(
                DataError, match=rf"l\.csv\.{ending} is not safe to unpack: its contents are larger than"
            ):
                table(tmp_path, {name: pack(large)}, {"files": [name]})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("l.csv", HEAD + "1,a,10,1\n" * (1 << 15))
    with pytest.raises(DataError, match=r"l\.zip/l\.csv is not safe to unpack"):
        table(tmp_path, {"l.zip": buffer.getvalue()}, {"files": ["l.zip"]})


def test_a_file_that_cannot_be_read_says_what_it_is_and_what_to_do(tmp_path: Path) -> None:
    for name, content, message in (
        ("l.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive, which cannot be read; unpack it"),
        ("l.csv.lz4", b"\x04\x22\x4d\x18abc", "is compressed by LZ4, .*; unpack it"),
        ("l.tar.gz", gzip.compress(b"x" * 257 + b"ustar"), "is a tar archive, .*; unpack it"),
        ("l.csv", zipped(a=TEXT), r"is a zip archive, .*; give it the ending \.zip"),
        ("l.orc", b"ORC\x0a\x0b", "is an ORC file, .*; convert it to Parquet or CSV"),
        ("l.pkl", b"\x80\x04\x95", "is a pickle, .*; convert it"),
        ("l.csv", b"<!DOCTYPE html>", "is a page of HTML or XML, not a table, .*; fetch the file again"),
        ("l.rows", TEXT.encode(), r"the ending '\.rows' is unknown; set data\.log\.format to .*; it looks like csv"),
        ("l.rows", b'{"u": 1}', "it looks like jsonl"),
        ("l.json", b'[\n {"u": 1}\n]', r"l\.json must have a JSON object per line, and is a single list; convert it"),
    ):
        with pytest.raises(DataError, match=message):
            table(tmp_path, {name: content}, {"files": [name]})
    assert rows(table(tmp_path, {"l.rows": TEXT}, {"files": ["l.rows"], "format": "csv"})) == ROWS


def test_a_sheet_of_a_workbook_is_named_where_there_are_several(tmp_path: Path) -> None:
    log = [[*HEAD.strip().split(",")], [1, "a", 10, 1], [None] * 4, [2, "b", 11, 0]]
    book = workbook(log=log, empty=[])
    assert rows(table(tmp_path, {"b.xlsx": book}, {"files": ["b.xlsx"]})) == ROWS
    book = workbook(log=log, notes=[["x"], [1]])
    with pytest.raises(DataError, match=r"b\.xlsx has the sheets \['log', 'notes'\]; name one as b\.xlsx/log"):
        table(tmp_path, {"b.xlsx": book}, {"files": ["b.xlsx"]})
    assert rows(table(tmp_path, {}, {"files": ["b.xlsx/log"]})) == ROWS
    with pytest.raises(DataError, match=r"b\.xlsx has no sheet 'x'; it has \['log', 'notes'\]"):
        table(tmp_path, {}, {"files": ["b.xlsx/x"]})
    wrong = workbook(log=[*log[:2], [2, None, 11, 0]])
    with pytest.raises(DataError, match=r"b\.xlsx, row 3, column i must not be empty"):
        table(tmp_path, {"b.xlsx": wrong}, {"files": ["b.xlsx"]})
    with pytest.raises(DataError, match=r"b\.xlsx cannot be read as a workbook, it may be damaged"):
        table(tmp_path, {"b.xlsx": book[:99]}, {"files": ["b.xlsx"]})


def test_a_folder_of_parts_is_read_as_one_file(tmp_path: Path) -> None:
    for name, parts in {
        "log.parquet": {
            "part-00000.snappy.parquet": parquet(u=[1], i=["a"], t=[10], c=[1]),
            "part-00001.snappy.parquet": parquet(**COLUMNS),
            "_SUCCESS": b"",
            "._SUCCESS.crc": b"crc",
        },
        "log.csv": {"part-00000": b"u,i,t,c\n1,a,10,1\n", "part-00001": HEAD.encode(), "part-00002": TEXT.encode()},
        "out": {
            "part-0.json": b'{"u":1,"i":"a","t":10,"c":1}',
            "part-1.csv.gz": gzip.compress(TEXT.encode()),
            "p.csv": b"",
        },
    }.items():
        (tmp_path / name).mkdir()
        for part, content in parts.items():
            (tmp_path / name / part).write_bytes(content)
        assert rows(table(tmp_path, {}, {"files": [name]})) == [ROWS[0], *ROWS], name
    assert table(tmp_path, {}, {"files": ["log.*"]}).n_rows == 6
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty is a folder without data files"):
        table(tmp_path, {}, {"files": ["empty"]})


def test_columns_in_the_names_of_folders_are_columns(tmp_path: Path) -> None:
    for kind, user in (("a%20b", 1), ("__HIVE_DEFAULT_PARTITION__", 2)):
        (tmp_path / "log.csv" / f"kind={kind}").mkdir(parents=True)
        (tmp_path / "log.csv" / f"kind={kind}" / "part-0.csv").write_text(HEAD + f"{user},a,10,1\n")
    found = table(tmp_path, {}, {"files": ["log.csv"], "context": {"kind": "categorical"}}).interactions
    assert sorted(found.select("user_id", "kind").rows()) == [(1, "a b"), (2, None)]


def test_a_name_with_brackets_stars_or_other_letters_is_a_name(tmp_path: Path) -> None:
    for name in ("log [x]*?.csv", "größe 推荐.csv", "in [x]/log[1].csv", "a[b]/c*/d?.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        assert rows(table(tmp_path, {name: TEXT}, {"files": [name]})) == ROWS, name
    for name, pattern in (("in [x]/e-1.csv", "in [x]/e-*.csv"), ("in [x]/e-1.csv", "in [[]x]/e-?.csv")):
        assert rows(table(tmp_path, {name: TEXT}, {"files": [pattern]})) == ROWS, pattern
    for name, content in (
        ("l [1].parquet", parquet(**COLUMNS)),
        ("l [1].arrow", arrow()),
        ("l [1].xlsx", workbook(log=[["u", "i", "t", "c"], [1, "a", 10, 1], [2, "b", 11, 0]])),
        ("l [1].zip", zipped(a=TEXT)),
    ):
        (tmp_path / "d [y]").mkdir(exist_ok=True)
        assert rows(table(tmp_path / "d [y]", {name: content}, {"files": [name]})) == ROWS
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m[1].csv", TEXT)
        archive.writestr("m1.csv", "x")
    assert rows(table(tmp_path, {"z [1].zip": buffer.getvalue()}, {"files": ["z [1].zip/m[1].csv"]})) == ROWS


def test_a_single_json_object_is_a_table_of_its_entries(tmp_path: Path) -> None:
    log = {"log.csv": HEAD + "1,7,10,1\n1,8,11,0\n"}
    items: dict[str, Any] = {"files": ["i.json"], "format": "mapping", "key": "key", "features": {"value": "multi_hot"}}
    found = table(tmp_path, log | {"i.json": '{"7": [1, 2],\n "8": [], "9": null}'}, items=items).items
    assert found is not None
    assert found.rows() == [(7, ["1", "2"]), (8, []), (9, None)]
    fields = items | {"features": {"price": "numeric", "tags": "multi_hot"}, "content": ["tags"]}
    found = table(tmp_path, log | {"i.json": '{"7": {"price": 1.5, "tags": ["a"]}, "8": {}}'}, items=fields).items
    assert found is not None
    assert found.rows() == [(7, 1.5, ["a"]), (8, None, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"7": [1]}\n{"8": [2]}', r"i\.json cannot be read as a JSON object: Extra data"),
        ('{"7": [1], "7": [2]}', r"the key '7' is repeated"),
        ("[1, 2]", r"i\.json must be a single JSON object, key -> value, got a list"),
        ('{"7": [1], "8": {"a": 2}}', r"i\.json must have values of the same type under all keys"),
        ('{"7": {"key": 1}}', r"i\.json must not have the field 'key'"),
        ('{"7": NaN}', r"i\.json cannot be read as a JSON object: NaN is not JSON"),
        ('{"a": 1}', r"i\.json, row 1, column value must be a JSON list"),
        ("{}", r"i\.json .*"),
        ("[" * 100_000, r"i\.json cannot be read as a JSON object"),
    ],
)
def test_a_file_that_is_no_single_object_is_refused(tmp_path: Path, text: str, message: str) -> None:
    items = {"files": ["i.json"], "format": "mapping", "key": "key", "features": {"value": "multi_hot"}}
    with pytest.raises(DataError, match=message):
        table(tmp_path, {"log.csv": HEAD + "1,7,10,1\n", "i.json": text}, items=items)
