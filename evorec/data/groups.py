"""Groups of users, for metrics that compare them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from evorec.data.sorting import index_in
from evorec.data.tables import Columns, Tables
from evorec.errors import DataError

NO_GROUP = -1


def users_with(column: str, tables: Tables, *, key: str = "evaluation.groups") -> pl.DataFrame:
    """The table of users, which has a column that can tell groups.

    Args:
        column: its name.
        tables: with a table of users.
        key: of the setting or option that names it, for messages.
    Raises:
        DataError: there is no such column, or it holds lists.
    """
    known = [] if tables.users is None else [name for name in tables.users.columns if name != Columns.USER]
    if tables.users is None or column not in known:
        raise DataError(
            f"{key} must be a column of the users of {tables.name}, {known or 'which has no such table'}; "
            f"got {column!r}."
        )
    if tables.users.schema[column].is_nested():
        raise DataError(f"{key} must have one value per user, got {column}: {tables.users.schema[column]}.")
    return tables.users


def user_groups(tables: Tables, user_ids: npt.NDArray[Any], column: str) -> npt.NDArray[np.int64]:
    """Group of each user: users with the same value of a column share a group.

    Args:
        tables: with a table of users.
        user_ids: external ids ``(U,)``.
        column: of the table of users; any column with a single value per user.
    Returns:
        int64 ``(U + 1,)``, the rank of the value among all values, ascending; `NO_GROUP` for a user without a value
        and, last, for the unknown user.
    Raises:
        DataError: there is no such column, or it holds lists.
    """
    users = users_with(column, tables)
    values = users[column].drop_nulls().unique().sort()
    groups = np.append(index_in(values, users[column], missing=NO_GROUP), NO_GROUP)
    rows = index_in(users[Columns.USER], pl.Series(user_ids), missing=users.height)
    return np.append(groups[rows], NO_GROUP)
