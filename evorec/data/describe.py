"""Counting what a data set is like, before anything is trained: sizes, times, labels, repeats, what is new where.

Nothing is fitted: of validation and test, rows and labels are counted, and no value enters a setting or a model. Fixed
content vectors are looked at as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import combinations
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import COOCCURRENCE, ContentConfig, CooccurrenceContent, SplitConfig, TasksConfig
from evorec.data.content_facts import content_facts
from evorec.data.description import (
    PARTS,
    WHOLE,
    ContentFacts,
    Coverage,
    Description,
    FeatureFacts,
    HeldOut,
    LabelFacts,
    LabelPart,
    Overlap,
    PartFacts,
    Spread,
    Timeline,
)
from evorec.data.funnel import conditioned
from evorec.data.repeats import count_repeats
from evorec.data.splits import SECONDS_PER_HOUR, local_days
from evorec.data.splits import split as split_rows
from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import DataError

_PART, _DAY = "\x1fpart", "\x1fday"
"""Columns of the working table; no log has such names."""

QUANTILES: Final = (0.1, 0.5, 0.9, 0.99)
MOST_RANKS: Final = 200
"""Points of a curve over ranks."""
MOST_PAIRED: Final = 16
"""Labels that are paired with each other, in the order of the log; the work grows with the square."""
MOST_STEPS: Final = 200
_STEPS: Final = (
    ("hour", "1h", 3),
    ("day", "1d", MOST_STEPS),
    ("week", "1w", MOST_STEPS * 7),
    ("month", "1mo", MOST_STEPS * 30),
    ("quarter", "1q", MOST_STEPS * 91),
)
"""Steps of the timeline with the longest log, in days, that each is used for; longer ones have years."""
_YEAR_1: Final = -62_135_596_800
"""Second at which Python's calendar begins."""

Side = Literal["user", "item"]


def describe(
    tables: Tables,
    *,
    split: SplitConfig,
    tasks: TasksConfig,
    warm_users: bool = False,
    content: Mapping[str, ContentConfig] = MappingProxyType({}),
) -> Description:
    """Count everything.

    Args:
        tables: all interactions.
        split: a log that cannot be divided so is described as one part, with the reason.
        tasks: what will be learned; a name that the data do not have is left out here.
        warm_users: whether recall counts only users with an earlier positive of the target.
        content: what the parts of `Tables.vectors` were made of, and what co-occurrence learns from.
    Returns:
        Plain facts.
    Cost: a few hash tables over the rows; 10 million rows take some seconds and about a gigabyte.
    """
    part, error = _part_of_rows(tables, split)
    names = (WHOLE,) if error else PARTS
    target = tasks.target if tasks.target in tables.tasks else None
    days = _days(tables.interactions, split.utc_offset_h)
    columns = (Columns.USER, Columns.ITEM, Columns.TIME, *tables.tasks)
    frame = tables.interactions.select(*columns, days, pl.Series(_PART, part))
    users, items = (_counts(frame, column, target, len(names)) for column in (Columns.USER, Columns.ITEM))
    items = _listed(items, tables)
    parts = _parts(frame, names, users, items, target, warm_users)
    repeats = count_repeats(tables, users[Columns.USER], items[Columns.ITEM])
    labels = _labels(frame, tables.tasks, names, tasks)
    binary = [label.task for label in labels if label.binary]
    first, last = frame.select(first=pl.col(Columns.TIME).min(), last=pl.col(Columns.TIME).max()).row(0)
    return Description(
        name=tables.name,
        n_rows=frame.height,
        n_users=users.height,
        n_items=items.height,
        first=_iso(first),
        last=_iso(last),
        first_s=first,
        last_s=last,
        density=repeats.n_pairs / (users.height * items.height),
        split_kind=split.kind,
        split_error=error,
        split_starts=() if error else _split_starts(split, frame),
        parts=parts,
        labels=labels,
        overlaps=_overlaps(frame, binary),
        repeats=repeats,
        per_user=_spread(users, Columns.USER),
        per_item=_spread(items, Columns.ITEM),
        users=_coverage(users, tables.users, Columns.USER),
        items=_coverage(items, tables.items, Columns.ITEM),
        features=_features(tables),
        content=_content(tables, content, items, names),
        timeline=_timeline(frame, binary, names, split.utc_offset_h),
    )


def _part_of_rows(tables: Tables, config: SplitConfig) -> tuple[npt.NDArray[np.int8], str]:
    """Part of each row, int8 ``(N,)``, and why the log cannot be divided."""
    part = np.zeros(tables.n_rows, dtype=np.int8)
    try:
        rows = split_rows(tables, config)
    except DataError as error:
        return part, str(error)
    part[rows.validation] = 1
    part[rows.test] = 2
    return part, ""


