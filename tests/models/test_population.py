"""Initial values, the path of a row, and members that leave a population and come back."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from tiny import MECHANISMS, PARENTS, SEED, dataset, device_data, of_mechanism, random_specs, spec

from evorec.errors import ConfigError
from evorec.models.layers import draw_columns
from evorec.models.population import (
    INIT_SCALE,
    Bag,
    InputShape,
    Population,
    fresh_population,
    member_shapes,
    stack_members,
)

FLOAT64 = 1e-12  # a few layers of float64 on numbers of size 1
CPU = torch.device("cpu")
SHAPE = InputShape(n_rows=30, n_content=6, n_dense=5, n_tasks=3, n_layers=2, n_items=9, parents=PARENTS)
DIMS, WIDTHS = (2, 4, 8), (8, 16)


def fresh(specs, shape=SHAPE, dtype=torch.float64, **options):
    return fresh_population(specs, shape, seed=SEED, device=CPU, dtype=dtype, **options)


def some_specs(n, seed=0):
    """Members of any mechanism and shape."""
    return random_specs(np.random.default_rng(seed), n, embedding_dim=DIMS, width=WIDTHS)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype


def test_initial_parameters_are_independent_of_the_other_members_and_the_order():
    specs = some_specs(12)
    together = fresh(specs)
    for subset in [(4,), (4, 0), (2, 3, 1), range(11, -1, -1), (7, 7)]:
        population = fresh([specs[i] for i in subset])
        for place, member in enumerate(subset):
            assert_same(population.member_arrays(place), together.member_arrays(member))


@pytest.mark.parametrize("block_size", [1, 2, 100])
def test_a_member_starts_the_same_in_blocks_of_any_size(block_size):
    specs = [*some_specs(6), *[spec(dropout=rate) for rate in (0.0, 0.1, 0.2)]]
    one, other = fresh(specs), fresh(specs, block_size=block_size)
    assert max(block.size for block in other.kernel_groups) <= block_size
    for member in range(len(specs)):
        assert_same(other.member_arrays(member), one.member_arrays(member))


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_narrower_member_starts_as_a_part_of_a_wider_one(name):
    wide, slim = (
        fresh([spec(mechanism=name, embedding_dim=dim, width=width)]).member_arrays(0)
        for dim, width in ((16, 64), (4, 16))
    )
    np.testing.assert_array_equal(slim["table"], wide["table"][:, :4])
    np.testing.assert_array_equal(slim["content.weight"], wide["content.weight"][:, :, :4])
    if "task_table" in slim:
        parts = [wide["task_table"][:, 16 * task : 16 * task + 4] for task in range(3)]
        np.testing.assert_array_equal(slim["task_table"], np.concatenate(parts, 1))
        np.testing.assert_array_equal(slim["task_content.weight"], wide["task_content.weight"][:, :, :4])
    # the scale sqrt(2 / inputs) or sqrt(1 / inputs) differs with the width, the draw does not
    for key in set(slim) - {"table", "task_table", "content.weight", "task_content.weight"}:
        n_in, n_out = slim[key].shape[1:]
        scale = np.sqrt(wide[key].shape[1] / n_in) if key.startswith(("layer", "head", "gate", "info")) else None
        if scale is not None and key.endswith("weight"):
            np.testing.assert_allclose(slim[key], scale * wide[key][:, :n_in, :n_out], rtol=FLOAT64, err_msg=key)


def test_a_table_is_one_draw_per_group():
    population = fresh([spec(embedding_dim=2), spec(embedding_dim=4, mechanism="stem")])
    small, large = population.member_arrays(0), population.member_arrays(1)
    expected = draw_columns(SEED, "init table", (), 30, 4) * INIT_SCALE
    np.testing.assert_array_equal(large["table"][1:], expected[1:])
    np.testing.assert_array_equal(small["table"][1:], expected[1:, :2])
    for task in range(3):
        expected = draw_columns(SEED, "init table", (1 + task,), 30, 4) * INIT_SCALE
        np.testing.assert_array_equal(large["task_table"][1:, 4 * task : 4 * task + 4], expected[1:])


def test_members_of_different_depth_start_with_the_same_shared_and_tower_weights():
    population = fresh([spec(sharing_depth=depth) for depth in (0, 1, 2)])
    towers, mixed, shared = (population.member_arrays(i) for i in range(3))
    np.testing.assert_array_equal(mixed["layer0.weight"], shared["layer0.weight"])
    np.testing.assert_array_equal(mixed["layer1.weight"], towers["layer1.weight"])
    assert not np.isclose(towers["layer0.weight"][0], towers["layer0.weight"][1]).any()


@pytest.mark.parametrize("name", ["single_task", "stem"])
def test_initial_values_have_their_scale_and_the_padding_row_is_zero(name):
    shape = replace(SHAPE, n_rows=2000)
    arrays = fresh([spec(mechanism=name, embedding_dim=32, width=64)], shape).member_arrays(0)
    for table in ("table", "task_table"):
        assert (arrays[table][0] == 0).all()
        assert arrays[table][1:].std() == pytest.approx(INIT_SCALE, rel=0.02)  # 64,000 draws: 1 % is three sigma
    n_in = 4 * 32 + SHAPE.n_dense
    first = next(arrays[key] for key in ("layer0.weight", "expert0.weight") if key in arrays)
    assert first.shape[1] == n_in
    assert first.std() == pytest.approx((2 / n_in) ** 0.5, rel=0.04)
    assert all((array == 0).all() for key, array in arrays.items() if key.endswith("bias"))


def test_a_population_needs_a_member():
    with pytest.raises(ConfigError, match="at least 1 spec"):
        Population([], SHAPE)


def test_columns_belong_to_one_member_each_and_blocks_have_them_side_by_side():
    specs = some_specs(20)
    population = fresh(specs)
    for i, table in enumerate(population.tables):
        owned = np.zeros(table.shape[1], dtype=int)
        for one, columns in zip(specs, population.columns, strict=True):
            if len(columns) > i:
                owned[columns[i]] += 1
                assert columns[i].stop - columns[i].start == one.embedding_dim * (1 if i == 0 else SHAPE.n_tasks)
        assert (owned == 1).all()
    assert sorted(member for block in population.kernel_groups for member in block.members) == list(range(20))
    for block in population.kernel_groups:
        for i, columns in enumerate(block.columns):
            own = [population.columns[member][i] for member in block.members]
            assert [c.start for c in own] == [columns.start, *(c.stop for c in own[:-1])]
            assert own[-1].stop == columns.stop


def test_a_block_has_members_of_one_program_and_no_more_than_fit():
    specs = [*some_specs(20), *[spec() for _ in range(11)]]
    population = fresh(specs, block_size=4)
    for block in population.kernel_groups:
        assert len({one.group_key for one in block.specs}) == 1
        assert block.size <= 4
        assert block.specs == tuple(specs[member] for member in block.members)
        assert block.n_groups == (1 + SHAPE.n_tasks if block.specs[0].task_embeddings else 1)
    for member in range(len(specs)):
        block, place = population.locate(member)
        assert block.members[place] == member
    with pytest.raises(IndexError, match="a population of 31 has no member 31"):
        population.locate(31)


def test_members_that_share_an_optimiser_are_neighbours_in_a_kernel_group():
    kinds = ["adamw", "adafactor", "adamw", "adafactor"]
    (block,) = fresh([spec(optimizer=kind) for kind in kinds]).kernel_groups
    assert [one.optimizer for one in block.specs] == sorted(kinds)


def test_the_dense_tensors_of_all_blocks_fill_the_flat_buffer_once():
    population = fresh(some_specs(20))
    touched = torch.zeros_like(population.flat)
    for block in population.kernel_groups:
        for tensor in block.dense(touched).values():
            tensor += 1
    assert (touched == 1).all()
    shapes = [member_shapes(one, SHAPE) for one in population.specs]
    assert len(touched) == sum(prod(own[name]) for own in shapes for name in own if "table" not in name)


def test_the_trained_tensors_are_the_buffer_itself():
    population = fresh([spec()])
    population.kernel_groups[0].trained["head.bias"][1] = 7.0
    assert population.member_arrays(0)["head.bias"][1] == 7.0


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", MECHANISMS)
def test_logits_and_retrieval_scores_are_those_of_a_plain_model(name, layers):
    data = dataset()
    on_device = device_data(data, layers=layers, dtype=torch.float64)
    low, high = of_mechanism(name).get("sharing_depth", 1), 0 if name == "single_task" else layers
    specs = [spec(mechanism=name, sharing_depth=depth, history_weight=0.5 * depth) for depth in range(low, high + 1)]
    specs += [replace(specs[0], embedding_dim=8, width=8), replace(specs[-1], ensemble_heads=2 + layers)]
    population = fresh(specs, on_device.shape)
    rng = np.random.default_rng(0)
    for tensor in (population.flat, *population.tables):  # biases too, and heads that differ by task
        tensor += torch.tensor(0.1 * rng.normal(size=tensor.shape))
    n, part = 9, data.held_out
    u, i = rng.integers(0, data.n_users + 1, n), rng.integers(0, data.n_items + 1, n)
    contexts = part.context[:n]
    lists = [rows[rows > 0] for rows in data.history_rows[u]]

    def bag(whole, ids):
        return Bag(whole.rows[ids], whole.weights[ids], None if whole.content is None else whole.content[ids])

    bags = [bag(on_device.users, u), bag(on_device.items, i), on_device.context_bag(torch.tensor(contexts))]
    for member, one in enumerate(specs):
        block, place = population.locate(member)
        users, items, context = (block.vectors(each) for each in bags)
        history = block.vectors(bag(on_device.history, u))
        logits = block.rank_logits(users, items, context, torch.tensor(part.statistics[:n], dtype=torch.float64))
        asking = block.retrieval_users(users[:, 0], history[:, 0])
        scores = asking @ block.retrieval_items(items[:, 0]).transpose(1, 2)
        plain = PlainModel(one, data, layers).load(population.member_arrays(member))
        pu, pi = plain.users(u), plain.items(i)
        expected = plain.logits(pu, pi, plain.contexts(contexts), part.statistics[:n]).detach()
        torch.testing.assert_close(logits[place].T, expected, rtol=FLOAT64, atol=FLOAT64)
        wanted = plain.retrieval(pu, plain.histories(lists), pi).detach()
        torch.testing.assert_close(scores[place], wanted, rtol=FLOAT64, atol=FLOAT64)


def test_bags_without_a_column_are_zero_vectors():
    population = fresh([spec()] * 2)
    empty = Bag(torch.zeros(4, 0, dtype=torch.long), torch.zeros(4, 0, dtype=torch.float64))
    (block,) = population.kernel_groups
    found = block.vectors(empty)
    assert found.shape == (2, 1, 4, 4)  # P, G, m, E
    assert (found == 0).all()


def test_a_vector_of_length_zero_stays_zero_in_retrieval():
    (block,) = fresh([spec()] * 2).kernel_groups
    zero = torch.zeros(2, 1, 4, dtype=torch.float64)
    assert (block.retrieval_users(zero, zero) == 0).all()
    assert (block.retrieval_items(zero) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_members_leave_a_population_and_come_back_unchanged(dtype):
    specs = some_specs(8, seed=1)
    population = fresh(specs, dtype=dtype)
    order = [2, 0, 3, 7]
    again = stack_members([specs[i] for i in order], SHAPE, [population.member_arrays(i) for i in order], device=CPU)
    assert again.flat.dtype == dtype
    for place, member in enumerate(order):
        assert_same(again.member_arrays(place), population.member_arrays(member))


def test_loading_a_member_changes_no_other_member():
    specs = some_specs(8)
    population, other = fresh(specs), fresh(specs)
    strange = {name: np.full_like(array, 5.0) for name, array in population.member_arrays(3).items()}
    population.load(3, strange)
    for member in range(8):
        assert_same(population.member_arrays(member), strange if member == 3 else other.member_arrays(member))


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("n_content", [0, 6])
@pytest.mark.parametrize("content_dim", [2, 8])
def test_the_shapes_of_a_member_are_known_without_training_it(name, n_content, content_dim):
    one, shape = spec(mechanism=name, embedding_dim=content_dim), replace(SHAPE, n_content=n_content)
    arrays = fresh([spec(), one], shape).member_arrays(1)
    assert {key: array.shape for key, array in arrays.items()} == member_shapes(one, shape)


def test_shapes_worked_by_hand():
    # 3 tasks, 2 layers, E 4, W 16, 5 statistics: 4 * 4 + 5 = 21 inputs; level 0 is shared
    assert member_shapes(spec(), SHAPE) == {
        "table": (30, 4),
        "content.weight": (1, 6, 4),
        "layer0.weight": (1, 21, 16),
        "layer0.bias": (1, 1, 16),
        "layer1.weight": (3, 16, 16),
        "layer1.bias": (3, 1, 16),
        "head.weight": (3, 16, 1),
        "head.bias": (3, 1, 1),
    }
    own = member_shapes(spec(mechanism="single_task"), SHAPE)
    assert (own["task_table"], own["task_content.weight"], own["layer0.weight"]) == ((30, 12), (3, 6, 4), (3, 21, 16))


@pytest.mark.parametrize("change", ["missing", "slots", "width", "table", "task table", "foreign"])
def test_stored_arrays_that_do_not_fit_the_spec_are_refused(change):
    specs = [spec(), spec(mechanism="stem")]
    population = fresh(specs)
    good, bad = population.member_arrays(0), population.member_arrays(1)
    name = {"table": "table", "task table": "task_table", "foreign": "layer9.weight"}.get(change, "head.weight")
    if change == "missing":
        del bad[name]
    elif change == "slots":
        bad[name] = np.repeat(bad[name], 3, axis=0)
    elif change == "width":
        bad[name] = bad[name][:, :-1]
    elif change in ("table", "task table"):
        bad[name] = bad[name][:-1]
    else:
        bad[name] = np.zeros(1)
    with pytest.raises(ConfigError, match=f"stored array {name} of member 1: expected shape .*, found"):
        stack_members(specs, SHAPE, [good, bad], device=CPU)


def test_member_arrays_are_copies():
    population = fresh([spec(mechanism="single_task")] * 2)
    for array in population.member_arrays(0).values():
        array += 1
    for name, array in population.member_arrays(1).items():
        np.testing.assert_array_equal(population.member_arrays(0)[name], array)
