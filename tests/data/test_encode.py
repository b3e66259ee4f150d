from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.config import SplitConfig
from evorec.data.dataset import Codebook, Csr, Dataset, Part
from evorec.data.encode import Fit, encode
from evorec.data.funnel import conditioned
from evorec.data.simulator import simulate
from evorec.data.splits import Split, split
from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import ConfigError, DataError
from problems.feed import DEFAULTS, FeedConfig

BY_POSITION = Split(np.arange(8), np.arange(8, 10), np.arange(10, 12))
STATISTICS = ("user", "item", "category", "segment+hour")
HELD_OUT_SIDE = {"held_out", "relevant", "notes", "sha256"}


@pytest.fixture
def encoded(small: Tables) -> Dataset:
    return encode(small, BY_POSITION, tasks=("click",), target="click", fit="train")


def sets(matrix: Csr) -> list[list[int]]:
    return [matrix.row(row).tolist() for row in range(matrix.n_rows)]


def test_ids_are_sorted_and_the_catalogue_holds_the_item_table(encoded: Dataset) -> None:
    assert encoded.user_ids.tolist() == [1, 2, 3]
    assert encoded.item_ids.tolist() == [11, 12, 13, 14, 15]
    assert (encoded.n_users, encoded.n_items) == (3, 5)


def test_held_out_rows_of_an_unseen_user_point_behind_the_last_one(encoded: Dataset) -> None:
    assert encoded.held_out.users.tolist() == [0, 3]  # external 1, and 4 who has no training row
    assert encoded.held_out.items.tolist() == [3, 0]


def test_an_item_outside_the_catalogue_points_behind_the_last_one(small: Tables) -> None:
    tables = replace(small, items=None, item_features=(), content=())
    data = encode(tables, BY_POSITION, tasks=("click",), target="click", fit="train")
    assert data.item_ids.tolist() == [11, 12, 13]
    assert data.held_out.items.tolist() == [3, 0]
    assert data.notes["n_unknown_item_positives"] == 1
    assert data.relevant.counts().sum() == 0


def test_rows_of_one_table_are_laid_out_by_hand(encoded: Dataset) -> None:
    # users: row 0 padding | id: 1 unknown, 2-4 | city: 5 unknown, 6 "x" ("y" has one user) | age: 7 unknown, 8 ...
    # ages 20 and 30: the quantiles of two values are 15 different edges, 16 bins: 8 is the lowest, 23 the highest
    places = [tuple(field[:5]) for field in encoded.user_fields]
    assert places == [("user_id", 0, 1, 1, 4), ("city", 1, 1, 5, 2), ("age", 2, 1, 7, 17)]
    _, city, age = (field.codebook for field in encoded.user_fields)
    assert city == Codebook("categorical", ("x",))
    assert age is not None
    assert (age.kind, len(age.edges), age.edges[0], age.edges[-1]) == ("numeric", 15, 20.625, 29.375)
    assert encoded.user_rows.tolist() == [[2, 6, 8], [3, 6, 23], [4, 5, 7], [1, 5, 7]]
    # items: id: 24 unknown, 25-27 for 11-13; 14 and 15 share 24 | kind: 28 unknown, 29 "a" (11, 13) | genres: 30
    # unknown, 31 "g" (11, 12). "b" and "h" have one training item each, 12, and count as unknown.
    places = [tuple(field[:5]) for field in encoded.item_fields]
    assert places == [("item_id", 0, 1, 24, 4), ("kind", 1, 1, 28, 2), ("genres", 2, 1, 30, 2)]
    assert encoded.item_fields[2].codebook == Codebook("multi_hot", ("g",))
    assert encoded.item_rows.tolist() == [
        *([25, 29, 31], [26, 28, 31], [27, 29, 30]),
        *([24, 28, 31], [24, 29, 31], [24, 28, 30]),
    ]
    # context: 32 unknown, 33 "feed", 34 "home"
    # history: 35-39 for items 11-15
    assert encoded.n_rows == 40
    assert encoded.item_history_row.tolist() == [35, 36, 37, 38, 39, 0]
    assert encoded.train.context[:, 0].tolist() == [34, 34, 33, 34, 33, 34, 34, 34]
    assert encoded.held_out.context[:, 0].tolist() == [32, 34]  # "new" is not in training
    assert encoded.context_mode.tolist() == [34]


