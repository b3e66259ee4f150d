"""Text tables with a separator: typed columns, and errors that name the file, the line and the column."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import ComputeError

from evorec.errors import DataError

Schema = Mapping[str, type[pl.DataType]]
"""Column -> pl.Int64, pl.Float64 or pl.String, for the columns that are read."""

UNIT_SEPARATOR: Final = "\x1f"
"""Stands in for a separator of several characters, because polars splits at a single one."""


def read_csv(path: Path, schema: Schema) -> pl.DataFrame:
    """A UTF-8 file with a header and commas; columns that are not asked for are ignored.

    Args:
        path: the file.
        schema: columns that must be there; an empty field is null.
    Raises:
        DataError: the file is missing or empty, lacks a column, or a value does not have its column's type.
    """
    content = _content(path).removeprefix(b"\xef\xbb\xbf")
    _check_text(path, content)
    header = content.split(b"\n", 1)[0].decode().strip()
    found = next(csv.reader([header.replace("\r", " ")]), [])
    missing = [column for column in schema if column not in found]
    if missing:
        raise DataError(f"{path}, line 1 must name the columns {missing}; it has {header[:200]!r}.")
    return _parsed(path, content, schema, separator=",", quote='"', lines_before=0)


def read_rows(path: Path, schema: Schema, *, separator: str, encoding: str) -> pl.DataFrame:
    """A file without header or quotes whose first columns are those of `schema`, in order; further ones are ignored.

    Args:
        path: the file.
        schema: names and types by position.
        separator: one or more characters.
        encoding: of the text, e.g. ``latin-1``.
    Raises:
        DataError: the file is missing or empty, or a value does not have its column's type.
    """
    text = _content(path).decode(encoding)
    first = text.split("\n", 1)[0]
    n_columns = len(first.split(separator))
    if n_columns < len(schema):
        raise DataError(
            f"{path}, line 1 must have {len(schema)} columns separated by {separator!r}, got {first[:80]!r}."
        )
    single = separator if len(separator) == 1 else UNIT_SEPARATOR
    header = single.join([*schema, *(f"further_{number}" for number in range(n_columns - len(schema)))])
    content = f"{header}\n{text.replace(separator, single)}".encode()
    return _parsed(path, content, schema, separator=single, quote=None, lines_before=1)


def _check_text(path: Path, content: bytes) -> None:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}, line {line} must be UTF-8 text, got the byte 0x{content[error.start]:02x}; convert the file."
        ) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; expected the file as published.") from None


def _parsed(
    path: Path, content: bytes, schema: Schema, *, separator: str, quote: str | None, lines_before: int
) -> pl.DataFrame:
    """The columns of `schema`; ``lines_before`` = lines of `content` that the file itself does not have."""
    try:
        frame = pl.read_csv(
            content, columns=list(schema), schema_overrides=schema, separator=separator, quote_char=quote
        )
    except ComputeError as error:
        text = content.decode(errors="replace")
        problem = _first_problem(text, schema, separator, quote, lines_before) or f": {str(error).splitlines()[0]}"
        raise DataError(f"{path}{problem}") from None
    if frame.is_empty():
        raise DataError(f"{path} has no rows; expected the columns {list(schema)} and at least one row.")
    return frame.select(list(schema))


def _first_problem(text: str, schema: Schema, separator: str, quote: str | None, lines_before: int) -> str | None:
    """Where and what the first unusable value is: a slow second look, once a file is known to be broken."""
    quoting: Final = csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL
    lines = csv.reader(io.StringIO(text), delimiter=separator, quoting=quoting)
    header = next(lines)
    readers = [(header.index(name), name, _PARSERS[dtype], dtype) for name, dtype in schema.items()]
    for fields in lines:
        where = f", line {lines.line_num - lines_before}"
        if len(fields) > len(header):
            return f"{where} must have {len(header)} columns, got {len(fields)}."
        for place, name, parse, dtype in readers:
            value = fields[place] if place < len(fields) else ""
            try:
                parse(value or "0")
            except ValueError:
                return f"{where}, column {name} must be {dtype.__name__}, got {value!r}."
    return None


def _int64(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError
    return value


_PARSERS: Final[Mapping[type[pl.DataType], Callable[[str], object]]] = {
    pl.Int64: _int64,
    pl.Float64: float,
    pl.String: str,
}


def require_values(path: Path, frame: pl.DataFrame, columns: Sequence[str], *, first_line: int) -> None:
    """Refuse an empty field in any of the columns; ``first_line`` = line of the file that holds row 0.

    Raises:
        DataError: names the file, the line and the column.
    """
    for column in columns:
        if frame[column].null_count():
            line = first_line + int(frame[column].is_null().arg_true()[0])
            raise DataError(f"{path}, line {line}, column {column} must not be empty.")
