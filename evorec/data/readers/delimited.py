"""Text tables of published data sets: typed columns, and errors that name the file, the line and the column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from evorec.data.readers.files import Sheet, read_text
from evorec.data.readers.sources import Source
from evorec.data.readers.text import Layout, find_record, header_of, prepared
from evorec.errors import DataError

Schema = Mapping[str, type[pl.DataType]]
"""Column -> pl.Int64, pl.Float64 or pl.String, for the columns that are read."""


def read_csv(path: Path, schema: Schema) -> pl.DataFrame:
    """A UTF-8 file with a header and commas, gzipped or not; columns that are not asked for are ignored.

    Args:
        path: the file.
        schema: columns that must be there; an empty field is null.
    Raises:
        DataError: the file is missing or empty, lacks a column, a line has too many or too few values, or a value does
            not have its column's type.
    """
    layout = Layout(separator=",", quote='"', columns=(), encoding="utf-8")
    source = Source(path)
    return _typed(source, prepared(source, source.content(), layout.encoding), layout, schema)


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
    source = Source(path)
    content = prepared(source, source.content(), encoding, separator)
    layout = Layout(separator=separator, quote="", columns=(), encoding=encoding)
    further = [f"further_{number}" for number in range(len(header_of(source, content, layout)) - len(schema))]
    return _typed(source, content, replace(layout, columns=(*schema, *further)), schema)


def _typed(source: Source, content: bytes, layout: Layout, schema: Schema) -> pl.DataFrame:
    sheet = Sheet(source, layout, read_text(source, content, layout, tuple(schema)))
    typed = []
    for name, dtype in schema.items():
        text = sheet.frame[name]
        values = text.cast(dtype, strict=False)
        if values.null_count() > text.null_count():
            row = int((values.is_null() & text.is_not_null()).arg_true()[0])
            raise sheet.refusal(row, name, dtype.__name__, text[row])
        typed.append(values)
    return pl.DataFrame(typed)


def require_values(path: Path, frame: pl.DataFrame, columns: Sequence[str], *, first_line: int) -> None:
    """Refuse an empty field in any of the columns; ``first_line`` as in `line_of`.

    Raises:
        DataError: names the file, the line and the column.
    """
    for column in columns:
        if frame[column].null_count():
            line = line_of(path, int(frame[column].is_null().arg_true()[0]), first_line=first_line)
            raise DataError(f"{path}, line {line}, column {column} must not be empty.")


def line_of(path: Path, row: int, *, first_line: int) -> int:
    """Line of a file, from 1, on which a row begins; looked up once more, for blank lines and line breaks in quotes.

    Args:
        path: of `read_csv` or `read_rows`.
        row: from 0.
        first_line: 2 = the file has a header (`read_csv`), 1 = it has none (`read_rows`).
    """
    has_header = first_line == 2
    columns = () if has_header else ("all",)
    separator, quote = (",", '"') if has_header else ("\t", "")
    layout = Layout(separator=separator, quote=quote, columns=columns, encoding="latin-1")  # lines are the same in it
    return find_record(prepared(path, Source(path).content(), layout.encoding), layout, row)