def test_history_rows_are_the_last_positives_latest_first(small: Tables, encoded: Dataset) -> None:
    # clicks by time: user 1 items 11, 13; user 2 items 11, 12; user 3 item 13; the unknown user has none
    assert encoded.history_rows.tolist() == [[37, 35], [36, 35], [37, 0], [0, 0]]
    again = small.interactions.with_columns(pl.Series(Columns.ITEM, [11, 12, 11, 11, 12, 12, 11, 13, 14, 11, 13, 11]))
    data = encode(small.with_interactions(again), BY_POSITION, tasks=("click",), target="click", fit="train")
    first = data.item_history_row[0]
    assert data.history_rows[0].tolist() == [first, 0]  # a repeated item counts once


def test_a_statistics_key_that_mixes_sides_is_refused(small: Tables) -> None:
    for key in ("user+item", "genre"):
        with pytest.raises(ConfigError, match=r"must be made of user-side fields .* or of item-side fields"):
            encode(small, BY_POSITION, tasks=("click",), target="click", fit="train", statistics=(key,))


def test_multi_hot_padding_has_row_zero_and_weight_zero(small: Tables) -> None:
    everything = Split(np.arange(9), np.arange(9, 11), np.arange(11, 12))
    log = small.interactions.with_columns(pl.Series(Columns.ITEM, [11, 12, 13, 14, 12, 12, 14, 13, 14, 11, 13, 11]))
    data = encode(small.with_interactions(log), everything, tasks=("click",), target="click", fit="train")
    name, first, width, *_ = data.item_fields[-1]
    rows, weights = data.item_rows[:, first:], data.item_weights[:, first:]
    assert (name, width) == ("genres", 2)
    assert (rows[0, 1], weights[0].tolist()) == (0, [1.0, 0.0])  # 11 has g only
    assert weights[1].tolist() == weights[3].tolist() == [0.5, 0.5]  # 12 and 14 have g and h
    np.testing.assert_array_equal(weights.sum(axis=1), 1)


def test_a_feature_that_never_varies_in_training_is_left_out(small: Tables) -> None:
    assert small.users is not None
    users = small.users.with_columns(city=pl.lit("x"))
    data = encode(replace(small, users=users), BY_POSITION, tasks=("click",), target="click", fit="train")
    assert [field.name for field in data.user_fields] == ["user_id", "age"]
    assert data.notes["n_constant_fields"] == 1


def test_seen_history_and_relevant_by_hand(encoded: Dataset) -> None:
    assert sets(encoded.seen) == [[0, 1, 2], [0, 1], [0, 2], []]
    assert sets(encoded.history) == [[0, 2], [0, 1], [2], []]
    assert sets(encoded.relevant) == [[3], [], [], []]
    assert encoded.item_counts.tolist() == [3, 3, 2, 0, 0]
    assert encoded.target_counts.tolist() == [2, 1, 2, 0, 0]


def test_the_final_fit_trains_on_both_parts_and_holds_out_test(small: Tables) -> None:
    data = encode(small, BY_POSITION, tasks=("click",), target="click", fit="train+validation")
    assert (data.train.n_rows, data.held_out.n_rows, data.n_users) == (10, 2, 4)
    assert sets(data.relevant) == [[], [2], [], [], []]  # user 2 clicks item 13 for the first time
    assert data.train.time.tolist() == sorted(data.train.time.tolist())


def test_missing_labels_are_nan(small: Tables) -> None:
    data = encode(small, BY_POSITION, tasks=("like", "click"), target="click", fit="train")
    assert np.isnan(data.train.labels[:, 0]).tolist() == [False, True, False, False, False, False, False, True]
    assert data.train.labels[:, 1].tolist() == data.train.target.tolist()
    assert data.train.labels.dtype == np.float32


def test_string_ids_are_encoded_like_numbers(small: Tables, encoded: Dataset) -> None:
    assert small.users is not None
    assert small.items is not None
    text = pl.col("^(user|item)_id$").cast(pl.String)
    named = replace(
        small,
        interactions=small.interactions.with_columns(text),
        users=small.users.with_columns(text),
        items=small.items.with_columns(text),
    )
    data = encode(named, BY_POSITION, tasks=("click",), target="click", fit="train")
    assert data.item_ids.tolist() == ["11", "12", "13", "14", "15"]
    assert data.item_ids.dtype.kind == "U"
    for name in ("user_rows", "item_rows", "item_content"):
        np.testing.assert_array_equal(getattr(data, name), getattr(encoded, name))
    np.testing.assert_array_equal(data.held_out.users, encoded.held_out.users)


