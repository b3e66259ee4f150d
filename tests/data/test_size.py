from __future__ import annotations

from dataclasses import replace

import numpy as np

from evorec.config import SplitConfig, TasksConfig
from evorec.data.describe import describe
from evorec.data.size import DataSize, item_numbers
from evorec.data.splits import Split
from evorec.data.tables import Tables

PARTS = Split(np.arange(8), np.arange(8, 10), np.arange(10, 12))


def test_the_items_of_a_data_set_are_those_of_its_log_and_of_its_item_table(small: Tables) -> None:
    size = DataSize.of(small)  # items 11 to 14 in the log, 15 in the table alone
    assert (size.n_rows, size.n_users, size.n_items, size.n_items_in_log) == (12, 4, 5, 4)
    assert str(size) == f"small: 12 rows, 4 users, 5 items, sha256 {small.sha256()[:12]}"
    found = describe(small, split=SplitConfig(), tasks=TasksConfig())
    assert (found.facts["n_items"], found.facts["sha256"]) == (size.n_items, size.sha256)


def test_the_number_of_items_is_explained_step_by_step(small: Tables) -> None:
    without = replace(small, items=None, item_features=(), content=())
    for tables, expected in ((small, [4, 1, 5, 5, 5]), (without, [4, 0, 4, 3, 4])):  # 14 is first met in validation
        assert item_numbers(tables, PARTS)["n"].to_list() == expected
        assert item_numbers(tables, None)["n"].to_list() == expected[:3]
