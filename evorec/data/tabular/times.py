"""Times and days of a log in any notation, as seconds in UTC and as calendar days."""

from __future__ import annotations

import re
from datetime import time
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from evorec.data.tables import LATEST_SECOND
from evorec.data.tabular.columns import Column
from evorec.data.tabular.sources import reason
from evorec.errors import ConfigError

PER_SECOND: Final = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
EARLIEST_S: Final = 10**8
"""In 1973; the unit of numbers is found by their size if all of them are between this second and a hundred times it."""
ZONE_NAME: Final = re.compile(r"(?<!%)(%%)*%Z")
FRACTION: Final = re.compile(r"\.%f")
"""Python's fraction of a second, which polars names differently."""
ISO_FORMATS: Final = (*("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"), *("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"))


def days(column: Column) -> pl.Series:
    """Calendar days; null where missing."""
    if column.values.dtype == pl.Date:
        return column.values
    if isinstance(column.values.dtype, pl.Datetime):
        return column.values.dt.date()
    text = column.texts
    out = text.str.to_date("%Y%m%d", strict=False)
    if out.null_count() != text.null_count():
        out = text.str.to_date("%Y-%m-%d", strict=False)
    column.refuse(out.is_null() & text.is_not_null(), "a day as 2024-01-31 or 20240131")
    return out


def times(column: Column, unit: str, zone: str) -> pl.Series:
    """Seconds since 1970 in UTC, Int64, rounded down; null where missing.

    Args:
        column: numbers, texts, or the times of a Parquet file.
        unit: s, ms, us, ns, a format of strptime, or auto.
        zone: of times that do not state theirs.
    Raises:
        DataError: names the first value that cannot be used.
    """
    values = column.values
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        return _seconds(column, values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values, zone)
    if "%" in unit:
        return _formatted(column, unit, zone)
    if unit == "auto" and column.is_text:
        first = column.texts.drop_nulls().head(1)
        if first.cast(pl.Float64, strict=False).null_count():
            return _iso(column, zone)
    is_whole = column.is_text or values.dtype.is_integer()
    numbers = column.ids if is_whole else values
    if not numbers.dtype.is_integer():
        numbers = column.numbers
    if numbers.null_count() == len(numbers):
        return numbers.cast(pl.Int64)
    per_second = PER_SECOND[_unit(column, numbers) if unit == "auto" else unit]
    seconds = numbers // per_second if numbers.dtype.is_integer() else (numbers / per_second).floor()
    return _not_late(column, seconds, f"a time in {unit} (time_unit) that is not after the year 5138").cast(pl.Int64)


def session_numbers(time: str, user: str, gap: float) -> pl.Expr:
    """Number of the session of each row, from 0 for each user; the rows must be in order of time.

    Args:
        time: column of the time.
        user: column of the user.
        gap: a longer pause begins a session, in the unit of the time.
    """
    pause = pl.col(time).diff().over(user)
    return (pause > gap).fill_null(value=False).cast(pl.Int64).cum_sum().over(user)


def _not_late(column: Column, seconds: pl.Series, expected: str) -> pl.Series:
    column.refuse(seconds.abs() > LATEST_SECOND, expected)
    return seconds


def _unit(column: Column, values: pl.Series) -> str:
    """The unit in which all the numbers are times from 1973 to 2286."""
    seconds = {unit: values.cast(pl.Float64) / per_second for unit, per_second in PER_SECOND.items()}
    fits = {unit: (found >= EARLIEST_S) & (found < 100.0 * EARLIEST_S) for unit, found in seconds.items()}
    for unit, fit in fits.items():
        if fit.all():
            return unit
    of_first = [~fit for fit in fits.values() if fit.drop_nulls()[0]]
    column.refuse(
        of_first[0] if of_first else values.is_not_null(),
        "a number whose size tells its unit, all of them the same unit; set time_unit to s, ms, us, ns or a format "
        "such as %Y%m%d",
    )
    raise AssertionError("no unit fits all numbers, so that one of them is refused")


def _iso(column: Column, zone: str) -> pl.Series:
    """ISO 8601: a day, or a day and a time, with or without an offset (also UTC, GMT); several kinds may be mixed."""
    text = column.texts
    uniform = text.str.replace(r"^(\d{4}-\d\d-\d\d)[T ] *", "$1 ").str.replace(r"^(\d{4}-\d\d-\d\d)$", "$1 00:00:00")
    uniform = uniform.str.replace(r" *(UTC|GMT)$", "Z")
    out = pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
    for form in ISO_FORMATS:
        parsed = uniform.str.to_datetime(form, strict=False, time_unit="us")
        if parsed.null_count() < len(parsed):
            out = out.fill_null(_seconds(column, parsed, zone))
        if out.null_count() == text.null_count():
            return out
    column.refuse(
        text.is_not_null() & out.is_null(),
        "a time as 2024-01-31 23:59:59, 2024-01-31T23:59:59Z or a number; set time_unit to its format",
    )
    return out


def _formatted(column: Column, form: str, zone: str) -> pl.Series:
    if ZONE_NAME.search(form):
        raise ConfigError(
            f"data.log.time_unit: {form!r} must not have %Z, because several zones share a name, so that it cannot be "
            "read; use auto if it is UTC, or write the name itself instead of %Z and set time_zone."
        )
    text = column.texts
    try:
        parsed = text.str.to_datetime(FRACTION.sub("%.f", form), strict=False, time_unit="us")
    except PolarsError as error:
        why = reason(error).rstrip(".")
        raise ConfigError(f"data.log.time_unit: {form!r} is not a usable format of a time: {why}.") from None
    column.refuse(parsed.is_null() & text.is_not_null(), f"a time in the format {form}")
    return _seconds(column, parsed, zone)


def _seconds(column: Column, times: pl.Series, zone: str) -> pl.Series:
    """Whole seconds since 1970 in UTC, rounded down; times without a zone are in `zone`."""
    if getattr(times.dtype, "time_zone", None) is None and zone != "UTC":
        times = _in_zone(column, times, zone)
    return _not_late(column, times.dt.timestamp("ms") // 1000, "a time not after the year 5138")


def _in_zone(column: Column, times: pl.Series, zone: str) -> pl.Series:
    """Local times of a zone: of an hour shown twice the first, and for a midnight never shown the next full hour."""
    try:
        here = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        midnight = here.is_null() & (times.dt.time() == time())
        if midnight.any():
            later = times.dt.offset_by("1h").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
            here = here.zip_with(~midnight.fill_null(False), later)
    except PolarsError as error:
        raise ConfigError(f"data.log.time_zone: {zone!r} cannot be used: {reason(error)}.") from None
    column.refuse(here.is_null() & times.is_not_null(), f"a time that the clocks of {zone} have shown; set time_zone")
    return here
