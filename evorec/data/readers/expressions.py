"""Labels from the expressions of ``data.log.tasks``; a missing value gives a missing label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final

import polars as pl

from evorec.config.expressions import Clause
from evorec.data.readers.columns import arithmetic

COMPARE: Final[dict[str, Callable[[Any, Any], pl.Series]]] = {
    ">=": ge, "<=": le, "==": eq, "!=": ne, ">": gt, "<": lt,
}  # fmt: skip

Convert = Callable[[str], pl.Series]
"""Name of a column -> its values."""


def label(clauses: Sequence[Clause], numbers: Convert, texts: Convert) -> pl.Series:
    """One label per row.

    Args:
        clauses: joined by ``or``: 1 where one of them is true, missing where none is and one is missing.
        numbers: finite numbers of a column, true and false among them.
        texts: texts of a column.
    Returns:
        Float32 ``(N,)``.
    """
    found = [clause_values(clause, numbers, texts) for clause in clauses]
    if len(found) > 1:
        found = [values if values.dtype == pl.Boolean else (values > 0) for values in found]
    return reduce(lambda one, other: one | other, found).cast(pl.Float32)


def clause_values(clause: Clause, numbers: Convert, texts: Convert) -> pl.Series:
    """Numbers, or Boolean where the clause compares; ``(N,)``, null where the column is missing."""
    if clause.is_text:
        return COMPARE[clause.operator](texts(clause.column), clause.operand)
    values = numbers(clause.column)
    if clause.operator in COMPARE:
        return COMPARE[clause.operator](values, clause.operand)
    return arithmetic(values, clause) if clause.operator else values
