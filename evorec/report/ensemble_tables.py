"""Tables of the ensembles of an archive: figures beside the best members, members with weights, and the held half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evorec.report.table import Column, Row, Table, counted

if TYPE_CHECKING:
    from evorec.report.record import RunRecord


def ensemble_table(record: RunRecord) -> Table:
    """The ensembles and, of each goal, the best member, on validation."""
    columns = (Column("best of"), Column("members", numbers="count"), *record.columns)

    def row(name: str, text: str, n: int, metrics: Mapping[str, float], kind: str) -> Row:
        return Row(name, (text, n, *(metrics.get(column.key) for column in record.columns)), kind)

    rows = [row(one.key, "\n".join(one.best), len(one.ensemble.members), one.metrics, "member")
            for one in record.ensembles]  # fmt: skip
    metrics = {member.key: member.metrics for member in record.members}
    for goal in record.ensemble_goals:
        direction = next((column.direction for column in record.columns if column.key == goal), "max")
        sign = -1 if direction == "min" else 1
        measured = [key for key, own in metrics.items() if goal in own]
        best = max(measured, key=lambda key, goal=goal, sign=sign: sign * metrics[key][goal])  # type: ignore[misc]
        rows.append(row(best, f"{goal}, a member", 1, metrics[best], "baseline"))
    return Table("Ensembles on validation data", "key", columns, tuple(rows), has_lines=True)


def weights_table(record: RunRecord) -> Table:
    """The members of each ensemble with their shares in the outputs of tasks and in the list scores."""
    rows = []
    for one in record.ensembles:
        parts = zip(one.ensemble.members, one.ensemble.tasks, one.ensemble.lists, strict=True)
        for number, (member, tasks, lists) in enumerate(parts):
            rows.append((one.key if not number else "", member, tasks, lists))
    headings = ("ensemble", "member", Column("tasks", numbers="share"), Column("lists", numbers="share"))
    return Table.of("Members and their weights", headings, rows)


def held_table(record: RunRecord) -> Table:
    """What selections of one half of the users gain on the other, over the best member of the same half."""
    headings = ("goal", Column("members", title="at most"), Column("gain", title="mean gain"), "in each half", "kept")
    rows = (
        (
            one["goal"],
            one["at_most"],
            f"{one['gain']:+.4f}",
            ", ".join(f"{half:+.4f}" for half in one["halves"]),
            one["kept"],
        )
        for one in record.held
    )
    return Table.of("Gain over the best member, on users that did not select", headings, rows)


def ensemble_text(record: RunRecord) -> str:
    """What the tables say, in words; empty before ensembles were selected."""
    if not record.ensemble_goals:
        return ""
    goals = ", ".join(record.ensemble_goals)
    if not record.ensembles:
        return (
            f"No ensemble is kept: none improves {goals} on users that did not select it, or members dominate those "
            "that do."
        )
    return (
        f"{counted(len(record.ensembles), 'ensemble')}, selected on validation for {goals}. The figures above are of "
        "the users that selected them; the gain on other users is what to expect. Costs are sums over the members."
    )
