"""From columns as they stand in a file to typed columns; the first value that does not fit is named with its place.

A conversion tries all values at once and looks closer only at those that did not fit: most columns have none.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, final

import polars as pl
from polars.exceptions import PolarsError

from evorec.config.expressions import PATTERN, Clause
from evorec.data.readers.files import Sheet
from evorec.data.tables import LATEST_SECOND
from evorec.errors import ConfigError, DataError

TRUTH: Final = {"true": 1.0, "false": 0.0}
PER_SECOND: Final = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
UNIT_FROM: Final = {"s": 10**8, "ms": 10**11, "us": 10**14, "ns": 10**17}
"""Smallest number that is taken for a time in this unit, in 1973; the largest is a hundred times it, in 2286."""
LARGEST_WHOLE_FLOAT: Final = 2**53
ISO_DAY: Final = r"^(\d{4}-\d\d-\d\d)$"
ISO_FORMATS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
ISO_OFFSET_FORMATS: Final = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")


@final
@dataclass(frozen=True)
class Cells:
    """One column of one file.

    Args:
        sheet: where it is from, for errors.
        name: of the column.
        values: text, null for an empty value, or the type of a Parquet column.
        missing: texts that stand for no value.
    """

    sheet: Sheet
    name: str
    values: pl.Series
    missing: tuple[str, ...]

    def refusal(self, bad: pl.Series, expected: str) -> DataError:
        """The error of the first true place of `bad`."""
        row = int(bad.arg_true()[0])
        got = self.values[row]
        return self.sheet.refusal(row, self.name, expected, got.to_list() if isinstance(got, pl.Series) else got)

    @property
    def is_text(self) -> bool:
        """Whether the file had no types."""
        return self.values.dtype == pl.String


def cells(sheet: Sheet, name: str, missing: tuple[str, ...], clause: Clause | None) -> Cells:
    """A column of a sheet, or one that a clause derives from a column of it.

    Raises:
        ConfigError: a regular expression that cannot be used.
        DataError: a value that the clause cannot be computed from.
    """
    if clause is None:
        return Cells(sheet, name, _plain(sheet.frame[name]), missing)
    found = Cells(sheet, clause.column, _plain(sheet.frame[clause.column]), missing)
    if clause.operator != PATTERN:
        return replace(found, name=name, values=arithmetic(numbers(found), clause))
    try:
        return replace(found, name=name, values=texts(found).str.extract(str(clause.operand), 1))
    except PolarsError as error:
        why = str(error).splitlines()[-1]
        raise ConfigError(f"derive: {clause.operand!r} is no usable regular expression: {why}.") from None


def arithmetic(values: pl.Series, clause: Clause) -> pl.Series:
    """Numbers multiplied or divided; ``//`` gives Int64."""
    number = float(clause.operand or 0)
    if clause.operator == "*":
        return values * number
    out = values / number
    return out.floor().cast(pl.Int64) if clause.operator == "//" else out


def numbers(column: Cells, *, truth: bool = False) -> pl.Series:
    """Finite numbers, Float64; missing is null.

    Args:
        column: text or numbers.
        truth: true and false are numbers, too.
    Raises:
        DataError: names the first value that is none.
    """
    values = column.values
    if values.dtype == pl.Boolean and not truth:
        raise column.refusal(values.is_not_null(), "a number")
    if not column.is_text:
        if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
            raise column.refusal(pl.Series([True]), "a number")
        out = values.cast(pl.Float64).fill_nan(None)
        infinite = out.is_infinite().fill_null(False)
        if infinite.any():
            raise column.refusal(infinite, "a finite number")
        return out
    out = values.cast(pl.Float64, strict=False)
    odd = (out.is_null() & values.is_not_null()) | ~out.is_finite().fill_null(True)
    if not odd.any():
        return out
    return _odd_numbers(column, out, odd, truth)


