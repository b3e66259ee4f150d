from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from evorec.data.paths import resolve_path
from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import DataError


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Folder of one real data set; skips where it is missing."""

    def folder(name: str) -> Path:
        try:
            return resolve_path(name)
        except DataError as error:
            pytest.skip(str(error))

    return folder


@pytest.fixture
def small() -> Tables:
    """12 impressions of 4 users and 5 items, in order of time; item 15 is in the table only, user 4 is in the log only.

    Split by position: rows 0-7 train, 8-9 validation, 10-11 test.
    """
    log = pl.DataFrame(
        {
            Columns.USER: [1, 1, 1, 2, 2, 2, 3, 3, 1, 4, 2, 3],
            Columns.ITEM: [11, 12, 13, 11, 12, 12, 11, 13, 14, 11, 13, 11],
            Columns.TIME: [100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 210],
            "click": [1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0],
            "like": [1, None, 0, 0, 0, 0, 0, None, 1, 0, 0, 1],
            "page": ["home", "home", "feed", "home", "feed", "home", "home", "home", "new", "home", "home", "feed"],
        }
    )
    users = pl.DataFrame({Columns.USER: [1, 2, 3], "city": ["x", "x", "y"], "age": [20.0, 30.0, None]})
    items = pl.DataFrame(
        {
            Columns.ITEM: [15, 14, 13, 12, 11],
            "kind": ["a", "b", "a", "b", "a"],
            "genres": [["g"], ["g", "h"], [], ["h", "g"], ["g"]],
        }
    )
    return Tables(
        name="small",
        interactions=log,
        tasks=("click", "like"),
        users=users,
        items=items,
        context=(Feature("page", "categorical"),),
        user_features=(Feature("city", "categorical"), Feature("age", "numeric")),
        item_features=(Feature("kind", "categorical"), Feature("genres", "multi_hot")),
        content=("genres",),
    )
