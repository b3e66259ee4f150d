"""Stated groups of users from the table of users."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tiny import dataset, tables

from evorec.data.groups import user_groups
from evorec.data.tables import Columns
from evorec.errors import DataError


def test_users_of_one_value_are_a_group_and_those_without_one_have_none():
    users = pl.DataFrame({Columns.USER: [5, 0, 2, 7], "plan": ["pro", None, "free", "pro"]})
    data = replace(tables(), users=users, user_features=())
    # places of free and pro; user 0 has none, user 1 is not in the table, and nobody knows the last one
    assert user_groups(data, np.array([0, 1, 2, 5, 7]), "plan").tolist() == [-1, -1, 0, 1, 1, -1]
    assert user_groups(data, np.array([7, 5]), "plan").tolist() == [1, 1, -1]


@pytest.mark.parametrize("name", ["group", "number of group", "value"])
def test_a_column_may_have_any_name(name):
    users = pl.DataFrame({Columns.USER: ["b", "a"], name: [2.5, 1.5]})
    user, item = pl.col(Columns.USER).cast(pl.String), pl.col(Columns.ITEM).cast(pl.String)
    log = tables().interactions.with_columns(user, item)
    data = replace(tables(), interactions=log, users=users, user_features=(), items=tables().items.with_columns(item))
    assert user_groups(data, np.array(["a", "b"]), name).tolist() == [0, 1, -1]


def test_any_column_of_the_user_table_will_do():
    data = tables()
    found = user_groups(data, dataset().user_ids, "segment")
    segments = dict(data.users.select(Columns.USER, "segment").iter_rows())
    for first, group in zip(dataset().user_ids.tolist(), found.tolist(), strict=False):
        for second, other in zip(dataset().user_ids.tolist(), found.tolist(), strict=False):
            assert (group == other) == (segments[first] == segments[second])


def test_a_column_that_is_not_there_or_holds_lists_is_refused():
    with pytest.raises(DataError, match=r"evaluation.groups must be a column of the users of simulator, \['segment', "):
        user_groups(tables(), dataset().user_ids, "age")
    with pytest.raises(DataError, match="which has no such table; got 'age'"):
        user_groups(replace(tables(), users=None, user_features=()), dataset().user_ids, "age")
    lists = tables().users.with_columns(tags=pl.lit([1, 2]))
    with pytest.raises(DataError, match="one value per user, got tags: List"):
        user_groups(replace(tables(), users=lists), dataset().user_ids, "tags")
