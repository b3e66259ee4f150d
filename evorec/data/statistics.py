"""Dense inputs of the ranker: how often a user, item or author was seen and liked on earlier days.

Rates that a model sees during training must not contain the row they describe, nor anything later (target leakage). A
training row therefore sees only training rows of earlier days; held-out rows and served requests see all training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
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
    for history in histories:
        before = _features(_totals_before(history.train, days, counted), base)
        held_out, served = (
            _features(_totals(history.train, counted, codes), base) for codes in (history.held_out, history.served)
        )
        blocks[history.side].append(_standardised(before, held_out, served))
        names[history.side] += [f"{history.name}:{column}" for column in ("rows", *tasks)]
    train, held_out = (
        np.hstack([np.zeros((n, 0)), *(block[part] for side in ("user", "item") for block in blocks[side])])
        for part, n in ((0, len(days)), (1, len(histories[0].held_out) if histories else 0))
    )
    users, items = (
        np.hstack([np.zeros((n, 0)), *(block[2] for block in blocks[side])])
        for side, n in (("user", n_users + 1), ("item", n_items + 1))
    )
    train, held_out, users, items = (np.asarray(a, dtype=np.float32) for a in (train, held_out, users, items))
    return Statistics((*names["user"], *names["item"]), train, held_out, users, items)


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
