"""Whether tonight's data may be trained on: compared with the data of the last night that was completed.

A `profile` of the data is stored with every night: counts, ranges of ids, rates of labels and histograms of features,
never ids or rows. Labels and drift are those of the rows of the test part, which under a split by time are the latest:
a broken day among ninety would hardly move the figures of the whole log.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import GuardConfig
from evorec.data.splits import Split
from evorec.data.tables import Columns, Feature, Tables
from evorec.nightly.checks import Check, Outcome

TOP: Final = 30
"""Values of a categorical feature that are counted each; the others are counted together."""
BINS: Final = 10
BEYOND_CHANCE: Final = 4.0
"""Standard errors that a rate must have changed by: 7 purchases after 20 are no fault."""
FAR_ID: Final = 10
"""Ids beyond this many times the largest before are in another range."""
Json = dict[str, Any]


def profile(tables: Tables, parts: Split) -> Json:
    """Facts about a data set that the next night is compared with, as plain JSON.

    Args:
        tables: all interactions.
        parts: row numbers of the parts.
    """
    log, latest = tables.interactions, tables.interactions[parts.test]
    sides = {"log": log, "users": tables.users, "items": tables.items}
    ids = {"users": log[Columns.USER], "items": log[Columns.ITEM]}
    return {
        "columns": {
            f"{side}.{name}": str(dtype)
            for side, frame in sides.items()
            if frame is not None
            for name, dtype in frame.schema.items()
        },
        "rows": log.height,
        "latest_rows": latest.height,
        "ids": {side: {"n": column.n_unique(), **_range(column)} for side, column in ids.items()},
        "labels": {task: _label(latest[task]) for task in tables.tasks},
        "features": {name: _histogram(column, kind) for name, kind, column in _features(tables, latest)},
    }


def check_data(
    tables: Tables, parts: Split, config: GuardConfig, *, own: Mapping[str, Any], before: Mapping[str, Any] | None
) -> list[Check]:
    """All checks of a data set that are not switched off.

    Args:
        tables: all interactions.
        parts: row numbers of the parts.
        config: what is checked, and how severely.
        own: `profile` of the data.
        before: of the last night; ``None`` = there is none, and only what needs no comparison is checked.
    """
    found = {
        "columns": _columns(own, before),
        "rows": _rows(own, before, config),
        "ids": _ids(own, before, config),
        "labels": _labels(own, before, config),
        "drift": _drift(tables, parts, before, config),
    }
    checks = []
    for name, faults in found.items():
        severity = getattr(config, name)
        if severity == "off":
            continue
        bad = Outcome.FAIL if severity == "error" else Outcome.WARN
        words = "; ".join(faults)
        compared = "as before" if before else "nothing to compare with yet"
        checks.append(Check(f"data.{name}", bad if faults else Outcome.PASS, words or compared))
    return checks


def _columns(own: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[str]:
    if before is None:
        return []
    old, new = before["columns"], own["columns"]
    lost = [f"column {name} is missing" for name in old if name not in new]
    added = [f"column {name} is new" for name in new if name not in old]
    changed = [f"column {n} was {old[n]} and is {new[n]}" for n in new if n in old and old[n] != new[n]]
    return [*lost, *added, *changed]


def _rows(own: Mapping[str, Any], before: Mapping[str, Any] | None, config: GuardConfig) -> list[str]:
    n = own["rows"]
    faults = [f"{n:,} rows, expected at least {config.fewest_rows:,}"] if n < config.fewest_rows else []
    if before is not None:
        faults += _changed("rows", before["rows"], n, config)
    return faults


def _ids(own: Mapping[str, Any], before: Mapping[str, Any] | None, config: GuardConfig) -> list[str]:
    faults = []
    for side, new in own["ids"].items() if before else ():
        old = before["ids"][side] if before else {}
        faults += _changed(side, old["n"], new["n"], config)
        if "low" in old and "low" in new:
            if new["low"] < 0 <= old["low"]:
                faults.append(f"ids of {side} begin at {new['low']}, before at {old['low']}: none was negative")
            if new["high"] > FAR_ID * max(old["high"], 1):
                faults.append(f"ids of {side} go up to {new['high']}, before to {old['high']}")
    return faults


def _labels(own: Mapping[str, Any], before: Mapping[str, Any] | None, config: GuardConfig) -> list[str]:
    faults = []
    for task, new in own["labels"].items():
        old = before["labels"].get(task) if before else None
        if new["low"] == new["high"]:
            always = "missing" if new["low"] is None else f"always {new['low']:g}"
            faults.append(f"label {task} of the latest {own['latest_rows']:,} rows is {always}")
        for name, word in (("mean", "mean"), ("known", "share of known values")) if old else ():
            a, b = (old or {}).get(name), new[name]
            if not a or b is None:
                continue
            chance = math.hypot(*(one[f"{name}_error"] for one in (old or {}, new)))
            if abs(b - a) > max(config.label_change * abs(a), BEYOND_CHANCE * chance):
                faults.append(
                    f"label {task}: {word} {b:.4g}, before {a:.4g}; allowed are changes of {config.label_change:.0%}"
                )
    return faults


def _drift(tables: Tables, parts: Split, before: Mapping[str, Any] | None, config: GuardConfig) -> list[str]:
    if before is None:
        return []
    faults = []
    for name, kind, column in _features(tables, tables.interactions[parts.test]):
        old = before["features"].get(name)
        if old is None or ("edges" in old) != (kind == "numeric"):
            continue  # a matter of the columns
        new = _counts(column, kind, old)
        index = stability_index(old["counts"], new)
        if index > config.most_drift:
            faults.append(f"{name}: population stability index {index:.2f}, allowed {config.most_drift:g}")
    return faults


def stability_index(before: Sequence[int], now: Sequence[int]) -> float:
    """Population stability index of two histograms, minus its expectation when nothing has changed; at least 0.

    Args:
        before, now: counts of the same bins, K.
    Example:
        >>> stability_index([500, 500], [500, 500]), round(stability_index([500, 500], [800, 200]), 2)
        (0.0, 0.41)
    """
    a, b = (np.asarray(counts, dtype=np.float64) + 0.5 for counts in (before, now))  # no logarithm of 0
    p, q = a / a.sum(), b / b.sum()
    # A sum of K - 1 squares with variances 1/n of both samples: without the subtraction small logs always drift.
    by_chance = (len(p) - 1) * (1 / a.sum() + 1 / b.sum())
    return float(max(((q - p) * np.log(q / p)).sum() - by_chance, 0.0))


def _changed(what: str, before: int, now: int, config: GuardConfig) -> list[str]:
    if before <= config.most_change * now and now <= config.most_change * before:
        return []
    return [f"{now:,} {what}, before {before:,}; allowed is a factor of {config.most_change:g}"]


def _range(column: pl.Series) -> Json:
    if not column.dtype.is_integer():
        return {}
    low, high = column.to_numpy().min(), column.to_numpy().max()
    return {"low": int(low), "high": int(high)}


def _label(column: pl.Series) -> Json:
    values = column.drop_nulls().to_numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    known, n = len(values) / max(len(column), 1), max(len(values), 1)
    found = {"known": known, "known_error": math.sqrt(known * (1 - known) / max(len(column), 1))}
    if not len(values):
        return {**found, "mean": None, "mean_error": None, "low": None, "high": None}
    error = float(values.std()) / math.sqrt(n)
    low, high = float(values.min()), float(values.max())
    return {**found, "mean": float(values.mean()), "mean_error": error, "low": low, "high": high}


def _features(tables: Tables, latest: pl.DataFrame) -> Iterator[tuple[str, str, pl.Series]]:
    """Features by name, with kind and column: those of the moment from the latest rows, the others from tables."""
    sides: tuple[tuple[str, pl.DataFrame | None, tuple[Feature, ...]], ...] = (
        ("context", latest, tables.context),
        ("users", tables.users, tables.user_features),
        ("items", tables.items, tables.item_features),
    )
    for side, frame, features in sides:
        for feature in features if frame is not None else ():
            assert frame is not None
            yield f"{side}.{feature.name}", feature.kind, frame[feature.name]


def _histogram(column: pl.Series, kind: str) -> Json:
    if kind == "numeric":
        values = _numbers(column)
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])) if len(values) else np.empty(0)
        found: Json = {"edges": edges.tolist()}
    else:
        counts = _texts(column).drop_nulls().value_counts(name="n")
        ordered = counts.sort(["n", "value"], descending=[True, False])
        found = {"values": ordered["value"].head(TOP).to_list()}
    return {**found, "counts": _counts(column, kind, found)}


def _counts(column: pl.Series, kind: str, bins: Mapping[str, Any]) -> list[int]:
    """Rows in each bin, then those with another value, or without a value."""
    if kind == "numeric":
        values = _numbers(column)
        inside = np.bincount(np.searchsorted(bins["edges"], values, side="right"), minlength=len(bins["edges"]) + 1)
        return [*map(int, inside), len(column) - len(values)]
    texts = _texts(column)
    known = texts.drop_nulls().value_counts(name="n")
    found = dict(zip(known["value"].to_list(), known["n"].to_list(), strict=True))
    named = [int(found.get(value, 0)) for value in bins["values"]]
    return [*named, len(texts) - sum(named)]


def _texts(column: pl.Series) -> pl.Series:
    values = column.explode(empty_as_null=True) if column.dtype.is_nested() else column
    return values.cast(pl.String).alias("value")


def _numbers(column: pl.Series) -> npt.NDArray[np.float64]:
    values = column.drop_nulls().to_numpy().astype(np.float64)
    return np.asarray(values[np.isfinite(values)])
