"""Simulated worlds as flat tables: interactions with the features of their users and items."""

from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.config import simulator_config
from evorec.data.simulator import simulate
from evorec.data.tables import Columns, Tables

SIZE = {"n_users": 600, "n_items": 300, "n_interactions": 30_000}


@cache
def world(scenario: str, seed: int = 0) -> Tables:
    return simulate(simulator_config({"scenario": scenario, "seed": seed, **SIZE}))


@cache
def flat(scenario: str) -> pl.DataFrame:
    tables = world(scenario)
    assert tables.users is not None
    assert tables.items is not None
    return tables.interactions.join(tables.users, on=Columns.USER, maintain_order="left").join(
        tables.items, on=Columns.ITEM, maintain_order="left"
    )


def rate(log: pl.DataFrame, label: str, *by: str) -> dict[object, float]:
    """Mean label of each value of a column (or of several, as tuples), in ascending order of the values."""
    table = log.group_by(by).agg(pl.col(label).mean()).sort(by)
    keys = [row if len(by) > 1 else row[0] for row in table.select(by).iter_rows()]
    return dict(zip(keys, table[label].to_list(), strict=True))


def correlation(log: pl.DataFrame, left: str, right: str) -> float:
    return float(np.corrcoef(log[left].to_numpy(), log[right].to_numpy())[0, 1])


def spread(log: pl.DataFrame, label: str, *by: str) -> float:
    """Share of a label's variance that lies between cells, without what chance alone puts there.

    The variance between cells minus the variance inside, over their number, as in a one-way analysis of variance.
    """
    cells = log.group_by(by).agg(pl.col(label).mean().alias("mean"), pl.len().alias("n"))
    cells = cells.filter(pl.col("n") >= 10)
    mean, n = cells["mean"].to_numpy(), cells["n"].to_numpy()
    between = np.average((mean - np.average(mean, weights=n)) ** 2, weights=n)
    by_chance = np.average(mean * (1 - mean) / n, weights=n)
    return float((between - by_chance) / log[label].to_numpy().var())


def column(log: pl.DataFrame, name: str) -> npt.NDArray[np.float64]:
    return log[name].to_numpy().astype(np.float64)
