"""Files of any format as columns; errors name file and line."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from evorec.config import FilesConfig
from evorec.data.readers.json_lines import find_line, find_nested, read_json_lines
from evorec.data.readers.sources import ZIP, Source
from evorec.data.readers.text import Layout, check_records, find_record, header_of, prepared
from evorec.errors import DataError

Format = Literal["csv", "tsv", "jsonl", "parquet"]

ENDINGS: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
PARQUET_MAGIC: Final = b"PAR1"


@final
@dataclass(frozen=True)
class Sheet:
    """Some columns of one source, as they were read.

    Args:
        source: where they are from.
        layout: how the text was read; None = Parquet.
        frame: text as it stands, null for an empty value; Parquet columns in their own type.
        is_json: text of JSON lines.
    """

    source: Source
    layout: Layout | None
    frame: pl.DataFrame
    is_json: bool = False

    def emptied(self) -> Sheet:
        """The sheet without its values, which can still tell the place of a row."""
        return replace(self, frame=self.frame.clear())

    @property
    def is_text_table(self) -> bool:
        """Whether an empty value and a missing one are the same in the file."""
        return self.layout is not None and not self.is_json

    def place(self, row: int) -> str:
        """File and line (of Parquet: row, from 1) of a row, from 0; looked up in the file once more."""
        if self.layout is None:
            return f"{self.source}, row {row + 1}"
        if self.is_json:
            return f"{self.source}, line {find_line(self.source, row, self.layout.encoding)}"
        content = prepared(self.source, self.source.content(), self.layout.encoding, self.layout.separator)
        return f"{self.source}, line {find_record(content, self.layout, row)}"

    def first_nested(self, column: str, rows: Collection[int]) -> int | None:
        """The first of some rows, from 0, whose text was a list or an object of JSON; looked up in the file."""
        if self.layout is None or not self.is_json or not rows:
            return None
        return find_nested(self.source, column, rows, self.layout.encoding)

    def refusal(self, row: int, column: str, expected: str, got: object) -> DataError:
        """The error of one value."""
        return DataError(f"{self.place(row)}, column {column} must be {expected}, got {got!r}.")


def read_sheet(source: Source, config: FilesConfig, columns: Sequence[str], key: str) -> Sheet:
    """Some columns of one source.

    Args:
        source: the file.
        config: how it is read.
        columns: to read, each of which must be there.
        key: of the configuration, for errors.
    Raises:
        DataError: names the file, the line and what is wrong.
    """
    kind = _format(source, config, key)
    try:
        if kind == "parquet":
            return Sheet(source, None, _parquet(source, columns))
        if source.start(len(PARQUET_MAGIC)) == PARQUET_MAGIC:
            raise DataError(f'{source} is a Parquet file; set {key}.format = "parquet".')
        if kind == "jsonl":
            layout = Layout(separator="", quote="", columns=(), encoding=config.encoding)
            schema = dict.fromkeys(columns, pl.String())
            frame = read_json_lines(source, schema, needed=columns, encoding=config.encoding)
            return Sheet(source, layout, frame, is_json=True)
        content = prepared(source, source.content(), config.encoding, config.separator)
        separator = config.separator or ("\t" if kind == "tsv" else ",")
        layout = Layout(separator=separator, quote=config.quote, columns=config.columns, encoding=config.encoding)
        return Sheet(source, layout, read_text(source, content, layout, columns))
    except PolarsError as error:
        raise DataError(f"{source} cannot be read as {kind}: {_what(error)}") from None
    except PanicException as error:  # a damaged Parquet file can bring the library down
        raise DataError(f"{source} cannot be read as {kind}, it is damaged: {_what(error)}") from None
    except MemoryError:
        raise DataError(f"{source} does not fit into memory; split it into several files.") from None


def read_text(source: Source, content: bytes, layout: Layout, columns: Sequence[str]) -> pl.DataFrame:
    """Columns of a text table, as text, null where a value is empty.

    Args:
        source: for errors.
        content: prepared (`prepared`).
        layout: separator, quote, and the names of the columns where there is no header line.
        columns: to read, each of which must be there.
    Raises:
        DataError: a header without a column, a line with another number of values, a quote inside a value.
    """
    names = header_of(source, content, layout)
    missing = [name for name in columns if name not in names]
    if missing and layout.columns:
        raise DataError(f"{source} lacks the columns {missing}; its columns were set to {list(names)}.")
    if missing:
        first = content.split(b"\n", 1)[0].decode(errors="replace").strip()
        raise DataError(f"{source}, line 1 must name the columns {missing}; it has {first[:200]!r}.")
    if twice := [name for name in columns if names.count(name) > 1]:
        raise DataError(f"{source}, line 1 must name each column once, got {twice[0]!r} again.")
    content, n_rows = check_records(source, content, layout, len(names))
    if n_rows == 0:
        raise DataError(f"{source} has no rows; expected the columns {list(columns)} and at least one row.")
    places = [names.index(name) for name in columns]
    order = sorted(places)
    frame = pl.read_csv(
        content,
        has_header=False,
        skip_rows=0 if layout.columns else 1,
        columns=order,
        infer_schema=False,
        separator=layout.byte,
        quote_char=layout.quote if layout.quote_byte is not None and layout.quote.encode() in content else None,
    )
    if frame.height != n_rows:
        raise DataError(f"{source} has {n_rows} rows, of which {frame.height} can be read; check its quotes.")
    read = dict(zip(order, frame.get_columns(), strict=True))
    return pl.DataFrame([read[place].alias(name) for place, name in zip(places, columns, strict=True)])


def _format(source: Source, config: FilesConfig, key: str) -> Format:
    if config.format != "auto":
        return config.format
    name = source.name.lower()
    for packed in (".gz", ZIP):
        name = name.removesuffix(packed)
    ending = Path(name).suffix
    if ending in ENDINGS:
        return ENDINGS[ending]
    if config.separator:
        return "csv"
    raise DataError(f"{source}: the ending {ending!r} says no format; set {key}.format to csv, tsv, jsonl or parquet.")


def _parquet(source: Source, columns: Sequence[str]) -> pl.DataFrame:
    content = source.content()
    found = list(pl.read_parquet_schema(io.BytesIO(content)))
    if missing := [name for name in columns if name not in found]:
        raise DataError(f"{source} lacks the columns {missing}; it has {found[:100]}.")
    frame = pl.read_parquet(io.BytesIO(content), columns=list(columns))
    if frame.is_empty():
        raise DataError(f"{source} has no rows; expected the columns {list(columns)} and at least one row.")
    return frame.select(list(columns))


def _what(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
