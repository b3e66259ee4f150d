"""Target attention against a plain model that attends row by row, and members of different stacks."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from plain_model import PlainModel, earlier_rows
from plain_training import batches_of, plain_train
from tiny import EVALUATION, SEED, UNIFORM, dataset, device_data, plan_of, spec, trained

from evorec.data.held_out import HeldOut, ranking_users
from evorec.errors import ConfigError
from evorec.models.input_shape import InputShape
from evorec.models.rerank import RankerInputs, ranker_logits
from evorec.training.cost import CatalogueWork, StepWork, member_cost
from evorec.training.evaluate import measure, task_logits
from evorec.training.plan import EarlierPositives, PositiveOrder

FLOAT64 = 1e-10  # as for whole members (test_trainer): rounding errors of some steps in float64, and room
LAYERS, STEPS, BATCH, POSITIVES = 2, 12, 12, 7
SIZES = {"steps": STEPS, "batch": BATCH, "positives": POSITIVES, "uniform": UNIFORM}

MEMBERS = [
    spec(target_attention="softmax", dropout=0.2),
    spec(target_attention="sigmoid", balancing="pcgrad", history_weight=0.0, embedding_decay=3.0),
    spec(),
    spec(target_attention="softmax", mechanism="single_task", optimizer="adafactor", ensemble_heads=2),
    spec(target_attention="sigmoid", mechanism="stem", sharing_depth=1, balancing="nash", ema=0.9),
    spec(target_attention="softmax", mechanism="mmoe", sharing_depth=1, task_embeddings=True, balancing="gradnorm"),
    spec(target_attention="softmax", mechanism="aitm", sharing_depth=1, embedding_dim=8, negative_source="uniform"),
    spec(target_attention="sigmoid", id_dropout=0.3),
]


@cache
def world(dtype=torch.float64):
    data = dataset()
    on_device = device_data(data, layers=LAYERS, dtype=dtype)
    return data, on_device, plan_of(data, on_device, pasts=True, **SIZES)


@cache
def together():
    _, on_device, plan = world()
    return trained(MEMBERS, plan, on_device).population


@pytest.mark.parametrize("member", range(len(MEMBERS)))
def test_a_member_equals_a_plain_model_that_attends_row_by_row(member):
    data, on_device, plan = world()
    start = trained([MEMBERS[member]], plan, on_device, last=0).checkpoints[0]
    own = {name.removeprefix("parameter/"): array for name, array in start.items() if name.startswith("parameter/")}
    plain = PlainModel(MEMBERS[member], data, LAYERS).load(own)
    plain_train(plain, batches_of(data, seed=SEED, pasts=True, **SIZES))
    plain.dropped, arrays = [], together().member_arrays(member)  # all ids are there when it is measured
    arrays = together().member_arrays(member)
    for parameter, array in plain.pairs(arrays):
        np.testing.assert_allclose(array, parameter.detach().numpy(), rtol=0, atol=FLOAT64)
    part = data.held_out
    pasts = [rows[rows > 0] for rows in data.history_rows[part.users]]
    vectors = plain.users(part.users), plain.items(part.items), plain.contexts(part.context)
    with torch.no_grad():
        expected = plain.logits(*vectors, part.statistics, pasts=pasts).numpy()
    np.testing.assert_allclose(task_logits(together(), on_device, part)[member].T, expected, rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("member", range(len(MEMBERS)))
def test_candidates_of_a_user_get_the_logits_of_single_rows(member, monkeypatch):
    monkeypatch.setattr("evorec.models.rerank.PAIRS_AT_ONCE", 30)
    data, on_device, _ = world()
    block, index = together().locate(member)
    users, ids = torch.arange(7), torch.tensor(np.random.default_rng(0).integers(0, data.n_items, (7, 11)))
    history = on_device.history.select(users)
    of_users, of_items = block.vectors(on_device.users.select(users)), block.vectors(on_device.items)
    context = block.vectors(on_device.context_bag(torch.tensor(data.context_mode[None])))
    statistics = on_device.user_statistics[users]
    inputs = RankerInputs(
        of_users[index], of_items[index], context[index, :, 0], statistics, on_device.item_statistics, history
    )
    found = ranker_logits(block, index, inputs, ids)
    row, item = torch.arange(7).repeat_interleave(11), ids.flatten()
    pairs = torch.cat([statistics[row], on_device.item_statistics[item]], 1)
    expected = block.rank_logits(
        of_users[:, :, row], of_items[:, :, item], context.expand(-1, -1, 77, -1), pairs, history.select(row)
    )
    torch.testing.assert_close(found, expected[index].view(3, 7, 11), rtol=FLOAT64, atol=FLOAT64)


def test_a_member_is_bitwise_independent_of_the_others_and_of_an_interruption():
    data, on_device, plan = world(torch.float32)
    mixed = [*MEMBERS, spec(target_attention="softmax", encoder="gru", encoder_dropout=0.1)]
    users = ranking_users(data, EVALUATION, seed=0, at_most=None)

    def results(members, **options):
        population = trained([mixed[i] for i in members], plan, on_device, **options).population
        found = measure(population, on_device, HeldOut(data, EVALUATION, users))
        return {m: (population.member_arrays(i), found[i].metrics) for i, m in enumerate(members)}

    whole = results(range(len(mixed)))
    some = (4, 0, 6)
    half = trained(mixed, plan, on_device, last=5).checkpoints
    for part in (results((1,)), results((2, 8, 5)), results(some, checkpoints=[half[i] for i in some])):
        for member, (arrays, metrics) in part.items():
            assert metrics == whole[member][1]
            for name, array in arrays.items():
                np.testing.assert_array_equal(array, whole[member][0][name], err_msg=name)


def test_the_past_of_a_row_are_the_earlier_positives_of_its_user():
    data = dataset()
    part = data.train
    coarse = replace(data, train=replace(part, time=part.time // 86_400 * 86_400))  # many rows of equal time
    for of in (data, coarse):
        positives = np.flatnonzero(of.train.target > 0)
        found = EarlierPositives(of, PositiveOrder.of(of.train, positives)).of(np.arange(of.train.n_rows))
        for row in range(of.train.n_rows):
            np.testing.assert_array_equal(found[row][found[row] > 0], earlier_rows(of, row))
    without = replace(data, times="none")
    rows = np.arange(50)
    found = EarlierPositives(without, PositiveOrder.of(part, positives)).of(rows)
    for row, past in zip(rows, found, strict=True):
        own = data.item_history_row[part.items[row]]
        history = data.history_rows[part.users[row]]
        assert past.tolist() == [0 if entry == own else entry for entry in history]


def test_batches_without_pasts_are_refused():
    data, on_device, _ = world()
    with pytest.raises(ConfigError, match=r"target_attention needs .*\[space\]"):
        trained([MEMBERS[0]], plan_of(data, on_device, **SIZES), on_device)


def test_the_cost_worked_by_hand():
    shape = InputShape(n_rows=200, n_content=6, n_dense=5, n_tasks=3, n_layers=3, n_items=40, parents=(-1, -1, -1))
    step = StepWork(
        batch=32, positives=8, rows=50.0, history_rows=20.0, bag_entries=90.0, history_entries=30.0, items=25.0,
        past_rows=24.0, joint_rows=28.0, past_entries=110.0,
    )  # fmt: skip
    catalogue = CatalogueWork(n_items=40, user_fields=3, history_rows=40, history_length=10, candidates=15)

    def cost(one):
        return member_cost(one, shape, step, catalogue, steps=1, bytes_per_parameter=4)

    plain = spec(sharing_depth=3, embedding_dim=4, width=16, rank_blend=0.5)
    one = replace(plain, target_attention="softmax")
    # 4 more inputs of 16 units, and two products of 4 for each of the 110 past positives; 28 instead of 20 rows
    more = 6 * (32 * 4 * 16 + 110 * 2 * 4) + 12 * (4 * 16 + 8 * 4)
    assert cost(one)["training_flops"] - cost(plain)["training_flops"] == more
    assert cost(one)["inference_flops"] - cost(plain)["inference_flops"] == 2 * 15 * (4 * 16 + 2 * 10 * 4)
    assert cost(one)["parameters"] - cost(plain)["parameters"] == 4 * 16
    without = cost(replace(one, history_weight=0.0))["parameters"]
    assert without == cost(one)["parameters"], "the ranker reads the rows of histories"