def _odd_numbers(column: Cells, out: pl.Series, odd: pl.Series, truth: bool) -> pl.Series:
    """A closer look at the few texts that are no plain numbers."""
    rows = odd.arg_true()
    text = column.values.gather(rows).str.strip_chars()
    text = _without(text, column.missing)
    found = text.cast(pl.Float64, strict=False)
    if truth:
        said = text.str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Float64)
        found = found.zip_with(found.is_not_null(), said)
    wrong = (found.is_null() & text.is_not_null()) | ~found.is_finite().fill_null(True)
    if wrong.any():
        row = int(rows[int(wrong.arg_true()[0])])
        expected = "a number, true or false" if truth else "a finite number"
        raise column.sheet.refusal(row, column.name, expected, column.values[row])
    return out.scatter(rows, found)


def texts(column: Cells) -> pl.Series:
    """Texts without white space around them; missing is null."""
    values = column.values
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        raise column.refusal(pl.Series([True]), f"one value, and the column holds {values.dtype}")
    if values.dtype.is_float():
        values = values.fill_nan(None)
    text = values.cast(pl.String).str.strip_chars()
    if "" not in column.missing and column.is_text and not column.sheet.is_json:
        text = text.fill_null("")
    return _without(text, column.missing)


def _without(text: pl.Series, missing: tuple[str, ...]) -> pl.Series:
    gone = text.is_in(list(missing)).fill_null(False)
    return text.zip_with(~gone, pl.repeat(None, len(text), dtype=pl.String, eager=True)) if gone.any() else text


def whole_or_text(column: Cells, *, is_id: bool = True) -> pl.Series:
    """Int64 if every value is a whole number written in the one usual way, else texts; missing is null.

    ``007`` and ``+7`` are texts: as numbers they would become the same as ``7``.

    Args:
        column: of any single values.
        is_id: refuse fractions, which no id has; without it they become texts.
    Raises:
        DataError: names the first value that cannot be used.
    """
    values = column.values
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == values.null_count() else values.cast(pl.String)
    if values.dtype.is_float():
        return _whole_floats(column, is_id)
    if not column.is_text:
        return texts(column)
    if (plain := _whole(values)) is not None:
        return plain
    text = texts(column)
    found = _whole(text)
    return text if found is None else found


def _whole(text: pl.Series) -> pl.Series | None:
    out = text.cast(pl.Int64, strict=False)
    if out.null_count() != text.null_count():
        return None
    unusual = text.str.starts_with("+") | text.str.starts_with("-0") | (text.str.starts_with("0") & (text != "0"))
    return None if unusual.any() else out


def _whole_floats(column: Cells, is_id: bool) -> pl.Series:
    """Whole numbers that a table with missing values has made floats of."""
    values = column.values.cast(pl.Float64).fill_nan(None)
    broken = ((values != values.floor()) | (values.abs() > LARGEST_WHOLE_FLOAT)).fill_null(False)
    if broken.any() and is_id:
        raise column.refusal(broken, "a whole number or a text")
    return texts(column) if broken.any() else values.cast(pl.Int64)


def lists(column: Cells, separator: str | None, *, whole: bool = False) -> pl.Series:
    """Lists of texts; a missing value is null.

    Args:
        column: texts with a separator, JSON lists, or lists of a Parquet file.
        separator: None = lists.
        whole: keep missing elements; without it they are left out.
    Raises:
        DataError: names the first value that is no list.
    """
    values = column.values
    if isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    if isinstance(values.dtype, pl.List):
        if values.dtype.inner.is_nested():
            raise column.refusal(pl.Series([True]), f"a list of single values, and the column holds {values.dtype}")
        out = values.cast(pl.List(pl.String))
    elif separator is None or (column.sheet.is_json and values.str.starts_with("[").any()):
        out = _json_lists(column)
    else:
        out = texts(column).str.split(separator)
    if whole:
        return out
    dropped = ["", *column.missing]
    return out.list.eval(pl.element().str.strip_chars()).list.eval(
        pl.element().filter(pl.element().is_not_null() & ~pl.element().is_in(dropped))
    )


