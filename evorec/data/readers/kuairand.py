"""KuaiRand (Gao et al., CIKM 2022, https://kuairand.com): impressions of a short-video app, as published."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from evorec.data.readers.delimited import Schema, read_csv, require_values
from evorec.data.readers.published import only_file, published_folder, require, require_flags, require_once
from evorec.data.tables import LATEST_SECOND, Columns, Feature, Tables
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

LOG: Final[Schema] = dict.fromkeys(
    ("user_id", "video_id", "date", "hourmin", "time_ms", "tab", *LABELS.values()), pl.Int64
)
MS_PER_S: Final = 1000
USER_NUMBERS: Final = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
"""Binned by their quantiles, which replace the coarser published ranges."""
USER_CATEGORIES: Final = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    *(f"onehot_feat{number}" for number in range(18)),
)
USER_FEATURES: Final = (
    *(Feature(name, "categorical") for name in USER_CATEGORIES),
    *(Feature(name, "numeric") for name in USER_NUMBERS),
)
VIDEO_CATEGORIES: Final = ("author_id", "video_type", "upload_type", "music_id", "music_type")


def read(folder: Path) -> Tables:
    """KuaiRand-Pure, -1K or -27K, or a part of one: they differ in files and rows, not in columns.

    Tasks are click, long_view, like, profile_enter, follow, comment, forward and hate; the context is the tab and the
    hour. `Columns.DAY` is the published ``date``: it differs from the Beijing day (UTC+8) of ``time_ms`` for the rows
    of the last minutes before midnight, about 1 in 100. The daily statistics files are not read: they count the days
    that are to be predicted.

    All logs of the folder are read, ``log_random_*.csv`` too: videos that no recommender chose. To learn from what was
    recommended, as most do, keep that file elsewhere. The videos of 1K and 27K are a catalogue of 4 and 32 million;
    27K, 23 GB of logs, needs a machine with several times that memory.

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
    return Tables(
        name="kuairand",
        interactions=pl.concat([_read_log(path) for path in logs]),
        tasks=tuple(LABELS),
        users=read_users(only_file(folder, "user_features*.csv")),
        items=_read_videos(only_file(folder, "video_features_basic*.csv")),
        context=(Feature("tab", "categorical"), Feature("hour", "categorical")),
        user_features=USER_FEATURES,
        item_features=(
            *(Feature(name, "categorical") for name in VIDEO_CATEGORIES),
            Feature("tag", "multi_hot"),
            Feature("video_duration", "numeric"),
        ),
        content=("tag",),
    )


def _read_log(path: Path) -> pl.DataFrame:
    frame = read_csv(path, LOG)
    require_values(path, frame, list(LOG), first_line=2)
    times = pl.col("time_ms").is_between(0, LATEST_SECOND * MS_PER_S)
    require(path, frame, "time_ms", times, "be in milliseconds since 1970", line=2)
    day = pl.col("date").cast(pl.String).str.to_date("%Y%m%d", strict=False)
    require(path, frame, "date", day.is_not_null(), "be YYYYMMDD", line=2)
    require(path, frame, "hourmin", (pl.col("hourmin") // 100).is_between(0, 23), "be HHMM", line=2)
    require_flags(path, frame, tuple(LABELS.values()))
    return frame.select(
        pl.col("user_id").alias(Columns.USER),
        pl.col("video_id").alias(Columns.ITEM),
        (pl.col("time_ms") // MS_PER_S).alias(Columns.TIME),
        day.alias(Columns.DAY),
        "tab",
        (pl.col("hourmin") // 100).alias("hour"),
        *(pl.col(column).cast(pl.Float32).alias(task) for task, column in LABELS.items()),
    )


def read_users(path: Path) -> pl.DataFrame:
    """``user_features*.csv``, which KuaiRec shares: one row per user, id and `USER_FEATURES`.

    Raises:
        DataError: names the file, the line and the column.
    """
    schema: Schema = {
        "user_id": pl.Int64,
        **dict.fromkeys(USER_CATEGORIES, pl.String),
        **dict.fromkeys(USER_NUMBERS, pl.Float64),
    }
    frame = read_csv(path, schema)
    require_values(path, frame, ["user_id"], first_line=2)
    require_once(path, frame, "user_id")
    return frame.rename({"user_id": Columns.USER})


def _read_videos(path: Path) -> pl.DataFrame:
    schema: Schema = {
        "video_id": pl.Int64,
        **dict.fromkeys((*VIDEO_CATEGORIES, "tag"), pl.String),
        "video_duration": pl.Float64,
    }
    frame = read_csv(path, schema)
    require_values(path, frame, ["video_id"], first_line=2)
    require_once(path, frame, "video_id")
    return frame.rename({"video_id": Columns.ITEM}).with_columns(pl.col("tag").str.split(","))
