"""Counts of fixed content vectors, worked by hand, and against the vectors that models get."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from evorec.config import (
    CooccurrenceContent,
    EncoderContent,
    GraphContent,
    SplitConfig,
    TasksConfig,
    TextContent,
    VectorsContent,
)
from evorec.config.content import ContentConfig
from evorec.data.content_facts import ROWS_AT_ONCE
from evorec.data.describe import describe
from evorec.data.features import content_vectors
from evorec.data.tables import Columns, Feature, ItemVectors, Tables

THIRDS = SplitConfig(validation_share=0.17, test_share=0.17)
"""Of the 12 rows of `small`: 8 train, 2 validation, 2 test."""
ROUNDING = 1e-6
"""Sums of float32 units against float64 ones."""


def facts(
    tables: Tables,
    sources: dict[str, ContentConfig] | None = None,
    split: SplitConfig = THIRDS,
    target: str = "click",
) -> dict[str, SimpleNamespace]:
    """Facts of each part; ``new`` has the number of new items, and of those with a vector, per held-out part."""
    tasks = TasksConfig(ranked=("click",), target=target)
    rows = describe(tables, split=split, tasks=tasks, content=sources or {}).content.to_dicts()
    return {row["name"]: SimpleNamespace(**row, new=new_items(row)) for row in rows}


def new_items(row: dict[str, Any]) -> dict[str, tuple[int, int]]:
    parts = [name.removeprefix("n_new/") for name in row if name.startswith("n_new/")]
    return {part: (row[f"n_new/{part}"], row[f"n_new_with/{part}"]) for part in parts}


def with_vectors(tables: Tables, ids: list[int], values: list[list[float]], name: str = "cover") -> Tables:
    part = ItemVectors(name, pl.Series(ids, dtype=pl.Int64), np.array(values, dtype=np.float32), sha256="")
    return replace(tables, vectors=(part,))


def test_items_with_a_value_in_a_content_column_are_counted(small: Tables) -> None:
    genres = facts(small)["genres"]
    # items 11 to 15; item 13 has no genre; 14 is new in validation; in the test nothing is new
    assert (genres.kind, genres.made_of, genres.width) == ("multi_hot", "item table", 2)
    assert (genres.n, genres.n_with) == (5, 4)
    assert genres.new == {"validation": (1, 1), "test": (0, 0)}
    # 11 and 15 have g alone, 12 and 14 g and h: 4 of the 6 pairs are 1 - 1 / root 2 apart, the others equal
    assert genres.distance == pytest.approx(4 * (1 - 0.5**0.5) / 6, abs=ROUNDING)


def test_an_item_has_no_vector_of_a_source_that_lacks_it_or_gives_zeros(small: Tables) -> None:
    # 99 is no item of the data; 12 has zeros; 11 and 14 are at a right angle
    tables = with_vectors(small, [99, 12, 11, 14], [[1, 1], [0, 0], [3, 0], [0, 4]])
    cover = facts(tables, {"cover": VectorsContent(kind="vectors", path="covers.npz")})["cover"]
    assert (cover.kind, cover.made_of, cover.width, cover.n, cover.n_with) == ("vectors", "covers.npz", 2, 5, 2)
    assert cover.distance == 1.0
    assert cover.new["validation"] == (1, 1)
    assert facts(with_vectors(small, [11, 12], [[1, 0], [1, 0]]))["cover"].new["validation"] == (1, 0)


def test_a_source_without_a_single_vector_is_counted_all_the_same(small: Tables) -> None:
    cover = facts(with_vectors(small, [99], [[1, 1]]))["cover"]
    assert (cover.n_with, cover.distance, cover.made_of) == (0, None, "")
    zeros = facts(with_vectors(small, [11, 12], [[0, 0], [0, 0]]))["cover"]
    assert (zeros.n_with, zeros.distance) == (0, None)


def test_a_new_item_that_no_list_can_hold_is_not_counted(small: Tables) -> None:
    assert small.items is not None
    unlisted = replace(small, items=small.items.filter(pl.col(Columns.ITEM) != 14))
    tables = with_vectors(unlisted, [14], [[1, 0]])
    assert facts(tables)["cover"].new["validation"] == (0, 0)


@pytest.mark.parametrize(
    ("rows", "target", "n_with"),
    [("all", "click", 3), ("positives", "click", 3), ("positives", "like", 1)],
)
def test_cooccurrence_counts_the_items_that_training_teaches(
    rows: str, target: str, n_with: int, small: Tables
) -> None:
    # rows 0 to 7 hold the items 11, 12 and 13, all of them clicked; only row 0, of item 11, is liked
    source = CooccurrenceContent.model_validate({"kind": "cooccurrence", "rows": rows, "dims": 8})
    learned = facts(small, {"cooccurrence": source}, target=target)["cooccurrence"]
    assert (learned.kind, learned.made_of, learned.width) == (
        "cooccurrence",
        f"{'rows' if rows == 'all' else rows} of training",
        8,
    )
    assert (learned.n, learned.n_with, learned.distance) == (5, n_with, None)
    assert learned.new == {"validation": (1, 0), "test": (0, 0)}


@pytest.mark.parametrize(
    ("source", "made_of"),
    [
        (TextContent(kind="text", columns=("title", "plot")), "title, plot"),
        (EncoderContent(kind="encoder", columns=("title",), path="models/small"), "title by models/small"),
        (GraphContent(kind="graph", path="links.tsv"), "links.tsv"),
    ],
)
def test_a_part_says_what_it_was_made_of(source: ContentConfig, made_of: str, small: Tables) -> None:
    cover = facts(with_vectors(small, [11], [[1, 0]]), {"cover": source})["cover"]
    assert (cover.kind, cover.made_of) == (source.kind, made_of)


def test_a_log_that_cannot_be_split_has_no_new_items(small: Tables) -> None:
    days = SplitConfig.model_validate({"validation_from": "2030-01-01", "test_from": "2030-01-02"})
    learned = CooccurrenceContent(kind="cooccurrence")
    found = facts(small, {"cooccurrence": learned}, split=days)
    assert [(part.n_with, part.new) for part in found.values()] == [(4, {}), (4, {})]


def test_more_vectors_than_are_read_at_once_are_counted_once(small: Tables) -> None:
    n = ROWS_AT_ONCE + 10
    items = pl.DataFrame({Columns.ITEM: np.arange(n)})
    tables = replace(small, items=items, item_features=(), content=())
    values = np.zeros((n, 2), dtype=np.float32)
    values[::2, 0], values[1::2, 1] = 2, 3
    part = ItemVectors("cover", pl.Series(np.arange(n)), values, sha256="")
    cover = facts(replace(tables, vectors=(part,)))["cover"]
    assert cover.n_with == n
    # half of the others are at a right angle, and a vector is no pair with itself
    assert cover.distance == pytest.approx((n / 2) / (n - 1), abs=ROUNDING)


def test_a_slow_loop_over_the_vectors_that_models_get_finds_the_same() -> None:
    rng = np.random.default_rng(3)
    n = 40
    ids = np.arange(n)
    shelf = [None if rng.random() < 0.3 else f"s{rng.integers(4)}" for _ in ids]
    weight = [float("nan") if rng.random() < 0.3 else float(rng.integers(3)) for _ in ids]
    tags = [[f"t{tag}" for tag in rng.integers(0, 6, rng.integers(0, 4))] for _ in ids]
    cover = [None if rng.random() < 0.2 else rng.normal(size=3).tolist() for _ in ids]
    columns = {"shelf": shelf, "weight": weight, "tags": tags, "cover": cover}
    has_value = {
        "shelf": [value is not None for value in shelf],
        "weight": [value == value for value in weight],
        "tags": [len(value) > 0 for value in tags],
        "cover": [value is not None for value in cover],
    }
    items = pl.DataFrame({Columns.ITEM: ids, **columns})
    log = pl.DataFrame({Columns.USER: ids % 7, Columns.ITEM: ids, Columns.TIME: ids, "click": ids % 2})
    features = (Feature("shelf", "categorical"), Feature("weight", "categorical"), Feature("tags", "multi_hot"))
    tables = Tables("log", log, tasks=("click",), items=items, item_features=features, content=tuple(columns))
    found = facts(tables)
    for name in columns:
        vectors, parts = content_vectors(replace(tables, content=(name,)), ids)
        known = [vectors[place].astype(np.float64) for place in ids if has_value[name][place]]
        distances = [1 - one @ other for place, one in enumerate(known) for other in known[:place]]
        assert found[name].width == parts[0].n_columns
        assert found[name].n_with == len(known)
        assert found[name].distance == pytest.approx(np.mean(distances), abs=ROUNDING)
