from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from evorec.config import SplitConfig
from evorec.data.splits import Split, split
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError

DAY = 86_400


def tables(users: list[int], times: list[int], **columns: list[object]) -> Tables:
    log = {Columns.USER: users, Columns.ITEM: [1] * len(users), Columns.TIME: times, "click": [1] * len(users)}
    return Tables("t", pl.DataFrame({**log, **columns}), ("click",))


def rows(parts: Split) -> list[list[int]]:
    return [part.tolist() for part in (parts.train, parts.validation, parts.test)]


def test_days_cut_the_log_where_they_begin() -> None:
    # rows at the start of days 2, 0, 1 and one second before day 2
    log = tables([1, 1, 1, 1], [2 * DAY, 0, DAY, 2 * DAY - 1])
    config = SplitConfig(validation_from=date(1970, 1, 2), test_from=date(1970, 1, 3))
    assert rows(split(log, config)) == [[1], [2, 3], [0]]


def test_the_utc_offset_moves_the_days() -> None:
    log = tables([1, 1, 1, 1], [2 * DAY, 0, DAY, 2 * DAY - 1])
    config = SplitConfig(validation_from=date(1970, 1, 2), test_from=date(1970, 1, 3), utc_offset_h=0.5)
    assert rows(split(log, config)) == [[1], [2], [0, 3]]  # 23:59:59 is already 00:29:59 of the next day


def test_the_logs_own_day_comes_before_the_timestamp() -> None:
    days = [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)]
    log = tables([1, 1, 1], [0, 0, 0], day=list(days))
    config = SplitConfig(validation_from=days[1], test_from=days[2], utc_offset_h=8)
    assert rows(split(log, config)) == [[0], [1], [2]]


def test_shares_cut_by_time_and_keep_equal_timestamps_together() -> None:
    # in order of time: 10 10 20 20 20 30 30 40 50 60. Test 20 % = 2 rows from 50 on. Validation 20 % would start in
    # the middle of the two rows at 30 and leaves both of them to training.
    log = tables([1] * 10, [60, 10, 20, 30, 50, 20, 30, 10, 40, 20])
    assert rows(split(log, SplitConfig(validation_share=0.2, test_share=0.2))) == [[1, 2, 3, 5, 6, 7, 9], [8], [0, 4]]


def test_no_training_row_is_later_than_a_held_out_row_by_shares() -> None:
    time = np.random.default_rng(0).integers(0, 50, 400)
    parts = split(tables([1] * 400, time.tolist()), SplitConfig())
    assert time[parts.train].max() < time[parts.validation].min()
    assert time[parts.validation].max() < time[parts.test].min()


def test_leave_last_out_takes_the_last_two_rows_of_each_user() -> None:
    # user 1: times 30 10 20 -> rows by time 1, 2, 0.  user 2: two rows only.  user 3: equal times, file order.
    log = tables([1, 1, 1, 2, 2, 3, 3, 3, 3], [30, 10, 20, 5, 6, 7, 7, 7, 7])
    assert rows(split(log, SplitConfig(kind="leave_last_out"))) == [[1, 3, 4, 5, 6], [2, 7], [0, 8]]


def test_random_parts_of_each_user_are_its_shares_rounded() -> None:
    users = np.repeat([0, 1, 2, 3], [20, 10, 5, 2])
    log = tables(users.tolist(), [0] * len(users))
    config = SplitConfig(kind="random_per_user", validation_share=0.1, test_share=0.2)
    parts = split(log, config)
    counts = [np.bincount(users[rows], minlength=4).tolist() for rows in (parts.train, parts.validation, parts.test)]
    # 0.1 of 5 rows is 0.5, which rounds to the even 0; 0.2 of 2 rows is 0.4
    assert counts == [[14, 7, 4, 2], [2, 1, 0, 0], [4, 2, 1, 0]]
    again, other = split(log, config), split(log, config.model_copy(update={"seed": 1}))
    assert np.array_equal(parts.test, again.test)
    assert not np.array_equal(parts.test, other.test)
    with pytest.raises(DataError, match="of few rows a share is no row"):
        split(tables(list(range(8)), [0] * 8), config)


def test_random_parts_are_seeded_disjoint_and_complete() -> None:
    log = tables([1] * 100, list(range(100)))
    first, again, other = (split(log, SplitConfig(kind="random", seed=seed)) for seed in (0, 0, 1))
    assert rows(first) == rows(again) != rows(other)
    assert [len(part) for part in rows(first)] == [80, 10, 10]
    assert sorted(row for part in rows(first) for row in part) == list(range(100))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SplitConfig(validation_from=date(2030, 1, 1), test_from=date(2031, 1, 1)), "'validation': 0, 'test': 0"),
        (SplitConfig(), "the log goes from 1970-01-01T00:00:05 to 1970-01-01T00:00:05 UTC"),
        (SplitConfig(kind="leave_last_out"), "needs a user with 3 rows or more; use split.kind = 'time'"),
        (SplitConfig(kind="random"), "raise split.validation_share"),
    ],
)
def test_an_empty_part_is_refused_with_advice(config: SplitConfig, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(tables([1, 1], [5, 5]), config)
