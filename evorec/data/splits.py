"""Division of the interactions into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import polars as pl

from evorec.config import SplitConfig
from evorec.data.sorting import Int64
from evorec.data.tables import PARTS, Columns, Tables
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
    training). ``random`` ignores time and so lets a model see the future of other rows; ``random_per_user`` gives the
    shares of each user's rows, rounded, so that users with few rows stay in training. ``given`` takes the parts of
    `Columns.PART`; where no row is of validation, ``config.validation`` says which training rows are moved there, and
    the test rows have no influence on it.

    Args:
        tables: all interactions.
        config: kind, days or shares, seed.
    Returns:
        Three parts, none of them empty.
    Raises:
        DataError: a part would be empty, or the log lacks the times or the parts that the split needs.
    """
    _check_kind(tables, config)
    log = tables.interactions
    if config.kind == "given":
        part = log[Columns.PART].to_numpy().astype(np.int64)
        if not (part == VALIDATION).any() and (train := np.flatnonzero(part == TRAIN)).size:
            part[train] = _without_test(log[train], config)
    elif config.kind == "leave_last_out":
        part = _leave_last_out(log, (TEST, VALIDATION))
    elif config.kind in ("random", "random_per_user"):
        part = _random(log, config, config.test_share, per_user=config.kind == "random_per_user")
    elif config.validation_from is not None:
        days = log.select(local_days(log, config.utc_offset_h)).to_series()
        part = ((days >= config.validation_from).cast(pl.Int64) + (days >= config.test_from)).to_numpy()
    else:
        part = _by_rank(_time_ranks(log), log.height, config, config.test_share)
    rows = [np.flatnonzero(part == value) for value in (TRAIN, VALIDATION, TEST)]
    if any(len(some) == 0 for some in rows):
        raise DataError(_empty_part(tables, config, [len(some) for some in rows]))
    return Split(*rows)


def _check_kind(tables: Tables, config: SplitConfig) -> None:
    """Refuses a split by times or parts that the log does not have."""
    given = config.kind == "given"
    key, kind = ("split.validation", config.validation) if given else ("split.kind", config.kind)
    if given and Columns.PART not in tables.interactions.columns:
        raise DataError(
            f'split.kind = "given" needs the parts of {tables.name}: name the files of each part in data.log.parts, or '
            "the column that holds the part of each row in data.log.part."
        )
    if given and (tables.interactions[Columns.PART] == VALIDATION).any():
        return
    others = '"random"' if given else '"random", or "given" with data.log.parts or data.log.part'
    if kind == "time" and tables.times != "seconds":
        has = "no times" if tables.times == "none" else "the order of each user's rows, but no times"
        others = f'"leave_last_out", {others}' if tables.times == "order" else others
        raise DataError(f'{key} = "time" needs times, and {tables.name} has {has}: set {key} to {others}.')
    if kind == "leave_last_out" and tables.times == "none":
        raise DataError(
            f'{key} = "leave_last_out" needs the order of each user\'s rows, and {tables.name} has no times: set {key} '
            f"to {others}."
        )


def _without_test(train: pl.DataFrame, config: SplitConfig) -> Int64:
    """Parts of the training rows of a given split, of which some become validation."""
    if config.validation == "leave_last_out":
        return _leave_last_out(train, (VALIDATION,))
    if config.validation == "time":
        return _by_rank(_time_ranks(train), train.height, config, 0.0)
    return _random(train, config, 0.0, per_user=config.validation == "random_per_user")


def _random(log: pl.DataFrame, config: SplitConfig, test_share: float, *, per_user: bool) -> Int64:
    ranks = generator(config.seed, "split").permutation(log.height)
    if not per_user:
        return _by_rank(ranks, log.height, config, test_share)
    rank, n = pl.col("rank").rank("ordinal").over(Columns.USER).cast(pl.Int64) - 1, pl.len().over(Columns.USER)
    own = log.select(Columns.USER, rank=pl.Series(ranks)).select(rank=rank, n=n.cast(pl.Int64))
    return _by_rank(own["rank"].to_numpy(), own["n"].to_numpy(), config, test_share)


def _time_ranks(log: pl.DataFrame) -> Int64:
    """Number of strictly earlier rows, so that equal timestamps share a rank."""
    time = log[Columns.TIME].to_numpy()
    return np.searchsorted(np.sort(time), time, side="left")


def _by_rank(ranks: Int64, n: int | Int64, config: SplitConfig, test_share: float) -> Int64:
    """Parts of rows by their ranks among n rows, the last for test."""
    test_from = n - np.rint(n * test_share).astype(np.int64)
    validation_from = test_from - np.rint(n * config.validation_share).astype(np.int64)
    return (ranks >= validation_from).astype(np.int64) + (ranks >= test_from)


def local_days(frame: pl.DataFrame, utc_offset_h: float) -> pl.Expr:
    """Expression for the calendar day of each interaction: `Columns.DAY`, else the timestamp's own."""
    if Columns.DAY in frame.columns:
        return pl.col(Columns.DAY)
    local = pl.col(Columns.TIME) + round(utc_offset_h * SECONDS_PER_HOUR)
    return pl.from_epoch(local, time_unit="s").dt.date()


def _leave_last_out(frame: pl.DataFrame, parts: Sequence[int]) -> Int64:
    """Parts of the last rows of each user, the last row first; all other rows are of training."""
    ranks = frame.select(
        # file order breaks ties: ordinal ranks count equal timestamps in the order of the rows
        from_last=pl.len().over(Columns.USER) - pl.col(Columns.TIME).rank("ordinal").over(Columns.USER),
        length=pl.len().over(Columns.USER),
    )
    from_last, length = ranks["from_last"].to_numpy(), ranks["length"].to_numpy()
    part = np.full(frame.height, TRAIN)
    for rank, value in enumerate(parts):
        part[from_last == rank] = value
    return np.where(length < len(parts) + 1, TRAIN, part)  # too few rows to give a row to each part


def _empty_part(tables: Tables, config: SplitConfig, counts: list[int]) -> str:
    found = dict(zip(PARTS, counts, strict=True))
    other = "time" if tables.times == "seconds" else "random"
    advice = {
        "leave_last_out": f"it needs a user with {SHORTEST_HISTORY} rows or more; use split.kind = {other!r}",
        "random": "raise split.validation_share and split.test_share or use more rows",
        "random_per_user": "raise split.validation_share and split.test_share: of few rows a share is no row",
        "given": "name rows or files of train and test in data.log.part or data.log.parts; a split without validation "
        f"takes it out of train by split.validation, here {config.validation!r}",
    }.get(config.kind)
    if advice is None:
        time = tables.interactions[Columns.TIME].to_numpy()
        first, last = (np.datetime64(int(second), "s") for second in (time.min(), time.max()))
        advice = (
            "move split.validation_from and split.test_from, or split.validation_share and split.test_share; "
            f"the log goes from {first} to {last} UTC"
        )
    return f"split.kind = {config.kind!r} must leave rows of {tables.name} in each part, got {found}; {advice}."
