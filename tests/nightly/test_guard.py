"""Planted faults of the data are found, and an ordinary night passes."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from evorec.config import GuardConfig, SplitConfig
from evorec.data.simulator import simulate
from evorec.data.splits import split
from evorec.data.tables import Columns
from evorec.nightly.checks import Outcome
from evorec.nightly.guard import check_data, profile, stability_index
from problems.feed import FeedConfig

ROWS = 4000


@pytest.fixture(scope="module")
def before():
    return simulate(FeedConfig(n_users=120, n_items=80, n_interactions=ROWS, seed=1))


def checked(tables, before, **config):
    stored = profile(before, split(before, SplitConfig()))
    parts = split(tables, SplitConfig())
    found = check_data(tables, parts, GuardConfig(**config), own=profile(tables, parts), before=stored)
    return {check.name.removeprefix("data."): check for check in found}


def log_with(tables, *columns):
    return tables.with_interactions(tables.interactions.with_columns(*columns))


def test_the_next_day_of_the_same_world_passes(before):
    log = before.interactions
    day = (pl.col(Columns.TIME) - log[Columns.TIME][0]) // 86_400
    later, before = (before.with_interactions(log.filter(day.is_between(n, n + 12))) for n in (1, 0))
    assert {check.outcome for check in checked(later, before).values()} == {Outcome.PASS}
    own = profile(before, parts := split(before, SplitConfig()))
    first = check_data(before, parts, GuardConfig(), own=own, before=None)
    assert {check.text for check in first} == {"nothing to compare with yet"}


def faults(tables):
    """Name -> the data of a broken night, and the check that finds it, with its words."""
    half = tables.interactions.head(ROWS * 2 // 5)
    negative = pl.when(pl.col(Columns.USER) == 3).then(-1).otherwise(pl.col(Columns.USER)).alias(Columns.USER)
    far = pl.when(pl.col(Columns.ITEM) == 3).then(10**12).otherwise(pl.col(Columns.ITEM)).alias(Columns.ITEM)
    latest = pl.int_range(pl.len()) >= ROWS * 8 // 10
    unknown = pl.when(latest & (pl.col(Columns.USER) % 4 > 0)).then(None).otherwise(pl.col("click")).alias("click")
    rare = pl.when(latest & (pl.col(Columns.ITEM) % 3 > 0)).then(0.0).otherwise(pl.col("click")).alias("click")
    return {
        "a column is missing": (
            replace(tables, items=tables.items.drop("price"), item_features=tables.item_features[:1]),
            "columns", "column items.price is missing",
        ),
        "a type has changed": (
            log_with(tables, pl.col("hour").cast(pl.String)), "columns", "column log.hour was Int64 and is String",
        ),
        "rows are missing": (tables.with_interactions(half), "rows", "1,600 rows, before 4,000"),
        "items are missing": (
            tables.with_interactions(tables.interactions.filter(pl.col(Columns.ITEM) % 5 == 0)), "ids", "items, before",
        ),
        "an id is a code for missing": (log_with(tables, negative), "ids", "ids of users begin at -1, before at 0"),
        "ids of another source": (log_with(tables, far), "ids", "ids of items go up to 1000000000000"),
        "a label is constant": (log_with(tables, pl.lit(0.0).alias("like")), "labels", "label like of the latest"),
        "a label is not logged": (log_with(tables, unknown), "labels", "share of known values"),
        "a label has become rare": (log_with(tables, rare), "labels", "label click: mean"),
        "a feature has moved": (
            log_with(tables, (pl.col("hour") % 6).alias("hour")), "drift", "context.hour: population stability index",
        ),
    }  # fmt: skip


def test_every_planted_fault_is_found_by_its_check(before):
    for name, (tables, check, words) in faults(before).items():
        found = checked(tables, before)
        assert words in found[check].text, (name, found)
        assert found[check].outcome is (Outcome.WARN if check == "drift" else Outcome.FAIL), name
        other = checked(tables, before, **{check: "warn" if check != "drift" else "error"})
        assert other[check].outcome is (Outcome.FAIL if check == "drift" else Outcome.WARN), name
        assert check not in checked(tables, before, **{check: "off"})


def test_chance_alone_is_no_drift():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(20))
    same = [stability_index(rng.multinomial(200, shares), rng.multinomial(300, shares)) for _ in range(200)]
    assert np.mean(same) < 0.05
    assert max(same) < 0.25
    # By hand: counts of 80 and 20 of 100 after 50 and 50: (0.3 ln 1.6) + (-0.3 ln 0.4) = 0.416, minus 2/100 by chance.
    assert stability_index([50, 50], [80, 20]) == pytest.approx(0.416 - 0.02, abs=0.01)
