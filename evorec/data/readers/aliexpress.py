"""AliExpress searches (Li et al., CIKM 2020) as MTReclib prepares them: impressions of a shop's search results.

https://tianchi.aliyun.com/dataset/74690, prepared by ``data/preprocess.py`` of
https://github.com/easezyc/Multitask-Recommendation-Library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.tables import Columns, Tables, categorical, numeric
from evorec.data.tabular.published import CODE, FLAG, TEST_DAY, artificial_times
from evorec.data.tabular.sheet import Field, read_csv

TASKS: Final = ("click", "conversion")
SEARCH: Final = "search_id"
SEARCH_CATEGORIES: Final = tuple(f"categorical_{number}" for number in range(1, 10))
SEARCH_NUMBERS: Final = tuple(f"numerical_{number}" for number in range(1, 24))
"""With `SEARCH_CATEGORIES` the columns of the raw file of users, a row per search."""
ITEM_CATEGORIES: Final = tuple(f"categorical_{number}" for number in range(10, 17))
MATCH_NUMBERS: Final = tuple(f"numerical_{number}" for number in range(24, 64))
"""With `ITEM_CATEGORIES` the columns of the raw file of items: an item, as the search found it."""

FIELDS: Final = {
    SEARCH: Field(pl.Int64, lambda value: value >= 0, "be a number from 0 on"),
    **dict.fromkeys((*SEARCH_CATEGORIES, *ITEM_CATEGORIES), CODE),
    **dict.fromkeys((*SEARCH_NUMBERS, *MATCH_NUMBERS), Field(pl.Float64, pl.Expr.is_finite, "be finite")),
    **dict.fromkeys(TASKS, FLAG),
}


@reads_folder("aliexpress", "AliExpress searches as MTReclib prepares them: clicks and conversions")
def read(folder: Path) -> Tables:
    """AliExpress of a country (NL, ES, FR or US): a benchmark of multi-task ranking, made to fit a recommender.

    Tasks are click and conversion; every conversion has a click, so they are a funnel. The table has neither users nor
    items nor times, only anonymous features; they are replaced as follows:

    * **user**: a search, ``search_id``; its numbers start again in ``test.csv``, where a search s gets the id -1 - s.
      Its features are categorical_1..9 and numerical_1..23. No search of the test occurs in training.
    * **item**: a kind of item, a combination of categorical_10..16, written with dashes; these are also its features
      and its content. Two different products can be of the same kind.
    * **context**: numerical_24..63, which describe the item of the row as that search found it.
    * **time**: order of the searches in the files, spread over days from 1970-01-01: the first nine tenths of
      ``train.csv`` up to 1970-01-09, the last tenth on 1970-01-10, ``test.csv`` on 1970-01-11. With
      ``split.validation_from = 1970-01-10`` and ``split.test_from = 1970-01-11`` the test is MTReclib's own.

    So the AUC of click and conversion compares with published tables (set ``data.statistics = []`` for that), and AUC
    within a user is AUC within a search. Lists and their recall mean nothing here: a list of kinds of items for a
    search, with the context of a row. Choose another data set to train a recommender.

    Args:
        folder: with ``train.csv`` and ``test.csv``.
    Raises:
        DataError: names the file, the line and the column.
    Source: names and order of the columns as the script above writes them; the raw data are for research.
    """
    train = _read_part(folder / "train.csv", first_day=0, n_days=TEST_DAY)
    test = _read_part(folder / "test.csv", first_day=TEST_DAY, n_days=1)
    rows = pl.concat([train, test.with_columns((-1 - pl.col(Columns.USER)).alias(Columns.USER))])
    kinds = rows.select(Columns.ITEM, *ITEM_CATEGORIES).unique(subset=[Columns.ITEM], keep="first", maintain_order=True)
    search = (*SEARCH_CATEGORIES, *SEARCH_NUMBERS)
    return Tables(
        name="aliexpress",
        interactions=rows.drop(*search, *ITEM_CATEGORIES),
        tasks=TASKS,
        users=rows.select(Columns.USER, *search).unique(subset=[Columns.USER], keep="first", maintain_order=True),
        items=kinds,
        context=numeric(*MATCH_NUMBERS),
        user_features=categorical(*SEARCH_CATEGORIES) + numeric(*SEARCH_NUMBERS),
        item_features=categorical(*ITEM_CATEGORIES),
        content=ITEM_CATEGORIES,
    )


def _read_part(path: Path, *, first_day: int, n_days: int) -> pl.DataFrame:
    sheet = read_csv(path, FIELDS)
    for name in (*SEARCH_CATEGORIES, *SEARCH_NUMBERS):
        same = pl.col(name) == pl.col(name).first().over(SEARCH)
        sheet.require(name, same, "be the same in all rows of a search")
    searches = sheet.frame.select(pl.col(SEARCH).unique(maintain_order=True)).with_row_index("position")
    position = sheet.frame.select(SEARCH).join(searches, on=SEARCH, how="left", maintain_order="left")["position"]
    times = artificial_times(position.cast(pl.Int64), first_day=first_day, n_days=n_days)
    return sheet.frame.select(
        pl.col(SEARCH).alias(Columns.USER),
        pl.concat_str(ITEM_CATEGORIES, separator="-").alias(Columns.ITEM),
        times.alias(Columns.TIME),
        *(pl.col(name).cast(pl.Int32) for name in (*SEARCH_CATEGORIES, *ITEM_CATEGORIES)),
        *(pl.col(name).cast(pl.Float32) for name in (*SEARCH_NUMBERS, *MATCH_NUMBERS, *TASKS)),
    )