def assert_same_training_side(first: Dataset, second: Dataset) -> None:
    for field in fields(Dataset):
        if field.name in HELD_OUT_SIDE:
            continue
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, Part | Csr):
            for inner in fields(one):
                np.testing.assert_array_equal(getattr(one, inner.name), getattr(other, inner.name), err_msg=field.name)
        else:
            np.testing.assert_array_equal(one, other, err_msg=field.name)


@pytest.mark.parametrize("fit", ["train", "train+validation"])
def test_held_out_rows_cannot_change_the_training_side(fit: Fit) -> None:
    tables = simulate(FeedConfig(n_users=60, n_items=50, n_interactions=1500))
    parts = split(tables, SplitConfig())
    later = pl.int_range(pl.len()) >= (parts.validation[0] if fit == "train" else parts.test[0])
    poison = tables.interactions.with_columns(
        pl.when(later).then(pl.col(Columns.USER).reverse() + 1000).otherwise(pl.col(Columns.USER)).alias(Columns.USER),
        pl.when(later).then(99_999).otherwise(pl.col(Columns.ITEM)).alias(Columns.ITEM),
        pl.when(later).then(77).otherwise(pl.col("hour")).alias("hour"),
        *(pl.when(later).then(1 - pl.col(task)).otherwise(pl.col(task)).alias(task) for task in tables.tasks),
    )
    clean, poisoned = (
        encode(one, parts, tasks=tables.tasks, target="click", fit=fit, statistics=STATISTICS)
        for one in (tables, tables.with_interactions(poison))
    )
    assert clean.train.statistics.shape[1] == len(clean.statistics) == len(STATISTICS) * (1 + len(tables.tasks))
    assert_same_training_side(clean, poisoned)


def test_the_search_never_sees_test_rows() -> None:
    tables = simulate(FeedConfig(n_users=60, n_items=50, n_interactions=1500))
    parts = split(tables, SplitConfig())
    is_test = pl.int_range(pl.len()) >= parts.test[0]
    flipped = tables.interactions.with_columns(pl.when(is_test).then(0).otherwise(pl.col("click")).alias("click"))
    first, second = (
        encode(one, parts, tasks=("click",), target="click", fit="train")
        for one in (tables, tables.with_interactions(flipped))
    )
    assert_same_training_side(first, second)
    assert sets(first.relevant) == sets(second.relevant)
    np.testing.assert_array_equal(first.held_out.labels, second.held_out.labels)


def test_every_held_out_positive_is_relevant_or_counted() -> None:
    tables = simulate(FeedConfig(n_users=400, n_items=80, n_interactions=4000))
    data = encode(tables, split(tables, SplitConfig()), tasks=("click",), target="click", fit="train")
    seen = set(zip(data.train.users.tolist(), data.train.items.tolist(), strict=True))
    slow: set[tuple[int, int]] = set()
    lost = masked = 0
    for user, item, label in zip(data.held_out.users, data.held_out.items, data.held_out.target, strict=True):
        pair = (int(user), int(item))
        if label > 0 and (user == data.n_users or item == data.n_items):
            lost += 1
        elif label > 0:
            masked += pair in seen
            slow.add(pair)
    found = [(row, item) for row, items in enumerate(sets(data.relevant)) for item in items]
    assert found == sorted(slow)
    assert data.notes["n_cold_user_positives"] + data.notes["n_unknown_item_positives"] == lost > 0
    assert data.notes["n_seen_positives"] == masked > 0


def test_the_hash_follows_tables_rows_and_choices(small: Tables, encoded: Dataset) -> None:
    other_rows = Split(np.arange(1, 8), np.arange(8, 10), np.arange(10, 12))
    variants = [
        encode(small, BY_POSITION, tasks=("click",), target="like", fit="train"),
        encode(small, other_rows, tasks=("click",), target="click", fit="train"),
        encode(small, BY_POSITION, tasks=("click",), target="click", fit="train+validation"),
    ]
    assert len({encoded.sha256, *(data.sha256 for data in variants)}) == 4
    assert encode(small, BY_POSITION, tasks=("click",), target="click", fit="train").sha256 == encoded.sha256


