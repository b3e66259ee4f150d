from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from evorec.data.readers import json_lines
from evorec.data.readers.json_lines import LINE, first_object, read_json_lines
from evorec.errors import DataError

SCHEMA = {"id": pl.String(), "n": pl.Int64()}


def write(folder: Path, content: bytes, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_fields_are_read_in_any_order_and_others_ignored(tmp_path: Path) -> None:
    frame = read_json_lines(write(tmp_path, b'{"n":1,"id":"a","x":{"y":[2]}}\n{"id":7}\n'), SCHEMA)
    assert frame.rows() == [("a", 1, 1), ("7", None, 2)]


def test_marks_windows_lines_and_empty_lines_keep_the_line_numbers(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf\r\n{"id":"a","n":1}\r\n\r\n  \r\n{"id":"b","n":2}'
    assert read_json_lines(write(tmp_path, content), SCHEMA)[LINE].to_list() == [2, 5]


@pytest.mark.parametrize("block", [1, 20, 40, 1000])
def test_the_size_of_a_block_does_not_matter(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    content = b"".join(b'{"id":"x%d","n":%d}\n' % (n, n) + (b"\n" if n % 3 == 0 else b"") for n in range(9))
    frame = read_json_lines(write(tmp_path, content), SCHEMA)
    assert frame["n"].to_list() == list(range(9))
    assert frame[LINE].to_list() == [1, 3, 4, 5, 7, 8, 9, 11, 12]  # an empty line follows 0, 3 and 6
    with pytest.raises(DataError, match=r"a\.jsonl, line 13, column n must be Int64, got 'two'"):
        read_json_lines(write(tmp_path, content + b'{"id":"a","n":"two"}\n'), SCHEMA)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id":"a","n":', r"line 2 must be a JSON object, got '{\"id\":\"a\",\"n\":'"),
        (b"[1, 2]", r"line 2 must be a JSON object, got '\[1, 2\]'"),
        (b"{'id': 'a'}", "line 2 must be a JSON object"),
        (b'{"id":"\xff"}', "line 2 must be a JSON object"),
        (b'{"id":"a\x00"}', "line 2 must be a JSON object"),
        (b'{"id":"a"} {"id":"b"}', "line 2 must be a JSON object"),
        (b'{"id":"a","n":1.5}', "line 2, column n must be Int64, got 1.5"),
        (b'{"id":"a","n":true}', "line 2, column n must be Int64, got True"),
        (b'{"id":"a","n":"' + b"x" * 500 + b'"}', r"line 2, column n must be Int64, got 'x{79}\.$"),
        (b"[" * 100_000, "line 2 must be a JSON object"),
    ],
)
def test_a_broken_line_is_refused_with_its_number(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_json_lines(write(tmp_path, b'{"id":"a","n":1}\n' + line + b'\n{"id":"b"}\n'), SCHEMA)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl has no rows; expected one JSON object per line with \['id', 'n'\]"):
        read_json_lines(write(tmp_path, content), SCHEMA)
    with pytest.raises(DataError, match=r"a\.jsonl has no rows"):
        first_object(write(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.jsonl cannot be read: No such file"):
        read_json_lines(tmp_path / "b.jsonl", SCHEMA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b'{"id":"a","n":1}\n' * 1000)[:-20], "is damaged"),
        (b'{"id":"a","n":1}\n', "cannot be read: Not a gzipped file"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl\.gz {message}"):
        read_json_lines(write(tmp_path, content, "a.jsonl.gz"), SCHEMA)


def test_the_first_object_is_the_first_line_with_text(tmp_path: Path) -> None:
    assert first_object(write(tmp_path, b'\n{"id":"a"}\n{"id":"b"}\n')) == {"id": "a"}
