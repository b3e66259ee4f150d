"""A table without users and items: which of its columns are labels and which are features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from evorec.config.expressions import quoted_column
from evorec.data.guess.log import MAX_CONTEXT, MAX_LEVELS, LogGuess
from evorec.data.guess.roles import LABELS, UNWANTED, has_word, is_code
from evorec.data.guess.sample import Values

TARGETS: Final = ("target", "outcome", "response", "default", "churn", "churned", "renew", "renewed", "claim", "y")
"""Further words in names of labels."""
UNIQUE: Final = 0.5
"""Share of the rows with a value of their own from which on a code says no more than the number of the row."""


@final
@dataclass(frozen=True)
class RowsGuess:
    """Columns of a table of rows by their roles.

    Attributes:
        tasks: label -> expression.
        features: feature -> kind.
        others: columns that are written as comments -> kind.
        unused: column of `others` -> why.
        time: column of the time; empty = none.
        time_unit: as in ``data.log``.
    """

    tasks: Mapping[str, str]
    features: Mapping[str, str]
    others: Mapping[str, str]
    unused: Mapping[str, str]
    time: str
    time_unit: str


def guess_rows(values: Mapping[str, Values], log: LogGuess) -> RowsGuess | None:
    """Labels and features of a table in which no column identifies items.

    Args:
        values: of each column.
        log: the roles that a log would have; its time is used.
    Returns:
        ``None`` without a label: columns with 0 and 1 are labels if their names say so, or if there is a single one.
    """
    truths = [name for name, own in values.items() if own.is_truth]
    labels = [name for name in truths if has_word(name, (*LABELS, *UNWANTED, *TARGETS))] or truths[: len(truths) == 1]
    if not labels:
        return None
    features: dict[str, str] = {}
    others: dict[str, str] = {}
    unused: dict[str, str] = {}
    for name, own in values.items():
        if name in (*labels, log.time) or own.is_list or own.n_values < 2:
            continue
        is_number = own.is_number and not is_code(name) and own.n_values > MAX_LEVELS
        kind = "numeric" if is_number else "categorical"
        if not is_number and own.n_values > min(MAX_CONTEXT, UNIQUE * len(own.texts)):
            others[name], unused[name] = kind, "too many different values"
        else:
            features[name] = kind
    if not features:
        return None
    tasks = {name: quoted_column(name) for name in labels}
    return RowsGuess(tasks, features, others, unused, log.time, log.time_unit)
