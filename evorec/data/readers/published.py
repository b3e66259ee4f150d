"""What readers of published data sets share: where their files are, which values they allow, and stand-in times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers.delimited import line_of
from evorec.data.tables import SECONDS_PER_DAY
from evorec.errors import DataError

VALIDATION_DAY: Final = 9
"""Day number, from 1970-01-01, of what a data set without times keeps for validation: 1970-01-10."""
TEST_DAY: Final = 10
"""1970-01-11; training has the days before `VALIDATION_DAY`, so that statistics of earlier days exist for its rows."""

LARGEST: Final = 2**31 - 1
"""Of the numbers that an anonymised data set writes for its categories; more would not fit into Int32."""


def published_folder(folder: Path, pattern: str) -> Path:
    """The folder itself, or its ``data``, which the archives of KuaiRand and KuaiRec have, if only that has the files.

    Args:
        folder: as configured.
        pattern: of a file that must be there.
    """
    if not any(folder.glob(pattern)) and any((folder / "data").glob(pattern)):
        return folder / "data"
    return folder


def only_file(folder: Path, pattern: str) -> Path:
    """The one file that fits.

    Raises:
        DataError: there is none, or several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataError(f"{folder} must have one {pattern}, got {[path.name for path in found]}.")
    return found[0]


def require(
    path: Path, frame: pl.DataFrame, column: str, good: pl.Expr, expected: str, *, line: int | Callable[[int], int]
) -> None:
    """Refuse the first value that is not good; null is neither good nor bad.

    Args:
        path: of the file, for the message.
        frame: its rows.
        column: of the frame.
        good: true where a value can be used.
        expected: the rest of "must ...".
        line: first line of the file that can hold a row (`line_of`), or what tells the line of a row.
    Raises:
        DataError: names the file, the line and the column.
    """
    bad = frame.select((~good).fill_null(value=False)).to_series()
    if bad.any():
        row = int(bad.arg_true()[0])
        number = line_of(path, row, first_line=line) if isinstance(line, int) else line(row)
        raise DataError(f"{path}, line {number}, column {column} must {expected}, got {frame[column][row]!r}.")


def require_once(path: Path, frame: pl.DataFrame, column: str, *, line: int = 2) -> None:
    """Refuse a row of an id that had one before; ``line`` as in `require`.

    Raises:
        DataError: names the file, the line and the column.
    """
    require(path, frame, column, pl.col(column).is_first_distinct(), "be there once", line=line)


def require_flags(path: Path, frame: pl.DataFrame, columns: tuple[str, ...], *, line: int = 2) -> None:
    """Refuse a label that is neither 0 nor 1; ``line`` as in `require`.

    Raises:
        DataError: names the file, the line and the column.
    """
    for column in columns:
        require(path, frame, column, pl.col(column).is_in([0, 1]), "be 0 or 1", line=line)


def stand_in_times(position: pl.Series, *, first_day: int, n_days: int) -> pl.Series:
    """Seconds for rows of a data set that has no times: their order, spread evenly over some days of January 1970.

    Args:
        position: int64 ``(N,)`` from 0, of each row in the order of the file; equal ones get equal times.
        first_day: day number from 1970-01-01.
        n_days: over which the rows are spread.
    Returns:
        int64 ``(N,)``.
    """
    n = 1 + int(position.to_numpy().max())
    return position * (n_days * SECONDS_PER_DAY) // n + first_day * SECONDS_PER_DAY
