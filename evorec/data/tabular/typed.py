"""Files whose columns have types: Parquet, Arrow (Feather), workbooks of Excel or LibreOffice, a JSON object."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from evorec.data.tabular.packed import ALLOWANCE_BYTES
from evorec.data.tabular.sources import MAX_NAMES, ColumnsError, EmptyFileError, Source, reason
from evorec.data.unpack import MAX_GROWTH
from evorec.errors import DataError

TYPED: Final = {"parquet": "Parquet", "arrow": "Arrow", "excel": "a workbook", "mapping": "a JSON object"}
"""Formats -> their names."""
ARROW_FILE: Final = b"ARROW1"
KEY: Final = "key"
VALUE: Final = "value"
"""Columns of a JSON object; values that are objects have their own fields in place of the second."""


def column_names(source: Source, form: str) -> list[str]:
    """The names of all columns of a file.

    Args:
        source: the file.
        form: a key of `TYPED`.
    Raises:
        DataError: the file is missing or damaged.
    """
    if form in WHOLE:
        return WHOLE[form](source).columns
    with source.seekable() as file, _reading(source, form):
        if form == "parquet":
            return list(pl.read_parquet_schema(file))
        return list(pl.read_ipc_schema(file)) if _is_arrow_file(file) else pl.read_ipc_stream(file.read()).columns


def read_typed(source: Source, columns: Sequence[str], form: str = "parquet") -> pl.DataFrame:
    """Some columns of a file in their own types.

    Args:
        source: the file.
        columns: to read, each of which must exist.
        form: a key of `TYPED`.
    Raises:
        DataError: the file is missing, damaged or empty, or lacks a column.
    """
    found = column_names(source, form)
    if missing := [name for name in columns if name not in found]:
        raise ColumnsError(f"{source} lacks the columns {missing}; it has {found[:100]}.", missing)
    if form in WHOLE:
        frame = WHOLE[form](source)
    else:
        with source.seekable() as file, _reading(source, form):
            if form == "parquet":
                frame = pl.read_parquet(file, columns=list(columns))
            elif _is_arrow_file(file):
                frame = pl.read_ipc(file, columns=list(columns))
            else:  # polars reads a stream from the position of the operating system, which has been read ahead
                frame = pl.read_ipc_stream(file.read(), columns=list(columns))
    if frame.is_empty():
        raise EmptyFileError(f"{source} has no rows; expected the columns {list(columns)} and at least one row.")
    return frame.select(list(columns))


def _is_arrow_file(file: IO[bytes]) -> bool:
    """Whether a file of Arrow is not a stream."""
    start = file.read(len(ARROW_FILE))
    file.seek(0)
    return start == ARROW_FILE


def _sheet(source: Source) -> pl.DataFrame:
    """A sheet of a workbook: the named one, or the only one that is not empty.

    Raises:
        DataError: fastexcel is missing, the workbook is damaged, or has several sheets and none is named.
    """
    try:
        import fastexcel
    except ImportError:
        raise DataError(
            f"{source} is a workbook, which needs fastexcel: pip install 'evorec[excel]', or save it as CSV."
        ) from None
    content = source.content()
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            n_bytes = sum(info.file_size for info in archive.infolist())
        if n_bytes > MAX_GROWTH * len(content) + ALLOWANCE_BYTES:
            raise DataError(f"{source} is not safe to unpack: its contents have {n_bytes} bytes; save it as CSV.")
    try:
        book = fastexcel.read_excel(content)
        names = [source.member] if source.member else book.sheet_names
        if missing := [name for name in names if name not in book.sheet_names]:
            raise DataError(f"{source.path} has no sheet {missing[0]!r}; it has {book.sheet_names[:MAX_NAMES]}.")
        sheets = {name: book.load_sheet(name, schema_sample_rows=None).to_polars() for name in names}
    except (fastexcel.FastExcelError, PolarsError, PanicException) as error:
        raise DataError(f"{source} cannot be read as a workbook, it may be damaged: {reason(error)}") from None
    filled = {name: frame for name, frame in sheets.items() if frame.width}
    if len(filled) > 1:
        named = f"name one as {source.path.name}/{next(iter(filled))}"
        raise DataError(f"{source} has the sheets {list(filled)[:MAX_NAMES]}; {named}.")
    if not filled:
        raise EmptyFileError(f"{source} has no rows.")
    frame = next(iter(filled.values()))
    return frame.filter(pl.any_horizontal(pl.all().is_not_null()))


def _mapping(source: Source) -> pl.DataFrame:
    """The entries of a single JSON object: its keys, and its values or their fields.

    Raises:
        DataError: the file is not such an object, repeats a key, or its values are of several types.
    """
    try:
        found = json.loads(source.content().decode("utf-8-sig"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} cannot be read as a JSON object: {reason(error)}.") from None
    if not isinstance(found, dict):
        raise DataError(f"{source} must be a single JSON object, key -> value, got a {type(found).__name__}.")
    values = list(found.values())
    has_fields = bool(values) and all(isinstance(value, dict) for value in values)
    if has_fields and any(KEY in value for value in values):
        raise DataError(f"{source} must not have the field {KEY!r}, which names the keys of the object.")
    rows = [{KEY: key, **(value if has_fields else {VALUE: value})} for key, value in found.items()]
    try:
        return pl.DataFrame(rows, infer_schema_length=None)
    except (PolarsError, PanicException, TypeError, OverflowError) as error:
        raise DataError(f"{source} must have values of the same type under all keys: {reason(error)}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is repeated")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


WHOLE: Final[Mapping[str, Callable[[Source], pl.DataFrame]]] = {"excel": _sheet, "mapping": _mapping}
"""Formats that are read as a whole."""


@contextmanager
def _reading(source: Source, form: str) -> Iterator[None]:
    try:
        yield
    except (PolarsError, PanicException, OSError) as error:  # a damaged file can make polars panic
        raise DataError(f"{source} cannot be read as {TYPED[form]}, it may be damaged: {reason(error)}") from None
