"""Facts about a data set before any training: sizes, times, labels, repeated rows, new users and items, content.

No model is fitted. Of validation and test, rows and labels are counted only; no value enters a setting or a model.
The terminal, the HTML page and ``--format json`` show the same `Description`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import permutations
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np
import polars as pl

from evorec.config import COOCCURRENCE, ContentConfig, CooccurrenceContent, SplitConfig, TasksConfig
from evorec.data.content_facts import content_facts
from evorec.data.funnel import conditioned
from evorec.data.leaks import leaks
from evorec.data.size import DataSize, item_numbers
from evorec.data.splits import SECONDS_PER_HOUR, local_days
from evorec.data.splits import split as split_rows
from evorec.data.tables import SECONDS_PER_DAY, Columns, Feature, Tables
from evorec.errors import DataError

PARTS: Final = ("train", "validation", "test")
WHOLE: Final = "all"
"""Name of the only part of a log that cannot be split."""
_PART, _DAY = "\x1fpart", "\x1fday"
"""Columns of the working table; no log has such names."""
QUANTILES: Final = (0.1, 0.5, 0.9, 0.99)
MAX_RANKS: Final = 200
"""Points of a curve over ranks."""
MAX_PAIRED: Final = 16
"""Labels that are paired with each other, in the order of the log; the work grows with the square."""
MAX_STEPS: Final = 200
_STEPS: Final = (
    ("hour", "1h", 3),
    ("day", "1d", MAX_STEPS),
    ("week", "1w", MAX_STEPS * 7),
    ("month", "1mo", MAX_STEPS * 30),
    ("quarter", "1q", MAX_STEPS * 91),
)
"""Steps of the timeline with the longest log, in days, that each is used for; longer logs have years."""
_YEAR_1: Final = -62_135_596_800
"""Second at which Python's calendar begins."""


@final
@dataclass(frozen=True, eq=False)
class Description:
    """Facts about a data set: numbers, and small tables of numbers.

    A table of rows has 0 users and items, and everything about them is null or empty.

    Attributes:
        name: of the data set.
        facts: ``n_rows``, ``n_users``, ``n_items`` and ``sha256`` as every command has them (`DataSize`); ``first`` and
            ``last`` row (ISO 8601 in UTC, and with suffix ``_s`` in seconds); ``density``, the share of all pairs of a
            user and an item of the log that it has; ``n_days`` from first to last row, ``n_empty_days`` without a row;
            ``n_repeated`` rows with the user, item and timestamp of an earlier row, ``n_identical`` of them equal in
            labels and context too; ``n_tied`` rows with the user and timestamp of an earlier row; ``n_times`` different
            timestamps; ``whole_days``, whether all have the same time of day; ``times``, the meaning of the timestamps
            (`evorec.data.tables.TimeKind`): without moments, all facts about them are null, and rows are repeated where
            user and item are equal; of a table of rows, where all features and labels are; ``split_kind``;
            ``split_error``, why the log cannot be split, else empty;
            ``split_starts``, where validation and test begin; ``step`` of the timeline.
        parts: per part ``n_rows``, ``n_users``, ``n_items``, ``first``, ``last``, ``first_day``, ``last_day``. Null for
            training: ``n_new_users`` and ``n_new_items`` without a row in an earlier part, ``n_new_user_rows``,
            ``n_new_item_rows`` and ``n_new_rows`` (either) of them, ``n_unlisted_rows`` whose item neither an earlier
            part nor the item table has, ``n_target`` positives of the target and ``n_ranking_users``, the users on
            whom recall is measured.
        labels: per label and part ``use`` (``ranked``, ``target``, both joined by ``+``, or empty), ``given`` (label
            whose positives are its sample space), ``binary``, ``n_rows``, ``n_known``, ``n_positive``, ``mean``,
            ``low``, ``high``.
        overlaps: per ordered pair of binary labels ``n`` rows with a positive ``label`` and a known ``other``, and
            ``n_both`` with a positive ``other`` as well.
        spread: rows per user and per item: ``n``, ``n_single`` with a single row, quantiles from ``min`` to ``max``,
            ``top_percent_share`` of the rows that the most frequent 1 % have, ``largest`` id.
        ranks: points of the curve of rows by rank, per side.
        coverage: per table of users and items ``n_table`` rows, ``n_in_log`` ids of the log, ``n_log_only`` of them
            without a row in the table, ``n_table_only``.
        items: how the number of items comes about, see `item_numbers`.
        features: per feature ``side``, ``kind``, ``n`` rows of its table, ``n_missing`` (an empty list as well),
            ``n_values``, ``top_share`` of the most frequent value, ``low``, ``median``, ``high`` and ``mean_length``.
        content: per part of the content, see `content_facts`.
        leaks: features that give a ranked label or the target away in the training part, see `Leak`.
        timeline: per step of time ``start``, ``rows/<part>`` and, for binary labels, ``rate/<label>``.
    """

    name: str
    facts: Mapping[str, Any]
    parts: pl.DataFrame
    labels: pl.DataFrame
    overlaps: pl.DataFrame
    spread: pl.DataFrame
    ranks: pl.DataFrame
    coverage: pl.DataFrame
    items: pl.DataFrame
    features: pl.DataFrame
    content: pl.DataFrame
    leaks: pl.DataFrame
    timeline: pl.DataFrame

    def as_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; tables as lists of rows."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        tables = {name: table.to_dicts() for name, table in found.items() if isinstance(table, pl.DataFrame)}
        return {"name": self.name, **self.facts, **tables}

    @property
    def held_out(self) -> list[dict[str, Any]]:
        """The rows of `parts` for validation and test."""
        return self.parts.filter(pl.col("n_new_rows").is_not_null()).to_dicts()


