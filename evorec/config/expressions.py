"""Expressions over a column, which define labels and derived columns, e.g. ``rating >= 4``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, final

COMPARISONS: Final = (">=", "<=", "==", "!=", ">", "<")
"""Operators that give true or false."""
ARITHMETIC: Final = ("*", "/", "//")
"""Operators that give a number; ``//`` is the whole part of a division, rounded down."""
PATTERN: Final = "~"
"""Operator that gives the first group of a regular expression; missing if it does not match."""

_CLAUSE: Final = re.compile(
    r"\s*(?:`(?P<quoted>[^`]+)`|(?P<bare>[^<>=!*/~`\"']+?))\s*(?:(?P<op>>=|<=|==|!=|//|[<>*/~])\s*(?P<operand>[^\s=].*?))?\s*",
    re.DOTALL,
)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_OR: Final = re.compile(r"\s+or\s+(?=(?:[^\"'`]*[\"'`][^\"'`]*[\"'`])*[^\"'`]*$)")
"""An ``or`` that is not inside quotes."""


@final
@dataclass(frozen=True)
class Clause:
    """A column, or a column with an operator and its operand.

    Args:
        column: of the file.
        operator: of `COMPARISONS` or `ARITHMETIC`, or `PATTERN`; empty for the column itself.
        operand: a number or a text; None without an operator.
    """

    column: str
    operator: str = ""
    operand: float | str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it compares texts, not numbers."""
        return self.operator in COMPARISONS and isinstance(self.operand, str)


def parse_label(text: str) -> tuple[Clause, ...]:
    """The clauses of a task, joined by ``or``.

    Args:
        text: a column; a column with ``>=``, ``>``, ``<=``, ``<``, ``==`` or ``!=`` and a number or a text; a column
            with ``*``, ``/`` or ``//`` and a number. A name with an operator in it is quoted: `` `a/b` == "x" ``.
    Raises:
        ValueError: the text cannot be parsed.
    Example:
        >>> parse_label("rating >= 4")
        (Clause(column='rating', operator='>=', operand=4.0),)
        >>> [clause.operand for clause in parse_label('event == cart or event == "or so"')]
        ['cart', 'or so']
    """
    clauses = tuple(_parse(part) for part in _OR.split(text))
    for clause in clauses:
        if clause.operator == PATTERN:
            raise ValueError(f"a label cannot be a pattern, got {text!r}; derive a column with it and compare that")
        if len(clauses) > 1 and clause.operator in ARITHMETIC:
            raise ValueError(f"or joins comparisons, not numbers, got {text!r}")
    return clauses


def parse_derived(text: str) -> Clause:
    """The clause of a derived column: ``COLUMN ~ PATTERN``, or ``*``, ``/`` or ``//`` and a number.

    Raises:
        ValueError: the text cannot be parsed.
    Example:
        >>> parse_derived(r"title ~ \\((\\d{4})\\)").operand
        '\\\\((\\\\d{4})\\\\)'
    """
    clause = _parse(text)
    if clause.operator not in (PATTERN, *ARITHMETIC):
        raise ValueError(
            f"must be COLUMN ~ PATTERN, COLUMN * NUMBER, COLUMN / NUMBER or COLUMN // NUMBER, got {text!r}"
        )
    return clause


def quoted_column(name: str) -> str:
    """The name of a column as an expression has it.

    Example:
        >>> quoted_column("event"), quoted_column("type or kind")
        ('event', '`type or kind`')
    """
    return name if re.fullmatch(r"\w+", name) else f"`{name}`"


def quoted_text(text: str) -> str:
    """A text as an expression has it.

    Example:
        >>> quoted_text("view"), quoted_text("add to cart"), quoted_text("1")
        ('view', "'add to cart'", "'1'")
    """
    if re.fullmatch(r"[^\W\d]\w*", text) and text != "or":
        return text
    return f'"{text}"' if "'" in text else f"'{text}'"


def _parse(text: str) -> Clause:
    found = _CLAUSE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"must be COLUMN, COLUMN >= NUMBER, COLUMN == TEXT or COLUMN / NUMBER (also > <= < != * //), got {text!r}"
        )
    column, operator = found["quoted"] or found["bare"], found["op"] or ""
    if not operator:
        return Clause(column)
    if operator == PATTERN:
        return Clause(column, operator, _checked_pattern(_operand_text(found["operand"])))
    operand = _operand(found["operand"])
    if isinstance(operand, str) and operator not in ("==", "!="):
        raise ValueError(f"must have a number after {operator}, got {text!r}")
    if operand == 0 and operator in ("/", "//"):
        raise ValueError(f"must not divide by zero, got {text!r}")
    return Clause(column, operator, operand)


def _operand(text: str) -> float | str:
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return _operand_text(text)


def _operand_text(text: str) -> str:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _checked_pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"must be a regular expression after ~, got {pattern!r}: {error}") from None
    if groups < 1:
        raise ValueError(f"must have a group in the regular expression, as (\\d+), got {pattern!r}")
    return pattern
