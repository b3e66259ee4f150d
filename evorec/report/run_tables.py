"""Tables of a run: the front, genes, failures, dropped evaluations and settings, and the verdict in words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evorec.errors import ConfigError
from evorec.report.record import UNFINISHED, Measure, RunRecord
from evorec.report.table import Column, Row, Table, show_metric

_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)


def front_table(record: RunRecord, sort: str | None = None) -> Table:
    """The front and the baselines on validation data, best first in the column sorted by.

    Args:
        record: the run.
        sort: a metric of the table; None = the first objective.
    Raises:
        ConfigError: the table has no such column.
    """
    measures = record.measures
    chosen = _find(measures, sort, record) if sort else measures[0]
    sign = -1.0 if chosen.direction == "max" else 1.0

    def sort_key(metrics: Mapping[str, float]) -> float:
        return sign * metrics[chosen.key] if chosen.key in metrics else float("inf")

    members = sorted(record.members, key=lambda member: (sort_key(member.metrics), member.key))
    baselines = sorted(record.baselines.items(), key=lambda pair: (sort_key(pair[1]), pair[0]))
    rows = [Row(member.key, _values(measures, member.metrics), "member") for member in members]
    if not members:
        rows += [Row(near.key, _values(measures, near.metrics), "infeasible") for near in record.least_infeasible]
    rows += [Row(name, _values(measures, metrics), "baseline") for name, metrics in baselines]
    columns = tuple(Column(measure.key, measure.unit, measure.direction, measure.title) for measure in measures)
    title = "Front on validation data" if members else "No member"
    if len(rows) > len(record.baselines) and not members:
        title += ": the evaluations closest to the constraints"
    return Table(title, "member", columns, tuple(rows))


def shortened(table: Table, n_members: int) -> Table:
    """A table of the front with at most about `n_members` members: each column's best and an even spread of the rest.

    Args:
        table: from `front_table`.
        n_members: number to show; each column's best member is always shown.
    """
    members = [index for index, row in enumerate(table.rows) if row.kind == "member"]
    if len(members) <= n_members:
        return table
    kept = {_best_row(table, members, index) for index in range(len(table.columns))}
    rest = [index for index in members if index not in kept]
    n_rest = max(n_members - len(kept), 0)
    kept |= {rest[number * len(rest) // n_rest] for number in range(n_rest)}
    rows = tuple(row for index, row in enumerate(table.rows) if row.kind != "member" or index in kept)
    n_kept = sum(row.kind == "member" for row in rows)
    return replace(table, title=f"{table.title}: {n_kept} of {len(members)} members", rows=rows)


def _best_row(table: Table, members: Sequence[int], column: int) -> int:
    sign = -1.0 if table.columns[column].direction == "max" else 1.0

    def sort_key(row: int) -> float:
        value = table.rows[row].values[column]
        return sign * value if isinstance(value, int | float) else float("inf")

    return min(members, key=sort_key)


def _find(measures: Sequence[Measure], name: str, record: RunRecord) -> Measure:
    for wanted in (name, record.resolve(name)):
        for measure in measures:
            if wanted in (measure.key, measure.title):
                return measure
    raise ConfigError(f"cannot sort by {name!r}; the columns are {', '.join(measure.key for measure in measures)}.")


def _values(measures: Sequence[Measure], metrics: Mapping[str, float]) -> tuple[float | None, ...]:
    return tuple(metrics.get(measure.key) for measure in measures)


def gene_table(record: RunRecord) -> Table:
    """The decoded genome of each member, in the order of the front table; inactive genes are missing."""
    names = list(dict.fromkeys(name for member in record.members for name in member.spec))
    specs = {member.key: member.spec for member in record.members}
    keys = [row.name for row in front_table(record).rows if row.kind == "member"]
    rows = tuple(Row(key, tuple(specs[key].get(name) for name in names), "member") for key in keys)
    return Table("Genes of the front", "member", tuple(Column(name) for name in names), rows)


def failure_table(record: RunRecord) -> Table:
    """Failed evaluations by cause, with numbers in the cause replaced so that similar causes are counted together."""
    causes: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for candidate in record.evaluations:
        if candidate.failure is not None:
            cause = _NUMBER.sub("#", candidate.failure.strip().split("\n")[0]) or "unknown"
            causes[cause] += 1
            examples.setdefault(cause, candidate.key)
    rows = tuple(Row(cause, (count, examples[cause])) for cause, count in causes.most_common())
    return Table("Failed evaluations by cause", "cause", (Column("count"), Column("first genome")), rows)


def dropped_table(record: RunRecord) -> Table:
    """How many evaluations were dropped at each rung; their metrics are those of the rung and are not shown."""
    counts = Counter(row.rung for row in record.evaluations if row.dropped and row.rung is not None)
    rows = tuple(Row(f"step {steps}", (counts[steps],)) for steps in sorted(counts))
    return Table("Dropped evaluations by rung", "rung", (Column("count"),), rows)


def dropped_text(record: RunRecord) -> str:
    """Dropped evaluations in words, ``12 dropped at step 100, 3 at step 200``; empty when nothing was dropped."""
    counts = [
        f"{row.values[0]} {'dropped ' if not i else ''}at {row.name}"
        for i, row in enumerate(dropped_table(record).rows)
    ]
    return ", ".join(counts)


def settings_table(record: RunRecord) -> Table:
    """Every setting of the run, dotted."""
    flat = _flatten(record.config.model_dump(mode="json"))
    rows = tuple(Row(name, (json.dumps(value),)) for name, value in flat.items())
    return Table("Settings", "key", (Column("value"),), rows)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def verdict(record: RunRecord) -> str:
    """How many members beat popularity on recall and coverage, in words."""
    if not record.members and record.state == UNFINISHED and not record.hypervolume:
        return f"The first generation is not complete yet ({len(record.evaluations)} evaluations so far)."
    if not record.members:
        return "No candidate met every constraint, so the archive is empty."
    recall, coverage = record.resolve("recall@k"), record.resolve("catalogue_coverage@k")
    popular = record.baselines.get("popularity", {})
    if recall not in popular or coverage not in popular:
        return "There is no popularity baseline to compare with."
    n = len(record.members)
    n_recall = _n_better(record, recall, popular)
    n_both = _n_better(record, recall, popular, coverage)
    against = f"popularity ({recall} {show_metric(popular[recall])}, {coverage} {show_metric(popular[coverage])})"
    if n_both:
        text = f"{n_both} of {n} members beat {against} on both"
    elif n_recall:
        text = f"{n_recall} of {n} members beat {against} on {recall}, none on both"
    else:
        text = f"No member of {n} beats {against} on {recall}"
    name, strongest = max(record.baselines.items(), key=lambda pair: pair[1].get(recall, float("-inf")))
    if name != "popularity":
        n_strong = _n_better(record, recall, strongest)
        text += f"; {n_strong or 'none'} beat{'' if n_strong > 1 else 's'} the strongest baseline, {name}, on {recall}"
        text += f" ({show_metric(strongest[recall])})"
    return f"{text}. These are validation figures, which also chose the members."


def _n_better(record: RunRecord, recall: str, than: Mapping[str, float], also: str | None = None) -> int:
    keys = [recall] if also is None else [recall, also]
    return sum(all(member.metrics.get(key, float("-inf")) > than[key] for key in keys) for member in record.members)
