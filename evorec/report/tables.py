"""Tables of a run as frozen data: the terminal, the HTML page and ``--format json`` all draw the same ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, final

from evorec.errors import ConfigError

if TYPE_CHECKING:
    from evorec.report.record import Measure, RunRecord

MISSING = "–"
UNFINISHED = "not finished"
SHORT = 8  # digits of a key where the whole one does not fit; commands take it as it is
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)


@final
@dataclass(frozen=True)
class Column:
    """Heading of a column.

    Attributes:
        key: name in JSON, and title unless there is another.
        unit: shown under the title.
        direction: of a metric: which end is good; None for anything else.
        title: what people read, when it is not the key.
        numbers: what the numbers of the column are, which are then written alike and stand right.
    """

    key: str
    unit: str = ""
    direction: Literal["max", "min"] | None = None
    title: str = ""
    numbers: Literal["", "count", "share"] = ""

    def text(self, value: Any) -> str:
        """A value of this column; metrics of a column line up."""
        if self.numbers and isinstance(value, int | float):
            return show_share(value) if self.numbers == "share" else f"{value:,}"
        return show(value) if self.direction is None else show_metric(value)


@final
@dataclass(frozen=True)
class Row:
    """One row; `kind` is ``"member"``, ``"infeasible"``, ``"baseline"`` or ``""``."""

    name: str
    values: tuple[Any, ...]
    kind: str = ""


@final
@dataclass(frozen=True)
class Table:
    """A titled table; the first column holds the rows' names and is headed by `corner`."""

    title: str
    corner: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def best(self, column: int) -> float | None:
        """Best value of the members in a column, None where neither end is good."""
        direction = self.columns[column].direction
        values = [row.values[column] for row in self.rows if row.kind == "member" and row.values[column] is not None]
        if direction is None or not values:
            return None
        return float(max(values) if direction == "max" else min(values))

    def as_json(self) -> list[dict[str, Any]]:
        """Rows as plain dictionaries, values unrounded."""
        names = [column.key for column in self.columns]
        rows = [dict(zip(names, row.values, strict=True)) for row in self.rows]
        return [
            {self.corner: row.name, **({"kind": row.kind} if row.kind else {}), **values}
            for row, values in zip(self.rows, rows, strict=True)
        ]


def show(value: Any) -> str:
    """A plain JSON value as a person reads it.

    Example:
        >>> [show(value) for value in (0.003, 48, True, None, {"click": 1.5, "like": 0.5}, ["a", "b"])]
        ['0.003', '48', 'yes', '–', 'click 1.5, like 0.5', 'a, b']
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {show(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(show(part) for part in value)
    return str(value)


def show_metric(value: float | None) -> str:
    """A measured value: four decimals, or three digits and a prefix from 1000 on.

    Example:
        >>> [show_metric(value) for value in (0.07991, 12_345_678.0, 0.00002, None)]
        ['0.0799', '12.3 M', '2.00e-05', '–']
    """
    if value is None:
        return MISSING
    for size, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * size:
            return f"{value / size:#.3g}".rstrip(".") + f" {prefix}"
    return f"{value:.2e}" if 0 < abs(value) < 5e-5 else f"{value:.4f}"


def show_share(share: float) -> str:
    """A share in percent; only all reads 100 %, and only nothing 0 %.

    Example:
        >>> [show_share(share) for share in (0.0, 0.00001, 0.00217, 0.3896, 0.99999, 1.0)]
        ['0 %', '< 0.01 %', '0.22 %', '39.0 %', '> 99.9 %', '100 %']
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if not 1e-4 <= share <= 0.9995:
        return "< 0.01 %" if share < 0.5 else "> 99.9 %"
    return f"{100 * share:.{1 if share >= 0.0995 else 2}f} %"


def counted(n: int, thing: str) -> str:
    """A count with its noun.

    Example:
        >>> counted(1, "row"), counted(1200, "row")
        ('1 row', '1,200 rows')
    """
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def front_table(record: RunRecord, sort: str | None = None) -> Table:
    """The front and the baselines on validation data, best first in the column sorted by.

    Args:
        record: the run.
        sort: a metric of the table; None = the first objective.
    Raises:
        ConfigError: there is no such column.
    """
    measures = record.measures
    chosen = _find(measures, sort, record) if sort else measures[0]
    sign = -1.0 if chosen.direction == "max" else 1.0

    def place(metrics: Mapping[str, float]) -> float:
        return sign * metrics[chosen.key] if chosen.key in metrics else float("inf")

    members = sorted(record.members, key=lambda member: (place(member.metrics), member.key))
    baselines = sorted(record.baselines.items(), key=lambda pair: (place(pair[1]), pair[0]))
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
        n_members: how many to show; each column's best member is shown whatever their number.
    """
    members = [place for place, row in enumerate(table.rows) if row.kind == "member"]
    if len(members) <= n_members:
        return table
    kept = {_best_row(table, members, place) for place in range(len(table.columns))}
    rest = [place for place in members if place not in kept]
    n_rest = max(n_members - len(kept), 0)
    kept |= {rest[index * len(rest) // n_rest] for index in range(n_rest)}
    rows = tuple(row for place, row in enumerate(table.rows) if row.kind != "member" or place in kept)
    n_kept = sum(row.kind == "member" for row in rows)
    return replace(table, title=f"{table.title}: {n_kept} of {len(members)} members", rows=rows)


def _best_row(table: Table, members: Sequence[int], column: int) -> int:
    sign = -1.0 if table.columns[column].direction == "max" else 1.0

    def place(row: int) -> float:
        value = table.rows[row].values[column]
        return sign * value if isinstance(value, int | float) else float("inf")

    return min(members, key=place)


def _find(measures: Sequence[Measure], name: str, record: RunRecord) -> Measure:
    for wanted in (name, record.resolve(name)):
        for measure in measures:
            if wanted in (measure.key, measure.title):
                return measure
    raise ConfigError(f"cannot sort by {name!r}; the columns are {', '.join(measure.key for measure in measures)}.")


def _values(measures: Sequence[Measure], metrics: Mapping[str, float]) -> tuple[float | None, ...]:
    return tuple(metrics.get(measure.key) for measure in measures)


def gene_table(record: RunRecord) -> Table:
    """What each member decodes to, in the order of the front table; a gene that is not active is missing."""
    names = list(dict.fromkeys(name for member in record.members for name in member.spec))
    specs = {member.key: member.spec for member in record.members}
    keys = [row.name for row in front_table(record).rows if row.kind == "member"]
    rows = tuple(Row(key, tuple(specs[key].get(name) for name in names), "member") for key in keys)
    return Table("Genes of the front", "member", tuple(Column(name) for name in names), rows)


def failure_table(record: RunRecord) -> Table:
    """Failed evaluations by cause, numbers inside the cause left out so that like causes meet."""
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
    """How many evaluations were dropped at each rung; their metrics are those of the rung and are shown nowhere."""
    counts = Counter(row.rung for row in record.evaluations if row.dropped and row.rung is not None)
    rows = tuple(Row(f"step {steps}", (counts[steps],)) for steps in sorted(counts))
    return Table("Dropped evaluations by rung", "rung", (Column("count"),), rows)


def dropped_text(record: RunRecord) -> str:
    """The same in words, ``12 dropped at step 100, 3 at step 200``; empty when nothing was dropped."""
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
    """Whether, and how many, members beat popularity on recall and coverage, in plain words."""
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
