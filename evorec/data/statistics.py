"""Dense inputs of the ranker: how often a user, item or author was seen and liked on earlier days.

Rates that a model sees during training must not contain the row they describe, nor anything later (target leakage). A
training row therefore sees only training rows of earlier days; held-out rows and served requests see all training rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, final

import numpy as np
import numpy.typing as npt

from evorec.data.dataset import Field, Float32, Float64, Int64, Part
from evorec.data.features import FieldRows
from evorec.data.sorting import begins, stable_order
from evorec.errors import ConfigError

Side = Literal["user", "item"]
Counts = npt.NDArray[np.float32] | npt.NDArray[np.bool_]

PRIOR_ROWS: Final = 10.0
"""Rows of average behaviour that are added to every history before a rate is taken."""
LARGEST: Final = 5.0
"""Standardised values are cut here, in standard deviations: a single huge count must not dominate a layer."""


@final
@dataclass(frozen=True, eq=False)
class History:
    """The key of a group of statistics.

    Args:
        name: of the key, e.g. ``user+tab``.
        side: whether a served value belongs to the user or to the item.
        train: code of each training row, int64 ``(N,)``.
        held_out: code of each held-out row, int64 ``(M,)``.
        served: code of each user or item of that side in a request for a list, int64 ``(E,)``.
    """

    name: str
    side: Side
    train: Int64
    held_out: Int64
    served: Int64


@final
class Sides(NamedTuple):
    """Fields that a statistics key can use, for rows and for served users or items.

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
    """Standardised statistics; per history ``log(1 + rows)`` and, per task, its labels' smoothed log-odds or mean.

    Args:
        names: of the columns, user side first.
        train: float32 ``(N, S)``.
        held_out: float32 ``(M, S)``.
        users: float32 ``(U + 1, su)``, the first columns.
        items: float32 ``(I + 1, S - su)``, the others.
        nothing: float32 ``(S,)``, those of a key without a training row.
    """

    names: tuple[str, ...]
    train: Float32
    held_out: Float32
    users: Float32
    items: Float32
    nothing: Float32


def history(key: str, sides: Sides, train: Part, held_out: Part) -> History:
    """Codes of a key, such as ``author_id`` or ``user+tab``; of multi-valued fields the first value counts.

    Args:
        key: ``user``, ``item``, a feature, or several joined by ``+``, all of the same side.
        sides: the known fields.
        train: training rows.
        held_out: held-out rows.
    Raises:
        ConfigError: the key names something unknown or mixes both sides.
    """
    side_of: dict[str, Side] = {"user": "user", "item": "item"}
    served_codes = {"user": np.arange(len(sides.by_user.rows)), "item": np.arange(len(sides.by_item.rows))}
    entities: tuple[tuple[Side, FieldRows], ...] = (("item", sides.by_item), ("user", sides.by_user))
    for side, known in entities:
        for field in known.fields[1:]:
            side_of[field.name], served_codes[field.name] = side, known.rows[:, field.first_column]
    context = {field.name: column for column, field in enumerate(sides.context_fields)}
    side_of |= dict.fromkeys(context, "user")

    names = [name.strip() for name in key.split("+")]
    found = {side_of.get(name) for name in names}
    if len(found) != 1 or None in found:
        raise ConfigError(
            f"data.statistics: {key!r} must be made of user-side fields "
            f"{sorted(n for n, side in side_of.items() if side == 'user')} or of item-side fields "
            f"{sorted(n for n, side in side_of.items() if side == 'item')}, joined by +; a feature that does not vary "
            "in training, or never repeats, is left out."
        )
    side = side_of[names[0]]
    n_served = len(sides.by_user.rows if side == "user" else sides.by_item.rows)
    codes = [np.zeros(n, dtype=np.int64) for n in (train.n_rows, held_out.n_rows, n_served)]
    for name in names:
        if name in context:
            column = context[name]
            mode = np.full(n_served, sides.context_mode[column])
            values = [train.context[:, column], held_out.context[:, column], mode]
        else:
            own = served_codes[name]
            values = [own[part.users if side == "user" else part.items] for part in (train, held_out)] + [own]
        span = 1 + max(int(v.max(initial=0)) for v in values)
        codes = [code * span + value for code, value in zip(codes, values, strict=True)]
    return History(key, side, *codes)


