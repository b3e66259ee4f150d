"""RetailRocket (https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset): a web shop's events, as published."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.tables import Columns, Feature, Tables, categorical
from evorec.data.tabular.published import INTEGER, KEY, MILLISECONDS, TEXT
from evorec.data.tabular.sheet import Field, read_csv
from evorec.data.tabular.times import session_numbers
from evorec.errors import DataError

EVENTS: Final = ("view", "addtocart", "transaction")
"""Values of the column ``event``, each of them a task."""
SESSION_GAP_MS: Final = 30 * 60 * 1000
"""A visitor's session ends with a longer pause; 30 minutes is the usual choice of web statistics."""
SNAPSHOT_EVERY_MS: Final = 7 * 24 * 3600 * 1000
"""Properties were recorded once a week: the state at an event is in the snapshot of the following week at the
latest."""
MS_PER_S: Final = 1000
TREE: Final = "category_tree.csv"


@reads_folder("retailrocket", "RetailRocket: views, add-to-carts and transactions of a web shop")
def read(folder: Path) -> Tables:
    """RetailRocket, 4.5 months of 2015: a row per visitor, item and session instead of a row per event.

    Tasks: interacted (always 1), and view, addtocart, transaction: whether the session has such an event of the item.
    The log has no impressions without an event, so view is 1 almost everywhere, and a transaction of a session may lack
    its own addtocart or view. A row has the time of its first event; rows are in order of that time. The context is the
    hour in UTC: the shop's own time zone is not published.

    Items have a category, the path of it and its ancestors (categories), and the root of the path (department), which
    is their content. Item properties have a time: an item's category is the first published category, if its
    snapshot is at most a week after the item's first event; a later category was not known
    at that event and counts as unknown. All other properties are hashed or, like ``available``, follow the sales, and
    are not read.

    Args:
        folder: with ``events.csv``, ``item_properties_part1.csv``, ``item_properties_part2.csv`` (or other
            ``item_properties*.csv``) and ``category_tree.csv``.
    Raises:
        DataError: names the file, the line and the column.
    Source: columns as the data set's page describes them; licence CC BY-NC-SA 4.0.
    """
    parts = sorted(folder.glob("item_properties*.csv"))
    if not parts:
        raise DataError(f"{folder} has no item_properties*.csv; expected it beside events.csv and {TREE}.")
    event = Field(pl.String, lambda name: name.is_in(EVENTS), f"be one of {list(EVENTS)}")
    fields = {"timestamp": MILLISECONDS, "visitorid": INTEGER, "event": event, "itemid": INTEGER}
    events = read_csv(folder / "events.csv", fields).frame
    first_event = events.group_by("itemid").agg(first_event=pl.col("timestamp").min())
    items = _categories([_read_properties(path) for path in parts], first_event)
    paths = _paths(folder / TREE)
    return Tables(
        name="retailrocket",
        interactions=_by_session(events),
        tasks=("interacted", *EVENTS),
        items=items.join(paths, on="category", how="left", maintain_order="left").with_columns(
            department=pl.col("department").fill_null(pl.col("category")),
            categories=pl.col("categories").fill_null(pl.concat_list("category").list.drop_nulls()),
        ),
        context=categorical("hour"),
        item_features=(
            Feature("category", "categorical"),
            Feature("categories", "multi_hot"),
            Feature("department", "categorical"),
        ),
        content=("department",),
    )


def _by_session(events: pl.DataFrame) -> pl.DataFrame:
    """A row per visitor, item and session, in order of its first event."""
    ordered = events.sort("timestamp", maintain_order=True)
    ordered = ordered.with_columns(session=session_numbers("timestamp", "visitorid", SESSION_GAP_MS))
    rows = ordered.group_by("visitorid", "itemid", "session", maintain_order=True).agg(
        pl.col("timestamp").first(), *((pl.col("event") == event).any().alias(event) for event in EVENTS)
    )
    return rows.select(
        pl.col("visitorid").alias(Columns.USER),
        pl.col("itemid").alias(Columns.ITEM),
        (pl.col("timestamp") // MS_PER_S).alias(Columns.TIME),
        (pl.col("timestamp") // (3600 * MS_PER_S) % 24).alias("hour"),
        pl.lit(1.0, dtype=pl.Float32).alias("interacted"),
        *EVENTS,
    )


def _read_properties(path: Path) -> pl.DataFrame:
    """The categories; every other property becomes a row without a category, so that the catalogue is complete."""
    fields = {"timestamp": INTEGER, "itemid": INTEGER, "property": Field(pl.String), "value": TEXT}
    frame = read_csv(path, fields).frame
    category = pl.when(pl.col("property") == "categoryid").then(pl.col("value"))
    frame = frame.select("timestamp", "itemid", category=category)
    return frame.unique(subset=["timestamp", "itemid", "category"], keep="first", maintain_order=True)


def _categories(parts: list[pl.DataFrame], first_event: pl.DataFrame) -> pl.DataFrame:
    """Every item with its first category, null where that was published too late."""
    frame = pl.concat(parts)
    first = (
        frame.drop_nulls("category")
        .sort("timestamp", maintain_order=True)
        .unique(subset=["itemid"], keep="first", maintain_order=True)
        .join(first_event, on="itemid", how="left")
    )
    in_time = (pl.col("timestamp") <= pl.col("first_event") + SNAPSHOT_EVERY_MS).fill_null(value=True)
    known = first.filter(in_time).select("itemid", "category")
    items = frame.select(pl.col("itemid").unique().sort())
    return items.join(known, on="itemid", how="left", maintain_order="left").rename({"itemid": Columns.ITEM})


def _paths(path: Path) -> pl.DataFrame:
    """Each category with itself and its ancestors, nearest first, and the last of them."""
    frame = read_csv(path, {"categoryid": KEY, "parentid": Field(pl.Int64, needed=False)}).frame
    parents: dict[int, int | None] = dict(frame.iter_rows())
    paths: dict[int, list[int]] = {}
    for category in parents:
        steps = paths[category] = [category]
        while (parent := parents.get(steps[-1])) is not None:
            if parent in steps:
                raise DataError(f"{path}: column parentid must lead to a root, got the circle {[*steps, parent]}.")
            steps.append(parent)
    return pl.DataFrame(
        {
            "category": [str(category) for category in paths],
            "categories": [[str(step) for step in steps] for steps in paths.values()],
            "department": [str(steps[-1]) for steps in paths.values()],
        }
    )
