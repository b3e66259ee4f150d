"""Ids of users and items: which values are ids, and which of them are equal.

An id is a whole number or a text, and its spelling is exact: ``"7"`` is the number 7 written as text, while ``"007"``,
``"+7"``, ``"7.0"`` and ``" 7"`` are other ids. The readers of logs apply the same rule to whole columns
(`evorec.data.tabular.columns.Column.ids`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import numpy as np

from evorec.errors import DataError

Id = int | str
"""An external id; a number may be written as text."""
LARGEST_EXACT: Final = 2**53 - 1
"""Largest whole number that every program reads exactly: many keep all numbers of JSON as floats of double precision,
in which 2**53 and 2**53 + 1 are equal."""
_WHOLE: Final = re.compile("0|-?[1-9][0-9]{0,18}")
"""A whole number in its usual notation."""
_MISSING: Final = ("NAType", "NaTType")
"""Types of a missing value of pandas, which is not imported for them."""


def as_id(value: Any) -> Id | None:
    """The id of a value from a table, a program or a command line.

    Args:
        value: a whole number of any type, a text, or a missing value. A float or a decimal that is whole is the number:
            columns of numbers with a missing value become floats in many programs.
    Returns:
        A Python number or text; ``None`` for a missing value.
    Raises:
        DataError: the value is of another type, a fraction, or a float that may have lost digits.
    Example:
        >>> as_id(1.0), as_id("1.0"), as_id(float("nan"))
        (1, '1.0', None)
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if value is None or type(value).__name__ in _MISSING:
        return None
    if isinstance(value, float | np.floating):
        number = float(value)
        if np.isnan(number):
            return None
        if number.is_integer() and abs(number) <= LARGEST_EXACT:
            return int(number)
        if number.is_integer():
            raise DataError(
                f"an id must be exact, got {value!r}, a float that may have lost digits; use an integer or a text."
            )
    if isinstance(value, Decimal) and value.is_nan():
        return None
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    raise DataError(f"an id must be a whole number or a text, got {value!r}.")


def as_ids(values: Any, what: str) -> list[Id]:
    """The ids of a list, an array, a column or any other iterable; missing values are left out.

    Args:
        values: of ids.
        what: their name in a message.
    Raises:
        DataError: `values` is a single id, a mapping or a table, or has a value that is no id.
    """
    return [id_ for value in listed(values, what) if (id_ := as_id(value)) is not None]


def listed(values: Any, what: str) -> list[Any]:
    """The elements of an iterable; a single value instead is refused, because a text would be split into characters.

    Raises:
        DataError: says how to write it.
    """
    is_single = isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable)
    if is_single or len(getattr(values, "shape", (0,))) != 1:
        got = repr(values) if len(repr(values)) <= 60 else type(values).__name__
        fix = f"; write [{got}]" if is_single and not isinstance(values, Mapping) else ""
        raise DataError(f"{what} must be a list, got {got}{fix}.")
    return list(values)


def other_spelling(id_: Id) -> Id | None:
    """The text of a number, or the number of a text; ``None`` for other texts.

    Example:
        >>> other_spelling("7"), other_spelling("007"), other_spelling(7)
        (7, None, '7')
    """
    if isinstance(id_, int):
        return str(id_)
    return int(id_) if _WHOLE.fullmatch(id_) else None


def json_id(id_: Id) -> Id:
    """An id as JSON can carry it: a number beyond `LARGEST_EXACT` as text, which every program reads exactly."""
    return str(id_) if isinstance(id_, int) and abs(id_) > LARGEST_EXACT else id_
