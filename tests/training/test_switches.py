"""A member without some blocks of the input against a plain model of data that never had them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from plain_training import batches_of, plain_train
from tiny import EVALUATION, PARENTS, SEED, UNIFORM, device_data, plan_of, random_specs, spec, tables, trained

from evorec.config import SplitConfig
from evorec.data.encode import encode
from evorec.data.held_out import HeldOut, ranking_users
from evorec.data.splits import split
from evorec.errors import ConfigError
from evorec.models.blocks import InputBlock
from evorec.training.cost import CatalogueWork, member_cost
from evorec.training.evaluate import measure

FLOAT64 = 1e-10  # as for whole members (test_trainer): rounding errors of some steps in float64, and room
BATCH, POSITIVES, STEPS, LAYERS = 12, 7, 40, 2
FEATURES = ("segment", "tenure_days", "item_category", "price", "hour")  # the content has a category too
FIRST = 5  # columns of the first of two parts of the content

MEMBERS = [
    spec(off=("segment",), dropout=0.2),
    spec(off=("hour", "price"), optimizer="adafactor", embedding_decay=3.0),
    spec(off=()),
    spec(off=("first",), balancing="pcgrad"),
    spec(off=("item_category", "second"), optimizer="adafactor", balancing="nash"),
    spec(off=("first", "hour", "second", "segment"), balancing="gradnorm"),
    spec(off=("first", "item_category", "tenure_days"), mechanism="single_task", balancing="nash"),
    spec(off=("price", "second"), mechanism="stem", optimizer="adafactor", dropout=0.1),
    spec(off=(*sorted((*FEATURES, "first", "second")),), mechanism="esmm", embedding_dim=8, negative_source="uniform"),
    spec(off=("hour",), mechanism="ple", balancing="pcgrad", optimizer="adafactor", task_embeddings=True),
]


def encoded(without=()):
    """The tiny data set without some of its features."""
    data = tables()
    sides = {name: getattr(data, name) for name in ("user_features", "item_features", "context")}
    kept = {side: tuple(f for f in own if f.name not in without) for side, own in sides.items()}
    data = replace(data, **kept, content=tuple(name for name in data.content if name not in without))
    found = encode(data, split(data, SplitConfig()), tasks=data.tasks, target="click", fit="train",
                   statistics=("user", "item"))  # fmt: skip
    return replace(found, parents=PARENTS)


@cache
def whole():
    return encoded()


@cache
def world(dtype=torch.float64):
    """All features, and content of two parts, on the device."""
    on_device = device_data(whole(), layers=LAYERS, dtype=dtype)
    width = on_device.shape.n_content
    parts = (
        InputBlock("first", "content", "first", 0, FIRST),
        InputBlock("second", "content", "second", FIRST, width - FIRST),
    )
    return replace(on_device, shape=replace(on_device.shape, blocks=(*on_device.shape.row_blocks, *parts)))


@cache
def without(off):
    """Data that never had the blocks: the data set, and which rows and content columns of the whole one are left."""
    shape = world().shape
    data = encoded({block.field for block in shape.row_blocks if block.name in off})
    rows, columns = np.ones(shape.n_rows, bool), np.ones(shape.n_content, bool)
    for block in shape.blocks:
        if block.name in off:
            (columns if block.is_content else rows)[block.first : block.first + block.size] = False
    assert data.n_rows == rows.sum()
    return replace(data, item_content=whole().item_content[:, columns]), rows, columns


def cut(arrays, off):
    """A member's arrays without the rows and columns that are off."""
    _, rows, columns = without(off)
    out = dict(arrays)
    for name in arrays:
        if name.endswith("table"):
            out[name] = arrays[name][rows]
        elif "content" in name:
            out[name] = arrays[name][:, columns]
    return out


def own(checkpoint):
    return {name.removeprefix("parameter/"): a for name, a in checkpoint.items() if name.startswith("parameter/")}


@cache
def population():
    plan = plan_of(whole(), world(), steps=STEPS, batch=BATCH, positives=POSITIVES)
    start = trained(MEMBERS, plan, world(), last=0).checkpoints
    return [own(one) for one in start], trained(MEMBERS, plan, world()).population


def test_the_blocks_are_the_features_and_what_is_not_an_id():
    assert tuple(block.name for block in world().shape.row_blocks) == FEATURES
    data = whole()
    for side, fields, rows in (("user", data.user_fields, data.user_rows), ("item", data.item_fields, data.item_rows)):
        for field in fields[1:]:
            block = next(block for block in world().shape.blocks if (block.side, block.field) == (side, field.name))
            taken = rows[:, field.first_column : field.first_column + field.n_columns]
            assert block.first <= taken.min() <= taken.max() < block.first + block.size
    (hour,) = (block for block in world().shape.blocks if block.side == "context")
    assert hour.first <= data.train.context.min() <= data.train.context.max() < hour.first + hour.size


