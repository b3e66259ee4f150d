"""JSON lines, plain or gzip: typed columns, and errors that name the file, the line and the field."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl
from polars.exceptions import ComputeError, SchemaError

from evorec.errors import DataError

LINE: Final = "line of the file"
"""Column with the line number of every row, from 1."""
BLOCK_BYTES: Final = 32 * 2**20
"""Read and parsed at a time, so that only the fields in use of a large file are ever held."""
SHOWN: Final = 80
"""Characters of a broken line that a message shows."""

JsonSchema = Mapping[str, pl.DataType]
"""Field -> pl.String() (numbers become text), pl.Int64(), pl.Float64(), pl.Boolean() or pl.List(pl.String())."""


def read_json_lines(path: Path, schema: JsonSchema) -> pl.DataFrame:
    """A file with one JSON object per line; other fields are ignored, a missing one is null.

    Args:
        path: the file; gzip if its name ends in ``.gz``.
        schema: fields to read.
    Returns:
        The columns of `schema`, then `LINE`; lines without text are left out.
    Raises:
        DataError: the file is missing, damaged or empty, a line is no JSON object, or a field has another type.
    """
    frames: list[pl.DataFrame] = []
    line = 1
    for block in _blocks(path):
        frames.append(_parsed(path, block, schema, line))
        line += block.count(b"\n")
    frame = pl.concat(frames) if frames else pl.DataFrame()
    if frame.is_empty():
        raise DataError(f"{path} has no rows; expected one JSON object per line with {list(schema)}.")
    return frame


def first_object(path: Path) -> Mapping[str, Any]:
    """The first line of a file that has text.

    Raises:
        DataError: the file is missing, damaged or empty, or the line is no JSON object.
    """
    for block in _blocks(path):
        for number, text in enumerate(block.split(b"\n"), start=1):
            if text.strip():
                return _object(path, text, number)
    raise DataError(f"{path} has no rows; expected one JSON object per line.")


def _blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, about `BLOCK_BYTES` at a time, without a byte-order mark."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            start = b"\xef\xbb\xbf"
            while block := file.read(BLOCK_BYTES):
                yield (block + file.readline()).removeprefix(start)
                start = b""
    except (EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}; download it again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; expected the file as published.") from None


def _parsed(path: Path, block: bytes, schema: JsonSchema, first_line: int) -> pl.DataFrame:
    if not block.strip():
        return pl.DataFrame(schema={**schema, LINE: pl.Int64()})
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema=dict(schema))
    except (ComputeError, SchemaError) as error:
        _refuse_first_problem(path, block, schema, first_line)
        raise DataError(f"{path}, line {first_line} or later: {str(error).splitlines()[0]}.") from None
    n_lines = block.count(b"\n") + (not block.endswith(b"\n"))
    lines = pl.int_range(first_line, first_line + n_lines, dtype=pl.Int64, eager=True)
    if frame.height != n_lines:
        texts = block.split(b"\n")[:n_lines]
        lines = lines.filter(pl.Series([bool(text.strip()) for text in texts], dtype=pl.Boolean))
    if frame.height != len(lines):
        _refuse_first_problem(path, block, schema, first_line)
        raise DataError(f"{path} must have one JSON object per line, got {frame.height} in {len(lines)} lines.")
    return frame.select(list(schema)).with_columns(lines.alias(LINE))


def _refuse_first_problem(path: Path, block: bytes, schema: JsonSchema, first_line: int) -> None:
    """Where and what the first unusable value is: a slow second look, once a file is known to be broken."""
    for number, text in enumerate(block.split(b"\n"), start=first_line):
        if not text.strip():
            continue
        row = _object(path, text, number)
        for name, dtype in schema.items():
            value = row.get(name)
            if value is not None and not _FITS[dtype](value):
                raise DataError(f"{path}, line {number}, column {name} must be {dtype}, got {value!r:.{SHOWN}}.")


def _object(path: Path, text: bytes, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number} must be a JSON object, got {text[:SHOWN].decode(errors='replace')!r}.")
    return row


def _is_int64(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


_FITS: Final[Mapping[pl.DataType, Callable[[object], bool]]] = {
    pl.String(): lambda value: not isinstance(value, dict | list),
    pl.Int64(): _is_int64,
    pl.Float64(): lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    pl.Boolean(): lambda value: isinstance(value, bool),
    pl.List(pl.String()): lambda value: isinstance(value, list) and all(isinstance(v, str | None) for v in value),
}
