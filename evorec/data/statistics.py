"""Dense inputs of the ranker: how often a user, item or author was seen and liked on earlier days.

Rates that a model sees during training must not contain the row they describe, nor anything later (target leakage). A
training row therefore sees only training rows of earlier days; held-out rows and served requests see all training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Field, Float32, Int64, Part
from evorec.data.features import FieldRows
from evorec.errors import ConfigError

Float64 = npt.NDArray[np.float64]

PRIOR_ROWS: Final = 10.0
"""Rows of average behaviour that are added to every history before a rate is taken."""
LARGEST: Final = 5.0
"""Standardised values are cut here, in standard deviations: one runaway count must not rule a layer."""


@final
@dataclass(frozen=True, eq=False)
class History:
    """What one group of statistics is keyed by.

    Args:
        name: of the key, e.g. ``user+tab``.
        side: whether a served value belongs to the user or to the item.
        train: code of each training row, int64 ``(N,)``.
        held_out: code of each held-out row, int64 ``(M,)``.
        served: code of each user or item of that side when a list is asked for, int64 ``(E,)``.
    """

    name: str
    side: Literal["user", "item"]
    train: Int64
    held_out: Int64
    served: Int64


@final
class Sides(NamedTuple):
    """Where the value of a statistics key is found, for a row and for a served user or item.

    Args:
        by_user: fields of users, the id first, the unknown user last.
        by_item: fields of items likewise.
        context_fields: columns of `Part.context`.
        context_mode: int64 ``(Fc,)``, the context of a served user.
    """

    by_user: FieldRows
    by_item: FieldRows
    context_fields: tuple[Field, ...]
    context_mode: Int64


@final
@dataclass(frozen=True, eq=False)
class Statistics:
    """Standardised statistics; per history ``log(1 + rows)`` and the smoothed log-odds of every task.

    Args:
        names: of the columns, user side first.
        train: float32 ``(N, S)``.
        held_out: float32 ``(M, S)``.
        users: float32 ``(U + 1, su)``, the first columns.
        items: float32 ``(I + 1, S - su)``, the others.
    """

    names: tuple[str, ...]
    train: Float32
    held_out: Float32
    users: Float32
    items: Float32


def history(key: str, sides: Sides, train: Part, held_out: Part) -> History:
    """Codes of one key, such as ``author_id`` or ``user+tab``; of several values the first one counts.

    Args:
        key: ``user``, ``item``, a feature, or several joined by ``+``, all of one side.
        sides: the fields there are.
        train: training rows.
        held_out: held-out rows.
    Raises:
        ConfigError: the key names something unknown or mixes both sides.
    """
    names = [name.strip() for name in key.split("+")]
    side = _side(key, names, sides)
    served = np.zeros(len((sides.by_item if side == "item" else sides.by_user).rows), dtype=np.int64)
    of_train, of_held = np.zeros(train.n_rows, dtype=np.int64), np.zeros(held_out.n_rows, dtype=np.int64)
    for name in names:
        values = [_codes(name, sides, part) for part in (train, held_out, None)]
        span = 1 + max(int(v.max(initial=0)) for v in values)
        of_train, of_held = of_train * span + values[0], of_held * span + values[1]
        served = served * span + values[2]
    return History(key, side, of_train, of_held, served)


def statistics(
    histories: Sequence[History], days: Int64, labels: Float32, tasks: Sequence[str], *, n_users: int, n_items: int
) -> Statistics:
    """Count and rate statistics of every history, fitted on the training rows.

    Args:
        histories: the keys; user side and item side in any order.
        days: calendar day of each training row, int64 ``(N,)``.
        labels: float32 ``(N, T)``, NaN = not observed.
        tasks: T names.
        n_users: U.
        n_items: I.
    """
    observed = ~np.isnan(labels)
    base = np.where(observed, labels, 0.0).sum(0) / np.maximum(observed.sum(0), 1)
    blocks: dict[str, list[tuple[Float64, Float64, Float64]]] = {"user": [], "item": []}
    names: dict[str, list[str]] = {"user": [], "item": []}
    counted = np.column_stack([np.ones(len(days)), np.where(observed, labels, 0.0), observed])
    for keyed in histories:
        before = _features(_totals_before(keyed.train, days, counted), base)
        after, served = (
            _features(_totals(keyed.train, counted, codes), base) for codes in (keyed.held_out, keyed.served)
        )
        blocks[keyed.side].append(_standardised(before, after, served))
        names[keyed.side] += [f"{keyed.name}:{column}" for column in ("rows", *tasks)]
    n_held_out = len(histories[0].held_out) if histories else 0
    train = _beside(len(days), [before for before, _, _ in (*blocks["user"], *blocks["item"])])
    held_out = _beside(n_held_out, [after for _, after, _ in (*blocks["user"], *blocks["item"])])
    users = _beside(n_users + 1, [served for _, _, served in blocks["user"]])
    items = _beside(n_items + 1, [served for _, _, served in blocks["item"]])
    return Statistics((*names["user"], *names["item"]), train, held_out, users, items)


def _side(key: str, names: Sequence[str], sides: Sides) -> Literal["user", "item"]:
    """The one side that all fields of a key belong to; a moment is on the user's side."""
    known = {"user": "user", "item": "item"}
    known |= {field.name: "item" for field in sides.by_item.fields[1:]}
    known |= {field.name: "user" for field in (*sides.by_user.fields[1:], *sides.context_fields)}
    found = {known.get(name, "unknown") for name in names}
    if len(found) != 1 or "unknown" in found:
        raise ConfigError(
            f"data.statistics: {key!r} must be made of user-side fields "
            f"{sorted(n for n, side in known.items() if side == 'user')} or of item-side fields "
            f"{sorted(n for n, side in known.items() if side == 'item')}, joined by +; a feature that does not vary in "
            "training, or never repeats, is left out."
        )
    return "item" if found == {"item"} else "user"


