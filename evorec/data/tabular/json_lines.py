"""JSON lines: columns of a stated type, and errors that name the file, the line and the field.

Polars reads block after block, so that only the fields in use of a large file are ever held. It says neither where nor
in which field a line does not fit: a slow second look, once a file is known to be broken, finds that.
"""

from __future__ import annotations

import io
import json
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from evorec.data.tabular.sources import BrokenLineError, ColumnsError, EmptyFileError, Source, reason
from evorec.data.tabular.text import prepared
from evorec.errors import DataError

BLOCK_BYTES: Final = 32 * 2**20
"""Read and parsed at a time."""
SHOWN: Final = 80
"""Characters of a broken line or value that a message shows."""
ANY_FIELD: Final = ""
"""Read as text, which every value can be, where only the line itself is in question."""

JsonSchema = Mapping[str, pl.DataType]
"""Field -> pl.String() (numbers, lists and objects become text), pl.Int64(), pl.Float64(), pl.Boolean() or
pl.List(pl.String())."""


def read_json_lines(
    source: Source, schema: JsonSchema, *, needed: Collection[str] = (), encoding: str = "utf-8"
) -> pl.DataFrame:
    """A file with a JSON object per line; other fields are ignored, a missing field is null.

    Args:
        source: the file.
        schema: fields to read.
        needed: fields that at least a single line must have, if only as null.
        encoding: of the text; only UTF-8 is read in blocks.
    Returns:
        The columns of `schema`; lines without text have no row (see `find_line`).
    Raises:
        DataError: the file is missing, damaged or empty, a field has another type, or no line has a needed field.
        BrokenLineError: a line is not a JSON object.
    """
    return read_json_objects(source, schema, needed=needed, encoding=encoding, drop=False)[0]


def read_json_objects(
    source: Source, schema: JsonSchema, *, needed: Collection[str] = (), encoding: str = "utf-8", drop: bool
) -> tuple[pl.DataFrame, int]:
    """The rows that `read_json_lines` gives, and the number of lines that were dropped.

    Args:
        source, schema, needed, encoding: see `read_json_lines`.
        drop: lines that are not a JSON object have no row; also not those with a NUL or, in UTF-8, with invalid bytes.
    Raises:
        DataError: see `read_json_lines`.
    """
    frames: list[pl.DataFrame] = []
    absent = set(needed)
    n_broken = 0
    for first_line, block, n_dropped in _blocks(source, encoding, drop=drop):
        n_broken += n_dropped
        if block.strip():
            frames.append(_parsed(source, block, schema, first_line))
            absent = {name for name in absent if not _may_have(block, frames[-1][name])}
    if not frames:
        broken = f", and {n_broken} broken lines" if n_broken else ""
        raise EmptyFileError(f"{source} has no rows{broken}; expected one JSON object per line with {list(schema)}.")
    if missing := [name for name in needed if name in absent]:
        _, text = next(_numbered(source, encoding, drop=drop))
        keys = f"key{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}"
        raise ColumnsError(f"{source}: no line has the {keys}; the first is {_shown(text)}.", missing)
    return pl.concat(frames, rechunk=True), n_broken


def first_object(source: Source) -> Mapping[str, Any]:
    """The first line of a file that has text.

    Raises:
        DataError: the file is missing, damaged or empty, or the line is not a JSON object.
    """
    for number, text in _numbered(source, "utf-8"):
        return _object(source, text, number)
    raise DataError(f"{source} has no rows; expected one JSON object per line.")


def find_line(source: Source, row: int, encoding: str = "utf-8", *, drop: bool = False) -> int:
    """Line, from 1, of a row, from 0; looked up in the file once more.

    Args:
        source, row, encoding: of the row.
        drop: whether broken lines have no row.
    """
    return next(islice(_numbered(source, encoding, drop=drop), row, None), (0, b""))[0]


def find_nested(
    source: Source, name: str, rows: Collection[int], encoding: str = "utf-8", *, drop: bool = False
) -> int | None:
    """The first of some rows in which a field read as text holds a list or an object; looked up in the file once more.

    Args:
        source: the file.
        name: of the field.
        rows: whose text begins as that of a list or an object, from 0.
        encoding: of the text.
        drop: whether broken lines have no row.
    """
    for row, (number, text) in enumerate(_numbered(source, encoding, drop=drop)):
        if row in rows and isinstance(_object(source, text, number).get(name), list | dict):
            return row
    return None


def find_float(source: Source, name: str, least: int, encoding: str = "utf-8", *, drop: bool = False) -> int | None:
    """The first row in which a field is a float beyond `least`, which polars reads as a whole number.

    Args:
        source: the file.
        name: of the field.
        least: smaller numbers are not looked for.
        encoding: of the text.
        drop: whether broken lines have no row.
    """
    number = re.compile(re.escape(json.dumps(name).encode()) + rb"\s*:\s*-?\d+[.eE]")
    if not any(number.search(block) for _, block, _ in _blocks(source, encoding, drop=drop)):
        return None
    values = enumerate(json_values(source, name, encoding, drop=drop))
    return next((row for row, value in values if isinstance(value, float) and abs(value) > least), None)


def json_values(source: Source, name: str, encoding: str = "utf-8", *, drop: bool = False) -> list[Any]:
    """The values of a field as Python reads them, floats apart from whole numbers; ``None`` where it is missing."""
    return [_object(source, text, line).get(name) for line, text in _numbered(source, encoding, drop=drop)]


