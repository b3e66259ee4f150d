"""Times and days of a log in any notation, as seconds in UTC and as calendar days."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import time
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from evorec.data.tables import LATEST_SECOND
from evorec.data.tabular.columns import NUMERAL, WITH_COMMAS, Column
from evorec.data.tabular.sources import reason
from evorec.errors import ConfigError

PER_SECOND: Final = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
EARLIEST_S: Final = 10**8
"""In 1973; the unit of numbers is found by their size if all of them are between this second and a hundred times it."""
FRACTION: Final = re.compile(r"\.%f")
"""Python's fraction of a second, which polars names differently."""
OFFSET: Final = re.compile(r"(?<!%)((?:%%)*)%z")
"""Python's offset, which may be Z."""
ZONE_NAME: Final = re.compile(r"(?<!%)(%%)*%Z")
YEAR: Final = re.compile(r"(?<!%)(%%)*%[-_0]?[YyCGgDxFvcs+]")
HOUR: Final = re.compile(r"(?<!%)(%%)*%[-_0]?[HIkl]")
MINUTE: Final = re.compile(r"(?<!%)(%%)*%[-_0]?[MRTrXcs+]")
"""Directives of strptime that give a year, an hour, a minute."""
COMPACT: Final = re.compile(r"(%[YymdHMS])+")
"""A format of digits only; integers lack the zeros that it begins with."""
LETTERS: Final = {"%Y": "YYYY", "%y": "YY", "%m": "MM", "%d": "DD", "%H": "HH", "%M": "MM", "%S": "SS"}
DIGITS: Final = {
    6: ("%y%m%d", "%Y%m"),
    8: ("%Y%m%d", "%y%m%d%H"),
    10: ("%Y%m%d%H", "%y%m%d%H%M"),
    12: ("%Y%m%d%H%M", "%y%m%d%H%M%S"),
    14: ("%Y%m%d%H%M%S",),
}
"""Number of digits -> formats of a calendar that a number may be written in."""
YEARS: Final = {"Y": (1900, 2100), "y": (1970, 2037)}
"""Of such numbers; a format with two digits for the year covers a century, most of which is not meant."""
FIRST_ROWS: Final = 1000
"""In which numbers are read as digits of a calendar, before all rows are."""
MAX_BROKEN: Final = 0.25
"""Share of the times that may be faults of single rows; more of them are times in another notation."""
YEAR_FIRST: Final = (
    (r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:T|t| |$) *", "$1-$2-$3 "),
    (r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)?", "$1-$2-$3 $4:$5:$6"),
    (r"^(\S+) $", "$1 00:00:00"),
    (r" ?([AaPp])\.?[Mm]\.?$", " ${1}M"),
    (r"^(\S+ \d{1,2})( [AaPp]M)?$", "$1:00$2"),
    (r":(|[-+Z].*)$", "$1"),  # of a basic notation without seconds
    (r"(:\d\d),(\d)", "$1.$2"),
    (r" *(?:UTC|GMT|z)$", "Z"),
    (r" ([-+]\d\d:?(?:\d\d)?)$", "$1"),
    (r"([-+]\d\d:?\d\d|Z) ?\[[^\]]+\]$", "$1"),  # the name of a zone behind an offset, as Java writes it
)
"""Replacements that give times with the year first the notation of `ISO_FORMATS`."""
ISO_FORMATS: Final = (
    *("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"),
    *("%Y-%m-%d %I:%M:%S%.f %p", "%Y-%m-%d %I:%M %p"),
)

