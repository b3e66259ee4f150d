"""KuaiRec (Gao et al., CIKM 2022, https://kuairec.com): two matrices of short-video views, the smaller almost full."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.readers.kuairand import USER_FEATURES, read_users
from evorec.data.tables import LATEST_SECOND, Columns, Feature, Tables, categorical
from evorec.data.tabular.published import INTEGER, KEY, NUMBER, published_folder
from evorec.data.tabular.sheet import Field, read_csv

BIG: Final = "big_matrix.csv"
"""Recommendations of the app to 7,176 users: 12.5 million views."""
SMALL: Final = "small_matrix.csv"
"""1,411 of these users with almost all of 3,327 videos: 4.7 million views, none of them in the big matrix."""

AMOUNT: Final = Field(pl.Float64, lambda value: value.is_finite() & (value >= 0), "be a finite number from 0 on")
LOG: Final = {
    **dict.fromkeys(("user_id", "video_id"), INTEGER),
    **dict.fromkeys(("play_duration", "video_duration", "watch_ratio"), AMOUNT),
    "timestamp": Field(pl.Float64, lambda value: value.is_between(0, LATEST_SECOND), "be in seconds", needed=False),
    "date": NUMBER,
}
"""The date is a number with a fraction where a file has rows without a date."""
TASKS: Final = ("valid_view", "long_view", "complete", "like", "watch_ratio", "play_time_s")

VALID_VIEW_MS: Final = 7_000
LONG_VIEW_MS: Final = 18_000
"""With `VALID_VIEW_MS` the thresholds of the same app's KuaiRand; a shorter video must be played to its end."""
LIKED_RATIO: Final = 2.0
"""The data set has no likes; its authors propose to take a watch ratio above 2 as a like (README, "like")."""
BEIJING_S: Final = 8 * 3600
TAGS: Final = r"^\[\s*(-?\d+\s*(,\s*-?\d+\s*)*)?\]$"


@reads_folder("kuairec", "KuaiRec, big matrix: views of recommended short videos")
def read(folder: Path) -> Tables:
    """The big matrix of KuaiRec: views of recommended videos, the log to train a recommender on.

    Tasks: valid_view (played 7 s, or to the end of a shorter video), long_view (18 s likewise), complete (watch ratio
    1 or more), like (watch ratio above 2, as the authors propose), and two numbers, watch_ratio and play_time_s. The
    context is the hour. Videos have tags, which are also their content, and a duration in ms; users have the features
    of `kuairand`, from version 2.0 on. `Columns.DAY` is the published ``date``, a day in Beijing (UTC+8). File order is
    kept; rows without a timestamp, which the small matrix has, have no order in time and are left out.

    Not read: ``item_daily_features.csv``, whose counts see the days that are to be predicted;
    ``social_network.csv``; ``kuairec_caption_category.csv``, texts with line breaks that are not quoted.

    Args:
        folder: with ``big_matrix.csv``, ``item_categories.csv`` and, from version 2.0 on, ``user_features.csv``, or
            the unpacked archive above its ``data``.
    Raises:
        DataError: names the file, the line and the column.
    Source: columns as https://github.com/chongminggao/KuaiRec describes them; licence CC BY-SA 4.0.
    """
    return _read(folder, BIG, "kuairec")


@reads_folder("kuairec_small", "KuaiRec, small matrix: almost every pair of its users and videos")
def read_small(folder: Path) -> Tables:
    """The small matrix of KuaiRec, almost every pair of its users and videos: to evaluate any list.

    All else is as in `read`.

    Args:
        folder: with ``small_matrix.csv`` and the other files.
    Raises:
        DataError: names the file, the line and the column.
    """
    return _read(folder, SMALL, "kuairec-small")


def _read(folder: Path, matrix: str, name: str) -> Tables:
    folder = published_folder(folder, matrix)
    log = _read_log(folder / matrix)
    users = folder / "user_features.csv"
    durations = log.group_by(Columns.ITEM, maintain_order=True).agg(pl.col("video_duration").first())
    tags = Field(pl.String, lambda text: text.str.contains(TAGS), "be a list such as [27, 9]", needed=False)
    videos = read_csv(folder / "item_categories.csv", {"video_id": KEY, "feat": tags}).frame.select(
        pl.col("video_id").alias(Columns.ITEM), tags=pl.col("feat").str.extract_all(r"-?\d+")
    )
    return Tables(
        name=name,
        interactions=log.drop("video_duration"),
        tasks=TASKS,
        users=read_users(users) if users.is_file() else None,
        items=videos.join(durations, on=Columns.ITEM, how="left", maintain_order="left"),
        context=categorical("hour"),
        user_features=USER_FEATURES if users.is_file() else (),
        item_features=(Feature("tags", "multi_hot"), Feature("video_duration", "numeric")),
        content=("tags",),
    )


def _read_log(path: Path) -> pl.DataFrame:
    sheet = read_csv(path, LOG)
    day = pl.col("date").cast(pl.Int64, strict=False).cast(pl.String).str.to_date("%Y%m%d", strict=False)
    sheet.require("date", pl.col("timestamp").is_null() | day.is_not_null(), "be YYYYMMDD")
    second = pl.col("timestamp").floor().cast(pl.Int64)
    return sheet.frame.filter(pl.col("timestamp").is_not_null()).select(
        pl.col("user_id").alias(Columns.USER),
        pl.col("video_id").alias(Columns.ITEM),
        second.alias(Columns.TIME),
        day.alias(Columns.DAY),
        hour=(second + BEIJING_S) // 3600 % 24,
        valid_view=_played(VALID_VIEW_MS),
        long_view=_played(LONG_VIEW_MS),
        complete=pl.col("watch_ratio") >= 1,
        like=pl.col("watch_ratio") > LIKED_RATIO,
        watch_ratio=pl.col("watch_ratio"),
        play_time_s=pl.col("play_duration") / 1000,
        video_duration=pl.col("video_duration"),
    )


def _played(long_enough_ms: int) -> pl.Expr:
    return pl.col("play_duration") >= pl.min_horizontal(pl.col("video_duration"), pl.lit(float(long_enough_ms)))