def _blocks(source: Source, encoding: str, *, drop: bool) -> Iterator[tuple[int, bytes, int]]:
    """Whole lines as UTF-8, about `BLOCK_BYTES` at a time, the number of the first, from 1, and how many were emptied.

    Broken lines are emptied if they are to be dropped, so that the others keep their numbers.
    """
    first_line = 1
    if encoding != "utf-8":  # a byte that ends a line of UTF-8 can be half a character of UTF-16
        block = prepared(source, source.content(), encoding)
        yield first_line, *(_whole_objects(source, block) if drop else (block, 0))
        return
    with source.opened() as file:
        while block := file.read(BLOCK_BYTES):
            block, n_broken, n_more = block + file.readline(), 0, 0
            if drop:
                block, n_broken = _emptied(block, _is_text)
            elif (at := block.find(0)) >= 0:
                number = first_line + block.count(b"\n", 0, at)
                raise BrokenLineError(f"{source}, line {number} must be one JSON object, got a NUL byte.")
            block = prepared(source, block, encoding, first_line=first_line)
            if drop:
                block, n_more = _whole_objects(source, block)
            yield first_line, block, n_broken + n_more
            first_line += block.count(b"\n")


def _emptied(block: bytes, good: Callable[[bytes], bool]) -> tuple[bytes, int]:
    """Some lines without the text of those that are not good, and the number of the latter."""
    lines = block.split(b"\n")
    kept = [line if not line.strip() or good(line) else b"" for line in lines]
    return b"\n".join(kept), sum(new != old for new, old in zip(kept, lines, strict=True))


def _whole_objects(source: Source, block: bytes) -> tuple[bytes, int]:
    """Prepared lines without the text of those that are not objects, and the number of the latter."""

    def is_object(text: bytes) -> bool:
        with suppress(BrokenLineError):
            return isinstance(_object(source, text, 0), dict)
        return False

    if not _fails(block, {ANY_FIELD: pl.String()}):
        return block, 0
    block, n_broken = _emptied(block, is_object)
    if not _fails(block, {ANY_FIELD: pl.String()}):
        return block, n_broken
    block, n_more = _emptied(
        block, lambda text: not _fails(text, {ANY_FIELD: pl.String()})
    )  # Python reads more numbers
    return block, n_broken + n_more


def _is_text(line: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        return "\0" not in line.decode()
    return False


def _numbered(source: Source, encoding: str, *, drop: bool = False) -> Iterator[tuple[int, bytes]]:
    """The lines that have text, and their numbers, from 1; with `drop` without broken lines."""
    for first_line, block, _ in _blocks(source, encoding, drop=drop):
        for number, text in enumerate(block.split(b"\n"), first_line):
            if text.strip():
                yield number, text


def _parsed(source: Source, block: bytes, schema: JsonSchema, first_line: int) -> pl.DataFrame:
    found = _read(block, schema)
    if isinstance(found, pl.DataFrame):
        return found
    texts = block.split(b"\n")
    n_good = bisect_left(range(len(texts)), True, key=lambda n: _fails(b"\n".join(texts[: n + 1]), schema))
    if n_good == len(texts):
        raise DataError(f"{source}, line {first_line} or later, cannot be read as JSON lines: {found}.")
    raise _problem(source, texts[n_good], first_line + n_good, schema, found)


def _read(block: bytes, schema: JsonSchema) -> pl.DataFrame | str:
    """The rows of some lines, or why they cannot be read."""
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema=dict(schema))
    except (PolarsError, PanicException) as error:
        return reason(error)
    if frame.height == block.count(b"\n"):
        return frame
    n_lines = sum(bool(text.strip()) for text in block.split(b"\n"))
    return frame if frame.height == n_lines else f"{frame.height} objects in {n_lines} lines"


def _fails(block: bytes, schema: JsonSchema) -> bool:
    return bool(block.strip()) and isinstance(_read(block, schema), str)


def _problem(source: Source, text: bytes, number: int, schema: JsonSchema, why: str) -> DataError:
    """The error of a line that cannot be read."""
    row = _object(source, text, number)
    if not _fails(text, {ANY_FIELD: pl.String()}):
        for name, dtype in schema.items():
            if _fails(text, {name: dtype}):
                got = repr(row.get(name))[:SHOWN]
                return DataError(f"{source}, line {number}, column {name} must be {dtype}, got {got}.")
    return BrokenLineError(f"{source}, line {number} must be one JSON object: {why}; got {_shown(text)}.")


def _object(source: Source, text: bytes, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise BrokenLineError(f"{source}, line {number} must be one JSON object: {why}; got {_shown(text)}.") from None
    if not isinstance(row, dict):
        raise BrokenLineError(f"{source}, line {number} must be one JSON object, got {_shown(text)}.")
    return row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON, which has null for a missing value")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text} is too large for a number")
    return number


def _may_have(block: bytes, column: pl.Series) -> bool:
    """Whether some line of a block has a field: a value of it was read, or its name occurs in the text."""
    if column.null_count() < len(column):
        return True
    names = (json.dumps(column.name, ensure_ascii=is_ascii).encode() for is_ascii in (True, False))
    return any(name in block for name in names)


def _shown(text: bytes) -> str:
    return repr(text[:SHOWN].decode(errors="replace"))
