"""Text tables of published data sets: typed columns, and errors that name the file, the line and the column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from evorec.data.readers.files import Sheet, Source, read_text
from evorec.data.readers.text import Layout, prepared
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
    return _typed(source, source.content(), layout, schema)


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
    content = source.content()
    first = content[: content.find(b"\n") + 1 or None].decode(encoding, errors="replace").rstrip("\r\n")
    n_columns = len(first.split(separator))
    if n_columns < len(schema):
        raise DataError(
            f"{path}, line 1 must have {len(schema)} columns separated by {separator!r}, got {first[:80]!r}."
        )
    columns = (*schema, *(f"further_{number}" for number in range(n_columns - len(schema))))
    return _typed(source, content, Layout(separator=separator, quote="", columns=columns, encoding=encoding), schema)


def _typed(source: Source, content: bytes, layout: Layout, schema: Schema) -> pl.DataFrame:
    text_table = prepared(source, content, layout.encoding, layout.separator)
    sheet = Sheet(source, layout, read_text(source, text_table, layout, tuple(schema)))
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
    """Refuse an empty field in any of the columns; ``first_line`` = line of the file that holds row 0.

    Raises:
        DataError: names the file, the line and the column.
    """
    for column in columns:
        if frame[column].null_count():
            line = first_line + int(frame[column].is_null().arg_true()[0])
            raise DataError(f"{path}, line {line}, column {column} must not be empty.")
