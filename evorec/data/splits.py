"""Division of the interactions into train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import polars as pl

from evorec.config import SplitConfig
from evorec.data.sorting import Int64
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError
from evorec.seeds import generator

SECONDS_PER_HOUR: Final = 3600
SHORTEST_HISTORY: Final = 3
"""Leave-last-out: with fewer rows a user cannot give a row to each part."""
TRAIN, VALIDATION, TEST = 0, 1, 2


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the interactions, int64, ascending: every row is in exactly one part."""

    train: Int64
    validation: Int64
    test: Int64


def split(tables: Tables, config: SplitConfig) -> Split:
    """Divide the rows.

    ``time`` cuts all users at the same two moments: at the start of two days, or, when no day is given, so that the
    last rows make up the shares; rows of the same timestamp stay together. The day of a row is `Columns.DAY` where the
    log has it, else the day of the timestamp moved by ``utc_offset_h``. ``leave_last_out`` gives each user's last row
    to test and the row before it to validation (equal timestamps: file order; users with fewer than 3 rows stay in
    training). ``random`` ignores time and so lets a model see the future of other rows.

    Args:
        tables: all interactions.
        config: kind, days or shares, seed.
    Returns:
        Three parts, none of them empty.
    Raises:
        DataError: a part would be empty.
    """
    if config.kind == "leave_last_out":
        part = _leave_last_out(tables.interactions)
    elif config.kind == "random":
        part = _by_rank(generator(config.seed, "split").permutation(tables.n_rows), config)
    elif config.validation_from is not None:
        days = tables.interactions.select(local_days(tables.interactions, config.utc_offset_h)).to_series()
        part = ((days >= config.validation_from).cast(pl.Int64) + (days >= config.test_from)).to_numpy()
    else:
        time = tables.interactions[Columns.TIME].to_numpy()
        # number of strictly earlier rows, so that equal timestamps share a rank
        part = _by_rank(np.searchsorted(np.sort(time), time, side="left"), config)
    rows = [np.flatnonzero(part == value) for value in (TRAIN, VALIDATION, TEST)]
    if any(len(some) == 0 for some in rows):
        raise DataError(_empty_part(tables, config, [len(some) for some in rows]))
    return Split(*rows)


def _by_rank(ranks: Int64, config: SplitConfig) -> Int64:
    n = len(ranks)
    test_from = n - round(n * config.test_share)
    validation_from = test_from - round(n * config.validation_share)
    return (ranks >= validation_from).astype(np.int64) + (ranks >= test_from)


def local_days(frame: pl.DataFrame, utc_offset_h: float) -> pl.Expr:
    """Expression for the calendar day of each interaction: `Columns.DAY`, else the timestamp's own."""
    if Columns.DAY in frame.columns:
        return pl.col(Columns.DAY)
    local = pl.col(Columns.TIME) + round(utc_offset_h * SECONDS_PER_HOUR)
    return pl.from_epoch(local, time_unit="s").dt.date()


def _leave_last_out(frame: pl.DataFrame) -> Int64:
    ranks = frame.select(
        # file order breaks ties: ordinal ranks count equal timestamps in the order of the rows
        from_last=pl.len().over(Columns.USER) - pl.col(Columns.TIME).rank("ordinal").over(Columns.USER),
        length=pl.len().over(Columns.USER),
    )
    from_last, length = ranks["from_last"].to_numpy(), ranks["length"].to_numpy()
    part = np.where(from_last == 0, TEST, np.where(from_last == 1, VALIDATION, TRAIN))
    return np.where(length < SHORTEST_HISTORY, TRAIN, part)


def _empty_part(tables: Tables, config: SplitConfig, counts: list[int]) -> str:
    found = dict(zip(("train", "validation", "test"), counts, strict=True))
    time = tables.interactions[Columns.TIME].to_numpy()
    first, last = (np.datetime64(int(second), "s") for second in (time.min(), time.max()))
    advice = {
        "leave_last_out": f"it needs a user with {SHORTEST_HISTORY} rows or more; use split.kind = 'time'",
        "random": "raise split.validation_share and split.test_share or use more rows",
        "time": "move split.validation_from and split.test_from, or split.validation_share and split.test_share; "
        f"the log goes from {first} to {last} UTC",
    }[config.kind]
    return f"split.kind = {config.kind!r} must leave rows of {tables.name} in each part, got {found}; {advice}."
