"""A small log in two weeks, and its description."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from evorec.config import SplitConfig, TasksConfig
from evorec.data.describe import Description, describe
from evorec.data.tables import Columns, Feature, Tables

DAY_S = 86_400
START_S = 1_700_006_400  # 2023-11-15 00:00 UTC
NOW_S = START_S + 100 * DAY_S
TASKS = TasksConfig(ranked=("click", "like"), target="click")
N_ROWS, N_USERS, N_ITEMS = 4200, 150, 60


def example_log() -> dict[str, np.ndarray]:
    """Columns of 4,200 rows in 14 days, 300 a day; nothing about them is remarkable.

    In every 10 rows 4 are clicks and 3 likes, of other users in every round of all 150 of them.
    """
    row = np.arange(N_ROWS)
    shift = row // N_USERS
    return {
        Columns.USER: row % N_USERS,
        Columns.ITEM: (row // 7) % N_ITEMS,
        Columns.TIME: START_S + row * (14 * DAY_S // N_ROWS),
        "click": ((row + shift) % 10 < 4).astype(float),
        "like": ((3 * row + shift) % 10 < 3).astype(float),
    }


def example_tables(name: str = "example", **columns: object) -> Tables:
    """The same with other columns."""
    lists = {key: column.tolist() if isinstance(column, np.ndarray) else column for key, column in columns.items()}
    log = pl.DataFrame({**example_log(), **lists}, strict=False).with_columns(pl.col(Columns.TIME).cast(pl.Int64))
    item_ids = log[Columns.ITEM].unique().sort()
    items = pl.DataFrame({Columns.ITEM: item_ids, "shelf": [f"s{place % 5}" for place in range(len(item_ids))]})
    shelf = (Feature("shelf", "categorical"),)
    return Tables(name, log, tasks=("click", "like"), items=items, item_features=shelf, content=("shelf",))


def description(
    tables: Tables | None = None, split: SplitConfig | None = None, tasks: TasksConfig = TASKS
) -> Description:
    """What is counted; by default split by the day after 10 and 12 days."""
    days = SplitConfig(validation_from=date(2023, 11, 25), test_from=date(2023, 11, 27))
    return describe(tables or example_tables(), split=split or days, tasks=tasks)