def _codes(name: str, sides: Sides, part: Part | None) -> Int64:
    """Codes of one field for the rows of a part, or served (one per entity)."""
    for place, field in enumerate(sides.context_fields):
        if field.name == name:
            mode = np.full(len(sides.by_user.rows), sides.context_mode[place])
            return mode if part is None else part.context[:, place]
    is_user = name == "user" or name in {field.name for field in sides.by_user.fields[1:]}
    entities = sides.by_user if is_user else sides.by_item
    column = next((field.first_column for field in entities.fields[1:] if field.name == name), None)
    codes = np.arange(len(entities.rows)) if column is None else entities.rows[:, column]
    if part is None:
        return codes
    return codes[part.users if is_user else part.items]


def _beside(n_lines: int, blocks: Sequence[Float64]) -> Float32:
    """Blocks ``(n_lines, c)`` side by side, rounded to float32; no column when there is no block."""
    return np.hstack([np.zeros((n_lines, 0)), *blocks]).astype(np.float32)


def _totals_before(codes: Int64, days: Int64, counted: Float64) -> Float64:
    """Sums of `counted` over rows with the same code and an earlier day, ``(N, C)``."""
    order = np.lexsort((days, codes))
    code, day = codes[order], days[order]
    first_of_code = np.flatnonzero(np.r_[True, code[1:] != code[:-1]])
    first_of_day = np.flatnonzero(np.r_[True, (code[1:] != code[:-1]) | (day[1:] != day[:-1])])
    rows = np.arange(len(order))
    code_start = first_of_code[np.searchsorted(first_of_code, rows, side="right") - 1]
    day_start = first_of_day[np.searchsorted(first_of_day, rows, side="right") - 1]
    running = np.vstack([np.zeros(counted.shape[1]), np.cumsum(counted[order], axis=0)])
    out = np.empty_like(counted)
    out[order] = running[day_start] - running[code_start]
    return out


def _totals(codes: Int64, counted: Float64, asked: Int64) -> Float64:
    """Sums of `counted` over all rows with each asked code, ``(M, C)``; 0 for a code without rows."""
    known, place = np.unique(codes, return_inverse=True)
    sums = np.column_stack([np.bincount(place, weights=column, minlength=len(known)) for column in counted.T])
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where((known[at] == asked)[:, None], sums[at], 0.0)


def _features(totals: Float64, base: Float64) -> Float64:
    """``log(1 + rows)`` and, per task, the log-odds of its smoothed rate, ``(M, 1 + T)``."""
    n_tasks = len(base)
    positives, observed = totals[:, 1 : 1 + n_tasks], totals[:, 1 + n_tasks :]
    yes = positives + PRIOR_ROWS * base
    no = observed - positives + PRIOR_ROWS * (1 - base)
    return np.column_stack([np.log1p(totals[:, 0]), np.log(yes / no)])


def _standardised(train: Float64, *others: Float64) -> tuple[Float64, Float64, Float64]:
    mean, spread = train.mean(0), train.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    first, second, third = (np.clip((part - mean) / spread, -LARGEST, LARGEST) for part in (train, *others))
    return first, second, third