WRITTEN: Final = (
    *(
        day + clock
        for day in ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y")
        for clock in ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
    ),
    *("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %b %Y %H:%M:%S", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y"),
    *("%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT", "%d/%b/%Y:%H:%M:%S %z"),
    *("%d-%b-%Y", "%d-%b-%Y %H:%M:%S", "%d-%b-%y", "%Y-%m", "%Y-%j", "%G-W%V-%u"),
)
"""Formats that an error proposes; a day and a month can be told apart by a person only."""


def days(column: Column, *, drop: bool = False) -> pl.Series:
    """Calendar days; null where missing.

    Args:
        column: texts, or the days or times of a Parquet file.
        drop: a few texts that are not days are missing, too.
    """
    if column.values.dtype == pl.Date:
        return column.values
    if isinstance(column.values.dtype, pl.Datetime):
        return column.values.dt.date()
    text = column.texts
    out = text.str.to_date("%Y%m%d", strict=False)
    if out.null_count() != text.null_count():
        out = out.fill_null(text.str.to_date("%Y-%m-%d", strict=False))
    _refuse(
        column,
        out.is_null() & text.is_not_null(),
        "a day as 2024-01-31 or 20240131",
        "name another column in KEY.day, or leave it out: the days of the times are used then",
        drop=drop,
    )
    return out


def times(column: Column, unit: str, zone: str, *, drop: bool = False) -> pl.Series:
    """Seconds since 1970 in UTC, Int64, rounded down; null where missing.

    Args:
        column: numbers, texts, or the times of a Parquet file.
        unit: s, ms, us, ns, a format of strptime, or auto.
        zone: of times that do not state theirs.
        drop: values that cannot be read are missing, too, unless they are more than `MAX_BROKEN` of all.
    Raises:
        DataError: names the first value that cannot be used.
    """
    values = column.values
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        return _seconds(column, values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values, zone, drop)
    if "%" in unit:
        return _formatted(column, unit, zone, drop)
    if not (column.is_text or values.dtype.is_numeric() or values.dtype.is_nested()):
        column.refuse(values.is_not_null(), "a time or a number", "name another column in KEY.time")
    if unit == "auto" and column.is_text:
        first = column.texts.drop_nulls().head(FIRST_ROWS)
        if 2 * first.cast(pl.Float64, strict=False).count() < len(first):
            return _iso(column, zone, drop)
    numbers = column.ids if column.is_text or values.dtype.is_integer() else values
    if not numbers.dtype.is_integer():
        text = column.texts
        odd = ~text.cast(pl.Float64, strict=False).is_finite().fill_null(False) & text.is_not_null()
        expected = "a number, as other times of the column" if unit == "auto" else f"a number of {unit} (time_unit)"
        repair = "set KEY.time_unit to the unit or format of the times, or add the text to KEY.missing if it is no time"
        _refuse(column, odd, expected, repair, drop=drop)
        column = replace(column, values=values.set(odd, None))
        numbers = column.ids if column.is_text else column.numbers
        numbers = numbers if numbers.dtype.is_integer() else column.numbers
    if numbers.null_count() == len(numbers):
        return numbers.cast(pl.Int64)
    if unit == "auto":
        unit, odd = _unit(column, numbers, drop)
        numbers = numbers.set(odd, None)
    seconds = numbers // PER_SECOND[unit] if numbers.dtype.is_integer() else (numbers / PER_SECOND[unit]).floor()
    expected = f"a time in {unit} (time_unit) that is not after the year 5138"
    return _not_late(column, seconds, expected, drop).cast(pl.Int64)


def session_numbers(time: str, user: str, gap: float) -> pl.Expr:
    """Number of the session of each row, from 0 for each user; the rows must be in order of time.

    Args:
        time: column of the time.
        user: column of the user.
        gap: a longer pause begins a session, in the unit of the time.
    """
    pause = pl.col(time).diff().over(user)
    return (pause > gap).fill_null(value=False).cast(pl.Int64).cum_sum().over(user)


def _refuse(column: Column, bad: pl.Series, expected: str, repair: str, *, drop: bool) -> None:
    """Refuse the rows for which `bad` is true, unless they are few and rows without a time are dropped."""
    if bad.sum() > MAX_BROKEN * column.values.count():
        column.refuse(bad, expected, repair)
    elif not drop:
        column.refuse(bad, expected, f'{repair}, or set KEY.missing_times = "drop" to leave out and count such rows')


def _not_late(column: Column, seconds: pl.Series, expected: str, drop: bool) -> pl.Series:
    late = (seconds.abs() > LATEST_SECOND).fill_null(False)
    _refuse(column, late, expected, "set KEY.time_unit to its unit or format", drop=drop)
    return seconds.set(late, None)


def _unit(column: Column, values: pl.Series, drop: bool) -> tuple[str, pl.Series]:
    """The unit in which the numbers are times from 1973 to 2286, and the rows that are not."""
    if forms := _calendar_formats(values):
        looks = " or ".join(re.sub("%.", lambda found: LETTERS[found[0]], form) for form in forms)
        column.refuse(
            values.is_not_null(),
            f"a number whose size tells its unit, and it looks like {looks}",
            f"set KEY.time_unit to s, ms, us or ns, or to {' or '.join(forms)}",
        )
    seconds = {unit: values.cast(pl.Float64) / per_second for unit, per_second in PER_SECOND.items()}
    fits = {unit: (found >= EARLIEST_S) & (found < 100.0 * EARLIEST_S) for unit, found in seconds.items()}
    unit = max(fits, key=lambda name: (fits[name].sum(), fits[name].drop_nulls()[0]))
    odd = ~fits[unit].fill_null(True)
    _refuse(
        column,
        odd,
        "a number whose size tells its unit, all of them the same unit",
        "set KEY.time_unit to s, ms, us, ns or a format such as %Y%m%d",
        drop=drop,
    )
    return unit, odd


def _calendar_formats(values: pl.Series) -> list[str]:
    """The formats in which the numbers are days or hours of a calendar, e.g. 2014102115, but for a few broken rows."""
    known = values.drop_nulls()
    whole = known if known.dtype.is_integer() else known.cast(pl.Int64, strict=False)
    text = whole.set((whole < 0) | (whole != known), None).cast(pl.String)
    lengths = text.str.len_chars() + text.str.len_chars() % 2
    width = int(lengths.mode().max() or 0)  # type: ignore[arg-type]
    return [form for form in DIGITS.get(width, ()) if _fits(text.head(FIRST_ROWS), form) and _fits(text, form)]


def _fits(text: pl.Series, form: str) -> bool:
    first, last = YEARS[form[1]]
    years = _parsed(text, form).dt.year()
    return int(((years >= first) & (years <= last)).sum()) >= (1 - MAX_BROKEN) * len(text)


def _parsed(text: pl.Series, form: str) -> pl.Series:
    """Times in a format, null where they are not; an hour may lack its minutes."""
    if COMPACT.fullmatch(form):
        width = sum(4 if letter == "Y" else 2 for letter in form[1::2])
        text = text.str.zfill(width)
        text = text.set(text.str.len_chars() != width, None)
    if HOUR.search(form) and not MINUTE.search(form):
        text, form = text + " 00", form + " %M"
    return text.str.to_datetime(form, strict=False, time_unit="us")


def _iso(column: Column, zone: str, drop: bool) -> pl.Series:
    """ISO 8601 and what is close to it: a day, or a day and a time of 24 or 12 hours, with or without an offset (also
    UTC, GMT); several kinds may be mixed."""
    text = column.texts
    out = pl.repeat(None, len(text), dtype=pl.Int64, eager=True)
    for uniform in (text.str.replace("T", " ", literal=True), text):  # most times need no other replacement
        if uniform is text:
            for pattern, replacement in YEAR_FIRST:
                uniform = uniform.str.replace(pattern, replacement)
        for form in ISO_FORMATS:
            parsed = uniform.str.to_datetime(form, strict=False, time_unit="us")
            if parsed.null_count() < len(parsed):
                out = out.fill_null(_seconds(column, parsed, zone, drop))
            if out.null_count() == text.null_count():
                return out
    fitting = [
        form for form in WRITTEN if _parsed(text.head(FIRST_ROWS), form).count() == text.head(FIRST_ROWS).count()
    ]
    unread = text.is_not_null() & out.is_null()
    repair = f"set KEY.time_unit to its format, {' or '.join(fitting) or 'e.g. %d.%m.%Y %H:%M'}"
    if any(WITH_COMMAS.fullmatch(one) for one in text.filter(unread).head(1)):
        repair = NUMERAL
    _refuse(column, unread, "a time as 2024-01-31 23:59:59, 2024-01-31T23:59:59Z or a number", repair, drop=drop)
    return out


def _formatted(column: Column, form: str, zone: str, drop: bool) -> pl.Series:
    if ZONE_NAME.search(form):
        raise ConfigError(
            f"{column.sheet.key}.time_unit: {form!r} must not have %Z, because several zones share a name, so that it "
            "cannot be read; use auto if it is UTC, or write the name itself instead of %Z and set time_zone."
        )
    text = column.ids.cast(pl.String) if COMPACT.fullmatch(form) else column.texts  # 14102115.0 is 14102115
    try:
        if not YEAR.search(form):
            raise PolarsError("it has no year")
        parsed = _parsed(text, OFFSET.sub(r"\1%#z", FRACTION.sub("%.f", form)))
    except PolarsError as error:
        why = reason(error).rstrip(".")
        message = f"{column.sheet.key}.time_unit: {form!r} is not a usable format of a time: {why}."
        raise ConfigError(message) from None
    _refuse(
        column,
        parsed.is_null() & text.is_not_null(),
        f"a time in the format {form}",
        "set KEY.time_unit to the format of all times, or add the text to KEY.missing if it means no value",
        drop=drop,
    )
    return _seconds(column, parsed, zone, drop)


def _seconds(column: Column, times: pl.Series, zone: str, drop: bool) -> pl.Series:
    """Whole seconds since 1970 in UTC, rounded down; times without a zone are in `zone`."""
    if getattr(times.dtype, "time_zone", None) is None and zone != "UTC":
        times = _in_zone(column, times, zone, drop)
    return _not_late(column, times.dt.timestamp("ms") // 1000, "a time not after the year 5138", drop)


def _in_zone(column: Column, times: pl.Series, zone: str, drop: bool) -> pl.Series:
    """Local times of a zone: of an hour shown twice the first, and for a midnight never shown the next full hour."""
    try:
        here = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        midnight = here.is_null() & (times.dt.time() == time())
        if midnight.any():
            later = times.dt.offset_by("1h").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
            here = here.zip_with(~midnight.fill_null(False), later)
    except PolarsError as error:
        raise ConfigError(f"{column.sheet.key}.time_zone: {zone!r} cannot be used: {reason(error)}.") from None
    _refuse(
        column,
        here.is_null() & times.is_not_null(),
        f"a time that the clocks of {zone} have shown",
        "set KEY.time_zone to the zone of the times",
        drop=drop,
    )
    return here
