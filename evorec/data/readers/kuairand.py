"""KuaiRand (Gao et al., CIKM 2022, https://kuairand.com): impressions of a short-video app, as published."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers import reads_folder
from evorec.data.tables import Columns, Feature, Tables, categorical, numeric
from evorec.data.tabular.published import FLAG, INTEGER, KEY, MILLISECONDS, NUMBER, TEXT, only_file, published_folder
from evorec.data.tabular.sheet import Field, read_csv
from evorec.errors import DataError

LABELS: Final = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "profile_enter": "is_profile_enter",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
    "hate": "is_hate",
}
"""Task -> column of the log."""

DAY: Final = "%Y%m%d"
LOG: Final = {
    **dict.fromkeys(("user_id", "video_id", "tab"), INTEGER),
    "date": Field(
        pl.Int64, lambda day: day.cast(pl.String).str.to_date(DAY, strict=False).is_not_null(), "be YYYYMMDD"
    ),
    "hourmin": Field(pl.Int64, lambda hourmin: (hourmin // 100).is_between(0, 23), "be HHMM"),
    "time_ms": MILLISECONDS,
    **dict.fromkeys(LABELS.values(), FLAG),
}
USER_NUMBERS: Final = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
"""Binned by their quantiles, which replace the coarser published ranges."""
USER_CATEGORIES: Final = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    *(f"onehot_feat{number}" for number in range(18)),
)
USER_FEATURES: Final = categorical(*USER_CATEGORIES) + numeric(*USER_NUMBERS)
VIDEO_CATEGORIES: Final = ("author_id", "video_type", "upload_type", "music_id", "music_type")


@reads_folder("kuairand", "KuaiRand-Pure, -1K and -27K: impressions of a short-video app")
def read(folder: Path) -> Tables:
    """KuaiRand-Pure, -1K or -27K, or a part of them: they differ in files and rows, not in columns.

    Tasks are click, long_view, like, profile_enter, follow, comment, forward and hate; the context is the tab and the
    hour. `Columns.DAY` is the published ``date``: it differs from the Beijing day (UTC+8) of ``time_ms`` for the rows
    of the last minutes before midnight, about 1 in 100. The daily statistics files are not read: they count the days
    that are to be predicted.

    All logs of the folder are read, ``log_random_*.csv`` too: videos that no recommender chose. To learn from
    recommendations only, as is usual, move that file elsewhere. The videos of 1K and 27K are a catalogue of 4 and 32
    million; 27K, 23 GB of logs, needs a machine with several times that memory.

    Args:
        folder: with ``log_*.csv`` (all of them, in order of name, as 27K has its logs in parts),
            ``user_features*.csv`` and ``video_features_basic*.csv``, or the unpacked archive above its ``data``.
    Raises:
        DataError: names the file, the line and the column.
    Source: columns as https://github.com/chongminggao/KuaiRand describes them; licence CC BY-SA 4.0.
    """
    folder = published_folder(folder, "log_*.csv")
    logs = sorted(folder.glob("log_*.csv"))
    if not logs:
        raise DataError(f"{folder} has no log_*.csv; expected the folder with the published KuaiRand files.")
    fields = {"video_id": KEY, **dict.fromkeys((*VIDEO_CATEGORIES, "tag"), TEXT), "video_duration": NUMBER}
    videos = read_csv(only_file(folder, "video_features_basic*.csv"), fields).frame.rename({"video_id": Columns.ITEM})
    return Tables(
        name="kuairand",
        interactions=pl.concat([_read_log(path) for path in logs]),
        tasks=tuple(LABELS),
        users=read_users(only_file(folder, "user_features*.csv")),
        items=videos.with_columns(pl.col("tag").str.split(",")),
        context=categorical("tab", "hour"),
        user_features=USER_FEATURES,
        item_features=(*categorical(*VIDEO_CATEGORIES), Feature("tag", "multi_hot"), *numeric("video_duration")),
        content=("tag",),
    )


def _read_log(path: Path) -> pl.DataFrame:
    return read_csv(path, LOG).frame.select(
        pl.col("user_id").alias(Columns.USER),
        pl.col("video_id").alias(Columns.ITEM),
        (pl.col("time_ms") // 1000).alias(Columns.TIME),
        pl.col("date").cast(pl.String).str.to_date(DAY).alias(Columns.DAY),
        "tab",
        (pl.col("hourmin") // 100).alias("hour"),
        *(pl.col(column).cast(pl.Float32).alias(task) for task, column in LABELS.items()),
    )


def read_users(path: Path) -> pl.DataFrame:
    """``user_features*.csv``, which KuaiRec shares: a row per user, id and `USER_FEATURES`.

    Raises:
        DataError: names the file, the line and the column.
    """
    fields = {"user_id": KEY, **dict.fromkeys(USER_CATEGORIES, TEXT), **dict.fromkeys(USER_NUMBERS, NUMBER)}
    return read_csv(path, fields).frame.rename({"user_id": Columns.USER})