def describe(
    tables: Tables,
    *,
    split: SplitConfig,
    tasks: TasksConfig,
    warm_users: bool = False,
    content: Mapping[str, ContentConfig] = MappingProxyType({}),
) -> Description:
    """Describe a data set.

    Args:
        tables: all interactions.
        split: a log that it cannot divide is described as a single part, with the reason.
        tasks: learned labels; a name that the data do not have is ignored.
        warm_users: whether recall counts only users with an earlier positive of the target.
        content: sources of the parts of `Tables.vectors`, and of co-occurrence.
    Cost: a few hash tables over the rows.
    """
    log = tables.interactions
    part, error, rows = np.zeros(log.height, dtype=np.int8), "", None
    try:
        rows = split_rows(tables, split)
        part[rows.validation], part[rows.test] = 1, 2
    except DataError as problem:
        error = str(problem)
    names = (WHOLE,) if error else PARTS
    if tables.times == "seconds":
        # a timestamp that no calendar has counts as the first day of year 1
        bounded = log.with_columns(pl.col(Columns.TIME).clip(lower_bound=_YEAR_1))
        days = bounded.select(local_days(log, split.utc_offset_h).alias(_DAY).clip(lower_bound=date.min)).to_series()
    else:  # no moments: whatever is counted of them is null
        days = pl.repeat(None, log.height, dtype=pl.Date, eager=True).alias(_DAY)
        log = log.with_columns(pl.lit(None, dtype=pl.Int64).alias(Columns.TIME))
    frame = log.select(Columns.USER, Columns.ITEM, Columns.TIME, *tables.tasks, days, pl.Series(_PART, part))
    frame = _with_novelty(frame, tables, tasks.target)
    parts = _parts(frame, names, warm_users)
    labels = _labels(frame, tables.tasks, names, tasks)
    binary = list(dict.fromkeys(labels.filter("binary")["label"]))
    sides = (("user", Columns.USER), ("item", Columns.ITEM)) if tables.has_items else ()
    spread = [_spread(frame, *side) for side in sides]
    if not tables.has_items:
        of_items = ["n_target", "n_ranking_users", *(name for name in parts.columns if "_new_" in name)]
        parts = parts.with_columns(*(pl.lit(None, dtype=pl.Int64).alias(name) for name in of_items))
        parts = parts.with_columns(n_users=pl.lit(0), n_items=pl.lit(0), n_unlisted_rows=pl.lit(None, dtype=pl.Int64))
    size = DataSize.of(tables)
    facts = {
        "n_rows": size.n_rows,
        "n_users": size.n_users,
        "n_items": size.n_items,
        "sha256": size.sha256,
        **_time_facts(tables, split, frame, error),
    }
    facts["density"] = facts["n_pairs"] / (size.n_users * size.n_items_in_log) if tables.has_items else None
    given_away = leaks(tables, np.flatnonzero(part == 0), (*tasks.ranked, tasks.target))
    step, timeline = _timeline(frame, binary, names, split.utc_offset_h, facts["n_days"])
    return Description(
        name=tables.name,
        facts={**facts, "step": step},
        parts=parts,
        labels=labels,
        overlaps=_overlaps(frame, binary),
        spread=pl.DataFrame([facts for facts, _ in spread]),
        ranks=pl.concat([curve for _, curve in spread]) if spread else pl.DataFrame(),
        coverage=_coverage(frame, tables),
        items=item_numbers(tables, rows),
        features=_features(tables),
        content=_content(frame, tables, content, names),
        leaks=pl.DataFrame(given_away, dict.fromkeys(("side", "feature", "label"), pl.String) | {"share": pl.Float64}),
        timeline=timeline,
    )