@pytest.mark.parametrize(
    ("tasks", "target", "message"),
    [
        (("buy",), "click", r"must name label columns of small, \['click', 'like'\]; got ranked = \['buy'\]"),
        ((), "buy", r"got ranked = \[\], target = 'buy'"),
        (("click",), "buy", "target = 'buy'"),
    ],
)
def test_unknown_tasks_are_refused(small: Tables, tasks: tuple[str, ...], target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encode(small, BY_POSITION, tasks=tasks, target=target, fit="train")


def test_a_task_with_one_class_is_refused_with_part_and_counts(small: Tables) -> None:
    log = small.interactions.with_columns(pl.Series("like", [0, None, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1]))
    with pytest.raises(DataError, match=r"task like of small .* in the training rows, got 0: 7 rows, missing: 1 rows"):
        encode(small.with_interactions(log), BY_POSITION, tasks=("like",), target="click", fit="train")


def test_a_target_without_a_positive_is_refused(small: Tables) -> None:
    log = small.interactions.with_columns(pl.Series("like", [1, None, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]))
    with pytest.raises(DataError, match="like of small must have a positive in the validation rows"):
        encode(small.with_interactions(log), BY_POSITION, tasks=("click",), target="like", fit="train")


def test_tables_without_any_feature_are_enough(small: Tables) -> None:
    bare = Tables("bare", small.interactions, ("click",))
    data = encode(bare, BY_POSITION, tasks=("click",), target="click", fit="train")
    assert data.train.context.shape == (8, 0)
    assert data.context_mode.shape == (0,)
    assert data.item_content.shape == (4, 0)
    assert data.n_rows == 1 + 4 + 4 + 3  # padding, 3 users and 3 items with an unknown one each, 3 items in histories


def test_the_most_frequent_context_is_one_that_occurred(small: Tables) -> None:
    # alone, "p" and "x" are the most frequent; together they never occur
    pages = ["p", "p", "p", "q", "q", "r", "r", "p", "p", "p", "p", "p"]
    slots = ["y", "z", "w", "x", "x", "x", "y", "y", "x", "x", "x", "x"]
    log = small.interactions.with_columns(pl.Series("page", pages), pl.Series("slot", slots))
    context = (Feature("page", "categorical"), Feature("slot", "categorical"))
    tables = replace(small, interactions=log, context=context)
    data = encode(tables, BY_POSITION, tasks=("click",), target="click", fit="train")
    assert data.context_mode.tolist() in data.train.context.tolist()
    # (q, x) and (p, y) occur twice each; p comes first
    assert data.context_mode.tolist() == data.train.context[0].tolist()


@pytest.mark.parametrize("keys", [(), ("user", "kind")])
def test_every_part_has_a_line_of_statistics_per_row(small: Tables, keys: tuple[str, ...]) -> None:
    data = encode(small, BY_POSITION, tasks=("click",), target="click", fit="train", statistics=keys)
    width = 2 * len(keys)  # rows and one task
    assert data.train.statistics.shape == (8, width)
    assert data.held_out.statistics.shape == (2, width)
    assert data.user_statistics.shape[1] + data.item_statistics.shape[1] == width


def test_a_ranked_task_that_is_no_label_is_refused() -> None:
    tables = simulate(FeedConfig(n_users=40, n_items=20, n_interactions=600))
    rated = tables.with_interactions(tables.interactions.with_columns(click=pl.col("click") * 4.5))
    with pytest.raises(DataError, match=r"task click .* must be 0 or 1 .*4\.5: \d+ rows.*rating >= 4"):
        encode(rated, split(rated, SplitConfig()), tasks=["click"], target="click", fit="train")


def with_likes(small: Tables, likes: list[int | None]) -> Tables:
    return small.with_interactions(small.interactions.with_columns(pl.Series("like", likes)))


CLICKED_FIRST = [1, None, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0]
"""Likes of the rows of `small`, all of them of clicked rows."""


@pytest.mark.parametrize(
    ("tasks", "funnel", "parents"),
    [
        (("click", "like"), (), (-1, -1)),
        (("click", "like"), ("click", "like"), (-1, 0)),
        (("like", "click"), ("click", "like"), (1, -1)),
    ],
)
def test_parents_are_the_steps_before(
    small: Tables, tasks: tuple[str, ...], funnel: tuple[str, ...], parents: tuple[int, ...]
) -> None:
    tables = with_likes(small, CLICKED_FIRST)
    data = encode(tables, BY_POSITION, tasks=tasks, target="click", fit="train", funnel=funnel)
    assert data.parents == parents


def test_the_simulated_feed_is_the_funnel_that_its_problem_declares() -> None:
    tables = simulate(FeedConfig(n_users=60, n_items=50, n_interactions=1500))
    tasks = DEFAULTS["tasks"]
    data = encode(
        tables, split(tables, SplitConfig()), tasks=tasks["ranked"], target="click", fit="train", funnel=tasks["funnel"]
    )
    assert data.parents == (-1, -1, 0)


def test_a_row_that_breaks_the_funnel_is_named_with_its_part_and_count(small: Tables) -> None:
    broken = list(CLICKED_FIRST)
    broken[4] = broken[6] = 1  # rows without a click; row 4 is of user 2 and item 12
    tables = with_likes(small, broken)
    expected = (
        r"tasks\.funnel of small: like must imply click, and 2 of the training rows have like without click, "
        r"first row 4 \(user 2, item 12\)"
    )
    with pytest.raises(DataError, match=expected):
        encode(tables, BY_POSITION, tasks=("click", "like"), target="click", fit="train", funnel=("click", "like"))


def test_rows_outside_the_fit_cannot_break_the_funnel(small: Tables) -> None:
    broken = [*CLICKED_FIRST[:11], 1]  # a test row without a click
    tables = with_likes(small, broken)
    settings: dict[str, Any] = {"tasks": ("click", "like"), "target": "click", "funnel": ("click", "like")}
    assert encode(tables, BY_POSITION, fit="train", **settings).parents == (-1, 0)
    with pytest.raises(DataError, match="1 of the test rows have like without click, first row 11"):
        encode(tables, BY_POSITION, fit="train+validation", **settings)


def test_a_condition_leaves_labels_of_other_rows_out_of_both_parts(small: Tables) -> None:
    given = {"like": "click"}
    everything = Split(np.arange(8), np.arange(8, 12), np.arange(12, 12))
    likes = with_likes(small, [1, None, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1])
    data = encode(likes, everything, tasks=("click", "like"), target="like", fit="train", given=given)
    # clicked are rows 0, 2, 3, 5, 7 and, held out, 8 and 10
    np.testing.assert_array_equal(data.train.labels[:, 1], [1, np.nan, 0, 1, np.nan, 0, np.nan, 0])
    np.testing.assert_array_equal(data.held_out.labels[:, 1], [1, np.nan, 0, np.nan])
    assert not np.isnan(data.train.labels[:, 0]).any()
    assert data.held_out.target.tolist() == [1, 0, 0, 1], "retrieval looks for all positives"
    plain = encode(likes, everything, tasks=("click", "like"), target="like", fit="train")
    assert plain.sha256 != data.sha256


def test_conditions_add_up() -> None:
    labels = {"shown": [1, 1, 0, 1, None], "click": [1, 0, 1, 1, 1], "buy": [1, 1, 1, 0, 1]}
    found = conditioned(pl.DataFrame(labels), ("buy", "click"), {"buy": "click", "click": "shown"})
    assert found["click"].to_list() == [1, 0, None, 1, None]
    assert found["buy"].to_list() == [1, None, None, 0, None]


def test_a_condition_that_is_no_label_is_refused(small: Tables) -> None:
    with pytest.raises(ConfigError, match=r"must name label columns of small.*given = \{'like': 'buy'\}"):
        encode(small, BY_POSITION, tasks=("like",), target="click", fit="train", given={"like": "buy"})


def test_a_condition_that_leaves_one_class_is_refused(small: Tables) -> None:
    tables = with_likes(small, [0, None, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1])  # the only training like has no click
    with pytest.raises(DataError, match="task like of small must have two or more classes in the training rows"):
        encode(tables, BY_POSITION, tasks=("like",), target="click", fit="train", given={"like": "click"})