@pytest.mark.parametrize("member", range(len(MEMBERS)), ids=lambda m: "-".join((MEMBERS[m].mechanism, *MEMBERS[m].off)))
def test_a_member_equals_a_plain_model_of_data_without_what_it_has_switched_off(member):
    one = MEMBERS[member]
    data, rows, columns = without(one.off)
    starts, found = population()
    plain = PlainModel(one, data, LAYERS).load(cut(starts[member], one.off))
    batches = batches_of(data, steps=STEPS, batch=BATCH, positives=POSITIVES, uniform=UNIFORM, seed=SEED)
    arrays = found.member_arrays(member)
    for parameter, array in plain_train(plain, batches).pairs(cut(arrays, one.off)):
        np.testing.assert_allclose(array, parameter.detach().numpy(), rtol=0, atol=FLOAT64)
    for name, array in arrays.items():
        if name.endswith("table"):
            assert not array[~rows].any()
        elif "content" in name:
            assert not array[:, ~columns].any()


def with_switches(specs, rng):
    """The same members, most of them without some blocks."""
    names = [block.name for block in world().shape.blocks]
    return [replace(one, off=tuple(sorted(n for n in names if rng.random() < share)))
            for one, share in zip(specs, rng.choice([0.0, 0.3, 0.9], len(specs)), strict=True)]  # fmt: skip


def results(specs, **options):
    data, on_device = whole(), world(torch.float32)
    stack = trained(specs, plan_of(data, on_device, steps=5), on_device, **options)
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)
    measured = measure(stack.population, on_device, HeldOut(data, EVALUATION, users))
    return [(stack.population.member_arrays(i), measured[i].metrics) for i in range(len(specs))]


def assert_bitwise_equal(found, expected):
    assert found[0].keys() == expected[0].keys()
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, expected[0][name], err_msg=name)
    assert found[1] == expected[1]


def test_what_the_others_switch_off_changes_no_bit_of_a_member():
    rng = np.random.default_rng(3)
    specs = with_switches(random_specs(rng, 12, embedding_dim=(4, 8), width=(8, 16)), rng)
    specs += [replace(specs[0], off=()), replace(specs[1], off=("first", "item_category"))]
    together = results(specs)
    for subset in [(3,), (12,), (1, 0, 13), (2, 12, 6, 5), (11, 10, 9, 8, 7, 4, 13)]:
        for one, member in zip(results([specs[i] for i in subset]), subset, strict=True):
            assert_bitwise_equal(one, together[member])


def test_a_training_that_goes_on_from_a_checkpoint_leaves_off_what_was_off():
    data, on_device = whole(), world(torch.float32)
    plan = plan_of(data, on_device, steps=9)
    rng = np.random.default_rng(8)
    specs = [*with_switches(random_specs(rng, 6), rng), spec(off=("first", "price"), optimizer="adafactor")]
    unbroken = trained(specs, plan, on_device).population
    stopped = trained(specs, plan, on_device, last=4)
    chosen = (6, 2, 0, 5)
    resumed = trained([specs[i] for i in chosen], plan, on_device, checkpoints=[stopped.checkpoints[i] for i in chosen])
    for place, member in enumerate(chosen):
        for name, array in resumed.population.member_arrays(place).items():
            np.testing.assert_array_equal(array, unbroken.member_arrays(member)[name], err_msg=name)


def test_a_feature_that_the_data_do_not_have_cannot_be_switched_off():
    plan = plan_of(whole(), world(), steps=1)
    with pytest.raises(ConfigError, match=r"no feature 'colour' to switch; known: segment, .*, first, second\."):
        trained([spec(), spec(off=("colour", "price"))], plan, world())


def test_the_rows_of_a_step_are_sorted_by_block():
    plan = plan_of(whole(), world())
    for step in (plan.step(i) for i in range(len(plan))):
        rows = step.rows.numpy()
        for span, block in zip(step.spans, world().shape.row_blocks, strict=True):
            inside = (rows >= block.first) & (rows < block.first + block.size)
            np.testing.assert_array_equal(np.flatnonzero(inside), np.arange(span.start, span.stop))


@pytest.mark.parametrize("off", sorted({one.off for one in MEMBERS}), ids="-".join)
@pytest.mark.parametrize("source", ["batch", "uniform"])
def test_a_member_costs_what_it_costs_on_data_without_what_it_has_switched_off(off, source):
    one = spec(off=off, negative_source=source, rank_blend=0.4, balancing="nash")
    data, _, _ = without(off)
    on_device = device_data(data, layers=LAYERS)

    def cost(one, shape, data, work):
        catalogue = CatalogueWork(data.n_items, data.user_rows.shape[1], data.n_items, data.history_rows.shape[1], 12)
        return member_cost(one, shape, work, catalogue, steps=7, bytes_per_parameter=4)

    expected = cost(replace(one, off=()), on_device.shape, data, plan_of(data, on_device).work)
    found = cost(one, world().shape, whole(), plan_of(whole(), world()).work)
    assert found == pytest.approx(expected, rel=1e-12)  # averages of steps are summed in another order
