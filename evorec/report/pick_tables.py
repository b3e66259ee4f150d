"""Picks of a front as tables: the members, their exchange rates, what is reachable, and the gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evorec.archive.decide import SHORT, Choice
from evorec.archive.exchange import exchanges, gaps
from evorec.objectives import Metrics, Objective
from evorec.report.table import Column, Row, Table


def pick_tables(
    choices: Sequence[Choice],
    members: Mapping[str, Metrics],
    objectives: Sequence[Objective],
    columns: Sequence[Column],
) -> tuple[dict[str, Any], list[Table]]:
    """The chosen members, with the rates at which they can be exchanged for their neighbours.

    Args:
        choices: from `evorec.archive.decide.choices`.
        members: measured metrics by key.
        objectives: M objectives.
        columns: metrics to show.
    Returns:
        Plain JSON with ``picks`` (each with ``pick``, ``member``, ``metrics``, the number of ``candidates`` that keep
        its limits, ``reachable`` values among them, and ``exchanges``) and ``gaps``; and the same as tables.
    """
    rows, limits = [], []
    value: dict[str, Any] = {"picks": []}
    picks_of: dict[str, list[str]] = {}
    for choice in choices:
        own = members[choice.member]
        rows.append((choice.member, choice.pick, *(own.get(column.key) for column in columns)))
        best = {axis.metric: _best(axis, [members[key] for key in choice.candidates]) for axis in objectives}
        limits.append((choice.pick, len(choice.candidates), *best.values()))
        found = exchanges(choice.member, members, objectives)
        picks_of.setdefault(choice.member, []).append(choice.pick)
        value["picks"].append(
            {
                "pick": choice.pick,
                "member": choice.member,
                "metrics": dict(own),
                "candidates": len(choice.candidates),
                "reachable": best,
                "exchanges": [asdict(near) for near in found],
            }
        )
    axes = [Column(axis.metric, axis.unit, axis.direction, axis.name) for axis in objectives]
    tables = [
        Table.of("Picks on validation data", ("member", Column("pick"), *columns), rows, "member"),
        Table.of(
            "\nBest that the limits of a pick leave reachable, each value by a member of its own",
            ("pick", Column("candidates", numbers="count"), *axes),
            limits,
        ),
    ]
    lines = []
    for key, names in picks_of.items():
        lines.append(Row(f"{key[:SHORT]}: {'; '.join(names)}", ()))
        lines += [Row(f"  • {near.text}", ()) for near in exchanges(key, members, objectives)]
    jumps = gaps(members, objectives)
    if len(members) > 1 and len(objectives) > 1:
        tables.append(
            Table("\nExchange rates: the nearest member that is better in each objective", "", (), tuple(lines))
        )
    if jumps and len(members) > 2:
        found_gaps = tuple(Row(f"  • {gap.text}", ()) for gap in jumps)
        tables.append(Table("\nLargest gap of the front in each objective", "", (), found_gaps))
    value["gaps"] = [asdict(gap) for gap in jumps]
    return value, tables


def _best(axis: Objective, rows: Sequence[Metrics]) -> float:
    values = [row[axis.metric] for row in rows]
    return max(values) if axis.direction == "max" else min(values)
