"""Damaged files: the reader for any table gives what a plain reading gives, or a DataError that names the file."""

from __future__ import annotations

import gzip
import io
import json
import math
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from evorec.config import parse_config
from evorec.data.readers.table import read
from evorec.data.tables import Columns
from evorec.errors import DataError

N_CSV, N_OTHER = 1000, 60
N_MANY = 20_000
MISSING = ("", "NA", "NaN", "nan", "null", "NULL", "None", "\\N")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"0|-?[1-9][0-9]*")
BASE = (
    "user,item,time,x,click\n"
    'u1,10,100,a,1\nu2,11,101,"b, c",0\nu1,12,102.5,,1\n"u ""3""",10,103,d,\nu2,10,104,"e\nf",true\nu4,13,105,g,0\n'
)
WORDS = (
    *("", "NaN", "inf", "-1", "1e400", "99999999999999999999", "007", "x", '"', '""', '"q"', ",", ",,", "\n"),
    *("\r\n", "\r", "\n\n", " ", "\t", "\0", "\ufeff"),
    *("é", "true", "1.5", "-0", "+1", "1e-3", "\u00a0", '"a,b"', "a\"b", "\x1f"),
)  # fmt: skip

WHITE = " \t\r\n\x0b\x0c\x85\u00a0"
"""White space; Python alone counts the control characters from 0x1c to 0x1f, too."""

Row = tuple[str, str, int, float | None]


def plain_records(text: str) -> list[list[str]] | None:
    """RFC 4180, one character after the other; None where the text is not well formed."""
    records, record, value, state, raw = [], [], "", "start", ""
    for character in text if text.endswith("\n") else text + "\n":
        if state == "quoted":
            if character == '"':
                state = "closed"
            else:
                value += character
        elif character == '"' and state in ("start", "closed"):
            value += '"' if state == "closed" else ""
            state = "quoted"
        elif character in ",\n":
            record, value, state = [*record, value], "", "start"
            if character == "\n":
                if len(record) > 1 or raw.strip(" \t\r"):
                    records.append(record)
                record, raw = [], ""
                continue
        elif character == '"' or state == "closed":
            return None
        else:
            value, state = value + character, "bare"
        raw += character
    return records if state == "start" and not record else None