_WANTED, _NEW_USER, _NEW_ITEM, _WARM, _LISTED = (f"\x1f{name}" for name in ("wanted", "user", "item", "warm", "listed"))


def _with_novelty(frame: pl.DataFrame, tables: Tables, target: str) -> pl.DataFrame:
    """With columns for positives of the target, new users and items, users with an earlier positive, listed items."""
    part = pl.col(_PART)
    wanted = (pl.col(target) > 0).fill_null(value=False) if target in tables.tasks else pl.lit(None, dtype=pl.Boolean)
    listed = (
        pl.lit(value=False)
        if tables.items is None
        else pl.col(Columns.ITEM).is_in(tables.items[Columns.ITEM].implode())
    )
    liked_before = part > part.filter(pl.col(_WANTED)).min().over(Columns.USER)
    return frame.with_columns(wanted.alias(_WANTED), listed.alias(_LISTED)).with_columns(
        (part == part.min().over(Columns.USER)).alias(_NEW_USER),
        (part == part.min().over(Columns.ITEM)).alias(_NEW_ITEM),
        liked_before.fill_null(value=False).alias(_WARM),
    )


def _parts(frame: pl.DataFrame, names: Sequence[str], warm_users: bool) -> pl.DataFrame:
    user, item, time, day = (pl.col(name) for name in (Columns.USER, Columns.ITEM, Columns.TIME, _DAY))
    new_user, new_item, wanted = pl.col(_NEW_USER), pl.col(_NEW_ITEM), pl.col(_WANTED)
    unlisted = new_item & ~pl.col(_LISTED)
    measured = wanted & ~new_user & ~unlisted & (pl.col(_WARM) | pl.lit(not warm_users))
    held_out = {
        "n_new_users": user.filter(new_user).n_unique(),
        "n_new_user_rows": new_user.sum(),
        "n_new_items": item.filter(new_item).n_unique(),
        "n_new_item_rows": new_item.sum(),
        "n_new_rows": (new_user | new_item).sum(),
        "n_unlisted_rows": unlisted.sum(),
        "n_target": pl.when(wanted.is_not_null().all()).then(wanted.sum()),
        "n_ranking_users": pl.when(wanted.is_not_null().all()).then(user.filter(measured).n_unique()),
    }
    found = frame.group_by(_PART).agg(
        n_rows=pl.len(),
        n_users=user.n_unique(),
        n_items=item.n_unique(),
        first=time.min(),
        last=time.max(),
        first_day=day.min().cast(pl.String),
        last_day=day.max().cast(pl.String),
        **held_out,
    )
    return (
        found.sort(_PART)
        .select(
            pl.Series("part", names),
            pl.exclude(_PART, *held_out),
            *(pl.when(pl.col(_PART) > 0).then(pl.col(name)).alias(name) for name in held_out),
        )
        .with_columns(pl.Series(end, [_iso(second) for second in found.sort(_PART)[end]]) for end in ("first", "last"))
    )


def _iso(second: int | None) -> str | None:
    return None if second is None else str(np.datetime64(second, "s"))


