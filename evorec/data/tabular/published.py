"""Shared parts of the readers of published data sets: fields, folders, and times for data sets without times."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.tables import LATEST_SECOND, SECONDS_PER_DAY
from evorec.data.tabular.sheet import Field
from evorec.errors import DataError

VALIDATION_DAY: Final = 9
"""Day number, from 1970-01-01, of the validation part of a data set without times: 1970-01-10."""
TEST_DAY: Final = 10
"""1970-01-11; training has the days before `VALIDATION_DAY`, so that statistics of earlier days exist for its rows."""

LARGEST: Final = 2**31 - 1
"""Of the numbers that an anonymised data set writes for its categories; larger numbers would not fit into Int32."""

INTEGER: Final = Field(pl.Int64)
TEXT: Final = Field(pl.String, needed=False)
NUMBER: Final = Field(pl.Float64, needed=False)
FLAG: Final = Field(pl.Int64, lambda value: value.is_in([0, 1]), "be 0 or 1")
KEY: Final = Field(pl.Int64, pl.Expr.is_first_distinct, "be there once")
CODE: Final = Field(pl.Int64, lambda value: value.is_between(0, LARGEST), f"be a number in 0 .. {LARGEST}")
SECONDS: Final = Field(pl.Int64, lambda value: value.is_between(0, LATEST_SECOND), "be in seconds since 1970")
MILLISECONDS: Final = Field(
    pl.Int64, lambda value: value.is_between(0, 1000 * LATEST_SECOND), "be in milliseconds since 1970"
)


def published_folder(folder: Path, pattern: str) -> Path:
    """The folder itself, or its ``data``, as in the archives of KuaiRand and KuaiRec, if only ``data`` has the files.

    Args:
        folder: as configured.
        pattern: of a file that must exist.
    """
    if not any(folder.glob(pattern)) and any((folder / "data").glob(pattern)):
        return folder / "data"
    return folder


def only_file(folder: Path, pattern: str) -> Path:
    """The single file of that name or glob.

    Raises:
        DataError: there is none, or several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataError(f"{folder} must have one {pattern}, got {[path.name for path in found]}.")
    return found[0]


def artificial_times(position: pl.Series, *, first_day: int, n_days: int) -> pl.Series:
    """Seconds for rows of a data set that has no times: their order, spread evenly over some days of January 1970.

    Args:
        position: int64 ``(N,)`` from 0, of each row in the order of the file; equal positions get equal times.
        first_day: day number from 1970-01-01.
        n_days: over which the rows are spread.
    Returns:
        int64 ``(N,)``.
    """
    n = 1 + int(position.to_numpy().max())
    return position * (n_days * SECONDS_PER_DAY) // n + first_day * SECONDS_PER_DAY
