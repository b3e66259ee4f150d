"""Files of any format as columns; errors name file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from evorec.config import FilesConfig
from evorec.config.faults import Faults
from evorec.data.tabular.dialect import Dialect, detect
from evorec.data.tabular.json_lines import (
    JsonSchema,
    find_float,
    find_line,
    find_nested,
    read_json_lines,
    read_json_objects,
)
from evorec.data.tabular.sources import BrokenLineError, ColumnsError, EmptyFileError, Source, reason
from evorec.data.tabular.text import check_records, find_record, prepared, such_rows, unescaped
from evorec.data.tabular.typed import TYPED, read_typed
from evorec.errors import DataError

MAX_TITLE: Final = 20
"""First lines in which the names of the columns are looked for."""
PUBLISHED: Final = Dialect()
"""Of most published files: UTF-8, a header, commas."""
JSON_LINES: Final = Dialect("jsonl", separator="", quote="")


@final
@dataclass(frozen=True)
class Field:
    """A column of a published file.

    Args:
        dtype: pl.Int64, pl.Float64 or pl.String.
        good: whether values can be used; null is neither good nor bad.
        must: completes "must ..." in the error.
        needed: whether an empty value is refused.
    """

    dtype: type[pl.DataType]
    good: Callable[[pl.Expr], pl.Expr] | None = None
    must: str = ""
    needed: bool = True


@final
@dataclass(frozen=True)
class Sheet:
    """Some columns of a file.

    Args:
        source: the file.
        dialect: of the file.
        frame: text as in the file, null for an empty value; Parquet columns in their own type.
        lines: number of the line of each row; ``None`` = a row per record.
        key: of the configuration, for errors.
    """

    source: Source
    dialect: Dialect
    frame: pl.DataFrame
    lines: pl.Series | None = None
    key: str = ""

    @property
    def is_json(self) -> bool:
        """Whether the file has JSON lines."""
        return self.dialect.format == "jsonl"

    @property
    def is_text_table(self) -> bool:
        """Whether an empty value and a missing value are the same in the file."""
        return self.dialect.format == "csv"

    @property
    def _drops(self) -> bool:
        """Whether broken lines of JSON have no row."""
        return self.dialect.broken == "drop"

    def emptied(self) -> Sheet:
        """The sheet without its values, which can still locate a row."""
        return replace(self, frame=self.frame.clear())

    def noted(self, note: str) -> Sheet:
        """The sheet with a further note about how it was read."""
        return replace(self, dialect=replace(self.dialect, notes=(*self.dialect.notes, note)))

    def location(self, row: int) -> str:
        """File and line (of Parquet: row, from 1) of a row, from 0; looked up in the file once more."""
        dialect = self.dialect
        if dialect.format in TYPED:
            return f"{self.source}, row {row + 1 + (dialect.format == 'excel')}"  # the first row of a sheet has names
        if self.lines is not None:
            return f"{self.source}, line {self.lines[row]}"
        if self.is_json:
            return f"{self.source}, line {find_line(self.source, row, dialect.encoding, drop=self._drops)}"
        content = prepared(self.source, self.source.content(), dialect.encoding, dialect.separator, key=self.key)
        return f"{self.source}, line {find_record(*unescaped(self.source, content, dialect), row)}"

    def first_nested(self, column: str, rows: Collection[int]) -> int | None:
        """The first of some rows, from 0, whose text was a list or an object of JSON; looked up in the file."""
        if not self.is_json or not rows:
            return None
        return find_nested(self.source, column, rows, self.dialect.encoding, drop=self._drops)

    def first_float(self, column: str, least: int) -> int | None:
        """The first row, from 0, with a float of JSON beyond `least`; looked up in the file."""
        if not self.is_json:
            return None
        return find_float(self.source, column, least, self.dialect.encoding, drop=self._drops)

    def refusal(self, row: int, column: str, must: str, *got: object, n_rows: int = 1, repair: str = "") -> DataError:
        """The error of a value.

        Args:
            row: from 0.
            column: its name.
            must: completes "must ...".
            got: the value; none = the error shows no value.
            n_rows: with the same fault.
            repair: what to do.
        """
        ending = f", got {got[0]!r}" if got else ""
        repair = f"; {repair}" if repair else ""
        return DataError(f"{self.location(row)}, column {column} must {must}{ending}{such_rows(n_rows)}{repair}.")

    def refuse(self, column: str, bad: pl.Series, must: str, *got: pl.Series, repair: str = "") -> None:
        """Raise the error of the first row for which `bad` is true; null is not.

        Args:
            column: its name.
            bad: bool ``(N,)``.
            must: completes "must ...".
            got: the values ``(N,)`` that the error shows; none = no value.
            repair: what to do.
        Raises:
            DataError: names the file, the line and the column.
        """
        if len(rows := bad.arg_true()):
            values = [column[rows[0]] for column in got]
            raise self.refusal(rows[0], column, must, *values, n_rows=len(rows), repair=repair)

    def require(self, column: str, good: pl.Expr, must: str) -> None:
        """Refuse the first row for which `good` is false; null is neither good nor bad."""
        self.refuse(column, self.frame.select(~good).to_series(), must, self.frame[column])

    def typed(self, fields: Mapping[str, Field]) -> Sheet:
        """The columns in their types, checked.

        Raises:
            DataError: names the file, the line and the column.
        """
        sheet = replace(
            self, frame=self.frame.select(pl.col(n).cast(field.dtype, strict=False) for n, field in fields.items())
        )
        faults = Faults()
        for name, field in fields.items():
            text, values = self.frame[name], sheet.frame[name]
            with faults.collect():
                self.refuse(name, values.is_null() & text.is_not_null(), f"be {field.dtype.__name__}", text)
                if field.needed:
                    self.refuse(name, text.is_null(), "not be empty")
                if field.good is not None:
                    sheet.require(name, field.good(pl.col(name)), field.must)
        faults.refuse()
        return sheet


def read_csv(path: Path, fields: Mapping[str, Field]) -> Sheet:
    """A UTF-8 file with a header and commas, gzipped or not; other columns are ignored.

    Raises:
        DataError: the file is missing or empty, lacks a column, a line has another number of values, or a value is
            refused.
    """
    source = Source(path)
    content = prepared(source, source.content(), PUBLISHED.encoding)
    return Sheet(source, PUBLISHED, read_text(source, content, PUBLISHED, tuple(fields))[0]).typed(fields)


def read_rows(path: Path, fields: Mapping[str, Field], *, separator: str, encoding: str) -> Sheet:
    """A file without header or quotes whose first columns are `fields`, in order; further columns are ignored.

    Raises:
        DataError: the file is missing or empty, a line has another number of values, or a value is refused.
    """
    source = Source(path)
    content = prepared(source, source.content(), encoding, separator)
    dialect = Dialect("csv", separator, quote="", encoding=encoding, has_header=False)
    n_columns = content.lstrip(b"\n").partition(b"\n")[0].count(dialect.byte.encode()) + 1
    further = [f"further_{number}" for number in range(n_columns - len(fields))]
    dialect = replace(dialect, columns=(*fields, *further))
    return Sheet(source, dialect, read_text(source, content, dialect, tuple(fields))[0]).typed(fields)


def read_json(path: Path, schema: JsonSchema) -> Sheet:
    """A file of JSON lines, gzipped or not; other fields are ignored, a missing field is null.

    Raises:
        DataError: see `read_json_lines`.
    """
    return Sheet(Source(path), JSON_LINES, read_json_lines(Source(path), schema))


def read_sheet(source: Source, config: FilesConfig, columns: Sequence[str], key: str) -> Sheet:
    """Some columns of a file.

    Args:
        source: the file.
        config: format and dialect.
        columns: to read, each of which must exist.
        key: of the configuration, for errors.
    Raises:
        DataError: names the file, the line and the problem.
    """
    partitions = source.partitions
    dialect = detect(source, config, needed=[name for name in columns if name not in partitions], key=key)
    known = {name: value for name, value in partitions.items() if name not in dialect.columns}
    wanted = [name for name in columns if name not in known]
    try:
        if dialect.format in TYPED:
            frame = read_typed(source, wanted, dialect.format)
        elif dialect.format == "jsonl":
            schema = dict.fromkeys(wanted, pl.String())
            frame, dialect = _read_json(source, dialect, schema)
        else:
            if not (dialect.has_header or config.columns):
                raise DataError(
                    f"{source}, line 1 must name the columns {wanted}; it has values; set {key}.columns to the names "
                    f"of its {len(dialect.columns)} columns."
                )
            frame, dialect = _read_csv(source, dialect, wanted)
    except (PolarsError, PanicException) as error:
        raise DataError(f"{source} cannot be read as {dialect.format}, it may be damaged: {reason(error)}") from None
    except MemoryError:
        raise DataError(f"{source} does not fit into memory; split it into several files.") from None
    frame = frame.with_columns(pl.lit(value, dtype=pl.String).alias(name) for name, value in known.items())
    return Sheet(source, dialect, frame.select(columns), key=key)


def _read_json(source: Source, dialect: Dialect, schema: JsonSchema) -> tuple[pl.DataFrame, Dialect]:
    """Columns of JSON lines, and the dialect with a note about the lines that were dropped."""
    drop, setting = dialect.broken == "drop", dialect.setting("broken")
    try:
        frame, n_broken = read_json_objects(source, schema, needed=[*schema], encoding=dialect.encoding, drop=drop)
    except BrokenLineError as error:
        repair = f'set {setting} = "drop" to leave out and count such lines'
        raise BrokenLineError(f"{str(error).removesuffix('.')}; {repair}.") from None
    if not n_broken:
        return frame, dialect
    note = f"lines that are not a JSON object, dropped ({setting}): {n_broken}."
    return frame, replace(dialect, notes=(*dialect.notes, note))


def _read_csv(source: Source, dialect: Dialect, columns: Sequence[str]) -> tuple[pl.DataFrame, Dialect]:
    """Columns of a text table, and its dialect: a file that can only be read with backslashes as escapes has them."""
    content = prepared(source, source.content(), dialect.encoding, dialect.separator, key=dialect.key)
    try:
        return _noted(*read_text(source, *unescaped(source, content, dialect), columns), dialect)
    except DataError as error:
        if isinstance(error, ColumnsError) and (n_above := _lines_above(content, columns)):
            why = "names the columns; remove the lines above it"
            raise DataError(
                f"{source}, line 1 must name the columns {list(columns)}; line {n_above + 1} {why}."
            ) from None
        marks = [f"\\{mark}".encode() for mark in (dialect.quote, dialect.byte) if mark]
        if dialect.escape or not any(mark in content for mark in marks):
            raise
        escaped = replace(dialect, escape="\\")
        with suppress(DataError):
            return _noted(*read_text(source, *unescaped(source, content, escaped), columns), escaped)
        raise error from None


def _lines_above(content: bytes, columns: Sequence[str]) -> int:
    """The lines before the line that names some columns, e.g. of a title; 0 = the first lines do not name them."""
    for n, line in enumerate(content.split(b"\n", MAX_TITLE)[:MAX_TITLE]):
        if len(columns) > 1 and {*columns} <= {name.strip(" '\"") for name in re.split(r"[,;|\t]|::", line.decode())}:
            return n
    return 0


def _noted(frame: pl.DataFrame, n_ragged: int, dialect: Dialect) -> tuple[pl.DataFrame, Dialect]:
    """The table, and its dialect with a note about the lines that were dropped or padded."""
    if not n_ragged:
        return frame, dialect
    done = "dropped" if dialect.ragged == "drop" else "padded or cut"
    note = f"lines with another number of values than columns, {done} ({dialect.setting('ragged')}): {n_ragged}."
    return frame, replace(dialect, notes=(*dialect.notes, note))


def read_text(source: Source, content: bytes, dialect: Dialect, columns: Sequence[str]) -> tuple[pl.DataFrame, int]:
    """Columns of a text table, as text, null where a value is empty, and the number of lines dropped or padded.

    Args:
        source: for errors.
        content: prepared (`prepared`).
        dialect: separator, quote, and the names of the columns where there is no header line.
        columns: to read, each of which must exist.
    Raises:
        DataError: a header without a column, a line with another number of values, a quote inside a value.
    """
    if not content.strip():
        raise EmptyFileError(f"{source} is empty; expected the columns {list(columns)} and at least one row.")
    names, content, n_rows, n_ragged = check_records(source, content, dialect)
    missing = [name for name in columns if name not in names]
    if missing and not dialect.has_header:
        raise ColumnsError(f"{source} lacks the columns {missing}; its columns were set to {list(names)}.", missing)
    if missing:
        first = content.split(b"\n", 1)[0].decode(errors="replace").strip()
        raise ColumnsError(f"{source}, line 1 must name the columns {missing}; it has {first[:200]!r}.", missing)
    if repeated := [name for name in columns if names.count(name) > 1]:
        raise DataError(f"{source}, line 1 must name each column once, got {repeated[0]!r} again; rename one of them.")
    if n_rows == 0:
        raise EmptyFileError(f"{source} has no rows; expected the columns {list(columns)} and at least one row.")
    indices = sorted({names.index(name) for name in columns})
    frame = pl.read_csv(
        content,
        has_header=False,
        skip_rows=int(dialect.has_header),
        columns=indices,
        infer_schema=False,
        separator=dialect.byte,
        truncate_ragged_lines=True,  # an empty value behind the last separator of a line
        quote_char=dialect.quote if dialect.quote and dialect.quote.encode() in content else None,
    )
    if frame.height != n_rows:
        raise DataError(f"{source} has {n_rows} rows, of which {frame.height} can be read; check its quotes.")
    frame.columns = [names[index] for index in indices]
    return frame.select(columns), n_ragged