def statistics(
    histories: Sequence[History],
    days: Int64,
    labels: Float32,
    tasks: Sequence[str],
    *,
    n_users: int,
    n_items: int,
    numbers: Collection[str] = (),
) -> Statistics:
    """Count and rate statistics of every history, fitted on the training rows.

    Args:
        histories: the keys; user side and item side in any order.
        days: calendar day of each training row, int64 ``(N,)``.
        labels: float32 ``(N, T)``, NaN = not observed.
        tasks: T names.
        n_users: U.
        n_items: I.
        numbers: those of the tasks whose labels are numbers, standardised; the others are 0 and 1.
    """
    observed = ~np.isnan(labels)
    known = np.where(observed, labels, 0.0)
    base = known.sum(0) / np.maximum(observed.sum(0), 1)
    is_number = np.array([task in numbers for task in tasks], dtype=bool)
    counted = [np.ones(len(days), dtype=np.bool_), *known.T.copy(), *observed.T.copy()]
    del observed, known
    ordered = sorted(histories, key=lambda history: history.side == "item")
    blocks = []
    for keyed in ordered:
        rows = _CodeGroups.of(keyed.train, days)
        sums = rows.totals(counted)
        totals = (
            rows.totals_before(counted),
            rows.of_codes(sums, keyed.held_out),
            rows.of_codes(sums, keyed.served),
            np.zeros((sums.shape[0], 1)),
        )
        blocks.append(_standardised(*(_features(total, base, is_number) for total in totals)))
    n_of_users = sum(keyed.side == "user" for keyed in ordered)
    return Statistics(
        tuple(f"{keyed.name}:{column}" for keyed in ordered for column in ("rows", *tasks)),
        train=_beside(len(days), [train for train, *_ in blocks]),
        held_out=_beside(len(ordered[0].held_out) if ordered else 0, [held_out for _, held_out, *_ in blocks]),
        users=_beside(n_users + 1, [served for *_, served, _ in blocks[:n_of_users]]),
        items=_beside(n_items + 1, [served for *_, served, _ in blocks[n_of_users:]]),
        nothing=_beside(1, [nothing for *_, nothing in blocks])[0],
    )


def _beside(n_lines: int, blocks: Sequence[Float32]) -> Float32:
    """Blocks ``(n_lines, c)`` side by side; without blocks no column."""
    return np.hstack([np.zeros((n_lines, 0), dtype=np.float32), *blocks])


@final
@dataclass(frozen=True, eq=False)
class _CodeGroups:
    """Training rows sorted by code, then day; rows of the same code and day form a group.

    Args:
        order: indices of the rows, int64 ``(N,)``.
        group_starts: start of each group in `order`, int64 ``(G,)``.
        code_starts: start of the code of each group, int64 ``(G,)``.
        codes: unique codes, ascending, int64 ``(K,)``.
        indices: index in `codes` of each row, int64 ``(N,)``.
    """

    order: Int64
    group_starts: Int64
    code_starts: Int64
    codes: Int64
    indices: Int64

    @classmethod
    def of(cls, codes: Int64, days: Int64) -> _CodeGroups:
        """Of the code and the day of each row ``(N,)``."""
        order = stable_order(days)
        order = order[stable_order(codes[order])]
        code, day = codes[order], days[order]
        new_code = begins(code)
        starts = np.flatnonzero(new_code)
        groups = np.flatnonzero(new_code | begins(day))
        indices = np.empty_like(order)
        indices[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
        return cls(order, groups, starts[np.cumsum(new_code[groups]) - 1], code[starts], indices)

    def totals_before(self, counted: Sequence[Counts]) -> Float64:
        """Sums of each column ``(N,)`` over rows with the same code and an earlier day, ``(C, N)``."""
        lengths = np.diff(self.group_starts, append=len(self.order))
        out = np.empty((len(counted), len(self.order)))
        running = np.zeros(len(self.order) + 1)
        for line, column in zip(out, counted, strict=True):
            np.cumsum(column[self.order], dtype=np.float64, out=running[1:])
            line[self.order] = np.repeat(running[self.group_starts] - running[self.code_starts], lengths)
        return out

    def totals(self, counted: Sequence[Counts]) -> Float64:
        """Sums of each column ``(N,)`` over all rows of each code, ``(C, K)``."""
        return np.stack([np.bincount(self.indices, weights=column, minlength=len(self.codes)) for column in counted])

    def of_codes(self, totals: Float64, wanted: Int64) -> Float64:
        """Totals of each wanted code, ``(C, M)``; 0 for a code without rows."""
        index = np.minimum(np.searchsorted(self.codes, wanted), len(self.codes) - 1)
        return np.where(self.codes[index] == wanted, totals[:, index], 0.0)


def _features(totals: Float64, base: Float64, is_number: npt.NDArray[np.bool_]) -> Float64:
    """``log(1 + rows)`` and, per task, the log-odds of its smoothed rate or its smoothed mean, ``(M, 1 + T)``."""
    n_tasks = len(base)
    out = np.empty((totals.shape[1], 1 + n_tasks))
    out[:, 0] = np.log1p(totals[0])
    for task in range(n_tasks):
        positives, observed = totals[1 + task], totals[1 + n_tasks + task]
        yes = positives + PRIOR_ROWS * base[task]
        if is_number[task]:
            out[:, 1 + task] = yes / (observed + PRIOR_ROWS)
        else:
            out[:, 1 + task] = np.log(yes / (observed - positives + PRIOR_ROWS * (1 - base[task])))
    return out


def _standardised(train: Float64, *others: Float64) -> tuple[Float32, ...]:
    """Each part ``(M, c)`` in standard deviations of the training rows; the parts are overwritten."""
    mean, spread = train.mean(0), train.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    for part in (train, *others):
        part -= mean
        part /= spread
        np.clip(part, -LARGEST, LARGEST, out=part)
    return tuple(part.astype(np.float32) for part in (train, *others))
