"""Initial values, the path of a row, and members that leave a stack and come back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_model import PlainModel
from tiny import SEED, dataset, device_data, random_specs, spec

from evorec.errors import ConfigError
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
SHAPE = InputShape(n_rows=30, n_content=6, n_dense=5, n_tasks=3, n_layers=2)


def fresh(specs, shape=SHAPE, dtype=torch.float64):
    return fresh_population(specs, shape, seed=SEED, device=CPU, dtype=dtype)


def test_a_member_starts_the_same_in_any_company_and_slot():
    specs = random_specs(np.random.default_rng(0), 5)
    together = fresh(specs)
    for company in [(4, 0), (2, 3, 1), (4, 3, 2, 1, 0)]:
        population = fresh([specs[i] for i in company])
        for slot, member in enumerate(company):
            for name, array in together.member_arrays(member).items():
                np.testing.assert_array_equal(population.member_arrays(slot)[name], array, err_msg=name)


def test_a_narrower_member_starts_as_a_part_of_a_wider_one():
    wide = fresh([spec(embedding_dim=16, width=64)] * 2).member_arrays(0)
    slim = fresh([spec(embedding_dim=4, width=16)] * 2).member_arrays(0)
    np.testing.assert_array_equal(slim["table"], wide["table"][:, :4])
    np.testing.assert_array_equal(slim["content.weight"], wide["content.weight"][:, :, :4])
    # He's scale sqrt(2 / inputs) differs with the width, the draw does not
    scale = np.sqrt(64 / 16)
    np.testing.assert_allclose(slim["layer1.weight"], scale * wide["layer1.weight"][:, :16, :16], rtol=FLOAT64)


def test_members_of_different_depth_start_with_the_same_shared_and_tower_weights():
    population = fresh([spec(sharing_depth=depth) for depth in (0, 1, 2)])
    towers, mixed, shared = (population.member_arrays(i) for i in range(3))
    np.testing.assert_array_equal(mixed["layer0.weight"], shared["layer0.weight"])
    np.testing.assert_array_equal(mixed["layer1.weight"], towers["layer1.weight"])
    assert not np.isclose(towers["layer0.weight"][0], towers["layer0.weight"][1]).any()


def test_initial_values_have_their_scale_and_the_padding_row_is_zero():
    arrays = fresh([spec(embedding_dim=32, width=64)] * 2, replace(SHAPE, n_rows=2000)).member_arrays(0)
    assert (arrays["table"][0] == 0).all()
    assert arrays["table"][1:].std() == pytest.approx(INIT_SCALE, rel=0.02)  # 64,000 draws: 1 % is three sigma
    n_in = 4 * 32 + SHAPE.n_dense
    assert arrays["layer0.weight"].std() == pytest.approx((2 / n_in) ** 0.5, rel=0.04)
    assert (arrays["layer0.bias"] == 0).all()


@pytest.mark.parametrize(
    "specs", [[spec()], [], [spec(), spec(width=32)], [spec(), spec(embedding_dim=8)]], ids=["one", "none", "W", "E"]
)
def test_a_stack_needs_two_members_of_one_shape(specs):
    with pytest.raises(ConfigError, match="two or more specs of one shape"):
        Population(specs, SHAPE, torch.zeros(30, max(len(specs), 1), 4), {})


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_logits_and_retrieval_scores_are_those_of_a_plain_model(layers):
    data = dataset()
    on_device = device_data(data, layers=layers, dtype=torch.float64)
    specs = [spec(sharing_depth=depth, history_weight=0.5 * depth) for depth in range(layers + 1)]
    population = fresh(specs, on_device.shape)
    rng = np.random.default_rng(0)
    for tensor in population.dense.values():  # biases too, and heads that differ by task
        tensor += torch.tensor(rng.normal(size=tensor.shape))
    n = 9
    u, i = rng.integers(0, data.n_users + 1, n), rng.integers(0, data.n_items + 1, n)
    part = data.held_out

    def vectors(bag, ids):
        content = None if bag.content is None else bag.content[ids]
        return population.entity_vectors(population.table, Bag(bag.rows[ids], bag.weights[ids], content))

    users, items = vectors(on_device.users, u), vectors(on_device.items, i)
    contexts = population.entity_vectors(population.table, on_device.context_bag(torch.tensor(part.context[:n])))
    history = vectors(on_device.history, u)
    statistics = torch.tensor(part.statistics[:n], dtype=torch.float64)
    logits = population.rank_logits(users, items, contexts, statistics)
    scores = population.retrieval_users(users, history) @ population.retrieval_items(items).transpose(1, 2)
    for member, one in enumerate(specs):
        plain = PlainModel(one, data, layers).load(population.member_arrays(member))
        pu, pi = plain.users(u), plain.items(i)
        expected = plain.logits(pu, pi, plain.contexts(part.context[:n]), part.statistics[:n])
        torch.testing.assert_close(logits[member].T, expected.detach(), rtol=0, atol=FLOAT64)
        lists = [rows[rows > 0] for rows in data.history_rows[u]]
        wanted = plain.retrieval(pu, plain.histories(lists), pi).detach()
        torch.testing.assert_close(scores[member], wanted, rtol=0, atol=FLOAT64)


def test_bags_without_a_column_are_zero_vectors():
    population = fresh([spec()] * 2)
    empty = Bag(torch.zeros(4, 0, dtype=torch.long), torch.zeros(4, 0, dtype=torch.float64))
    found = population.entity_vectors(population.table, empty)
    assert found.shape == (2, 4, 4)
    assert (found == 0).all()


def test_a_vector_of_length_zero_stays_zero_in_retrieval():
    population = fresh([spec()] * 2)
    zero = torch.zeros(2, 1, 4, dtype=torch.float64)
    assert (population.retrieval_users(zero, zero) == 0).all()
    assert (population.retrieval_items(zero) == 0).all()


def test_members_leave_a_stack_and_come_back_unchanged():
    specs = random_specs(np.random.default_rng(1), 4)
    population = fresh(specs, dtype=torch.float32)
    order = [2, 0, 3]
    again = stack_members([specs[i] for i in order], SHAPE, [population.member_arrays(i) for i in order], device=CPU)
    for slot, member in enumerate(order):
        for name, array in population.member_arrays(member).items():
            found = again.member_arrays(slot)[name]
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("n_content", [0, 6])
def test_the_shapes_of_a_member_are_known_without_training_it(depth, n_content):
    one, shape = spec(sharing_depth=depth), replace(SHAPE, n_content=n_content)
    arrays = fresh([one, spec()], shape).member_arrays(0)
    assert {name: array.shape for name, array in arrays.items()} == member_shapes(one, shape)


@pytest.mark.parametrize("change", ["missing", "slots", "width", "table", "foreign"])
def test_stored_arrays_that_do_not_fit_the_spec_are_refused(change):
    specs = [spec(), spec(sharing_depth=2)]
    population = fresh(specs)
    good, bad = population.member_arrays(0), population.member_arrays(1)
    name = {"table": "table", "foreign": "layer9.weight"}.get(change, "layer1.weight")
    if change == "missing":
        del bad[name]
    elif change == "slots":
        bad[name] = np.repeat(bad[name], 3, axis=0)
    elif change == "width":
        bad[name] = bad[name][:, :, :-1]
    elif change == "table":
        bad[name] = bad[name][:-1]
    else:
        bad[name] = np.zeros(1)
    with pytest.raises(ConfigError, match=f"stored array {name} of member 1: expected shape .*, found"):
        stack_members(specs, SHAPE, [good, bad], device=CPU)


def test_member_arrays_are_copies():
    population = fresh([spec()] * 2)
    for array in population.member_arrays(0).values():
        array += 1
    for name, array in population.member_arrays(1).items():
        np.testing.assert_array_equal(population.member_arrays(0)[name], array)