def _days(log: pl.DataFrame, utc_offset_h: float) -> pl.Series:
    """Calendar day of each row ``(N,)``; a timestamp that no calendar has counts as the first day of year 1."""
    bounded = log.with_columns(pl.col(Columns.TIME).clip(lower_bound=_YEAR_1))
    return bounded.select(local_days(log, utc_offset_h).alias(_DAY).clip(lower_bound=date.min)).to_series()


def _iso(second: int) -> str:
    return str(np.datetime64(second, "s"))


def _split_starts(config: SplitConfig, frame: pl.DataFrame) -> tuple[str, ...]:
    if config.kind != "time":
        return ()
    if config.validation_from is not None and config.test_from is not None:
        return (config.validation_from.isoformat(), config.test_from.isoformat())
    firsts = frame.filter(pl.col(_PART) > 0).group_by(_PART).agg(pl.col(Columns.TIME).min()).sort(_PART)
    return tuple(_iso(second + round(config.utc_offset_h * SECONDS_PER_HOUR)) for second in firsts[Columns.TIME])


def _rows_in(part: int) -> str:
    return f"rows_{part}"


def _positives_in(part: int) -> str:
    return f"positives_{part}"


def _counts(frame: pl.DataFrame, column: str, target: str | None, n_parts: int) -> pl.DataFrame:
    """Per id: ``n`` rows, rows in each part, and positives of the target in each part."""
    inside = [pl.col(_PART) == part for part in range(n_parts)]
    positive = pl.col(target) > 0 if target else pl.lit(value=False)
    return frame.group_by(column).agg(
        pl.len().cast(pl.Int64).alias("n"),
        *(rows.sum().cast(pl.Int64).alias(_rows_in(part)) for part, rows in enumerate(inside)),
        *((rows & positive).sum().cast(pl.Int64).alias(_positives_in(part)) for part, rows in enumerate(inside)),
    )


