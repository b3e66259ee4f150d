"""Tasks that depend on each other: funnels, where a later step implies the earlier steps, and conditional labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import polars as pl

from evorec.data.dataset import Int64
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError


def funnel_parents(tasks: Sequence[str], funnel: Sequence[str]) -> tuple[int, ...]:
    """Index of each task's step before it in the funnel, -1 where there is none; ``(T,)``.

    Example:
        >>> funnel_parents(("purchase", "click", "like"), funnel=("click", "purchase"))
        (1, -1, -1)
    """
    before = dict(zip(funnel[1:], funnel, strict=False))
    return tuple(list(tasks).index(before[task]) if task in before else -1 for task in tasks)


def check_funnel(tables: Tables, funnel: Sequence[str], parts: Mapping[str, Int64]) -> None:
    """Refuse a positive of a later step that is not a positive of the earlier steps, where those are known.

    Args:
        tables: all interactions.
        funnel: label columns, in order.
        parts: name of a part -> its row numbers ``(N,)``.
    Raises:
        DataError: names the tasks, how many rows break the funnel, and the first of them.
    """
    for (part, rows), (earlier, later) in ((p, pair) for p in parts.items() for pair in combinations(funnel, 2)):
        labels = tables.interactions[[earlier, later]][rows]
        broken = np.flatnonzero(((labels[later] > 0) & (labels[earlier] <= 0)).fill_null(value=False).to_numpy())
        if len(broken):
            first = int(rows[broken[0]])
            user, item = (tables.interactions[name][first] for name in (Columns.USER, Columns.ITEM))
            raise DataError(
                f"tasks.funnel of {tables.name}: {later} must imply {earlier}, and {len(broken)} of the {part} rows "
                f"have {later} without {earlier}, first row {first} (user {user}, item {item}); take one of them out "
                "of tasks.funnel."
            )


def conditioned(frame: pl.DataFrame, tasks: Sequence[str], given: Mapping[str, str]) -> pl.DataFrame:
    """The labels ``(N, T)`` of the tasks; a label that depends on another label is null where that label is not
    positive.

    Conditions are combined: a label that depends on a second label, which depends on a third, needs both positive.

    Args:
        frame: interactions with all label columns.
        tasks: label columns to return.
        given: label -> label whose positives are its sample space; without a cycle.
    """

    def known(label: str) -> pl.Expr:
        if label not in given:
            return pl.col(label)
        return pl.when(known(given[label]) > 0).then(pl.col(label)).alias(label)

    return frame.select(known(task) for task in tasks)
