from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from evorec.data.tables import Columns, Feature, Tables
from evorec.errors import DataError


def log(**columns: Any) -> pl.DataFrame:
    base = {Columns.USER: [1, 2], Columns.ITEM: [5, 6], Columns.TIME: [10, 20], "click": [1, 0]}
    return pl.DataFrame({**base, **columns})


def test_integer_ids_and_labels_get_the_common_types() -> None:
    frame = log().with_columns(pl.col(Columns.USER).cast(pl.UInt16), pl.col("click").cast(pl.Boolean))
    tables = Tables("t", frame, ("click",))
    assert tables.interactions.schema[Columns.USER] == pl.Int64
    assert tables.interactions["click"].to_list() == [1.0, 0.0]
    assert tables.interactions.schema["click"] == pl.Float32


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (log().drop("click"), r"table interactions of t lacks columns \['click'\]"),
        (log().head(0), "interactions of t is empty"),
        (log(user_id=[1, None]), "user_id must not be null, got null in row 1"),
        (log(item_id=[1.5, 2.0]), "item_id must hold integers or strings, got Float64"),
        (log(timestamp=["a", "b"]), "timestamp must be Int64"),
        (log(timestamp=[10, None]), "timestamp must not be null"),
        (log(timestamp=[10, 1_650_812_741_436]), "must be in seconds, got 1650812741436: divide milliseconds by 1000"),
        (log(day=["2024-01-01", "2024-01-02"]), "day must be Date, got String"),
        (log(click=["yes", "no"]), "task click must be numeric or Boolean, got String"),
        (log(click=[0.0, float("nan")]), "task click must be finite, got nan in row 1; a missing label is null"),
        (log(click=[float("inf"), 0.0]), "task click must be finite, got inf in row 0"),
    ],
)
def test_a_bad_log_is_refused_with_table_column_and_value(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Tables("t", frame, ("click",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ()}, "one or more different tasks"),
        ({"tasks": ("click", "click")}, "one or more different tasks"),
        ({"context": (Feature("hour", "categorical"),)}, r"lacks columns \['hour'\]"),
        ({"context": (Feature("click", "multi_hot"),)}, "click is declared multi_hot, which Float32 cannot be"),
        ({"context": (Feature("click", "numeric"),) * 2}, "declared twice"),
        ({"user_features": (Feature("age", "numeric"),)}, "table users of t is missing, but features .'age'. are"),
        ({"content": ("genres",)}, "table items of t is missing, but content"),
        ({"users": pl.DataFrame({Columns.USER: [1, 1]})}, "user_id must be unique, got 1 again .row 1"),
        ({"users": pl.DataFrame({Columns.USER: ["1"]})}, "user_id must be Int64 as in the interactions, got String"),
        ({"items": pl.DataFrame({"video": [1]})}, r"table items of t lacks columns \['item_id'\]; it has \['video'\]"),
        ({"items": pl.DataFrame({Columns.ITEM: [1], "v": [3]}), "content": ("v",)}, "content v must be a categorical"),
        (
            {"items": pl.DataFrame({Columns.ITEM: [1, 2], "v": [[1.0], [1.0, 2.0]]}), "content": ("v",)},
            r"content v must have one length above 0, got lengths \[1, 2\]",
        ),
        (
            {"items": pl.DataFrame({Columns.ITEM: [1, 2], "v": [[1.0], [float("nan")]]}), "content": ("v",)},
            "content v must be finite",
        ),
    ],
)
def test_a_bad_declaration_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(Tables("t", log(), ("click",)), **change)


def test_equal_content_has_equal_hash(small: Tables) -> None:
    rebuilt = pl.DataFrame(small.interactions.to_dict(as_series=False), schema=small.interactions.schema)
    assert small.with_interactions(rebuilt).sha256() == small.sha256()
    assert len(small.sha256()) == 64


def test_every_change_of_content_changes_the_hash(small: Tables) -> None:
    assert small.items is not None
    changed = [
        small.with_interactions(small.interactions.reverse()),
        small.with_interactions(small.interactions.with_columns(pl.col("like").fill_null(0))),
        small.with_interactions(small.interactions.with_columns(pl.col("page").replace("new", "nex"))),
        replace(small, items=small.items.with_columns(pl.Series("genres", [["g", "g"], ["h"], [], ["h", "g"], ["g"]]))),
        replace(small, tasks=("like", "click")),
        replace(small, context=()),
        replace(small, users=None, user_features=()),
    ]
    hashes = [small.sha256(), *(tables.sha256() for tables in changed)]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_tells_strings_with_the_same_concatenation_apart() -> None:
    def named(pages: list[str | None]) -> str:
        return Tables("t", log(page=pages), ("click",)).sha256()

    assert len({named(["ab", "c"]), named(["a", "bc"]), named([None, "abc"]), named(["", "abc"])}) == 4