def _listed(items: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """The counts of the items, and whether the table of items has each."""
    if tables.items is None:
        return items.with_columns(listed=pl.lit(value=False))
    known = tables.items.select(Columns.ITEM, listed=pl.lit(value=True))
    return items.join(known, on=Columns.ITEM, how="left").with_columns(pl.col("listed").fill_null(value=False))


def _parts(
    frame: pl.DataFrame,
    names: Sequence[str],
    users: pl.DataFrame,
    items: pl.DataFrame,
    target: str | None,
    warm_users: bool,
) -> tuple[PartFacts, ...]:
    ends = {
        f"{end}_{name}": getattr(pl.col(column), pick)()
        for name, column in (("time", Columns.TIME), ("day", _DAY))
        for end, pick in (("first", "min"), ("last", "max"))
    }
    spans = frame.group_by(_PART).agg(n=pl.len(), **ends).sort(_PART).rows(named=True)
    return tuple(
        PartFacts(
            name=name,
            n_rows=span["n"],
            n_users=_n_met(users, part),
            n_items=_n_met(items, part),
            first=_iso(span["first_time"]),
            last=_iso(span["last_time"]),
            first_day=span["first_day"].isoformat(),
            last_day=span["last_day"].isoformat(),
            held_out=_held_out(frame, part, users, items, target, warm_users) if part else None,
        )
        for part, (name, span) in enumerate(zip(names, spans, strict=True))
    )


def _n_met(counts: pl.DataFrame, part: int) -> int:
    return int((counts[_rows_in(part)] > 0).sum())


def _is_new(part: int) -> pl.Expr:
    """Whether no part before this one has a row of the user or item."""
    return pl.sum_horizontal(_rows_in(earlier) for earlier in range(part)) == 0


def _held_out(
    frame: pl.DataFrame, part: int, users: pl.DataFrame, items: pl.DataFrame, target: str | None, warm_users: bool
) -> HeldOut:
    here = pl.col(_rows_in(part)) > 0
    cold = _is_new(part)
    liked = pl.sum_horizontal(_positives_in(earlier) for earlier in range(part)) > 0
    users = users.filter(here).select(Columns.USER, n=_rows_in(part), cold_user=cold, warm=liked)
    items = items.filter(here).select(Columns.ITEM, n=_rows_in(part), cold_item=cold, lost=cold & ~pl.col("listed"))
    wanted = pl.col(target) > 0 if target else pl.lit(value=False)
    rows = (
        frame.filter(pl.col(_PART) == part)
        .select(Columns.USER, Columns.ITEM, wanted=wanted)
        .join(users.select(Columns.USER, "cold_user", "warm"), on=Columns.USER, how="left")
        .join(items.select(Columns.ITEM, "cold_item", "lost"), on=Columns.ITEM, how="left")
    )
    n_target, ranking_users = None, None
    if target:
        positives = rows.filter("wanted")
        known = positives.filter(~pl.col("cold_user") & ~pl.col("lost") & (pl.col("warm") | (not warm_users)))
        n_target, ranking_users = positives.height, known[Columns.USER].n_unique()
    return HeldOut(
        n_cold_users=int(users["cold_user"].sum()),
        n_cold_user_rows=int(rows["cold_user"].sum()),
        n_cold_items=int(items["cold_item"].sum()),
        n_cold_item_rows=int(rows["cold_item"].sum()),
        n_cold_rows=int((rows["cold_user"] | rows["cold_item"]).sum()),
        n_unlisted_rows=int(rows["lost"].sum()),
        n_target=n_target,
        n_ranking_users=ranking_users,
    )


def _labels(
    frame: pl.DataFrame, columns: Sequence[str], names: Sequence[str], tasks: TasksConfig
) -> tuple[LabelFacts, ...]:
    given = {task: other for task, other in tasks.given.items() if {*tasks.conditions(task)} <= set(columns)}
    labels = conditioned(frame, columns, given).with_columns(frame[_PART])
    found = (
        labels.group_by(_PART)
        .agg(pl.len().alias("n"), *(part for task in columns for part in _label_counts(task)))
        .sort(_PART)
        .rows(named=True)
    )
    return tuple(
        LabelFacts(
            task=task,
            use="+".join(use for use, used in _uses(tasks).items() if task in used),
            given=given.get(task, ""),
            binary=not any(counts[f"{task}\x1fother"] for counts in found),
            parts=tuple(
                LabelPart(
                    part=name,
                    n_rows=counts["n"],
                    **{key: counts[f"{task}\x1f{key}"] for key in ("n_known", "n_positive", "mean", "low", "high")},
                )
                for name, counts in zip(names, found, strict=True)
            ),
        )
        for task in columns
    )


def _uses(tasks: TasksConfig) -> Mapping[str, Sequence[str]]:
    return {"ranked": tasks.ranked, "target": (tasks.target,)}


def _label_counts(task: str) -> list[pl.Expr]:
    label = pl.col(task)
    counts = {
        "n_known": label.count(),
        "n_positive": (label > 0).sum(),
        "other": ((label != 0) & (label != 1)).sum(),
        "mean": label.cast(pl.Float64).mean(),
        "low": label.min().cast(pl.Float64),
        "high": label.max().cast(pl.Float64),
    }
    return [count.alias(f"{task}\x1f{name}") for name, count in counts.items()]


def _overlaps(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[Overlap, ...]:
    """Every ordered pair of the labels."""
    pairs = list(combinations(columns[:MOST_PAIRED], 2))
    if not pairs:
        return ()
    expressions = [
        count
        for one, other in pairs
        for count in (
            ((pl.col(one) > 0) & pl.col(other).is_not_null()).sum().alias(f"{one}\x1f{other}\x1f1"),
            ((pl.col(other) > 0) & pl.col(one).is_not_null()).sum().alias(f"{one}\x1f{other}\x1f2"),
            ((pl.col(one) > 0) & (pl.col(other) > 0)).sum().alias(f"{one}\x1f{other}\x1f3"),
        )
    ]
    counts = np.array(frame.select(expressions).row(0)).reshape(-1, 3).tolist()
    found = []
    for (one, other), (n_one, n_other, n_both) in zip(pairs, counts, strict=True):
        found += [Overlap(one, other, n_one, n_both), Overlap(other, one, n_other, n_both)]
    return tuple(found)


def _spread(counts: pl.DataFrame, column: str) -> Spread:
    ordered = counts.select(column, "n").sort("n", column, descending=[True, False])
    rows = ordered["n"].to_numpy()
    n = len(rows)
    places = np.unique(np.round(np.geomspace(1, n, MOST_RANKS)).astype(np.int64))
    quantiles = {f"{level:g}": int(np.quantile(rows, level, method="inverted_cdf")) for level in QUANTILES}
    return Spread(
        n=n,
        n_single=int((rows == 1).sum()),
        quantiles={"min": int(rows[-1]), **quantiles, "max": int(rows[0])},
        top_percent_share=float(rows[: max(1, n // 100)].sum() / rows.sum()),
        largest=str(ordered[column][0]),
        ranks=tuple(places.tolist()),
        counts=tuple(rows[places - 1].tolist()),
    )


def _coverage(counts: pl.DataFrame, table: pl.DataFrame | None, column: str) -> Coverage:
    if table is None:
        return Coverage(n_table=0, n_in_log=counts.height, n_without_row=0, n_never_met=0)
    n_without = counts.join(table, on=column, how="anti").height
    return Coverage(
        n_table=table.height,
        n_in_log=counts.height,
        n_without_row=n_without,
        n_never_met=table.height - (counts.height - n_without),
    )


def _features(tables: Tables) -> tuple[FeatureFacts, ...]:
    sides: tuple[tuple[Literal["user", "item", "context"], pl.DataFrame | None, Sequence[Feature]], ...] = (
        ("user", tables.users, tables.user_features),
        ("item", tables.items, tables.item_features),
        ("context", tables.interactions, tables.context),
    )
    counted = {"categorical": _category_facts, "numeric": _number_facts, "multi_hot": _tag_facts}
    return tuple(
        FeatureFacts(
            side=side,
            name=feature.name,
            kind=feature.kind,
            n=table.height,
            **counted[feature.kind](table[feature.name]),
        )
        for side, table, features in sides
        if table is not None
        for feature in features
    )


def _content(
    tables: Tables, sources: Mapping[str, ContentConfig], items: pl.DataFrame, names: Sequence[str]
) -> tuple[ContentFacts, ...]:
    """Which items have content; `items` are the counts of those in the log."""
    learned = sources.get(COOCCURRENCE)
    some = _positives_in if isinstance(learned, CooccurrenceContent) and learned.rows == "positives" else _rows_in
    known = (
        items[Columns.ITEM] if tables.items is None else pl.concat([items[Columns.ITEM], tables.items[Columns.ITEM]])
    )
    return content_facts(
        tables,
        sources,
        catalogue=known.unique(),
        taught=items.filter(pl.col(some(0)) > 0)[Columns.ITEM],
        new={
            name: items.filter((pl.col(_rows_in(part)) > 0) & _is_new(part) & pl.col("listed"))[Columns.ITEM]
            for part, name in enumerate(names)
            if part
        },
    )


def _category_facts(column: pl.Series) -> dict[str, Any]:
    present = column.drop_nulls()
    return {
        "n_missing": len(column) - len(present),
        "n_values": present.n_unique(),
        "top_share": _largest_count(present) / len(present) if len(present) else None,
    }


def _number_facts(column: pl.Series) -> dict[str, Any]:
    present = column.cast(pl.Float64).drop_nulls().drop_nans()
    facts: dict[str, Any] = {"n_missing": len(column) - len(present), "n_values": present.n_unique()}
    if len(present):
        values = present.to_numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # the middle of two numbers need not be a number
            ends = {"low": values.min(), "median": np.median(values), "high": values.max()}
        # an infinite number is no JSON; it counts as a value, and its end stays open
        facts |= {name: float(value) for name, value in ends.items() if np.isfinite(value)}
    return facts


def _tag_facts(column: pl.Series) -> dict[str, Any]:
    present = column.filter(column.list.len() > 0)
    if not len(present):
        return {"n_missing": len(column), "n_values": 0}
    tags = present.list.unique().explode(empty_as_null=True).drop_nulls()
    return {
        "n_missing": len(column) - len(present),
        "n_values": tags.n_unique(),
        "top_share": _largest_count(tags) / len(present) if len(tags) else None,
        "mean_length": len(tags) / len(present),
    }


def _largest_count(values: pl.Series) -> int:
    """How often the most frequent value occurs."""
    return int(values.to_frame("value").group_by("value").len()["len"].to_numpy().max())


def _timeline(frame: pl.DataFrame, columns: Sequence[str], names: Sequence[str], utc_offset_h: float) -> Timeline:
    first, last, n_found = frame.select(
        first=pl.col(_DAY).min(), last=pl.col(_DAY).max(), n=pl.col(_DAY).n_unique()
    ).row(0)
    n_days = (last - first) // timedelta(days=1) + 1
    step, every = next(((name, code) for name, code, longest in _STEPS if n_days <= longest), ("year", "1y"))
    moment = pl.col(_DAY)
    if step == "hour":
        local = (pl.col(Columns.TIME) + round(utc_offset_h * SECONDS_PER_HOUR)).clip(lower_bound=_YEAR_1)
        moment = pl.from_epoch(local, time_unit="s")
    table = (
        frame.group_by(moment.dt.truncate(every).alias("start"))
        .agg(
            *((pl.col(_PART) == part).sum().alias(_rows_in(part)) for part in range(len(names))),
            *((pl.col(task) > 0).mean().alias(f"{task}\x1frate") for task in columns),
        )
        .sort("start")
    )
    return Timeline(
        step=step,
        starts=tuple(start.isoformat() for start in table["start"]),
        rows={name: tuple(table[_rows_in(part)].to_list()) for part, name in enumerate(names)},
        rates={task: tuple(table[f"{task}\x1frate"].to_list()) for task in columns},
        n_empty_days=n_days - n_found,
        n_days=n_days,
    )
