"""Split and tasks that the rows of a log allow: every part must have rows, and every ranked task both classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, final

import polars as pl

from evorec.config import SplitConfig, TasksConfig
from evorec.data.describe import Description, describe
from evorec.data.tables import Tables

SplitKind = Literal["time", "leave_last_out", "random", "given"]
FEWEST: Final = 5
"""Positives and negatives that a ranked task must have in each part."""
MOST_TASKS: Final = 4
"""Ranked tasks of a first search; each has a tower in every member."""
CONSTANT: Final = 0.95
"""Share of positives from which on the target is not ranked, too."""
FEW_USERS: Final = 200
"""Users of validation below which a split by time is compared with the last rows of each user."""


@final
@dataclass(frozen=True)
class Evidence:
    """A split, and the tasks that can be ranked with it.

    Attributes:
        split: kind.
        target: label whose positives are retrieved.
        ranked: labels with both classes in each part, the most frequent first.
        unranked: label -> why it is not ranked.
        why: reason for a split that is neither given nor by time.
    """

    split: SplitKind
    target: str
    ranked: tuple[str, ...] = ()
    unranked: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


def weigh(tables: Tables, *, target: str, unwanted: Sequence[str], given: bool) -> Evidence:
    """Choose the split and the ranked tasks.

    Args:
        tables: all rows.
        target: label whose positives are retrieved; empty = the first label.
        unwanted: labels that are not ranked.
        given: whether the log says the part of each row.
    """
    target = target or tables.tasks[0]
    found: dict[SplitKind, Description] = {}

    def described(kind: SplitKind) -> Description:
        if kind not in found:
            found[kind] = describe(tables, split=SplitConfig(kind=kind), tasks=TasksConfig(target=target))
        return found[kind]

    kind: SplitKind = "time"
    why = ""
    if given:
        kind = "given"
    elif tables.times == "none":
        kind, why = "random", "the log has no times"
    elif tables.times == "order":
        kind, why = "leave_last_out", "the lines have an order, but no times"
    elif (n := _n_users(described("time"))) < FEW_USERS and _n_users(described("leave_last_out")) > 2 * n:
        kind, why = "leave_last_out", f"by time, only {n} users of validation have rows in training, too"
    parts = described(kind)
    labels = parts.labels.filter(pl.col("label").is_in([*tables.tasks]))
    counts = (
        labels.filter("binary")
        .group_by("label", maintain_order=True)
        .agg(
            pl.col("n_positive").min().alias("fewest_positive"),
            (pl.col("n_known") - pl.col("n_positive")).min().alias("fewest_negative"),
            (pl.col("n_positive").sum() / pl.col("n_known").sum()).alias("share"),
        )
    )
    ranked: list[str] = []
    unranked: dict[str, str] = {}
    for name, n_positive, n_negative, share in counts.sort("share", descending=True, maintain_order=True).rows():
        if name in unwanted:
            unranked[name] = "says that an item was not wanted"
        elif share == 1:
            unranked[name] = "every row has it"
        elif n_negative < FEWEST or n_positive < FEWEST:
            rare = "positive" if n_positive < FEWEST else "negative"
            unranked[name] = f"a part has only {min(n_positive, n_negative)} {rare} rows"
        elif name == target and share > CONSTANT:
            unranked[name] = f"{share:.1%} of the rows have it"
        elif len(ranked) == MOST_TASKS:
            unranked[name] = "rarer than the others"
        else:
            ranked.append(name)
    return Evidence(kind, target, tuple(ranked), unranked, why)


def _n_users(found: Description) -> int:
    """Users of the held-out part with the fewest on whom recall is measured; 0 if the log cannot be split."""
    counts = [part["n_ranking_users"] or 0 for part in found.held_out]
    return min(counts, default=0)
