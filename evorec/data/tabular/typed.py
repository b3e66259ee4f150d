"""Files whose columns have types: Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from evorec.data.tabular.sources import Source, reason
from evorec.errors import DataError

TYPED: Final = ("parquet",)
"""Formats."""


def column_names(source: Source) -> list[str]:
    """The names of all columns of a file.

    Raises:
        DataError: the file is missing or damaged.
    """
    with _reading(source), source.seekable() as file:
        return list(pl.read_parquet_schema(file))


def read_typed(source: Source, columns: Sequence[str]) -> pl.DataFrame:
    """Some columns of a file in their own types.

    Raises:
        DataError: the file is missing, damaged or empty, or lacks a column.
    """
    found = column_names(source)
    if missing := [name for name in columns if name not in found]:
        raise DataError(f"{source} lacks the columns {missing}; it has {found[:100]}.")
    with _reading(source), source.seekable() as file:
        frame = pl.read_parquet(file, columns=list(columns))
    if frame.is_empty():
        raise DataError(f"{source} has no rows; expected the columns {list(columns)} and at least one row.")
    return frame.select(list(columns))


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    try:
        yield
    except (PolarsError, PanicException) as error:  # a damaged file can make polars panic
        raise DataError(f"{source} cannot be read as Parquet, it may be damaged: {reason(error)}") from None
