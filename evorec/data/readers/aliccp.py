"""Ali-CCP (Ma et al., SIGIR 2018) as AITM prepares it: impressions, clicks and purchases of Taobao.

https://tianchi.aliyun.com/dataset/408, prepared by ``process_public_data.py`` of https://github.com/xidongbo/AITM, the
script of the model that MTReclib takes over; MTReclib itself prepares AliExpress only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.tables import Columns, Tables, categorical
from evorec.data.tabular.published import CODE, FLAG, TEST_DAY, VALIDATION_DAY, artificial_times
from evorec.data.tabular.sheet import read_csv
from evorec.errors import DataError

TASKS: Final = ("click", "purchase")
USER: Final = "101"
ITEM: Final = "205"
ITEM_FIELDS: Final = {"206": "category", "207": "shop", "216": "brand"}
"""Number of the published field -> feature."""
ROW_FIELDS: Final = {
    "121": "profile",
    "122": "profile_group",
    "124": "gender",
    "125": "age",
    "126": "consumption_1",
    "127": "consumption_2",
    "128": "occupation",
    "129": "geography",
    "508": "category_history",
    "509": "shop_history",
    "702": "brand_history",
    "853": "intention_history",
    "301": "position",
}
"""The user at the time, counts of the item in the user's history (508 .. 853), and the position of the impression."""
RARE: Final = 0
"""Written by the preparation for a value that fewer than 12 training rows have, and for a missing value."""
FIELDS: Final = {**dict.fromkeys(TASKS, FLAG), **dict.fromkeys((USER, ITEM, *ITEM_FIELDS, *ROW_FIELDS), CODE)}


@reads_folder("aliccp", "Ali-CCP as AITM prepares it: impressions, clicks and purchases of Taobao")
def read(folder: Path) -> Tables:
    """Ali-CCP: 85 million impressions of Taobao's recommendations, with a user and an item but without a time.

    Tasks are click and purchase; every purchase has a click, so they are a funnel. The context is the user's profile
    at the impression, counts of the item's category, shop, brand and intention in the user's history, and the position
    (published as 301, which multi-domain studies take for the domain). Items have category, shop and brand as in their
    first row; they have no content, because any of these would make fixed vectors of thousands of columns. The numbers
    are those of the preparation. User 0 and item 0 are all rare users and items together: lists are for the others.

    The order of the files replaces the time, spread over days from 1970-01-01: ``ctr_cvr.train`` up to
    1970-01-09, ``ctr_cvr.dev``, drawn from the same days, on 1970-01-10, ``ctr_cvr.test`` on 1970-01-11. With
    ``split.validation_from = 1970-01-10`` and ``split.test_from = 1970-01-11`` the parts are AITM's own; set
    ``data.statistics = []`` to compare with published tables.

    Args:
        folder: with ``ctr_cvr.train``, ``ctr_cvr.dev`` and ``ctr_cvr.test``.
    Raises:
        DataError: names the file, the line and the column.
    Source: columns as the script above writes them, their meaning as the data set's page says; for research, not
        commercial.
    """
    days = {"train": (0, VALIDATION_DAY), "dev": (VALIDATION_DAY, 1), "test": (TEST_DAY, 1)}
    missing = [f"ctr_cvr.{part}" for part in days if not (folder / f"ctr_cvr.{part}").is_file()]
    if missing:
        raise DataError(
            f"{folder} has no {missing}; expected the output of AITM's process_public_data.py, which makes them from "
            "sample_skeleton_*.csv and common_features_*.csv."
        )
    rows = pl.concat(
        [
            _read_part(folder / f"ctr_cvr.{part}", first_day=first_day, n_days=n_days)
            for part, (first_day, n_days) in days.items()
        ]
    )
    item_features = tuple(ITEM_FIELDS.values())
    items = rows.select(Columns.ITEM, *item_features).unique(subset=[Columns.ITEM], keep="first", maintain_order=True)
    no_rare_item = pl.when(pl.col(Columns.ITEM) != RARE)
    return Tables(
        name="aliccp",
        interactions=rows.drop(*item_features),
        tasks=TASKS,
        items=items.with_columns(no_rare_item.then(pl.col(name)).alias(name) for name in item_features),
        context=categorical(*ROW_FIELDS.values()),
        item_features=categorical(*item_features),
    )


def _read_part(path: Path, *, first_day: int, n_days: int) -> pl.DataFrame:
    frame = read_csv(path, FIELDS).frame
    position = pl.int_range(frame.height, dtype=pl.Int64, eager=True)
    return frame.select(
        pl.col(USER).alias(Columns.USER),
        pl.col(ITEM).alias(Columns.ITEM),
        artificial_times(position, first_day=first_day, n_days=n_days).alias(Columns.TIME),
        *(
            pl.when(pl.col(number) != RARE).then(pl.col(number).cast(pl.Int32)).alias(name)
            for number, name in (ITEM_FIELDS | ROW_FIELDS).items()
        ),
        *(pl.col(name).cast(pl.Float32) for name in TASKS),
    )
