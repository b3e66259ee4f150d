"""Public splits that papers compare on: lists without times, sequences, or rows with times, each with given parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from evorec.config.tables import ALWAYS, LogConfig
from evorec.data.readers import reads_folder
from evorec.data.splits import SHORTEST_HISTORY, TEST, TRAIN, VALIDATION
from evorec.data.tables import Columns, Feature, Tables, TimeKind
from evorec.data.tabular.item_lists import LIST_ITEM, LIST_USER, read_item_lists
from evorec.data.tabular.published import INTEGER, SECONDS
from evorec.data.tabular.sheet import read_rows
from evorec.data.tabular.sources import Source
from evorec.errors import DataError

LISTS: Final = ("train.txt", "test.txt")
SEQUENCES: Final = "sequences.txt"
ATTRIBUTES: Final = "item_attributes.json"
ROWS: Final = ("train.tsv", "validation.tsv", "test.tsv")
LAYOUTS: Final = (
    f"{' and '.join(LISTS)}, a line per user, the user and its items (as LightGCN's Gowalla); {SEQUENCES}, a line per "
    f"user, the user and its items in order of time, with {ATTRIBUTES} beside it if there is one (as S3-Rec's Beauty); "
    f"or {', '.join(ROWS)} with user, item and Unix seconds"
)
"""What a folder may hold, for errors."""


@reads_folder("public", "splits that papers compare on: LightGCN's lists, S3-Rec's sequences, rows of three parts")
def read(folder: Path) -> Tables:
    """A split whose parts are given by its files, in the layout that the folder has.

    *Lists*: ``train.txt`` and ``test.txt``, a line per user: the user, then its items in no order. There are no times
    and no validation. *Sequences*: ``sequences.txt``, a line per user: the user, then its items in order of time. The
    last item is of test, the last but one of validation; users with fewer than 3 items are of training. An item has its
    ``item_attributes.json`` (item -> numbers) as a multi-hot feature. *Rows*: ``train.tsv``, ``validation.tsv`` and
    ``test.tsv`` without header: user, item, Unix seconds.

    Each row is a positive of the label ``interaction``. In lists and rows a pair that a part has several times counts
    once there, at its last time; a pair of several parts stays in each. The catalogue are the items of all parts, so
    that held-out items without a training row are misses, as published figures count them.

    Args:
        folder: with the files of one layout.
    Raises:
        DataError: the files of no layout are there, or names the file and the line.
    """
    attributes = None
    times: TimeKind = "seconds"
    if (folder / SEQUENCES).is_file():
        name, times = "public sequences", "order"
        log = _sequences(folder / SEQUENCES)
        attributes = _attributes(folder / ATTRIBUTES) if (folder / ATTRIBUTES).is_file() else None
    elif all((folder / file).is_file() for file in LISTS):
        name, times = "public lists", "none"
        log = pl.concat(_in_part(_lists(folder / file), part) for file, part in zip(LISTS, (TRAIN, TEST), strict=True))
    elif all((folder / file).is_file() for file in ROWS):
        name = "public rows"
        log = pl.concat(_in_part(_rows(folder / file), part) for part, file in enumerate(ROWS))
    else:
        raise DataError(
            f"{folder} must have the files of a public split: {LAYOUTS}. They come with the code of the papers "
            "(kuandeng/LightGCN, RUCAIBox/CIKM2020-S3Rec) or from a benchmark that publishes its parts."
        )
    items = log.select(Columns.ITEM).unique().sort(Columns.ITEM)
    if attributes is not None:
        items = items.join(attributes, on=Columns.ITEM, how="left", maintain_order="left")
    return Tables(
        name=name,
        interactions=log.with_columns(pl.lit(1.0, dtype=pl.Float32).alias(ALWAYS)),
        tasks=(ALWAYS,),
        items=items,
        item_features=() if attributes is None else (Feature("attributes", "multi_hot"),),
        times=times,
    )


def _in_part(rows: pl.DataFrame, part: int) -> pl.DataFrame:
    once = rows.unique((Columns.USER, Columns.ITEM), keep="last", maintain_order=True)
    return once.with_columns(pl.lit(part, dtype=pl.Int8).alias(Columns.PART))


def _lists(path: Path) -> pl.DataFrame:
    sheet = read_item_lists(Source(path), LogConfig(format="adjacency"), "data.path").typed(
        {LIST_USER: INTEGER, LIST_ITEM: INTEGER}
    )
    return sheet.frame.select(pl.col(LIST_USER).alias(Columns.USER), pl.col(LIST_ITEM).alias(Columns.ITEM))


def _sequences(path: Path) -> pl.DataFrame:
    log = _lists(path).with_columns(
        pl.int_range(pl.len()).over(Columns.USER).alias(Columns.TIME), n=pl.len().over(Columns.USER).cast(pl.Int64)
    )
    from_last = pl.col("n") - 1 - pl.col(Columns.TIME)
    part = pl.when(from_last == 0).then(TEST).when(from_last == 1).then(VALIDATION).otherwise(TRAIN)
    part = pl.when(pl.col("n") < SHORTEST_HISTORY).then(TRAIN).otherwise(part)
    return log.with_columns(part.cast(pl.Int8).alias(Columns.PART)).drop("n")


def _rows(path: Path) -> pl.DataFrame:
    fields = {Columns.USER: INTEGER, Columns.ITEM: INTEGER, Columns.TIME: SECONDS}
    return read_rows(path, fields, separator="\t", encoding="utf-8").frame.sort(Columns.TIME, maintain_order=True)


def _attributes(path: Path) -> pl.DataFrame:
    """Attributes of each item, without repeats, in order.

    Raises:
        DataError: it is not an object of JSON: item -> a list of numbers.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return pl.DataFrame(
            {
                Columns.ITEM: [int(item) for item in found],
                "attributes": [sorted({int(number) for number in numbers}) for numbers in found.values()],
            },
            schema={Columns.ITEM: pl.Int64, "attributes": pl.List(pl.Int64)},
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} must be an object of JSON, item -> list of attribute numbers: {error}.") from None
