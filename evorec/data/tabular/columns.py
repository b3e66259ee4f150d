"""Columns of a file in the types that the tables need; the first value that does not fit is reported with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, final

import polars as pl
from polars.exceptions import PolarsError

from evorec.config.expressions import PATTERN, Clause
from evorec.data.ids import LARGEST_EXACT
from evorec.data.tabular.lists import is_enclosed, parse_list
from evorec.data.tabular.sheet import Sheet
from evorec.errors import ConfigError, DataError

TRUTH: Final = {"true": 1.0, "false": 0.0}
COMPARE: Final[dict[str, Callable[[Any, Any], pl.Series]]] = {
    ">=": ge, "<=": le, "==": eq, "!=": ne, ">": gt, "<": lt,
}  # fmt: skip

ID: Final = "a whole number or a text"
EXACT_ID: Final = f"{ID}, and a float may have lost digits"
FRACTION: Final = 'name another column of ids, or derive one, e.g. by KEY.derive.id = "COLUMN // 1"'
NESTED: Final = "a feature with lists is multi_hot (KEY); of an object, write each value as a column"
NO_NUMBER: Final = "add VALUE to KEY.missing if it means no value; a feature of texts is categorical"
NO_LABEL: Final = "add VALUE to KEY.missing if it means no value, or compare the column in KEY.tasks: COLUMN == VALUE"
NUMERAL: Final = "write numbers with a decimal point and without separators of thousands"
WITH_COMMAS: Final = re.compile(r"[-+]?\d[\d.]*,\d+|[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
"""A number with a decimal comma, or with commas between thousands."""
VECTOR: Final = "leave the column out of KEY.content, or add the text to KEY.missing if it means no value"
"""Repairs; KEY is the key of the table in the configuration."""


@final
@dataclass(frozen=True, eq=False)
class Column:
    """A column of a file; each conversion is done once. A missing value is null.

    Args:
        sheet: its file, for errors.
        name: of the column.
        values: text, null for an empty value, or the type of a Parquet column.
        missing: texts that mean a missing value.
        is_derived: computed from a column of the file.
    """

    sheet: Sheet
    name: str
    values: pl.Series
    missing: tuple[str, ...] = ()
    is_derived: bool = False

    @classmethod
    def read(cls, sheet: Sheet, name: str, missing: tuple[str, ...], clause: Clause | None) -> Column:
        """A column of a sheet, or a column that a clause derives from a column of it.

        Raises:
            ConfigError: a regular expression that cannot be used.
            DataError: a value that the clause cannot be computed from.
        """
        values = sheet.frame[name if clause is None else clause.column]
        if values.dtype.is_decimal():
            values = values.cast(pl.Float64)
        elif isinstance(values.dtype, pl.Categorical | pl.Enum | pl.Null):
            values = values.cast(pl.String)
        column = cls(sheet, values.name, values, missing)
        if clause is None:
            return column
        if clause.operator != PATTERN:  # a computed number is never a mark for a missing value
            return replace(column, name=name, values=column._computed(clause), missing=(), is_derived=True)
        try:
            values = column.texts.str.extract(str(clause.operand), 1)
        except PolarsError as error:
            lines = str(error).splitlines()
            why = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])
            raise ConfigError(f"derive.{name}: {clause.operand!r} is not a usable regular expression: {why}.") from None
        return replace(column, name=name, values=values, is_derived=True)

    def refuse(self, bad: pl.Series, expected: str, repair: str = "") -> None:
        """Raise the error of the first row for which `bad` is true; null is not.

        Args:
            bad: bool ``(N,)``.
            expected: completes "must be ...".
            repair: what to do; ``KEY`` is the key of the table in the configuration.
        Raises:
            DataError: names the file, the line, the column and the value.
        """
        if len(rows := bad.arg_true()):
            raise self.refusal(rows[0], expected, repair, n_rows=len(rows))

    def refusal(self, row: int, expected: str, repair: str = "", *, n_rows: int = 1) -> DataError:
        """The error of a value, and of `n_rows` - 1 later rows; see `refuse`."""
        got = self.values[row]
        got = got.to_list() if isinstance(got, pl.Series) else got
        key = self.sheet.key
        repair = repair.replace("KEY", key) if key else ""
        return self.sheet.refusal(row, self.name, f"be {expected}", got, n_rows=n_rows, repair=repair)

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return self.values.dtype == pl.String

    @cached_property
    def numbers(self) -> pl.Series:
        """Finite numbers, Float64."""
        return self._numbers(truth=False)

    @cached_property
    def labels(self) -> pl.Series:
        """Finite numbers, Float64; true is 1 and false is 0."""
        return self._numbers(truth=True)

    @cached_property
    def texts(self) -> pl.Series:
        """Single values as texts, without white space around them; a list or an object is refused."""
        if self.values.dtype.is_nested() or self.values.dtype == pl.Binary:
            raise self.refusal(0, f"one value, and the column holds {self.values.dtype}", NESTED)
        if self.sheet.is_json and not self.is_derived:
            nested = (self.values.str.starts_with("[") | self.values.str.starts_with("{")).arg_true()
            if (row := self.sheet.first_nested(self.name, set(nested))) is not None:
                raise self.refusal(row, "one value", NESTED)
        return self._stripped

    @cached_property
    def ids(self) -> pl.Series:
        """Int64 if every value is a whole number in its usual notation, else texts; see `evorec.data.ids`.

        ``007`` and ``+7`` are texts: as numbers they would equal ``7``. ``7.0`` is ``7`` where every value is written
        so in a text table, by a program that has no missing whole numbers; a text of JSON lines or Parquet is taken as
        it is, with the white space around it. An empty text is missing whatever the settings, and a fraction in
        a typed column is refused.
        """
        stored = self.values if self.is_derived else self.sheet.frame[self.name]
        if self.sheet.is_json and not self.is_derived and self.values.str.contains(r"^-?[0-9]{16,}$").any():
            row = self.sheet.first_float(self.name, LARGEST_EXACT)
            if row is not None:
                raise self.refusal(row, EXACT_ID, "write it as a text")
        if not stored.dtype.is_decimal():
            return self._whole_or_text(is_id=True)
        text = stored.cast(pl.String).str.replace(r"\.0+$", "")  # a float would lose digits
        text = text.set(self._unmarked.is_null(), None)
        self.refuse(text.str.contains(".", literal=True), ID, FRACTION.replace("COLUMN", self.name))
        whole = _whole(text)
        return text if whole is None else whole

    @cached_property
    def codes(self) -> pl.Series:
        """Categories: Int64 where all are whole numbers, which takes half the memory of texts, else texts."""
        return self._whole_or_text(is_id=False)

    def lists(self, separator: str | None, *, whole: bool = False) -> pl.Series:
        """Lists of texts: of a Parquet file, of a text in brackets (see `parse_list`), or of a text with a separator.

        Args:
            separator: ``None`` = lists.
            whole: keep missing elements; without it they are left out.
        Raises:
            DataError: names the first value that is not a list.
        """
        values = self.values
        if isinstance(values.dtype, pl.Array):
            values = values.arr.to_list()
        if isinstance(values.dtype, pl.List):
            if values.dtype.inner.is_nested():
                raise self.refusal(0, f"a list of single values, and the column holds {values.dtype}")
            out = values.cast(pl.List(pl.String))
        else:
            has_lists = separator is None or (self.sheet.is_json and values.str.starts_with("[").any())
            out = self._parsed_lists(self._stripped if has_lists else self.texts, separator)
        if whole:
            return out
        element = pl.element().str.strip_chars()
        dropped = pl.element().is_null() | pl.element().is_in(["", *self.missing])
        return out.list.eval(element).list.eval(pl.element().filter(~dropped))

    def _parsed_lists(self, texts: pl.Series, separator: str | None) -> pl.Series:
        """Texts in brackets or braces as lists; other texts are split at the separator."""
        if separator is not None and not texts.str.contains(r"^\s*[\[{]").any():
            return texts.str.split(separator)
        found: dict[str, list[str | None] | None] = {}
        for text in texts.drop_nulls().unique():
            found[text] = parse_list(text, separator or ",")
            if separator is not None and not is_enclosed(text) and (found[text] is None or text[0] == "("):
                found[text] = text.split(separator)
        self.refuse(
            texts.is_in([text for text, elements in found.items() if elements is None]),
            "a JSON list such as [1, 2], a list as Python or PostgreSQL write it, or a text whose separator is set "
            f"({self.sheet.key}.separators)",
            f"set KEY.separators.{self.name}, or add the text to KEY.missing if it means no value",
        )
        schema = {"text": pl.String(), "list": pl.List(pl.String)}
        lists = pl.DataFrame({"text": list(found), "list": list(found.values())}, schema)
        return texts.to_frame("text").join(lists, on="text", how="left", maintain_order="left")["list"].alias(self.name)

    def vectors(self, separator: str | None) -> pl.Series:
        """Lists of finite numbers, all of one length.

        Raises:
            DataError: names the first value that is not such a list.
        """
        elements = self.lists(separator, whole=True)
        found = elements.list.eval(pl.element().str.strip_chars().cast(pl.Float64, strict=False))
        n_numbers = found.list.eval(pl.element().filter(pl.element().is_finite())).list.len()
        self.refuse(n_numbers != elements.list.len(), "a list of finite numbers", VECTOR)
        lengths = found.list.len()
        first = lengths.drop_nulls().head(1).sum()
        self.refuse(lengths != first, f"a list of {first} numbers, as in the first row that has one", VECTOR)
        return found

    @cached_property
    def _unmarked(self) -> pl.Series:
        """Null where a number such as -1 means a missing value: a conversion would take it for a number."""
        values, marks = self.values, [text for text in self.missing if _is_number(text)]
        if not marks:
            return values
        if self.is_text:
            return _without(values.str.strip_chars(), marks)
        if values.dtype.is_integer():
            return values.set(values.cast(pl.String).is_in(marks).fill_null(False), None)
        if values.dtype.is_float():
            return values.set(values.cast(pl.Float64).is_in([float(text) for text in marks]).fill_null(False), None)
        return values

    @cached_property
    def _stripped(self) -> pl.Series:
        values = self.values if self.is_text else self._unmarked
        values = values.fill_nan(None) if values.dtype.is_float() else values
        text = values.cast(pl.String).str.strip_chars()
        if self.sheet.is_text_table and not self.is_derived and "" not in self.missing:
            text = text.fill_null("")  # an empty value that is not listed as missing is a text
        return _without(text, self.missing)

    def _numbers(self, *, truth: bool) -> pl.Series:
        values = self._unmarked
        if not self.is_text:
            if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
                raise self.refusal(0, "a number")
            if values.dtype == pl.Boolean and not truth:
                self.refuse(values.is_not_null(), "a number")
            out = values.cast(pl.Float64).fill_nan(None)
            self.refuse(out.is_infinite(), "a finite number")
            return out
        out = values.cast(pl.Float64, strict=False)
        odd = (out.is_null() & values.is_not_null()) | ~out.is_finite().fill_null(True)
        if not odd.any():
            return out
        # most columns are plain numbers, so white space, marks and truth values are looked for in the other rows only
        rows = odd.arg_true()
        text = _without(self.values.gather(rows).str.strip_chars(), ("", *self.missing))
        found = text.cast(pl.Float64, strict=False)
        if truth:
            named = text.str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Float64)
            found = found.fill_null(named)
        wrong = rows.filter((found.is_null() & text.is_not_null()) | ~found.is_finite().fill_null(True))
        if len(wrong):
            expected, repair = ("a number, true or false", NO_LABEL) if truth else ("a finite number", NO_NUMBER)
            repair = repair.replace("COLUMN", self.name).replace("VALUE", repr(self.values[wrong[0]]))
            repair = NUMERAL if WITH_COMMAS.fullmatch(self.values[wrong[0]].strip()) else repair
            raise self.refusal(wrong[0], expected, repair, n_rows=len(wrong))
        return out.scatter(rows, found)

    def _whole_or_text(self, *, is_id: bool) -> pl.Series:
        values = self._unmarked
        if values.dtype.is_integer():
            whole = values.cast(pl.Int64, strict=False)
            return whole if whole.null_count() == values.null_count() else values.cast(pl.String)
        if values.dtype.is_float():  # whole numbers of a program that has no missing whole numbers
            values = values.cast(pl.Float64).fill_nan(None)
            broken = (values != values.floor()) | (values.abs() > LARGEST_EXACT)
            if is_id:
                self.refuse(broken, ID, FRACTION.replace("COLUMN", self.name))
            # 1.0 is 1 in a file with fractions, too, as in a file without
            return self.texts.str.strip_suffix(".0") if broken.any() else values.cast(pl.Int64)
        if self.is_text and (plain := _whole(values)) is not None:
            return plain
        text = _without(self.texts, ("",)) if is_id else self.texts
        is_text_table = self.sheet.is_text_table
        if is_id and self.is_text and not (is_text_table or self.is_derived):
            text = self.values.set(text.is_null(), None)
        found = _whole(text) if self.is_text else None
        if found is None and self.is_text and is_id and is_text_table and text.str.ends_with(".0").all():
            found = _whole(text.str.strip_suffix(".0"))
            if found is not None:
                self.refuse(found.abs() > LARGEST_EXACT, EXACT_ID, "write it as a text")
        return text if found is None else found

    def _computed(self, clause: Clause) -> pl.Series:
        """Numbers; whole numbers are divided as such, because ids can be too large for a float."""
        number = float(clause.operand or 0)
        if clause.operator == "//" and number.is_integer() and abs(number) <= LARGEST_EXACT:
            whole = self._whole_or_text(is_id=False)
            if whole.dtype.is_integer():
                return whole // int(number)
        return _arithmetic(self.numbers, clause)


def label(clauses: Sequence[Clause], column: Callable[[str], Column]) -> pl.Series:
    """The labels of a task: Float32 ``(N,)``, missing where a value is missing.

    Args:
        clauses: joined by ``or``: 1 where a clause is true, missing where none is true and a value is missing.
        column: gives the column of a name.
    """
    found = [_clause_values(clause, column(clause.column)) for clause in clauses]
    if len(found) > 1:
        found = [values if values.dtype == pl.Boolean else (values > 0) for values in found]
    return reduce(lambda left, right: left | right, found).cast(pl.Float32)


def _clause_values(clause: Clause, column: Column) -> pl.Series:
    if clause.operator in COMPARE:
        return COMPARE[clause.operator](column.texts if clause.is_text else column.labels, clause.operand)
    return _arithmetic(column.labels, clause) if clause.operator else column.labels


def _arithmetic(values: pl.Series, clause: Clause) -> pl.Series:
    """Numbers multiplied or divided; ``//`` gives Int64."""
    number = float(clause.operand or 0)
    if clause.operator == "*":
        return values * number
    out = values / number
    return out.floor().cast(pl.Int64) if clause.operator == "//" else out


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(text))
    return False


def _without(text: pl.Series, missing: Sequence[str]) -> pl.Series:
    gone = text.is_in(list(missing)).fill_null(False)
    return text.set(gone, None) if gone.any() else text


def _whole(text: pl.Series) -> pl.Series | None:
    """Whole numbers in their usual notation; ``None`` if a text is something else."""
    out = text.cast(pl.Int64, strict=False)
    if out.null_count() != text.null_count():
        return None
    unusual = text.str.starts_with("+") | text.str.starts_with("-0") | (text.str.starts_with("0") & (text != "0"))
    return None if unusual.any() else out