def _time_facts(tables: Tables, split: SplitConfig, frame: pl.DataFrame, error: str) -> dict[str, Any]:
    """Facts about time, repeated rows and the split."""
    user, item, time = Columns.USER, Columns.ITEM, Columns.TIME
    log = tables.interactions.select(user, item, time, *tables.tasks, *(feature.name for feature in tables.context))
    lists = [name for name, dtype in log.schema.items() if dtype.is_nested()]
    identical = log.with_columns(pl.col(lists).hash()) if lists else log  # lists cannot be compared by unique()
    n_repeated = log.height - (log.select(user, item, time) if tables.has_items else identical).unique().height
    moment, day = pl.col(time), pl.col(_DAY)
    n_days = (day.max() - day.min()).dt.total_days() + 1
    facts = frame.select(
        first_s=moment.min(),
        last_s=moment.max(),
        n_days=n_days,
        n_empty_days=n_days - day.n_unique().cast(pl.Int64),
        n_times=moment.drop_nulls().n_unique(),
        whole_days=(moment.drop_nulls() % SECONDS_PER_DAY).n_unique() == 1,
    ).row(0, named=True)
    starts: list[str | None] = []
    if split.kind == "time" and not error:
        if split.validation_from is not None and split.test_from is not None:
            starts = [split.validation_from.isoformat(), split.test_from.isoformat()]
        else:
            firsts = frame.filter(pl.col(_PART) > 0).group_by(_PART).agg(pl.col(time).min()).sort(_PART)[time]
            starts = [_iso(second + round(split.utc_offset_h * SECONDS_PER_HOUR)) for second in firsts]
    return {
        "first": _iso(facts["first_s"]),
        "last": _iso(facts["last_s"]),
        **facts,
        "n_pairs": log.select(user, item).unique().height,
        "n_repeated": n_repeated,
        "n_identical": identical.height - identical.unique().height if n_repeated else 0,
        "n_tied": log.height - log.select(user, time).unique().height if tables.times == "seconds" else 0,
        "times": tables.times,
        "split_kind": split.kind,
        "split_error": error,
        "split_starts": starts,
    }


def _labels(frame: pl.DataFrame, columns: Sequence[str], names: Sequence[str], tasks: TasksConfig) -> pl.DataFrame:
    given = {task: other for task, other in tasks.given.items() if {*tasks.conditions(task)} <= set(columns)}
    labels = conditioned(frame, columns, given).with_columns(frame[_PART])
    tables = []
    for task in columns:
        label = pl.col(task)
        counted = labels.group_by(_PART).agg(
            n_rows=pl.len(),
            n_known=label.count(),
            n_positive=(label > 0).sum(),
            mean=label.cast(pl.Float64).mean(),
            low=label.min().cast(pl.Float64),
            high=label.max().cast(pl.Float64),
            binary=((label == 0) | (label == 1)).all(),
        )
        uses = {"ranked": task in tasks.ranked, "target": task == tasks.target}
        tables.append(
            counted.sort(_PART).select(
                pl.lit(task).alias("label"),
                pl.Series("part", names),
                pl.lit("+".join(use for use, applies in uses.items() if applies)).alias("use"),
                pl.lit(given.get(task, "")).alias("given"),
                pl.col("binary").all(),
                pl.exclude(_PART, "binary"),
            )
        )
    return pl.concat(tables)


