"""Names of the blocks of the input, from data and from tables."""

from dataclasses import replace

import polars as pl
import pytest
from tiny import dataset, device_data, plan_of, spec, tables, trained

from evorec.config import SplitConfig
from evorec.data.encode import encode
from evorec.data.splits import split
from evorec.data.tables import Columns, Feature
from evorec.errors import ConfigError
from evorec.models.blocks import (
    absent_blocks,
    block_names,
    blocks_of,
    input_blocks,
    named_blocks,
)


def test_every_feature_but_the_ids_is_a_block_with_rows_of_its_own():
    data = dataset()
    blocks = [block for block in input_blocks(data) if not block.is_content]
    assert [(block.side, block.field) for block in blocks] == [
        ("user", "segment"), ("user", "tenure_days"), ("item", "category"), ("item", "price"), ("context", "hour"),
    ]  # fmt: skip
    taken = [set(range(block.first, block.first + block.size)) for block in blocks]
    assert sum(map(len, taken)) == len(set.union(*taken)), "no row is of two blocks"
    n_ids = 1 + data.n_users + 1 + (data.item_counts > 0).sum()
    assert data.n_rows == 1 + n_ids + sum(map(len, taken)) + data.n_items


def test_parts_of_the_content_cover_its_columns():
    data = dataset()
    parts = [block for block in input_blocks(data) if block.is_content]
    assert sum(part.size for part in parts) == data.item_content.shape[1]
    assert [part.first for part in parts] == [sum(p.size for p in parts[:i]) for i in range(len(parts))]
    assert [block for block in input_blocks(dataset(content=False)) if block.is_content] == []


def test_fields_of_equal_name_get_their_side_as_prefix():
    assert block_names([("user", "city"), ("content", "tags")]) == ["city", "tags"]
    assert block_names([("user", "city"), ("item", "city"), ("item", "x")]) == ["user_city", "item_city", "x"]
    tricky = [("user", "city"), ("item", "city"), ("context", "user_city")]
    assert block_names(tricky) == ["user_city", "item_city", "context_user_city"]


def test_genes_name_blocks():
    blocks = named_blocks(["use_a", "rank_a", "rank_blend", "width", "rank_b"])
    assert [block.name for block in blocks] == ["a", "b"]


def test_unknown_names_are_refused_with_those_there_are():
    blocks = named_blocks(["use_a", "use_b"])
    assert blocks_of(["b"], blocks) == [blocks[1]]
    with pytest.raises(ConfigError, match="no feature 'c', 'd' to switch; known: a, b"):
        blocks_of(["c", "a", "d"], blocks)


def with_a_late_segment(fit):
    """The moment has a ``segment`` as users have, which is the same for everybody until validation begins."""
    data = tables()
    parts = split(data, SplitConfig())
    first = data.interactions[parts.validation][Columns.TIME].min()
    late = pl.when(pl.col(Columns.TIME) >= first).then(pl.col(Columns.ITEM) % 3).otherwise(0).alias("segment")
    context = (*data.context, Feature("segment", "categorical"))
    data = replace(data, interactions=data.interactions.with_columns(late), context=context)
    return encode(data, parts, tasks=data.tasks, target="click", fit=fit)


def test_names_are_those_of_the_tables_whatever_is_constant_in_a_fit():
    search, final = with_a_late_segment("train"), with_a_late_segment("train+validation")
    own = {block.name for block in input_blocks(search)}
    assert absent_blocks(search) == ("context_segment",)
    assert {block.name for block in input_blocks(final)} == own | {"context_segment"}
    assert absent_blocks(final) == ()
    assert {"tenure_days", "price", "hour", "item_category", "content", "content_category"} <= own
    assert "user_segment" in own, "and not segment, which the final fit would not know"


def test_a_switch_of_a_constant_feature_does_nothing_and_a_switch_of_an_unknown_feature_is_an_error():
    search = with_a_late_segment("train")
    on_device = device_data(search)
    plan = plan_of(search, on_device)
    plain, switched = (trained([spec(off=off)], plan, on_device).population for off in ((), ("context_segment",)))
    for name, array in plain.member_arrays(0).items():
        assert (array == switched.member_arrays(0)[name]).all()
    with pytest.raises(ConfigError, match=r"no feature 'segment' to switch; known: .*user_segment"):
        trained([spec(off=("segment",))], plan, on_device)
    blocks = named_blocks(["use_a"])
    assert blocks_of(["a", "b"], blocks, ("b",)) == blocks_of(["a"], blocks)
    with pytest.raises(ConfigError, match="no feature 'c' to switch"):
        blocks_of(["a", "b", "c"], blocks, ("b",))