def plain_reading(content: bytes, ragged: str = "refuse") -> list[Row] | None:
    """The rows of a file, or None where it must be refused."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    text = text if "\n" in text else text.replace("\r", "\n")
    if not text or "\0" in text:
        return None
    records = plain_records(text)
    width = len(records[0]) if records else 0
    if records and ragged != "refuse":  # a separator at the end of a line is not a value
        records = [record[:-1] if len(record) == width + 1 and not record[-1] else record for record in records]
    if records and ragged == "drop":
        records = [record for record in records if len(record) == width]
    elif records and ragged == "pad":
        records = [[*record, *[""] * width][:width] for record in records]
    if not records or len(records) < 2 or any(len(record) != width for record in records):
        return None
    header = [name.strip(WHITE) for name in records[0]]
    if any(header.count(name) != 1 for name in ("user", "item", "time", "click")):
        return None
    places = [header.index(name) for name in ("user", "item", "time", "click")]
    rows = [plain_row(*(record[place].strip(WHITE) for place in places)) for record in records[1:]]
    return None if None in rows else [row for row in rows if row]


def plain_row(user: str, item: str, time: str, click: str) -> Row | None:
    """One row, or None where a value does not fit."""
    second, label = number(time), {"true": 1.0, "false": 0.0}.get(click.lower(), number(click))
    if user in MISSING or item in MISSING or second is None or not abs(math.floor(second)) <= 10**11:
        return None
    if click in MISSING:
        label = None
    elif label is None or abs(label) > 3.4e38:
        return None
    return user, item, math.floor(second), label


def number(text: str) -> float | None:
    value = float(text) if NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def put_in(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(WORDS) + text[place:]


def take_out(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + text[place + rng.randint(1, 12) :]


def other_value(rng: random.Random, text: str) -> str:
    hit = rng.choice(list(re.finditer(r"[^,\n]+|^", text)))
    return text[: hit.start()] + rng.choice(WORDS) + text[hit.end() :]


def shuffled_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    return "\n".join(rng.sample(lines, len(lines)))


def repeated_line(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    return "\n".join([*lines, rng.choice(lines)])


def shuffled_columns(rng: random.Random, text: str) -> str:
    order = rng.sample(range(5), 5)
    split = [line.split(",") for line in text.split("\n")]
    return "\n".join(",".join([line[n] for n in order] if len(line) == 5 else line) for line in split)


def other_line_ends(rng: random.Random, text: str) -> str:
    return text.replace("\n", rng.choice(["\r\n", "\r", "\n\n"]))


def replaced(rng: random.Random, text: str) -> str:
    return text.replace(rng.choice('",\n01u'), rng.choice(WORDS), rng.choice([1, 1, 2, -1]))


ACCIDENTS = (
    *(cut, put_in, take_out, other_value, other_value, shuffled_lines, repeated_line, shuffled_columns),
    *(other_line_ends, replaced),
)


def damaged(rng: random.Random, text: str) -> bytes:
    """The same file with one to three accidents, at times with a byte that is any."""
    for _ in range(rng.randint(1, 3)):
        text = rng.choice(ACCIDENTS)(rng, text)
    content = text.encode()
    if rng.random() < 0.1 and content:
        place = rng.randrange(len(content))
        content = content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
    return content


def read_log(folder: Path, name: str, content: bytes, ragged: str = "refuse") -> pl.DataFrame:
    (folder / name).write_bytes(content)
    log = {"files": [name], "user": "user", "item": "item", "time": "time", "time_unit": "s", "tasks": {"c": "click"}}
    log |= {"ragged": ragged}
    log |= {"separator": ",", "encoding": "utf-8"} if ".csv" in name else {}  # of a damaged file, others may fit
    return read(parse_config({"data": {"reader": "table", "path": str(folder), "log": log}}).data)[0].interactions


def outcome(folder: Path, name: str, content: bytes, ragged: str = "refuse") -> pl.DataFrame | str:
    """The log, or the words in which it was refused."""
    try:
        return read_log(folder, name, content, ragged)
    except DataError as error:
        return str(error)


def check_damaged_csv(folder: Path, seed: int, ragged: str = "refuse") -> bool:
    """Whether the file could be read at all."""
    content = damaged(random.Random(seed), BASE)
    expected = plain_reading(content, ragged)
    found = outcome(folder, "log.csv", content, ragged)
    if isinstance(found, str):
        assert "log.csv" in found, seed
        assert expected is None, f"seed {seed} could have been read: {found}\n{content!r}"
        return False
    assert expected is not None, f"seed {seed} should have been refused: {content!r} gave {found.rows()}"
    for column, values in zip((Columns.USER, Columns.ITEM), list(zip(*expected, strict=True)), strict=False):
        assert [str(value) for value in found[column]] == list(values), seed
        whole = all(WHOLE.fullmatch(value) and -(2**63) <= int(value) < 2**63 for value in values)
        assert (found.schema[column] == pl.Int64) == whole, seed
    assert found[Columns.TIME].to_list() == [row[2] for row in expected], seed
    assert found["c"].to_list() == pl.Series([row[3] for row in expected], dtype=pl.Float64).cast(pl.Float32).to_list()
    return True


def test_a_damaged_csv_is_read_as_by_a_plain_reading_or_refused(tmp_path: Path) -> None:
    n_read = sum(check_damaged_csv(tmp_path, seed) for seed in range(N_CSV))
    assert N_CSV / 10 < n_read < 9 * N_CSV / 10


@pytest.mark.parametrize("ragged", ["drop", "pad"])
def test_a_damaged_csv_is_read_without_its_ragged_lines_or_with_them_padded(tmp_path: Path, ragged: str) -> None:
    n_read = sum(check_damaged_csv(tmp_path, seed, ragged) for seed in range(N_CSV // 2))
    assert n_read > N_CSV / 20


@pytest.mark.slow
def test_many_damaged_csv_files_are_read_as_by_a_plain_reading_or_refused(tmp_path: Path) -> None:
    for seed in range(N_CSV, N_CSV + N_MANY):
        check_damaged_csv(tmp_path, seed)


def json_lines() -> bytes:
    rows = [("u1", 10, 100, 1), ("u2", 11, 101, None), ("u1", 12, 102, True)]
    return "".join(
        json.dumps(dict(zip(("user", "item", "time", "click"), row, strict=True))) + "\n" for row in rows
    ).encode()


def parquet() -> bytes:
    buffer = io.BytesIO()
    frame = pl.DataFrame(
        {"user": ["u1", "u2"] * 50, "item": [1, 2] * 50, "time": range(100), "click": [True, None] * 50}
    )
    frame.write_parquet(buffer)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log.csv", BASE)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("log.jsonl", json_lines),
        ("log.parquet", parquet),
        ("log.csv.gz", lambda: gzip.compress(BASE.encode())),
        ("log.zip", zipped),
    ],
)
def test_a_damaged_file_of_another_format_is_read_or_refused(
    tmp_path: Path, name: str, make: Callable[[], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    content, rng = make(), random.Random(name)
    assert read_log(tmp_path, name, content).height >= 3
    for _ in range(N_OTHER):
        hurt = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            hurt[rng.randrange(len(hurt))] = rng.randrange(256)
        end = len(hurt) if rng.random() < 0.6 else rng.randrange(len(hurt))
        found = outcome(tmp_path, name, bytes(hurt[:end]))
        assert not isinstance(found, str) or name in found
    capfd.readouterr()  # a damaged Parquet file may make its library complain by itself
