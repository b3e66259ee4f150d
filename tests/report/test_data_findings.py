"""What is said about a data set: one log without anything remarkable, and one change to it per sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from example_data import DAY_S, N_ROWS, NOW_S, START_S, TASKS, description, example_log, example_tables

from evorec.config import CooccurrenceContent, SplitConfig, TasksConfig
from evorec.data.describe import Description, describe
from evorec.data.readers import Origin
from evorec.data.tables import Columns, Feature, ItemVectors, Tables
from evorec.report.data_findings import findings

SOURCE = Origin("simulator")
LOG = example_log()
ROW = np.arange(N_ROWS)
TRAIN, VALIDATION = ROW < 3000, (ROW >= 3000) & (ROW < 3600)


def said(found: Description, tasks: TasksConfig = TASKS, level: str | None = None, now_s: int = NOW_S) -> str:
    """All sentences of a level, one per line."""
    return "\n".join(f.text for f in findings(found, SOURCE, tasks, now_s=now_s) if level in (None, f.level))


def of(**columns: object) -> Description:
    return description(example_tables(**columns))


def test_an_ordinary_log_is_passed_without_a_word() -> None:
    assert said(description()) == ""


def test_warnings_come_first() -> None:
    found = of(click=np.where(VALIDATION, 0, LOG["click"]), **{Columns.USER: ROW})
    levels = [finding.level for finding in findings(found, SOURCE, TASKS, now_s=NOW_S)]
    assert levels == sorted(levels, key=["warning", "note"].index)
    assert set(levels) == {"warning", "note"}


def test_equal_timestamps_are_told_and_nothing_else_about_time() -> None:
    text = said(of(**{Columns.TIME: START_S}), level="warning")
    assert "all timestamps are equal (2023-11-15T00:00:00)" in text
    assert "the log cannot be split, so it is described as a whole: split.kind = 'time' must leave rows" in text


def test_a_timestamp_before_1990_is_suspected_to_have_another_unit() -> None:
    text = said(of(**{Columns.TIME: LOG[Columns.TIME] // 1000}), level="warning")
    assert (
        "the earliest row is of 1970-01-20: is the unit of the timestamps right? A text that stands for no time" in text
    )


def test_a_timestamp_to_come_is_suspected() -> None:
    last = START_S + 14 * DAY_S - 288  # one row in 288 s
    assert said(description(), now_s=last) == ""
    assert "the latest row is of 2023-11-28, in the future" in said(description(), now_s=last - 1, level="warning")


def test_timestamps_that_are_whole_days_have_no_order_within_one() -> None:
    text = said(of(**{Columns.TIME: START_S + ROW // 300 * DAY_S}), level="note")
    assert "the timestamps are whole days" in text


def test_rows_of_a_user_at_one_moment_are_told() -> None:
    tied = START_S + ROW // 300 * DAY_S + ROW // 300  # a user has two rows in 300, both at one moment
    assert "50.0 % of the rows have the timestamp of an earlier row of their user" in said(of(**{Columns.TIME: tied}))


def test_days_without_rows_are_told() -> None:
    late = LOG[Columns.TIME] + np.where(ROW >= 2100, 2 * DAY_S, 0)
    assert "2 days of 16 between the first and the last row have no rows" in said(
        of(**{Columns.TIME: late}), level="note"
    )


def test_duplicates_are_told_and_many_are_a_warning() -> None:
    tables = example_tables()
    few = pl.concat([tables.interactions, tables.interactions[:1]])
    text = "duplicates: 1 row (0.02 %) repeat user, item and timestamp of an earlier row, equal in every label"
    assert text in said(description(tables.with_interactions(few)), level="note")
    other = tables.interactions[:50].with_columns(click=1 - pl.col("click"))
    many = pl.concat([tables.interactions, tables.interactions[:50], other])
    text = "duplicates: 100 rows (2.33 %) repeat user, item and timestamp of an earlier row, 50 of them equal"
    assert text in said(description(tables.with_interactions(many)), level="warning")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ({"like": np.where(VALIDATION, 0, LOG["like"])}, "label like has no positive: 0 in every row of validation"),
        ({"like": np.where(VALIDATION, None, LOG["like"])}, "label like is missing in every row of validation"),
        ({"like": 1.0}, "label like is constant: positive in every row, so it ranks nothing"),
        (
            {"like": (ROW % 50 == 7) * 1.0},
            "has only 60 positives in train, 12 positives in validation and 12 positives in",
        ),
        ({"like": (ROW % 50 == 7) * 1.0}, "its AUC there has a standard error of up to 0.14"),  # 0.5 / sqrt(12) = 0.144
        ({"like": (ROW % 50 != 7) * 1.0}, "has only 60 negatives in train"),
        ({"like": ROW % 5 + 0.5}, "label like takes other values than 0 and 1 (0.5 to 4.5): make a binary label of it"),
    ],
)
def test_a_label_that_cannot_be_learned_or_measured_is_a_warning(column: dict[str, Any], text: str) -> None:
    assert text in said(of(**column), level="warning")


def test_a_label_that_is_learned_as_a_number_may_take_any_value_but_one() -> None:
    number = TasksConfig(ranked=("click", "like"), target="click", kinds={"like": "regression"})
    assert said(description(example_tables(like=ROW % 5 + 0.5), tasks=number), number) == ""
    found = description(example_tables(like=np.where(TRAIN, ROW % 5, 2.5)), tasks=number)
    assert "label like is constant, 2.5, in every row of validation and test" in said(found, number, "warning")
    assert "label like is 0 or 1 in every row, but tasks.kinds declares a number" in said(
        description(tasks=number), number, "note"
    )


def test_dropped_rows_are_told_and_many_are_a_warning() -> None:
    source = Origin("table", "/data", n_read=10_000, n_missing_ids=100, n_duplicates=99, n_events=9801)
    first, *_, last = findings(description(), source, TASKS, now_s=NOW_S)
    assert (first.level, first.text) == (
        "warning", "100 rows (1.00 %) of the files have no user or no item and were dropped"
    )  # fmt: skip
    assert (last.level, last.text) == ("note", "99 rows (0.99 %) of the files repeat another row and were dropped")


def test_a_label_that_is_not_used_is_passed_over() -> None:
    assert said(of(like=1.0), TasksConfig(ranked=("click",), target="click")) != ""  # counted as ranked
    only_click = TasksConfig(ranked=("click",), target="click")
    assert said(description(example_tables(like=1.0), tasks=only_click), only_click) == ""


def test_a_target_that_is_always_positive_is_no_trouble() -> None:
    rated = TasksConfig(ranked=("like",), target="click")
    assert said(description(example_tables(click=1.0), tasks=rated), rated) == ""


def test_missing_labels_are_told_but_not_those_outside_a_sample_space() -> None:
    assert "label like is missing in 10.0 % of the rows" in said(of(like=np.where(ROW % 10, LOG["like"], None)))
    among = TasksConfig(ranked=("click", "like"), target="click", given={"like": "click"})
    assert "missing" not in said(description(tasks=among), among)


def test_a_rate_that_moves_is_told() -> None:
    text = said(of(like=np.where(VALIDATION, ROW % 10 < 6, LOG["like"])), level="note")
    assert "label like is 60.0 % positive in validation, 30.0 % in training" in text


def test_a_broken_funnel_is_a_warning() -> None:
    funnel = TasksConfig(ranked=("click", "like"), target="click", funnel=("click", "like"))
    found = description(tasks=funnel)
    n_like = int(LOG["like"].sum())
    n_broken = int((LOG["like"] * (1 - LOG["click"])).sum())
    assert f"the funnel is broken: {n_broken} rows of {n_like:,} with like lack click" in said(found, funnel, "warning")


def test_a_funnel_that_nobody_declared_is_told() -> None:
    found = of(like=LOG["like"] * LOG["click"])
    assert "like implies click in every row; tasks.funnel can declare it" in said(found, level="note")
    declared = TasksConfig(ranked=("click", "like"), target="click", funnel=("click", "like"))
    assert "implies" not in said(found, declared)


def test_new_users_and_items_are_a_warning_by_part() -> None:
    text = said(of(**{Columns.ITEM: np.where(VALIDATION, 1000 + ROW % 90, LOG[Columns.ITEM])}), level="warning")
    assert "validation is new: 100 % of its items (with 100 % of its rows) were never in training" in text
    assert "test is new" not in text


def test_items_that_no_list_can_hold_are_told() -> None:
    tables = example_tables(**{Columns.ITEM: np.where(VALIDATION, 1000 + ROW % 90, LOG[Columns.ITEM])})
    bare = replace(tables, items=None, item_features=(), content=())
    text = said(description(bare), level="note")
    assert "100 % of the validation rows have an item that neither training nor a table of items contains" in text
    assert "neither" not in said(description(tables))


def test_recall_on_few_users_is_a_warning() -> None:
    text = said(of(click=np.where(ROW % 150 < 9, LOG["click"], 0)), level="warning")
    # users 0 to 8 in rounds 20 to 23: (user + round) % 10 < 4 in one of them for 0, 1, 2, 3, 7 and 8; 0.5 / sqrt(6)
    assert (
        "recall on validation rests on only 6 known users with a positive of click: standard error up to 0.20" in text
    )


def test_names_that_are_no_labels_are_a_warning() -> None:
    wrong = TasksConfig(ranked=("click", "nap"), target="")
    text = said(description(tasks=wrong), wrong, "warning")
    assert "tasks.ranked names nap, which is not a label; the data have click, like" in text
    assert "tasks.target is empty; the data have the labels click, like" in text


def test_a_part_of_a_few_rows_is_a_warning() -> None:
    tiny = SplitConfig(validation_share=0.01, test_share=0.01)
    text = said(description(split=tiny), level="warning")
    assert "validation has only 42 rows and test has only 42 rows; every figure on so few will be rough" in text


@pytest.mark.parametrize(("kind", "name"), [("random", "random"), ("leave_last_out", "leave-last-out")])
def test_a_split_that_mixes_times_is_told(kind: str, name: str) -> None:
    text = said(description(split=SplitConfig.model_validate({"kind": kind})), level="note")
    assert f"a {name} split: training contains rows that are later than rows of validation and test" in text


def test_a_user_with_a_large_share_is_suspected_to_be_a_machine() -> None:
    heavy = np.where(ROW % 10 == 3, 77, LOG[Columns.USER])
    text = said(of(**{Columns.USER: heavy}), level="warning")
    assert f"user 77 has {100 * (heavy == 77).mean():.1f} % of all rows: a person, or a machine?" in text


def test_a_log_of_one_user_is_a_warning() -> None:
    assert "the log has a single user" in said(of(**{Columns.USER: 5}), level="warning")


def test_users_with_a_single_row_are_told() -> None:
    assert "100 % of the users have a single row" in said(of(**{Columns.USER: ROW}), level="note")


def test_items_without_a_row_in_their_table_are_told_and_many_are_a_warning() -> None:
    tables = example_tables()
    assert tables.items is not None
    found = description(replace(tables, items=tables.items[:57]))
    assert "5.00 % of the items of the log (3) are not in the table of items: no features" in said(found, level="note")
    found = description(replace(tables, items=tables.items[:30]))
    assert "50.0 % of the items of the log (30) are not in the table" in said(found, level="warning")


def test_features_that_say_little_are_told() -> None:
    tables = example_tables()
    assert tables.items is not None
    items = tables.items.with_columns(
        empty=pl.lit(None, dtype=pl.String),
        rare=pl.when(pl.int_range(pl.len()) < 6).then(pl.lit("x")),
        same=pl.lit("x"),
        own=pl.col(Columns.ITEM).cast(pl.String),
    )
    features = tuple(Feature(name, "categorical") for name in ("empty", "rare", "same", "own"))
    text = said(description(replace(tables, items=items, item_features=features, content=())))
    assert "item features without any value: empty" in text
    assert "item features that are mostly missing: rare (90.0 %)" in text
    assert "item features with a single value, which are left out: same" in text
    assert "item features with a different value in every row, which say no more than the id: own" in text


def test_long_lists_of_names_are_cut() -> None:
    tables = example_tables()
    assert isinstance(tables, Tables)
    assert tables.items is not None
    names = [f"f{number}" for number in range(8)]
    items = tables.items.with_columns(pl.lit("x").alias(name) for name in names)
    features = tuple(Feature(name, "categorical") for name in names)
    found = description(replace(tables, items=items, item_features=features, content=()))
    assert "which are left out: f0, f1, f2, f3, f4 and 3 more" in said(found)


def with_cover(
    share: float = 1.0, *, equal: bool = False, near: bool = False, table: bool = True, new: int = 0
) -> Description:
    """With vectors of a share of the 60 items; the last ones are new in the test."""
    rows = example_log()
    late = np.where(ROW >= 3600, np.where(ROW % 3 < 2, 60 + ROW % max(new, 1), rows[Columns.ITEM]), rows[Columns.ITEM])
    tables = example_tables(**{Columns.ITEM: late if new else rows[Columns.ITEM]})
    ids = tables.interactions[Columns.ITEM].unique().sort()[: round(60 * share)]
    angle = np.zeros(len(ids)) if equal else np.linspace(0, 0.02 if near else 3, len(ids))
    part = ItemVectors("cover", ids, np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32), sha256="")
    items = {} if table else {"items": None, "item_features": ()}
    return description(replace(tables, vectors=(part,), content=(), **items))


def test_vectors_of_few_items_are_a_warning() -> None:
    assert said(with_cover(0.5)) == ""
    text = said(with_cover(0.45), level="warning")
    assert text == "content cover: only 45.0 % of the 60 items have a vector; it does not distinguish the others"


def test_content_without_a_vector_is_a_warning() -> None:
    assert said(with_cover(0.0), level="warning") == "content cover: no item has a vector; leave it out"


def test_vectors_that_hardly_differ_are_a_warning() -> None:
    assert said(with_cover(equal=True), level="warning") == "content cover: the vectors of 60 items are equal"
    # 1 - cos is half the squared angle between, 0.02 / 59 from one to the next; (i - j) ** 2 has the mean 60 * 61 / 6
    near = said(with_cover(near=True), level="warning")
    assert near == "content cover: the vectors of 60 items hardly differ, their mean cosine distance is 3.5e-05"


def test_new_items_without_a_vector_are_a_warning() -> None:
    text = said(with_cover(new=5), level="warning")
    assert "content cover: none of the 5 new items of test has a vector" in text
    text = said(with_cover(62 / 60, new=5), level="warning")
    assert "content cover: only 40.0 % of the 5 new items of test has a vector" in text
    assert "content cover" not in said(with_cover(65 / 60, new=5))


def test_new_items_that_no_list_can_hold_are_told_where_content_was_to_help() -> None:
    text = said(with_cover(65 / 60, new=5, table=False), level="note")
    assert "content cannot help the 5 new items of test: no table of items contains them, so no list can" in text


def test_cooccurrence_alone_knows_no_new_item() -> None:
    late = np.where(ROW >= 3600, 60 + ROW % 5, LOG[Columns.ITEM])
    tables = replace(example_tables(**{Columns.ITEM: late}), content=())
    days = SplitConfig.model_validate({"validation_from": "2023-11-25", "test_from": "2023-11-27"})
    learned = CooccurrenceContent(kind="cooccurrence")
    found = describe(tables, split=days, tasks=TASKS, content={"cooccurrence": learned})
    assert "content cooccurrence knows none of the 5 new items of test" in said(found, level="note")


def test_cooccurrence_with_few_items_in_training_is_a_warning() -> None:
    items = np.where(TRAIN, ROW % 20, LOG[Columns.ITEM])
    tables = replace(example_tables(**{Columns.ITEM: items}), content=())
    days = SplitConfig.model_validate({"validation_from": "2023-11-25", "test_from": "2023-11-27"})
    learned = CooccurrenceContent(kind="cooccurrence")
    text = said(describe(tables, split=days, tasks=TASKS, content={"cooccurrence": learned}), level="warning")
    assert "content cooccurrence: only 33.3 % of the 60 items have a row of training to learn from" in text


def test_an_id_as_long_as_a_text_is_cut() -> None:
    users = [f"{user:x>90}" for user in np.where(ROW % 10 == 3, 77, LOG[Columns.USER])]
    assert f"user {'x' * 60}… has" in said(of(**{Columns.USER: users}), level="warning")
