"""Graph layers against a plain model that multiplies its whole table with a dense matrix, and against other stacks."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from plain_model import layer_means
from tiny import dataset, device_data, plan_of, spec, trained
from training.test_trainer import BATCH, FLOAT64, POSITIVES, assert_equal, name_of, trained_plain
from training.test_training_cost import CATALOGUE, SHAPE, STEP, cost

from evorec.models.item_item import Positives
from evorec.training.smoothing import Smoothing

STEPS = 12
MEMBERS = [
    spec(graph_layers=1, graph_trained=True, embedding_dim=2),
    spec(graph_layers=3, graph_trained=True, mechanism="mmoe", task_embeddings=True, balancing="pcgrad", ema=0.9),
    spec(graph_layers=2, graph_trained=True, balancing="gradnorm", optimizer="rowwise_adagrad", id_dropout=0.3),
    spec(graph_layers=2, graph_trained=True, sharing_depth=0, history_weight=0.0, embedding_decay=5.0, off=("hour",)),
    spec(graph_layers=1, graph_trained=True, optimizer="adafactor", negative_source="uniform"),
    spec(),
    spec(graph_layers=2, id_dropout=0.5, ema=0.9, task_embeddings=True),
]
PLAIN = [member for member, one in enumerate(MEMBERS) if not one.off]  # the plain model has all features


@cache
def data():
    return dataset()


@cache
def mixed():
    on_device = device_data(data(), dtype=torch.float64)
    plan = plan_of(data(), on_device, steps=STEPS, batch=BATCH, positives=POSITIVES)
    return on_device, plan, trained(MEMBERS, plan, on_device).population


@pytest.mark.parametrize("member", PLAIN, ids=lambda member: name_of(MEMBERS[member]))
def test_a_member_with_graph_layers_equals_a_plain_model(member):
    on_device, _, population = mixed()
    plain = trained_plain(MEMBERS[member], data(), on_device, STEPS)
    assert_equal(plain, population.member_arrays(member))


def test_layers_are_means_over_neighbourhoods_and_their_own_transpose():
    plan = mixed()[1]
    nodes, matrix = layer_means(data(), 2)
    assert plan.graph.rows.tolist() == nodes.tolist()
    members = [(spec(graph_layers=2), slice(0, 3)), (spec(graph_layers=1), slice(3, 4))]
    smoothing = Smoothing(members, dtype=torch.float64, device="cpu")
    table = torch.tensor(np.random.default_rng(0).normal(size=(data().n_rows, 4)))
    smooth = table.clone()
    smoothing.put(smooth, plan.graph)
    np.testing.assert_allclose(smooth[:, :3], matrix @ table[:, :3], rtol=0, atol=FLOAT64)
    np.testing.assert_allclose(smooth[:, 3], layer_means(data(), 1)[1] @ table[:, 3], rtol=0, atol=FLOAT64)
    # <A x, y> = <x, A' y> for the rows of a step: the nodes and row 0, which is none.
    rows = torch.tensor([0, *nodes[::3]])
    graph = plan.graph.of_step(rows)
    x, y = table[graph.rows], torch.tensor(np.random.default_rng(1).normal(size=(len(rows), 4)))
    there, back = (smoothing.seen(x, graph) * y).sum(), (x * smoothing.back(y, graph)).sum()
    assert there.item() == pytest.approx(back.item(), abs=FLOAT64)
    np.testing.assert_allclose(smoothing.seen(x, graph), smooth[rows], rtol=0, atol=FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_member_with_graph_layers_is_bitwise_independent_of_the_stack(dtype):
    on_device = device_data(data(), dtype=dtype)
    plan = plan_of(data(), on_device, steps=4)
    together = trained(MEMBERS, plan, on_device).population
    for member, one in enumerate(MEMBERS):
        alone = trained([one], plan, on_device).population.member_arrays(0)
        for name, array in together.member_arrays(member).items():
            assert np.array_equal(array, alone[name]), (member, name)


def test_training_goes_on_from_unsmoothed_rows_after_members_were_dropped():
    on_device = device_data(data())
    plan = plan_of(data(), on_device, steps=5)
    whole, half = trained(MEMBERS, plan, on_device).population, trained(MEMBERS, plan, on_device, last=3)
    kept = [3, 1]
    states = [half.checkpoints[member] for member in kept]
    resumed = trained([MEMBERS[member] for member in kept], plan, on_device, checkpoints=states).population
    for index, member in enumerate(kept):
        for name, array in whole.member_arrays(member).items():
            assert np.array_equal(array, resumed.member_arrays(index)[name]), name


def test_graph_layers_are_counted():
    positives = Positives.of(data())
    catalogue, step = replace(CATALOGUE, positives=positives), replace(STEP, nodes=12.0, uniform_nodes=3.0)
    without = spec(sharing_depth=3, embedding_dim=4, width=16, negative_source="uniform", negatives=4)
    pairs = {
        *zip(data().train.users[data().train.target > 0], data().train.items[data().train.target > 0], strict=True)
    }
    nodes = len({user for user, _ in pairs}) + len({item for _, item in pairs})
    macs = 2 * (2 * len(pairs) + nodes) * 4  # two layers of four columns
    for balancing, backward in (("fixed", 1), ("pcgrad", 1 + 3)):  # pcgrad sends the gradient of each of 3 tasks back
        with_layers = replace(without, balancing=balancing, graph_layers=2)
        through = replace(with_layers, graph_trained=True)
        members = (replace(with_layers, graph_layers=0), through, with_layers)
        found = [cost(one, SHAPE, step, catalogue)["training_flops"] for one in members]
        # 4 of the 8 items drawn uniformly are used; all nodes have a step of Adam, and the last means are taken once.
        updates = (nodes - 12 - 3 / 2) * 4
        assert found[1] - found[0] == 10 * (2 * (1 + backward) * macs + 12 * updates) + 2 * macs
        assert found[2] - found[0] == 2 * macs