def _json_lists(column: Cells) -> pl.Series:
    found = texts(column)
    with suppress(PolarsError):  # then a closer look finds the first that is none
        if found.str.starts_with("[").all():
            return found.str.json_decode(pl.List(pl.String))
    out: list[list[str | None] | None] = []
    for row, text in enumerate(found):
        value = None
        if text is not None:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = text
            if not isinstance(value, list) or any(isinstance(part, list | dict) for part in value):
                expected = "a JSON list such as [1, 2], or a text whose separator is set"
                raise column.sheet.refusal(row, column.name, expected, text)
            value = [_json_text(part) for part in value]
        out.append(value)
    return pl.Series(column.name, out, dtype=pl.List(pl.String))


def _json_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def vectors(column: Cells, separator: str | None) -> pl.Series:
    """Lists of finite numbers, all of one length; a missing value is null.

    Raises:
        DataError: names the first value that is none.
    """
    elements = lists(column, separator, whole=True)
    found = elements.list.eval(pl.element().str.strip_chars().cast(pl.Float64, strict=False))
    n_numbers = found.list.eval(pl.element().filter(pl.element().is_finite())).list.len()
    broken = (n_numbers != elements.list.len()).fill_null(False)
    if broken.any():
        raise column.refusal(broken, "a list of finite numbers")
    lengths = found.list.len()
    if lengths.null_count() < len(lengths):
        length = lengths.drop_nulls()[0]
        other = (lengths != length).fill_null(False)
        if other.any():
            raise column.refusal(other, f"a list of {length} numbers, as in the first row that has one")
    return found


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
    """ISO 8601: a day, or a day and a time, with or without an offset; several kinds may be mixed."""
    text = texts(column)
    uniform = text.str.replace(r"^(\d{4}-\d\d-\d\d)[T ] *", "$1 ").str.replace(ISO_DAY, "$1 00:00:00")
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
    try:
        parsed = text.str.to_datetime(form, strict=False, time_unit="us")
    except PolarsError as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"data.log.time_unit: {form!r} is no usable format of a time: {why}.") from None
    wrong = parsed.is_null() & text.is_not_null()
    if wrong.any():
        raise column.refusal(wrong, f"a time in the format {form}")
    return _seconds(column, parsed, zone)


def _seconds(column: Cells, times: pl.Series, zone: str) -> pl.Series:
    """Seconds of times, those without a zone in `zone`; of an hour that a clock shows twice it is the first."""
    here = times
    if getattr(times.dtype, "time_zone", None) is None and zone != "UTC":
        try:
            here = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        except PolarsError as error:
            raise ConfigError(f"data.log.time_zone: {zone!r} cannot be used: {str(error).splitlines()[0]}.") from None
        lost = here.is_null() & times.is_not_null()
        if lost.any():
            raise column.refusal(lost, f"a time that the clocks of {zone} have shown; set time_zone")
    seconds = here.dt.timestamp("ms") // 1000
    late = (seconds.abs() > LATEST_SECOND).fill_null(False)
    if late.any():
        raise column.refusal(late, "a time not after the year 5138")
    return seconds


def _plain(values: pl.Series) -> pl.Series:
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    if values.dtype == pl.Null:
        return values.cast(pl.String)
    return values.cast(pl.Float64) if values.dtype.is_decimal() else values


def refuse_missing(sheet: Sheet, column: str, values: pl.Series) -> None:
    """Refuse a missing value.

    Args:
        sheet: where they are from.
        column: its name in the file.
        values: as they were read, one per row of the sheet.
    Raises:
        DataError: names its place.
    """
    if values.null_count():
        row = int(values.is_null().arg_true()[0])
        raise DataError(f"{sheet.place(row)}, column {column} must not be empty.")


def refuse_infinite(column: Cells, labels: pl.Series, task: str) -> None:
    """Refuse a label that is too large for its type.

    Raises:
        DataError: names its place.
    """
    infinite = labels.is_infinite().fill_null(False)
    if infinite.any():
        raise column.refusal(infinite, f"small enough for a label of task {task}, below 3.4e38")
