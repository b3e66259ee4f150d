"""Tables and the first lines about a data set; the terminal and the HTML page draw the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from evorec.config import COOCCURRENCE
from evorec.data.description import (
    Description,
    FeatureFacts,
    LabelFacts,
    LabelPart,
    PartFacts,
    Source,
    Spread,
)
from evorec.report.tables import MISSING, Column, Row, Table, show_share

T = TypeVar("T")

MOST_FILES = 6
"""Files that are named in a sentence."""
FOUR_DIGITS = 1e3
"""Numbers from here on are rounded to whole ones."""
LEARNED = "learned"
"""Kind of co-occurrence, whose name is the part's own already."""
FIVE_DIGITS = 10_000
"""Whole numbers from here on have commas."""
LONGEST = 1e12
"""Numbers above are written with an exponent."""
SHORT_LOG_DAYS = 3
"""Up to this length moments are shown instead of days."""


def printable(value: T) -> T:
    r"""The same text or facts, with the code of each character that cannot be seen, or moves what can, in its place.

    Names and ids come from strangers' files, and a terminal obeys some characters.

    Args:
        value: text, or tuples, dictionaries and data classes with text somewhere inside.
    Example:
        >>> printable(("café", "\x1b[2J", 3))
        ('café', '\\x1b[2J', 3)
    """
    shown: Any = value
    if isinstance(value, str):
        shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in value)
    elif isinstance(value, tuple):
        shown = tuple(map(printable, value))
    elif isinstance(value, dict):
        shown = {printable(name): printable(part) for name, part in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        shown = replace(value, **{field.name: printable(getattr(value, field.name)) for field in fields(value)})
    return cast(T, shown)


def origin(source: Source) -> str:
    """Where the log comes from, and what became of its rows."""
    if not source.folder:
        return f"the built-in {source.reader}, no real log"
    text = f"reader {source.reader}, {source.folder}"
    if not source.files:
        return text
    named = [f"{file.name} ({counted(file.n_rows, 'row')})" for file in source.files[:MOST_FILES]]
    named += [counted(len(source.files) - MOST_FILES, "more file")] if len(source.files) > MOST_FILES else []
    text += f": {', '.join(named)}"
    dropped = {"without a user or an item": source.n_missing_ids, "that repeat another": source.n_duplicates}
    losses = [f"{n:,} dropped {why}" for why, n in dropped.items() if n]
    return text + "".join(f"; {loss}" for loss in losses)


def file_table(source: Source) -> Table:
    """The files that were read; one that two tables come from stands there twice."""
    rows = tuple(Row(file.name, (file.n_rows,)) for file in source.files)
    return Table("Files", "file", (Column("rows", numbers="count"),), rows)


def merged(found: Description, source: Source) -> str:
    """How many events became one row, empty where each is a row of its own."""
    return f"{source.n_events:,} events make {counted(found.n_rows, 'row')}" if source.n_events > found.n_rows else ""


def size(found: Description) -> str:
    """Size and time of the log in one sentence."""
    days = found.timeline.n_days
    ends = [span(found, part) for part in found.parts]
    start, end = min(first for first, _ in ends), max(last for _, last in ends)
    return (
        f"{counted(found.n_rows, 'row')}, {counted(found.n_users, 'user')}, {counted(found.n_items, 'item')}, "
        f"{start} to {end} ({counted(days, 'day')}), {show_share(found.density)} of all user-item "
        "pairs"
    )


def counted(n: int, thing: str) -> str:
    """A count with what is counted.

    Example:
        >>> counted(1, "row"), counted(1200, "row")
        ('1 row', '1,200 rows')
    """
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def span(found: Description, part: PartFacts) -> tuple[str, str]:
    """First and last day of a part, as days are cut for the split; of a short log the moments, in UTC."""
    if found.timeline.n_days > SHORT_LOG_DAYS:
        return part.first_day, part.last_day
    return part.first.replace("T", " ")[:-3], part.last.replace("T", " ")[:-3]


def parts_table(found: Description) -> Table:
    """Size and time of each part."""
    rows = tuple(
        Row(
            part.name,
            (
                part.n_rows,
                part.n_rows / found.n_rows,
                part.n_users,
                part.n_items,
                *span(found, part),
            ),
        )
        for part in found.parts
    )
    columns = (
        Column("rows", numbers="count"),
        Column("share", numbers="share"),
        Column("users", numbers="count"),
        Column("items", numbers="count"),
        Column("first"),
        Column("last"),
    )
    kind = "not split" if found.split_error else f"{found.split_kind.replace('_', '-')} split"
    return Table(f"Parts ({kind})", "part", columns, rows)


def new_table(found: Description) -> Table:
    """What is new in validation and test; on how many users recall can be measured."""
    rows = tuple(
        Row(
            part.name,
            (
                new.n_cold_users / part.n_users,
                new.n_cold_user_rows / part.n_rows,
                new.n_cold_items / part.n_items,
                new.n_cold_item_rows / part.n_rows,
                new.n_cold_rows / part.n_rows,
                new.n_ranking_users,
            ),
        )
        for part, new in found.held_out
    )
    columns = (
        Column("new users", numbers="share"),
        Column("rows of new users", title="their rows", numbers="share"),
        Column("new items", numbers="share"),
        Column("rows of new items", title="their rows", numbers="share"),
        Column("rows of either", title="either", numbers="share"),
        Column("users measured", numbers="count"),
    )
    return Table("New in the held-out parts", "part", columns, rows)


def label_table(found: Description) -> Table:
    """Share and number of positives of each label in each part."""
    width = max(len(f"{part.n_positive:,}") for label in found.labels for part in label.parts)
    columns = [Column(part.name, numbers="share") for part in found.parts]
    cells: list[list[Any]] = [[_positives(label, part, width) for part in label.parts] for label in found.labels]
    if any(label.n_known < label.n_rows for label in found.labels):
        columns.append(Column("missing", numbers="share"))
        cells = [[*row, _missing(label.n_known, label.n_rows)] for row, label in zip(cells, found.labels, strict=True)]
    rows = tuple(Row(label.task, (*row, label.use)) for row, label in zip(cells, found.labels, strict=True))
    return Table("Labels: positives by part", "label", (*columns, Column("use")), rows)


def wide_label_table(found: Description) -> Table:
    """The same with a column per figure; means where a label is a number."""
    with_means = not all(label.binary for label in found.labels)
    columns: list[Column] = []
    for part in found.parts:
        columns += [Column(part.name, numbers="share")]
        columns += [Column(f"positives in {part.name}", title="positives", numbers="count")]
        columns += [Column(f"mean in {part.name}", title="mean")] if with_means else []
    rows = []
    for label in found.labels:
        cells: list[Any] = []
        for found_in in label.parts:
            cells += [found_in.rate, found_in.n_positive] if label.binary else [None, None]
            cells += [found_in.mean] if with_means else []
        rows.append(Row(label.task, (*cells, _missing(label.n_known, label.n_rows), label.use)))
    end = (Column("missing", numbers="share"), Column("use"))
    return Table("Labels by part", "label", (*columns, *end), tuple(rows))


def _positives(label: LabelFacts, part: LabelPart, width: int) -> str:
    """``12.3 %  456`` of a label of 0 and 1, ``mean 4.5`` of a number."""
    if part.rate is None or part.mean is None:
        return MISSING
    return f"{show_share(part.rate)} {part.n_positive:>{width},}" if label.binary else f"mean {part.mean:.4g}"


def _missing(n_known: int, n_rows: int) -> float:
    return 1 - n_known / n_rows if n_known < n_rows else 0.0


def overlap_table(found: Description) -> Table:
    """Of the positives of each label, the share that is positive in each other one."""
    tasks = list(dict.fromkeys(pair.task for pair in found.overlaps))
    shares = {(pair.task, pair.other): pair.n_both / pair.n if pair.n else None for pair in found.overlaps}
    rows = tuple(Row(task, tuple(shares.get((task, other)) for other in tasks)) for task in tasks)
    columns = tuple(Column(task, title=f"also {task}", numbers="share") for task in tasks)
    return Table("Labels together", "positives of", columns, rows)


def spread_table(found: Description) -> Table:
    """How many rows a user and an item have."""
    levels = {"min": "min", "0.1": "10 %", "0.5": "median", "0.9": "90 %", "0.99": "99 %", "max": "max"}
    columns = (
        Column("number", numbers="count"),
        *(Column(key, title=title, numbers="count") for key, title in levels.items()),
        Column("with one row", title="one row", numbers="share"),
        Column("rows of the top 1 %", title="top 1 % has", numbers="share"),
    )
    rows = tuple(
        Row(
            side,
            (
                spread.n,
                *(spread.quantiles[key] for key in levels),
                spread.n_single / spread.n,
                spread.top_percent_share,
            ),
        )
        for side, spread in _spreads(found)
    )
    return Table("Rows per user and item", "", columns, rows)


def _spreads(found: Description) -> Sequence[tuple[str, Spread]]:
    return (("users", found.per_user), ("items", found.per_item))


def coverage_table(found: Description) -> Table:
    """How the tables of users and items fit the log."""
    columns = (
        Column("rows in the table", numbers="count"),
        Column("ids in the log", numbers="count"),
        Column("log only", numbers="count"),
        Column("table only", numbers="count"),
    )
    sides = (("users", found.users), ("items", found.items))
    rows = tuple(
        Row(side, (table.n_table, table.n_in_log, table.n_without_row, table.n_never_met))
        for side, table in sides
        if table.n_table
    )
    return Table("Tables of users and items", "", columns, rows)


def feature_table(found: Description) -> Table:
    """Every feature with what is missing and what it holds."""
    columns = (
        Column("of"),
        Column("kind"),
        Column("missing", numbers="share"),
        Column("values", numbers="count"),
        Column("it holds"),
    )
    rows = tuple(
        Row(f.name, (f.side, f.kind, _missing(f.n - f.n_missing, f.n), f.n_values, _content(f))) for f in found.features
    )
    return Table("Features", "feature", columns, rows)


def _content(feature: FeatureFacts) -> str:
    if feature.kind == "numeric":
        ends = (feature.low, feature.median, feature.high)
        low, median, high = (MISSING if end is None else _number(end) for end in ends)
        return f"{low} to {high}, median {median}"
    if feature.top_share is None:
        return MISSING
    if feature.mean_length is not None:
        return f"{_number(round(feature.mean_length, 1))} each, most frequent in {show_share(feature.top_share)}"
    return f"most frequent {show_share(feature.top_share)}"


def _number(value: float) -> str:
    """A number among others; four digits, as of a year, have no comma."""
    is_whole = value == round(value) or abs(value) >= FOUR_DIGITS
    if not is_whole or abs(value) >= LONGEST:
        return f"{value:.4g}"
    return f"{value:.0f}" if round(abs(value)) < FIVE_DIGITS else f"{value:,.0f}"


def content_table(found: Description) -> Table:
    """Which items have fixed content vectors."""
    columns = (
        Column("kind"),
        Column("width", numbers="count"),
        Column("items with a vector", title="items\nwith one", numbers="count"),
        Column("share of the catalogue", title="share", numbers="share"),
        Column("mean distance", title="distance"),
        *(
            Column(f"share of the new items of {part.name}", title=f"new in\n{part.name}", numbers="share")
            for part, _ in found.held_out
        ),
    )
    rows = tuple(
        Row(
            part.name,
            (
                LEARNED if part.kind == COOCCURRENCE else part.kind,
                part.width,
                part.n_with,
                part.share,
                part.distance,
                *(new.share for new in part.new),
            ),
        )
        for part in found.content
    )
    return Table("Content: items with a vector", "part", columns, rows)


def wide_content_table(found: Description) -> Table:
    """The same with what the vectors are made of, and how many items are without."""
    columns = (
        Column("kind"),
        Column("made of"),
        Column("width", numbers="count"),
        Column("items with a vector", title="with one", numbers="count"),
        Column("items without a vector", title="without", numbers="count"),
        Column("share of the catalogue", title="share", numbers="share"),
        Column("mean distance", title="distance"),
        *(
            Column(f"share of the new items of {part.name}", title=f"new in {part.name}", numbers="share")
            for part, _ in found.held_out
        ),
    )
    rows = []
    for facts in found.content:
        counts = (facts.width, facts.n_with, facts.n - facts.n_with, facts.share, facts.distance)
        rows.append(Row(facts.name, (facts.kind, facts.made_of, *counts, *(new.share for new in facts.new))))
    return Table("Content", "part", columns, tuple(rows))


def feature_summary(found: Description) -> str:
    """How many features there are, in one line."""
    n = {side: sum(feature.side == side for feature in found.features) for side in ("user", "item", "context")}
    names = {"user": "of users", "item": "of items", "context": "of the moment"}
    counts = [f"{count} {names[side]}" for side, count in n.items() if count]
    return f"Features: {', '.join(counts)}" if counts else "Features: none"
