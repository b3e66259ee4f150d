"""Times and days of a log, however they are written, as seconds in UTC and as calendar days."""

from __future__ import annotations

import re
from datetime import time
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from evorec.data.readers.columns import Cells, numbers, texts, whole_or_text
from evorec.data.tables import LATEST_SECOND
from evorec.errors import ConfigError

PER_SECOND: Final = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
UNIT_FROM: Final = {"s": 10**8, "ms": 10**11, "us": 10**14, "ns": 10**17}
"""Smallest number that is taken for a time in this unit, in 1973; the largest is a hundred times it, in 2286."""
ISO_DAY: Final = r"^(\d{4}-\d\d-\d\d)$"
MIDNIGHT: Final = time()
ZONE_NAME: Final = re.compile(r"(?<!%)(%%)*%Z")
FRACTION: Final = re.compile(r"\.%f")
"""Python's fraction of a second, which polars has another name for."""
UTC_NAME: Final = r" *(UTC|GMT)$"
ISO_FORMATS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
ISO_OFFSET_FORMATS: Final = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")


def days(column: Cells) -> pl.Series:
    """Calendar days; null where missing."""
    values = column.values
    if values.dtype == pl.Date:
        return values
    if isinstance(values.dtype, pl.Datetime):
        return values.dt.date()
    text = texts(column)
    out = text.str.to_date("%Y%m%d", strict=False)
    if out.null_count() != text.null_count():
        out = text.str.to_date("%Y-%m-%d", strict=False)
    wrong = out.is_null() & text.is_not_null()
    if wrong.any():
        raise column.refusal(wrong, "a day as 2024-01-31 or 20240131")
    return out


def times(column: Cells, unit: str, zone: str) -> pl.Series:
    """Seconds since 1970 in UTC, Int64, rounded down; null where missing.

    Args:
        column: numbers, texts, or the times of a Parquet file.
        unit: s, ms, us, ns, a format of strptime, or auto.
        zone: of times that do not say theirs.
    Raises:
        DataError: names the first value that cannot be used.
    """
    values = column.values
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        return _seconds(column, values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values, zone)
    if "%" in unit:
        return _parsed(column, unit, zone)
    if unit == "auto" and column.is_text:
        text = texts(column).drop_nulls()
        if len(text) and text.head(1).cast(pl.Float64, strict=False).null_count():
            return _iso(column, zone)
    return _epoch(column, unit)


def _epoch(column: Cells, unit: str) -> pl.Series:
    is_whole = column.is_text or column.values.dtype.is_integer()
    found = whole_or_text(column) if is_whole else column.values
    out = found if found.dtype.is_integer() else numbers(column)
    if out.null_count() == len(out):
        return out.cast(pl.Int64)
    if unit == "auto":
        unit = _unit(column, out)
    per_second = PER_SECOND[unit]
    seconds = out // per_second if out.dtype.is_integer() else (out / per_second).floor()
    late = (seconds.abs() > LATEST_SECOND).fill_null(False)
    if late.any():
        raise column.refusal(late, f"a time in {unit} (time_unit) that is not after the year 5138")
    return seconds.cast(pl.Int64)


def _unit(column: Cells, values: pl.Series) -> str:
    """The one unit in which all the numbers are times from 1973 to 2286."""
    sizes = values.cast(pl.Float64)
    fits = {unit: (sizes >= start) & (sizes < 100.0 * start) for unit, start in UNIT_FROM.items()}
    for unit, fit in fits.items():
        if fit.all():
            return unit
    of_first = [~fit for fit in fits.values() if fit.drop_nulls()[0]]
    odd = of_first[0] if of_first else values.is_not_null()
    raise column.refusal(
        odd.fill_null(False),
        "a number whose size tells its unit, all of them the same one; set time_unit to s, ms, us, ns or a format such "
        "as %Y%m%d",
    )


def _iso(column: Cells, zone: str) -> pl.Series:
    """ISO 8601: a day, or a day and a time, with or without an offset (also UTC, GMT); several kinds may be mixed."""
    text = texts(column)
    uniform = text.str.replace(r"^(\d{4}-\d\d-\d\d)[T ] *", "$1 ").str.replace(ISO_DAY, "$1 00:00:00")
    uniform = uniform.str.replace(UTC_NAME, "Z")
    out = pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
    for form in (*ISO_FORMATS, *ISO_OFFSET_FORMATS):
        if out.null_count() == text.null_count():
            return out
        parsed = uniform.str.to_datetime(form, strict=False, time_unit="us")
        if parsed.null_count() < len(parsed):
            seconds = _seconds(column, parsed, zone)
            out = out.zip_with(out.is_not_null(), seconds)
    wrong = text.is_not_null() & out.is_null()
    if not wrong.any():
        return out
    raise column.refusal(
        wrong, "a time as 2024-01-31 23:59:59, 2024-01-31T23:59:59Z or a number; set time_unit to its format"
    )


def _parsed(column: Cells, form: str, zone: str) -> pl.Series:
    text = texts(column)
    if ZONE_NAME.search(form):
        raise ConfigError(
            f"data.log.time_unit: {form!r} must not have %Z, because the name of a zone, which several share, cannot "
            "be read; use auto if it is UTC, or write the name itself instead of %Z and set time_zone."
        )
    try:
        parsed = text.str.to_datetime(FRACTION.sub("%.f", form), strict=False, time_unit="us")
    except PolarsError as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"data.log.time_unit: {form!r} is no usable format of a time: {why}.") from None
    wrong = parsed.is_null() & text.is_not_null()
    if wrong.any():
        raise column.refusal(wrong, f"a time in the format {form}")
    return _seconds(column, parsed, zone)


def _seconds(column: Cells, times: pl.Series, zone: str) -> pl.Series:
    """Whole seconds since 1970 in UTC, rounded down; times without a zone are in `zone`."""
    here = times
    if getattr(times.dtype, "time_zone", None) is None and zone != "UTC":
        here = _in_zone(column, times, zone)
    seconds = here.dt.timestamp("ms") // 1000
    late = (seconds.abs() > LATEST_SECOND).fill_null(False)
    if late.any():
        raise column.refusal(late, "a time not after the year 5138")
    return seconds


def _in_zone(column: Cells, times: pl.Series, zone: str) -> pl.Series:
    """Times of the clocks of a zone: of an hour shown twice the first, and for a midnight never shown the next."""
    try:
        here = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        lost = here.is_null() & times.is_not_null()
        if not lost.any():
            return here
        later = times.dt.offset_by("1h").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        here = here.zip_with(~(lost & (times.dt.time() == MIDNIGHT)), later)
    except PolarsError as error:
        raise ConfigError(f"data.log.time_zone: {zone!r} cannot be used: {str(error).splitlines()[0]}.") from None
    lost = here.is_null() & times.is_not_null()
    if lost.any():
        raise column.refusal(lost, f"a time that the clocks of {zone} have shown; set time_zone")
    return here