def _overlaps(frame: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    pairs = list(permutations(labels[:MAX_PAIRED], 2))
    counts = [
        pl.struct(
            n=((pl.col(label) > 0) & pl.col(other).is_not_null()).sum(),
            n_both=((pl.col(label) > 0) & (pl.col(other) > 0)).sum(),
        ).alias(str(number))
        for number, (label, other) in enumerate(pairs)
    ]
    schema = {"label": pl.String, "other": pl.String, "n": pl.Int64, "n_both": pl.Int64}
    found = frame.select(counts).row(0) if pairs else ()
    return pl.DataFrame([(*pair, *row.values()) for pair, row in zip(pairs, found, strict=True)], schema, orient="row")


def _spread(frame: pl.DataFrame, side: str, column: str) -> tuple[dict[str, Any], pl.DataFrame]:
    """Spread and curve of the rows per id."""
    ordered = frame.group_by(column).len().sort("len", column, descending=[True, False])
    rows = ordered["len"].cast(pl.Int64).to_numpy()
    n = len(rows)
    ranks = np.unique(np.round(np.geomspace(1, n, MAX_RANKS)).astype(np.int64))
    quantiles = {f"{level:g}": int(np.quantile(rows, level, method="inverted_cdf")) for level in QUANTILES}
    facts = {
        "side": side,
        "n": n,
        "n_single": int((rows == 1).sum()),
        "min": int(rows[-1]),
        **quantiles,
        "max": int(rows[0]),
        "top_percent_share": float(rows[: max(1, n // 100)].sum() / rows.sum()),
        "largest": str(ordered[column][0]),
    }
    return facts, pl.DataFrame({"side": side, "rank": ranks, "n_rows": rows[ranks - 1]})


def _coverage(frame: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    schema = {"side": pl.String, **dict.fromkeys(("n_table", "n_in_log", "n_log_only", "n_table_only"), pl.Int64)}
    rows = []
    for side, table, column in (("users", tables.users, Columns.USER), ("items", tables.items, Columns.ITEM)):
        if table is not None and table.height:
            log = frame.select(column).unique()
            log_only = log.join(table, on=column, how="anti").height
            rows.append((side, table.height, log.height, log_only, table.height - (log.height - log_only)))
    return pl.DataFrame(rows, schema, orient="row")


def _features(tables: Tables) -> pl.DataFrame:
    sides: tuple[tuple[str, pl.DataFrame | None, Sequence[Feature]], ...] = (
        ("user", tables.users, tables.user_features),
        ("item", tables.items, tables.item_features),
        ("context", tables.interactions, tables.context),
    )
    schema = {
        **dict.fromkeys(("side", "name", "kind"), pl.String),
        **dict.fromkeys(("n", "n_missing", "n_values"), pl.Int64),
        **dict.fromkeys(("top_share", "low", "median", "high", "mean_length"), pl.Float64),
    }
    rows = [
        {"side": side, "name": feature.name, "kind": feature.kind, **_feature(table[feature.name], feature.kind)}
        for side, table, features in sides
        if table is not None
        for feature in features
    ]
    return pl.DataFrame(rows, schema)


def _feature(column: pl.Series, kind: str) -> dict[str, Any]:
    if kind == "multi_hot":
        present = column.filter(column.list.len() > 0)
        values = present.list.unique().explode(empty_as_null=True).drop_nulls() if len(present) else present
    elif kind == "numeric":
        values = present = column.cast(pl.Float64).drop_nulls().drop_nans()
    else:
        values = present = column.drop_nulls()
    n_values = values.n_unique() if len(values) else 0
    facts: dict[str, Any] = {"n": len(column), "n_missing": len(column) - len(present), "n_values": n_values}
    if kind == "numeric" and len(present):
        numbers = present.to_numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # the mean of two numbers can overflow
            ends = {"low": numbers.min(), "median": np.median(numbers), "high": numbers.max()}
        # JSON has no infinite number; it counts as a value, and the end of the range is missing
        facts |= {name: float(value) for name, value in ends.items() if np.isfinite(value)}
    elif kind != "numeric" and len(values):
        most = values.to_frame("value").group_by("value").len()["len"].to_numpy().max()
        facts["top_share"] = float(most / len(present))
        if kind == "multi_hot":
            facts["mean_length"] = len(values) / len(present)
    return facts


def _content(
    frame: pl.DataFrame, tables: Tables, sources: Mapping[str, ContentConfig], names: Sequence[str]
) -> pl.DataFrame:
    learned = sources.get(COOCCURRENCE)
    train, wanted = pl.col(_PART) == 0, pl.col(_WANTED).fill_null(value=False)
    if isinstance(learned, CooccurrenceContent) and learned.rows == "positives":
        train &= wanted
    items = frame.select(Columns.ITEM).unique().to_series()
    new = pl.col(_NEW_ITEM) & pl.col(_LISTED)
    return content_facts(
        tables,
        sources,
        catalogue=items if tables.items is None else pl.concat([items, tables.items[Columns.ITEM]]).unique(),
        in_training=frame.filter(train)[Columns.ITEM].unique(),
        new={
            name: frame.filter((pl.col(_PART) == part) & new)[Columns.ITEM].unique()
            for part, name in enumerate(names)
            if part
        },
    )


def _timeline(
    frame: pl.DataFrame, labels: Sequence[str], names: Sequence[str], utc_offset_h: float, n_days: int | None
) -> tuple[str, pl.DataFrame]:
    """Step of the timeline, and its rows and rates; a step without rows is not listed."""
    if n_days is None:
        return "", pl.DataFrame(schema={"start": pl.String})
    step, every = next(((name, code) for name, code, longest in _STEPS if n_days <= longest), ("year", "1y"))
    moment = pl.col(_DAY)
    if step == "hour":
        local = (pl.col(Columns.TIME) + round(utc_offset_h * SECONDS_PER_HOUR)).clip(lower_bound=_YEAR_1)
        moment = pl.from_epoch(local, time_unit="s")
    table = frame.group_by(moment.dt.truncate(every).alias("start")).agg(
        *((pl.col(_PART) == part).sum().alias(f"rows/{name}") for part, name in enumerate(names)),
        *((pl.col(task) > 0).mean().alias(f"rate/{task}") for task in labels),
    )
    starts = table.sort("start")["start"]
    return step, table.sort("start").with_columns(pl.Series("start", [start.isoformat() for start in starts]))
