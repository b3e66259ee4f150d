"""The same data through a named reader, and through the reader for any table with a TOML file: the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evorec.config import DataConfig, SplitConfig, load_config, recommender_config
from evorec.data.encode import Fit, encode
from evorec.data.readers import read as read_any
from evorec.data.splits import split

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def assert_same_tensors(
    name: str,
    folder: Path,
    tasks: tuple[str, ...],
    target: str,
    config: SplitConfig,
    fits: tuple[Fit, ...] = ("train", "train+validation"),
) -> None:
    """The data set of the named reader and that of the TOML file, array by array."""
    described = recommender_config(load_config(EXPERIMENTS / f"{name}_table.toml")).data
    found = read_any(described.model_copy(update={"path": str(folder)}))
    expected = read_any(DataConfig(reader=name, path=str(folder)))
    assert found.tasks == expected.tasks
    for fit in fits:
        one, other = (
            encode(tables, split(tables, config), tasks=tasks, target=target, fit=fit, statistics=("user", "item"))
            for tables in (found, expected)
        )
        compared = compare(one, other, "")
        assert compared >= 30


def compare(one: Any, other: Any, place: str) -> int:
    """Every array, number and name of a data set; the number of them. Its name and its hash differ."""
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, place
        np.testing.assert_array_equal(one, other, err_msg=place)
        return 1
    if hasattr(one, "__dataclass_fields__"):
        names = [name for name in one.__dataclass_fields__ if not (place == "" and name in ("name", "sha256"))]
        return sum(compare(getattr(one, name), getattr(other, name), f"{place}.{name}") for name in names)
    assert one == other, place
    return 1


MOVIELENS_SPLIT = SplitConfig(kind="leave_last_out")
KUAIRAND_SPLIT = SplitConfig(validation_from=date(2022, 5, 4), test_from=date(2022, 5, 6), utc_offset_h=8)


def test_movielens_is_the_same_through_both_readers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    genres = ["Drama|War", "(no genres listed)", "Comedy", "War|Comedy|Drama", ""]
    movies = [f'{7 * n},"Film ""{n}"", The ({1990 + n % 9})",{genres[n % 5]}' for n in range(30)]
    ratings = [
        f"{user},{7 * item},{rng.integers(1, 11) / 2},{rng.integers(10**6)}"
        for user in range(1, 25)
        for item in rng.choice(29, size=8, replace=False)
    ]
    (tmp_path / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies, "500,Serial (2006–2007),War", ""]))
    (tmp_path / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings, ""]))
    assert_same_tensors("movielens", tmp_path, ("liked", "loved"), "rated", MOVIELENS_SPLIT)


def kuairand_files(folder: Path) -> None:
    rng = np.random.default_rng(1)
    described = recommender_config(load_config(EXPERIMENTS / "kuairand_table.toml")).data
    flags = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter"]
    start = 1650816000  # 2022-04-24 16:00 UTC, midnight of 25 April in Beijing
    for part, seconds in (("a", range(0, 600_000, 9000)), ("b", range(600_000, 1_200_000, 9000))):
        lines = [f"user_id,video_id,date,hourmin,time_ms,{','.join(flags)},play_time_ms,tab"]
        for second in seconds:
            moment = datetime.fromtimestamp(start + second + 8 * 3600, UTC)
            labels = ",".join(str(value) for value in rng.integers(0, 2, size=len(flags)))
            ids = f"{rng.integers(12)},{rng.integers(100, 115)}"
            stamp = f"{moment:%Y%m%d},{moment.hour * 100},{(start + second) * 1000 + 7}"
            lines.append(f"{ids},{stamp},{labels},{rng.integers(9999)},{rng.integers(12)}")
        (folder / f"log_standard_{part}.csv").write_text("\n".join([*lines, ""]))
    for name, key, features, ids in (
        ("user_features_x.csv", "user_id", described.users.features, range(12)),
        ("video_features_basic_x.csv", "video_id", described.items.features, range(100, 120)),
    ):
        lines = [",".join([key, *features])]
        for entity in ids:
            values = [
                '"3,9"' if kind == "multi_hot" and entity % 3 else str(rng.choice(["", "1", "2.0", "10", "9"]))
                for kind in features.values()
            ]
            lines.append(",".join([str(entity), *values]))
        (folder / name).write_text("\n".join([*lines, ""]))


def test_kuairand_is_the_same_through_both_readers(tmp_path: Path) -> None:
    kuairand_files(tmp_path)
    assert_same_tensors("kuairand", tmp_path, ("click", "long_view", "like"), "click", KUAIRAND_SPLIT)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "folder", "tasks", "target", "config"),
    [
        ("movielens", "movielens-latest-small", ("liked", "loved"), "rated", MOVIELENS_SPLIT),
        ("kuairand", "kuairand-pure-late", ("click", "long_view", "like"), "click", KUAIRAND_SPLIT),
    ],
)
def test_real_data_are_the_same_through_both_readers(
    real_data: Callable[[str], Path], name: str, folder: str, tasks: tuple[str, ...], target: str, config: SplitConfig
) -> None:
    assert_same_tensors(name, real_data(folder), tasks, target, config, fits=("train+validation",))
