"""Counts of a data set, worked by hand on 12 rows, against a slow loop, and against what training counts itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny import tables as simulated

from evorec.config import SplitConfig, TasksConfig
from evorec.data.describe import Description, describe
from evorec.data.encode import encode
from evorec.data.readers import kuairand
from evorec.data.simulator import simulate
from evorec.data.splits import split
from evorec.data.tables import Columns, Feature, Tables
from problems.feed import FeedConfig

THIRDS = SplitConfig(validation_share=0.17, test_share=0.17)
"""Of 12 rows: 8 train, 2 validation, 2 test."""
TASKS = TasksConfig(ranked=("click", "like"), target="click")
DAY_S = 86_400


def described(tables: Tables, split: SplitConfig = THIRDS, tasks: TasksConfig = TASKS, **options: bool) -> Description:
    return describe(tables, split=split, tasks=tasks, **options)


HELD_OUT = (
    "n_new_users", "n_new_user_rows", "n_new_items", "n_new_item_rows", "n_new_rows", "n_unlisted_rows", "n_target",
    "n_ranking_users",
)  # fmt: skip
LABEL = ("n_rows", "n_known", "n_positive", "mean", "low", "high")


def held_out(found: Description) -> dict[str, dict[str, Any]]:
    return {part["part"]: part for part in found.held_out}


def row(frame: pl.DataFrame, **keys: str) -> dict[str, Any]:
    """The only row with these values."""
    (found,) = frame.filter(**keys).to_dicts()
    return dict(found)


def with_rows(tables: Tables, *rows: tuple[object, ...]) -> Tables:
    more = pl.DataFrame(list(rows), schema=tables.interactions.schema, orient="row")
    return tables.with_interactions(pl.concat([tables.interactions, more]))


def log(**columns: object) -> Tables:
    """A log of users, items and times with one label."""
    frame = pl.DataFrame({Columns.USER: 1, Columns.ITEM: 1, **columns, "click": 1}, strict=False)
    return Tables("log", frame, tasks=("click",))


def test_the_size_of_the_log_and_of_each_part_is_counted(small: Tables) -> None:
    found = described(small)
    assert [found.name, *(found.facts[f"n_{name}"] for name in ("rows", "users", "items"))] == [
        "small",
        12,
        4,
        5,
    ]  # item 15 is in the table only
    assert found.parts.select("part", "n_rows", "n_users", "n_items").rows() == [
        ("train", 8, 3, 3),
        ("validation", 2, 2, 2),
        ("test", 2, 2, 2),
    ]
    assert (found.facts["first"], found.facts["last"]) == (
        "1970-01-01T00:01:40",
        "1970-01-01T00:03:30",
    )  # 100 s and 210 s
    assert found.parts.select("first", "last").row(1) == ("1970-01-01T00:03:00", "1970-01-01T00:03:10")
    assert found.facts["density"] == 10 / 16  # (2, 12) and (3, 11) are there twice


def test_what_is_new_is_counted_against_all_earlier_parts(small: Tables) -> None:
    new = held_out(described(small))
    # validation: user 4 and item 14 are new; only (1, 14) is a positive, and item 14 is in the table of items
    assert [new["validation"][name] for name in HELD_OUT] == [1, 1, 1, 1, 2, 0, 1, 1]
    # test: users 2 and 3, items 13 and 11 are of training; (2, 13) is a positive
    assert [new["test"][name] for name in HELD_OUT] == [0, 0, 0, 0, 0, 0, 1, 1]


def test_a_new_item_without_a_row_in_its_table_is_lost_to_every_list(small: Tables) -> None:
    bare = replace(small, items=None, item_features=(), content=())
    new = held_out(described(bare))["validation"]
    assert (new["n_unlisted_rows"], new["n_target"], new["n_ranking_users"]) == (1, 1, 0)


def test_recall_may_be_measured_on_warm_users_only(small: Tables) -> None:
    liked = TasksConfig(ranked=("click", "like"), target="like")
    # likes: row 0 (user 1, train), row 8 (user 1, validation), row 11 (user 3, test, whose first like this is)
    for warm, counts in ((False, [1, 1]), (True, [1, 0])):
        found = described(small, tasks=liked, warm_users=warm)
        assert [part["n_ranking_users"] for part in found.held_out] == counts


def test_labels_are_counted_where_they_are_known(small: Tables) -> None:
    labels = described(small).labels
    click, like = row(labels, label="click", part="train"), row(labels, label="like", part="train")
    assert [click[name] for name in LABEL] == [8, 8, 5, 5 / 8, 0.0, 1.0]
    assert [like[name] for name in LABEL] == [8, 6, 1, 1 / 6, 0.0, 1.0]
    assert labels.filter(label="like").select("n_known", "n_positive").rows() == [(6, 1), (2, 1), (2, 1)]
    assert (click["use"], like["use"], click["binary"]) == ("ranked+target", "ranked", True)


def test_a_conditional_label_is_counted_in_its_sample_space(small: Tables) -> None:
    among = TasksConfig(ranked=("click", "like"), target="click", given={"like": "click"})
    like = described(small, tasks=among).labels.filter(label="like")
    # clicks with a known like: rows 0, 2, 3, 5 of training, 8 of validation, 10 of test
    assert like.select("n_known", "n_positive").rows() == [(4, 1), (1, 1), (1, 0)]
    assert set(like["given"]) == {"click"}


def test_labels_are_paired_where_both_are_known(small: Tables) -> None:
    assert described(small).overlaps.rows() == [
        ("click", "like", 6, 2),  # rows 0, 2, 3, 5, 8, 10; row 7 is unknown
        ("like", "click", 3, 2),  # rows 0, 8, 11; not 11
    ]


def test_a_label_that_is_a_number_is_no_pair(small: Tables) -> None:
    watched = small.interactions.with_columns(watch=pl.Series(np.arange(12) / 2))
    found = described(replace(small, interactions=watched, tasks=("click", "like", "watch")))
    watch = row(found.labels, label="watch", part="validation")
    assert not watch["binary"]
    assert [watch[name] for name in LABEL] == [2, 2, 2, 4.25, 4.0, 4.5]
    assert set(found.overlaps["label"]) == {"click", "like"}


def test_rows_that_say_the_same_again_are_counted(small: Tables) -> None:
    again = (1, 11, 100, 1, 1, "home")
    contrary = (1, 12, 110, 1, 0, "home")
    later = (1, 13, 125, 1, 0, "feed")
    tied = (3, 14, 170, 0, 0, "feed")
    found = described(with_rows(small, again, again, contrary, later, tied)).facts
    assert (found["n_repeated"], found["n_identical"]) == (3, 2)
    assert found["n_pairs"] == 11  # the 10 of before and (3, 14)
    assert found["n_tied"] == 4  # all but `later`
    assert (found["n_times"], found["whole_days"]) == (13, False)


def test_rows_that_differ_in_the_context_alone_are_not_identical(small: Tables) -> None:
    found = described(with_rows(small, (1, 11, 100, 1, 1, "feed"))).facts
    assert (found["n_repeated"], found["n_identical"]) == (1, 0)


def test_rows_per_user_and_item_are_spread(small: Tables) -> None:
    found = described(small)
    quantiles = ("min", "0.1", "0.5", "0.9", "0.99", "max")
    user, item = found.spread.to_dicts()
    assert [user[name] for name in quantiles] == [1, 1, 3, 4, 4, 4]  # of 1, 3, 4, 4
    assert [item[name] for name in quantiles] == [1, 1, 3, 5, 5, 5]  # of 1, 3, 3, 5
    assert (user["n"], user["n_single"], user["largest"], user["top_percent_share"]) == (4, 1, "1", 4 / 12)
    assert found.ranks.filter(side="item").select("rank", "n_rows").rows() == [(1, 5), (2, 3), (3, 3), (4, 1)]


def test_tables_of_users_and_items_are_compared_with_the_log(small: Tables) -> None:
    assert described(small).coverage.rows() == [("users", 3, 4, 1, 0), ("items", 5, 4, 0, 1)]


def test_features_are_counted_over_their_own_table(small: Tables) -> None:
    city, age, kind, genres, page = (SimpleNamespace(**row) for row in described(small).features.to_dicts())
    assert [feature.side for feature in (city, age, kind, genres, page)] == ["user", "user", "item", "item", "context"]
    assert (city.n, city.n_missing, city.n_values, city.top_share) == (3, 0, 2, 2 / 3)
    assert (age.n_missing, age.n_values, age.low, age.median, age.high) == (1, 2, 20.0, 25.0, 30.0)
    assert (kind.n, kind.top_share) == (5, 3 / 5)
    assert (genres.n_missing, genres.n_values, genres.top_share, genres.mean_length) == (1, 2, 1.0, 1.5)  # g 4, h 2
    assert (page.n, page.n_values, page.top_share) == (12, 3, 8 / 12)


def test_features_without_any_value_are_counted_too(small: Tables) -> None:
    users = pl.DataFrame(
        {Columns.USER: [1, 2], "text": [None, None], "number": [None, float("nan")], "tags": [[], None]},
        schema={Columns.USER: pl.Int64, "text": pl.String, "number": pl.Float64, "tags": pl.List(pl.String)},
    )
    features = (Feature("text", "categorical"), Feature("number", "numeric"), Feature("tags", "multi_hot"))
    found = described(replace(small, users=users, user_features=features))
    empty = found.features.filter(side="user").select("n_missing", "n_values", "top_share", "high")
    assert empty.rows() == [(2, 0, None, None)] * 3


def test_a_short_log_is_laid_out_by_the_hour(small: Tables) -> None:
    found = described(small)
    assert found.facts["step"] == "hour"
    assert found.timeline.to_dicts() == [
        {
            "start": "1970-01-01T00:00:00",
            "rows/train": 8,
            "rows/validation": 2,
            "rows/test": 2,
            "rate/click": 7 / 12,
            "rate/like": 3 / 10,
        }
    ]


@pytest.mark.parametrize(
    ("n_days", "step", "second"),
    [
        (3, "hour", "1970-01-01T12:00:00"),
        (4, "day", "1970-01-02"),
        (201, "week", "1970-01-05"),  # the first of January 1970 is a Thursday
        (1401, "month", "1970-02-01"),
        (6001, "quarter", "1970-04-01"),
        (18_201, "year", "1971-01-01"),
    ],
)
def test_the_step_of_the_timeline_follows_the_length_of_the_log(n_days: int, step: str, second: str) -> None:
    half_days = np.arange(2 * n_days - 1)
    found = described(log(**{Columns.TIME: half_days * (DAY_S // 2)}))
    assert (found.facts["step"], found.timeline["start"][1]) == (step, second)
    assert (found.facts["n_days"], found.facts["n_empty_days"]) == (n_days, 0)
    assert sum(column.sum() for column in found.timeline.select(pl.col("^rows/.*$"))) == len(half_days)


def test_days_without_rows_are_counted() -> None:
    days = np.array([0, 1, 2, 5, 9])
    found = described(log(**{Columns.TIME: days * DAY_S}), SplitConfig(validation_share=0.2, test_share=0.2))
    assert (found.facts["n_days"], found.facts["n_empty_days"], found.timeline.height) == (10, 5, 5)


def test_days_are_those_of_the_split() -> None:
    tables = log(**{Columns.TIME: np.array([0, 9, 30, 40]) * 3600})  # UTC: days 1, 1, 2, 2; 16 hours east: 1, 2, 2, 3
    east = SplitConfig(validation_from=date(1970, 1, 2), test_from=date(1970, 1, 3), utc_offset_h=14)
    found = described(tables, east)  # 14 hours east: 14:00, 23:00 of day 1, 20:00 of day 2, 06:00 of day 3
    assert found.parts.select("n_rows", "first_day", "last_day").rows() == [
        (2, "1970-01-01", "1970-01-01"),
        (1, "1970-01-02", "1970-01-02"),
        (1, "1970-01-03", "1970-01-03"),
    ]
    assert found.facts["split_starts"] == ["1970-01-02", "1970-01-03"]


def test_a_split_by_shares_starts_where_its_parts_do(small: Tables) -> None:
    assert described(small).facts["split_starts"] == ["1970-01-01T00:03:00", "1970-01-01T00:03:20"]
    assert described(small, SplitConfig(kind="leave_last_out")).facts["split_starts"] == []


def test_a_log_that_cannot_be_split_is_described_as_a_whole() -> None:
    found = described(log(**{Columns.TIME: [7, 7, 7]}))
    assert found.parts.select("part", "n_rows", "n_new_rows").rows() == [("all", 3, None)]
    assert found.held_out == []
    assert "must leave rows of log in each part" in found.facts["split_error"]
    assert found.timeline["rows/all"].to_list() == [3]
    assert found.labels["part"].to_list() == ["all"]


def test_a_timestamp_that_no_calendar_has_is_no_crash() -> None:
    found = described(log(**{Columns.TIME: [-(10**12), 5, 6]}), SplitConfig(validation_share=0.34, test_share=0.34))
    assert found.facts["first"].startswith("-")
    assert found.timeline["start"][0] == "0001-01-01"
    assert described(log(**{Columns.TIME: [-(10**16)]})).timeline["start"].to_list() == ["0001-01-01T00:00:00"]


def test_names_that_are_not_there_are_left_out(small: Tables) -> None:
    found = described(small, tasks=TasksConfig(ranked=("click", "nap"), target="nap", given={"click": "nap"}))
    assert found.labels.filter(part="test").select("use", "given").rows() == [("ranked", ""), ("", "")]
    assert held_out(found)["test"]["n_target"] is None


def test_a_description_is_plain_json(small: Tables) -> None:
    found = described(small).as_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["parts"][1]["n_new_users"] == 1


def test_texts_are_ids_as_well(small: Tables) -> None:
    def text(frame: pl.DataFrame | None, *columns: str) -> pl.DataFrame:
        assert frame is not None
        return frame.with_columns(pl.col(column).cast(pl.String) for column in columns)

    as_text = replace(
        small,
        interactions=text(small.interactions, Columns.USER, Columns.ITEM),
        users=text(small.users, Columns.USER),
        items=text(small.items, Columns.ITEM),
    )
    hashes = {"sha256": ""}  # those of texts and of numbers differ
    assert described(as_text).as_json() | hashes == described(small).as_json() | hashes


def test_columns_may_have_any_name(small: Tables) -> None:
    names = {"click": "warm", "like": "lost", "page": "n"}
    renamed = replace(
        small,
        interactions=small.interactions.rename(names),
        tasks=("warm", "lost"),
        context=(Feature("n", "categorical"),),
    )
    found = described(renamed, tasks=TasksConfig(ranked=("warm", "lost"), target="warm"))
    assert found.parts.equals(described(small).parts)


def test_rows_with_other_lists_in_their_context_are_not_identical() -> None:
    frame = pl.DataFrame(
        {
            Columns.USER: [1, 1, 1],
            Columns.ITEM: [2, 2, 2],
            Columns.TIME: [3, 3, 3],
            "click": [0, 0, 0],
            "shelves": [["a"], ["a", "b"], ["a"]],
        }
    )
    tables = Tables("log", frame, tasks=("click",), context=(Feature("shelves", "multi_hot"),))
    found = described(tables).facts
    assert (found["n_repeated"], found["n_identical"]) == (2, 1)


@pytest.mark.parametrize("kind", ["time", "leave_last_out", "random"])
def test_a_slow_loop_counts_the_same(kind: str) -> None:
    tables = simulate(FeedConfig(n_users=90, n_items=70, n_interactions=500, seed=4))
    config = SplitConfig.model_validate({"kind": kind})
    found = described(tables, config, TasksConfig(ranked=("click", "like"), target="like"))
    rows = tables.interactions.rows(named=True)
    parts = split(tables, config)
    numbers = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    users: set[int] = set()
    items: set[int] = set()
    for facts in found.parts.to_dicts():
        here = [rows[number] for number in numbers[facts["part"]]]
        if facts["part"] != "train":
            new = [(row[Columns.USER] not in users, row[Columns.ITEM] not in items) for row in here]
            assert facts["n_new_user_rows"] == sum(user for user, _ in new)
            assert facts["n_new_item_rows"] == sum(item for _, item in new)
            assert facts["n_new_rows"] == sum(user or item for user, item in new)
            assert facts["n_new_users"] == len({row[Columns.USER] for row in here} - users)
            assert facts["n_new_items"] == len({row[Columns.ITEM] for row in here} - items)
        users |= {row[Columns.USER] for row in here}
        items |= {row[Columns.ITEM] for row in here}
        for task in tables.tasks:
            label = row(found.labels, label=task, part=facts["part"])
            assert (label["n_known"], label["n_positive"]) == (len(here), sum(row[task] > 0 for row in here))
    assert found.facts["step"] == "day"
    per_day = {name: Counter(rows[number][Columns.TIME] // DAY_S for number in part) for name, part in numbers.items()}
    days = sorted(set.union(*(set(counts) for counts in per_day.values())))
    for name, counts in per_day.items():
        assert found.timeline[f"rows/{name}"].to_list() == [counts[day] for day in days]
    most = max(Counter(row[Columns.ITEM] for row in rows).values())
    assert found.ranks.filter(side="item")["n_rows"][0] == most


@pytest.mark.parametrize("kind", ["time", "leave_last_out"])
def test_what_is_new_is_what_training_counts_itself(kind: str) -> None:
    tables = simulated()
    assert tables.items is not None
    half = replace(tables, items=tables.items.filter(pl.col(Columns.ITEM) % 2 == 0))
    config = SplitConfig.model_validate({"kind": kind, "validation_share": 0.45, "test_share": 0.45})
    new = held_out(described(half, config, TasksConfig(ranked=("click",), target="click")))
    parts = split(half, config)
    for fit, name in (("train", "validation"), ("train+validation", "test")):
        data = encode(half, parts, tasks=("click",), target="click", fit=fit)  # type: ignore[arg-type]
        known, found = data.notes, new[name]
        assert found["n_new_users"] == known["n_cold_users"]
        assert found["n_new_user_rows"] == known["n_cold_user_rows"]
        assert found["n_new_item_rows"] == known["n_cold_item_rows"]
        assert found["n_ranking_users"] == (data.relevant.counts()[: data.n_users] > 0).sum()


@pytest.mark.data
def test_kuairand_has_repeated_rows_and_no_funnel(real_data: Callable[[str], Path]) -> None:
    tables = kuairand.read(real_data("kuairand-pure-late"))
    days = SplitConfig(validation_from=date(2022, 5, 4), test_from=date(2022, 5, 6), utc_offset_h=8)
    found = described(tables, days, TasksConfig(ranked=("click", "long_view"), target="click"))
    rows = tables.interactions.select(Columns.USER, Columns.ITEM, Columns.TIME).rows()
    assert found.facts["n_repeated"] == len(rows) - len(set(rows)) > 0
    pair = row(found.overlaps, label="long_view", other="click")
    assert pair["n_both"] < pair["n"]
    assert found.parts["last_day"][1] == "2022-05-05"
