from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from evorec.data.tabular import json_lines
from evorec.data.tabular.json_lines import (
    find_float,
    find_line,
    find_nested,
    first_object,
    read_json_lines,
    read_json_objects,
)
from evorec.data.tabular.sources import Source
from evorec.errors import DataError

SCHEMA = {"id": pl.String(), "n": pl.Int64()}


def write(folder: Path, content: bytes, name: str = "a.jsonl") -> Source:
    (folder / name).write_bytes(content)
    return Source(folder / name)


def line_numbers(source: Source, n_rows: int) -> list[int]:
    return [find_line(source, row) for row in range(n_rows)]


def test_fields_are_read_in_any_order_and_others_ignored(tmp_path: Path) -> None:
    frame = read_json_lines(write(tmp_path, b'{"n":1,"id":"a","x":{"y":[2]}}\n{"id":7}\n'), SCHEMA)
    assert frame.rows() == [("a", 1), ("7", None)]


def test_marks_windows_lines_and_empty_lines_keep_the_line_numbers(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf\r\n{"id":"a","n":1}\r\n\r\n  \r\n{"id":"b","n":2}'
    source = write(tmp_path, content)
    assert read_json_lines(source, SCHEMA).rows() == [("a", 1), ("b", 2)]
    assert line_numbers(source, 2) == [2, 5]


@pytest.mark.parametrize("block", [1, 20, 40, 1000])
def test_the_size_of_a_block_does_not_matter(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    content = b"".join(b'{"id":"x%d","n":%d}\n' % (n, n) + (b"\n" if n % 3 == 0 else b"") for n in range(9))
    source = write(tmp_path, content)
    assert read_json_lines(source, SCHEMA)["n"].to_list() == list(range(9))
    assert line_numbers(source, 9) == [1, 3, 4, 5, 7, 8, 9, 11, 12]  # an empty line follows 0, 3 and 6
    with pytest.raises(DataError, match=r"a\.jsonl, line 13, column n must be Int64, got 'two'"):
        read_json_lines(write(tmp_path, content + b'{"id":"a","n":"two"}\n'), SCHEMA)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            b'{"id":"a","n":',
            r"line 2 must be one JSON object: Expecting value at character 15; got '{\"id\":\"a\",\"n\":'",
        ),
        (b"[1, 2]", r"line 2 must be one JSON object, got '\[1, 2\]'"),
        (b"{'id': 'a'}", "line 2 must be one JSON object: Expecting property name"),
        (b'{"id":"\xff"}', "line 2 must be UTF-8 text, got the byte 0xff"),
        (b'{"id":"a\x00"}', "line 2 must be one JSON object, got a NUL byte"),
        (b'{"id":"a"} {"id":"b"}', "line 2 must be one JSON object: Extra data at character 12"),
        (b"null", "line 2 must be one JSON object, got 'null'"),
        (b'{"x":NaN}', "line 2 must be one JSON object: NaN is not JSON"),
        (b'{"x":-Infinity}', "line 2 must be one JSON object: -Infinity is not JSON"),
        (b'{"x":1e400}', "line 2 must be one JSON object: 1e400 is too large for a number"),
        (b'{"x":1' + b"0" * 400 + b"}", "line 2 must be one JSON object: .*InvalidNumber"),
        (b'\xef\xbb\xbf{"id":"a"}', "line 2 must be one JSON object"),
        (b'{"id":"a","n":9223372036854775808}', "line 2, column n must be Int64, got 9223372036854775808"),
        (b'{"id":"a","n":1.5}', "line 2, column n must be Int64, got 1.5"),
        (b'{"id":"a","n":true}', "line 2, column n must be Int64, got True"),
        (b'{"id":"a","n":"' + b"x" * 500 + b'"}', r"line 2, column n must be Int64, got 'x{79}\.$"),
        (b"[" * 100_000, "line 2 must be one JSON object: maximum recursion"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 2 must be one JSON object: maximum recursion"),
    ],
)
def test_a_broken_line_is_refused_with_its_number(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_json_lines(write(tmp_path, b'{"id":"a","n":1}\n' + line + b'\n{"id":"b"}\n'), SCHEMA)


@pytest.mark.parametrize("block", [1, 1000])
def test_broken_lines_are_dropped_and_counted_and_the_others_keep_their_numbers(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    broken = (
        b"[1, 2]",
        b"null",
        b'{"n":NaN}',
        b'{"n":1} {"n":2}',
        b'{"id":"\xff"}',
        b"\0\0\0",
        b'{"x":1' + b"0" * 400 + b"}",
    )
    good = [b'{"id":%d,"n":%d}' % (n, n) for n in range(len(broken))]
    lines = [line for pair in zip(good, broken, strict=True) for line in pair]
    source = write(tmp_path, b"\n".join([b"", *lines, b'{"id":7,"n":7.0}', b'{"id":"cut']))
    schema = dict.fromkeys(SCHEMA, pl.String())
    frame, n_broken = read_json_objects(source, schema, drop=True)
    assert frame["id"].to_list() == [str(n) for n in range(8)]
    assert n_broken == len(broken) + 1
    assert [find_line(source, row, drop=True) for row in range(8)] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert find_float(source, "n", 6, drop=True) == 7
    with pytest.raises(DataError, match="and 1 broken lines; expected one JSON object per line"):
        read_json_objects(write(tmp_path, b"[]"), schema, drop=True)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_broken_lines_of_other_encodings_are_dropped(tmp_path: Path, encoding: str) -> None:
    source = write(tmp_path, '{"id":"é"}\n{"id":\n{"id":"b"}\n'.encode(encoding))
    frame, n_broken = read_json_objects(source, SCHEMA, encoding=encoding, drop=True)
    assert (frame["id"].to_list(), n_broken) == (["é", "b"], 1)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl has no rows; expected one JSON object per line with \['id', 'n'\]"):
        read_json_lines(write(tmp_path, content), SCHEMA)
    with pytest.raises(DataError, match=r"a\.jsonl has no rows"):
        first_object(write(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.jsonl cannot be read: No such file"):
        read_json_lines(Source(tmp_path / "b.jsonl"), SCHEMA)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    cut = gzip.compress(b'{"id":"a","n":1}\n' * 1000)[:-20]
    with pytest.raises(DataError, match=r"a\.jsonl\.gz cannot be unpacked: Compressed file ended .*; fetch it again"):
        read_json_lines(write(tmp_path, cut, "a.jsonl.gz"), SCHEMA)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_packed_file_is_told_by_its_content_not_by_its_name(tmp_path: Path, name: str) -> None:
    content = b'{"id":"a","n":1}\n'
    for packed in (content, gzip.compress(content)):
        assert read_json_lines(write(tmp_path, packed, name), SCHEMA).rows() == [("a", 1)]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_read_with_the_same_line_numbers(tmp_path: Path, encoding: str) -> None:
    source = write(tmp_path, '\n{"id":"é","n":1}\n\n{"id":"ÿ","n":2}\n'.encode(encoding))
    assert read_json_lines(source, SCHEMA, encoding=encoding).rows() == [("é", 1), ("ÿ", 2)]
    assert find_line(source, 1, encoding) == 4


def test_a_character_whose_bytes_hold_a_line_feed_ends_no_line(tmp_path: Path) -> None:
    source = write(tmp_path, '{"id":"\u010a\u0a0a","n":1}\n'.encode("utf-16"))
    assert read_json_lines(source, SCHEMA, encoding="utf-16").rows() == [("\u010a\u0a0a", 1)]


@pytest.mark.parametrize("block", [1, 1000])
def test_a_needed_field_must_be_in_some_line(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    source = write(tmp_path, '{"id":"a"}\n{"id":"b","größe":null,"n":null}\n{"id":"c"}\n'.encode())
    schema = {**SCHEMA, "größe": pl.Float64(), "m": pl.Int64()}
    assert read_json_lines(source, schema, needed=("id", "n", "größe"))["n"].to_list() == [None, None, None]
    with pytest.raises(DataError, match=r"a\.jsonl: no line has the key 'm'; the first is '{\"id\":\"a\"}'"):
        read_json_lines(source, schema, needed=("id", "m"))


def test_numbers_that_are_read_as_text_keep_every_digit(tmp_path: Path) -> None:
    ids = ["9007199254740993", "18446744073709551616", "-5", "0.1", '"007"', "true"]
    source = write(tmp_path, "".join(f'{{"id":{text}}}\n' for text in ids).encode())
    found = read_json_lines(source, {"id": pl.String()})["id"].to_list()
    assert found == [text.strip('"') for text in ids]


def test_a_list_is_told_from_a_text_that_looks_like_one(tmp_path: Path) -> None:
    source = write(tmp_path, b'{"id":"[1]"}\n\n{"id":[1]}\n{"id":{"x":1}}\n')
    assert read_json_lines(source, {"id": pl.String()})["id"].to_list() == ["[1]", "[1]", '{"x": 1}']
    assert find_nested(source, "id", {0, 1, 2}) == 1
    assert find_nested(source, "id", {0, 2}) == 2
    assert find_nested(source, "id", {0}) is None


def test_the_first_object_is_the_first_line_with_text(tmp_path: Path) -> None:
    assert first_object(write(tmp_path, b'\n{"id":"a"}\n{"id":"b"}\n')) == {"id": "a"}
