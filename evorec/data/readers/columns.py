"""From columns as they stand in a file to typed columns; the first value that does not fit is named with its place.

A conversion tries all values at once and looks closer only at those that did not fit: most columns have none.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, final

import polars as pl
from polars.exceptions import PolarsError

from evorec.config.expressions import PATTERN, Clause
from evorec.data.readers.files import Sheet
from evorec.errors import ConfigError, DataError

TRUTH: Final = {"true": 1.0, "false": 0.0}
LARGEST_WHOLE_FLOAT: Final = 2**53


@final
@dataclass(frozen=True)
class Cells:
    """One column of one file.

    Args:
        sheet: where it is from, for errors.
        name: of the column.
        values: text, null for an empty value, or the type of a Parquet column.
        missing: texts that stand for no value.
        is_derived: computed from a column of the file.
    """

    sheet: Sheet
    name: str
    values: pl.Series
    missing: tuple[str, ...]
    is_derived: bool = False

    def refusal(self, bad: pl.Series, expected: str) -> DataError:
        """The error of the first true place of `bad`."""
        row = int(bad.arg_true()[0])
        got = self.values[row]
        return self.sheet.refusal(row, self.name, expected, got.to_list() if isinstance(got, pl.Series) else got)

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return self.values.dtype == pl.String

    @property
    def null_is_empty_text(self) -> bool:
        """Whether an empty value, which is read as null, is a text like any other: it is not listed as missing."""
        return self.sheet.is_text_table and not self.is_derived and "" not in self.missing


def cells(sheet: Sheet, name: str, missing: tuple[str, ...], clause: Clause | None) -> Cells:
    """A column of a sheet, or one that a clause derives from a column of it.

    Raises:
        ConfigError: a regular expression that cannot be used.
        DataError: a value that the clause cannot be computed from.
    """
    column = name if clause is None else clause.column
    found = Cells(sheet, column, _plain(sheet.frame[column]), missing)
    if clause is None:
        return found
    if clause.operator != PATTERN:  # what it computes from a missing value is missing, and nothing else is
        return replace(found, name=name, values=_computed(found, clause), missing=(), is_derived=True)
    try:
        values = texts(found).str.extract(str(clause.operand), 1)
    except PolarsError as error:
        lines = str(error).splitlines()
        why = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
        raise ConfigError(f"derive.{name}: {clause.operand!r} is no usable regular expression: {why}.") from None
    return replace(found, name=name, values=values, is_derived=True)


def _unmarked(column: Cells) -> pl.Series:
    """Null where a number such as -1 stands for no value: a conversion to numbers would take it for one."""
    values, marks = column.values, [text for text in column.missing if _is_number(text)]
    if not marks:
        return values
    if column.is_text:
        return _without(values.str.strip_chars(), tuple(marks))
    if values.dtype.is_integer():
        return values.set(values.cast(pl.String).is_in(marks).fill_null(False), None)
    if values.dtype.is_float():
        return values.set(values.cast(pl.Float64).is_in([float(text) for text in marks]).fill_null(False), None)
    return values


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(text))
    return False


def _computed(column: Cells, clause: Clause) -> pl.Series:
    """What a clause makes of numbers; whole ones are divided as such, because ids can be too large for a float."""
    number = float(clause.operand or 0)
    if clause.operator == "//" and number.is_integer() and abs(number) <= LARGEST_WHOLE_FLOAT:
        whole = whole_or_text(column, is_id=False)
        if whole.dtype.is_integer():
            return whole // int(number)
    return arithmetic(numbers(column), clause)


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
    values = _unmarked(column)
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
    text = _without(text, ("", *column.missing))
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
    """Single values as texts, without white space around them; missing is null.

    Raises:
        DataError: names the first value that is a list or an object.
    """
    values = column.values
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        raise column.refusal(pl.Series([True]), f"one value, and the column holds {values.dtype}")
    if column.sheet.is_json and not column.is_derived:
        nested = (values.str.starts_with("[") | values.str.starts_with("{")).arg_true()
        if (row := column.sheet.first_nested(column.name, set(nested))) is not None:
            raise column.sheet.refusal(row, column.name, "one value", values[row])
    return _stripped(column)


def _stripped(column: Cells) -> pl.Series:
    values = column.values if column.is_text else _unmarked(column)
    values = values.fill_nan(None) if values.dtype.is_float() else values
    text = values.cast(pl.String).str.strip_chars()
    return _without(text.fill_null("") if column.null_is_empty_text else text, column.missing)


def _without(text: pl.Series, missing: tuple[str, ...]) -> pl.Series:
    gone = text.is_in(list(missing)).fill_null(False)
    return text.zip_with(~gone, pl.repeat(None, len(text), dtype=pl.String, eager=True)) if gone.any() else text


def whole_or_text(column: Cells, *, is_id: bool = True) -> pl.Series:
    """Int64 if every value is a whole number written in the one usual way, else texts; missing is null.

    ``007`` and ``+7`` are texts: as numbers they would become the same as ``7``.

    Args:
        column: of any single values.
        is_id: an empty text is missing whatever the settings say, ``7.0`` is ``7`` where every value is written so
            (by a program that has no missing whole numbers), and a fraction of a typed column is refused.
    Raises:
        DataError: names the first value that cannot be used.
    """
    values = _unmarked(column)
    if values.dtype.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == values.null_count() else values.cast(pl.String)
    if values.dtype.is_float():
        return _whole_floats(column, values, is_id)
    if column.is_text and (plain := _whole(values)) is not None:
        return plain
    text = texts(column)
    if is_id:
        text = _without(text, ("",))
    if not column.is_text:
        return text
    found = _whole(text)
    if found is None and is_id and text.str.ends_with(".0").all():
        found = _whole(text.str.strip_suffix(".0"))
    return text if found is None else found


def _whole(text: pl.Series) -> pl.Series | None:
    out = text.cast(pl.Int64, strict=False)
    if out.null_count() != text.null_count():
        return None
    unusual = text.str.starts_with("+") | text.str.starts_with("-0") | (text.str.starts_with("0") & (text != "0"))
    return None if unusual.any() else out


def _whole_floats(column: Cells, values: pl.Series, is_id: bool) -> pl.Series:
    """Whole numbers that a table with missing values has made floats of."""
    values = values.cast(pl.Float64).fill_nan(None)
    broken = ((values != values.floor()) | (values.abs() > LARGEST_WHOLE_FLOAT)).fill_null(False)
    if broken.any() and is_id:
        raise column.refusal(broken, "a whole number or a text")
    if broken.any():  # 1.0 is 1 here, too, as it is in another file that has no fractions
        return texts(column).str.strip_suffix(".0")
    return values.cast(pl.Int64)


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
    found = _stripped(column)
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
    if isinstance(value, float) and value.is_integer():  # as polars writes it
        return str(int(value))
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
